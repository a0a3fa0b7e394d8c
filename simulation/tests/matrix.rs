//! The cases in which the swarm is measured, at one site each: what it must reach, it reaches.

use std::num::NonZeroUsize;

use simulation::matrix::cells;

/// Larger sites take longer than a test may; `hedgerow-sim matrix` has them.
const DEVICES_MAX: u32 = 20;

/// Goals are of medians: in one of twenty sites a kill at the wrong moment costs more.
const SITES: u32 = 3;

#[test]
fn every_case_of_up_to_twenty_devices_reaches_its_goal() {
    let small = cells().into_iter().filter(|cell| cell.choices.devices.unwrap() <= DEVICES_MAX);
    let rows: Vec<_> = small.map(|cell| cell.run(SITES, 1, NonZeroUsize::MIN).unwrap()).collect();
    let missed: Vec<String> = rows.iter().filter(|row| !row.reached).map(ToString::to_string).collect();
    assert!(rows.len() >= 15 && missed.is_empty(), "{missed:#?}");
}
