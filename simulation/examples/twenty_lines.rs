//! A scenario of one's own, in Rust: how much does a second liar cost at sites of ten devices?

use std::num::NonZeroUsize;

use simulation::fleet;
use simulation::scenario::{Choices, Faults, Scenario};

fn main() -> anyhow::Result<()> {
    for liars in 0..=2 {
        let faults = Faults { liars: Some(liars), ..Faults::default() };
        let choices = Choices { devices: Some(50), sites: Some(5), wan_mbit: Some(20), faults, ..Choices::default() };
        let report = fleet::run(&Scenario::try_from(choices)?, NonZeroUsize::MIN, &|_| {})?;
        println!("{liars} liars: {:.3} copies over the WAN, {:.3} of the bound", report.wan_copies.p50, report.time_over_bound.p50);
        assert_eq!(report.complete, 50 - 5 * liars, "everybody else is complete all the same");
    }
    Ok(())
}
