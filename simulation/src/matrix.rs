//! The cases in which the swarm is measured, each with what it must reach: medians over sites, which are independent samples.
//!
//! Not here: how a case is run; see [`crate::fleet`].

use std::fmt;
use std::num::NonZeroUsize;

use serde::Serialize;

use crate::checker::Violation;
use crate::fleet;
use crate::report::Spread;
use crate::scenario::{Choices, Faults, Scenario};

/// One case.
#[derive(Clone, Debug)]
pub struct Cell {
    /// What is special about it.
    pub name: &'static str,
    /// What a site of it is.
    pub choices: Choices,
    /// The most that the median of time over bound may be.
    pub time_over_bound: f64,
    /// The most that the median of copies over the WAN may be.
    pub wan_copies: f64,
}

/// The outcome of one case.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The case.
    pub name: &'static str,
    /// Devices at a site.
    pub devices: u32,
    /// Time over the bound, over sites.
    pub time_over_bound: Spread,
    /// The most that its median may be.
    pub time_over_bound_goal: f64,
    /// Copies over the WAN, over sites.
    pub wan_copies: Spread,
    /// The most that its median may be.
    pub wan_copies_goal: f64,
    /// Whether both medians are within their goals.
    pub reached: bool,
    /// Inputs to the machines, a second of wall time.
    pub events_per_second: f64,
}

/// Blob of every case: 64 MiB.
const PIECES: u32 = 1024;

fn cell(name: &'static str, [devices, wan, lan]: [u64; 3], [time_over_bound, wan_copies]: [f64; 2], faults: Faults) -> Cell {
    let choices = Choices {
        devices: u32::try_from(devices).ok(),
        sites: Some(1),
        pieces: Some(PIECES),
        wan_mbit: Some(wan),
        lan_mbit: Some(lan),
        start_spread_ms: Some(500),
        faults,
        ..Choices::default()
    };
    Cell { name, choices, time_over_bound, wan_copies }
}

/// Every case, with the goals of the project where it has set one.
pub fn cells() -> Vec<Cell> {
    let none = Faults::default();
    let limited = [15, 8, 80];
    let delayed = |name, shape, goals, wan_rtt_ms| {
        let cell = cell(name, shape, goals, none);
        Cell { choices: Choices { wan_rtt_ms: Some(wan_rtt_ms), ..cell.choices }, ..cell }
    };
    let named_late = cell("peers named 2 s late", limited, [1.10, 1.05], none);
    vec![
        cell("flash crowd, every egress alike", [15, 64, 64], [1.25, 1.02], none),
        cell("WAN = LAN", [20, 100, 100], [1.25, 1.02], none),
        cell("WAN 10 times the LAN", [20, 1000, 100], [1.25, 1.02], none),
        cell("WAN twice the LAN", [50, 200, 100], [1.35, 1.02], none),
        cell("2 devices, WAN = LAN", [2, 100, 100], [1.10, 1.02], none),
        cell("5 devices, LAN 5 times the WAN", [5, 20, 100], [1.05, 1.02], none),
        cell("60 devices, LAN 20 times the WAN", [60, 20, 400], [1.05, 1.02], none),
        cell("WAN-limited", limited, [1.05, 1.02], none),
        cell("owner killed", limited, [1.10, 1.05], Faults { kill_owner_ms: Some(10_000), ..none }),
        cell("half the site killed", limited, [1.10, 1.05], Faults { kill_half_ms: Some(20_000), ..none }),
        cell("30 % slow", limited, [1.10, 1.05], Faults { slow_percent: Some(30), ..none }),
        Cell { choices: Choices { discovery_ms: Some(2000), ..named_late.choices }, ..named_late },
        cell("one liar and one withholder of 10", [10, 8, 80], [1.15, 1.05], Faults { liars: Some(1), withholders: Some(1), ..none }),
        cell("3 join late", limited, [1.10, 1.02], Faults { late: Some(3), late_ms: Some(20_000), ..none }),
        cell("WAN cut for 5 s", limited, [1.10, 1.05], Faults { wan_cut_ms: Some(20_000), ..none }),
        delayed("seed 80 ms away", limited, [1.05, 1.02], 80),
        delayed("seed 600 ms away", limited, [1.07, 1.02], 600),
        delayed("alone", [1, 8, 80], [1.02, 1.0], 0),
        delayed("alone, seed 80 ms away", [1, 8, 80], [1.02, 1.0], 80),
        delayed("alone, seed 600 ms away", [1, 8, 80], [1.02, 1.0], 600),
    ]
}

impl Cell {
    /// Runs the case at so many sites.
    ///
    /// # Errors
    /// When a rule does not hold at one of them, or it is not done in time.
    pub fn run(&self, sites: u32, seed: u64, threads: NonZeroUsize) -> Result<Row, Violation> {
        let devices = self.choices.devices.unwrap_or(1);
        let choices = Choices { devices: Some(devices * sites), sites: Some(sites), seed: Some(seed), ..self.choices.clone() };
        let refused = |error: anyhow::Error| Violation { site: 0, at_us: 0, what: format!("{error:#}"), command: self.name.to_owned() };
        let report = fleet::run(&Scenario::try_from(choices).map_err(refused)?, threads, &|_| {})?;
        Ok(Row {
            name: self.name,
            devices,
            time_over_bound: report.time_over_bound,
            time_over_bound_goal: self.time_over_bound,
            wan_copies: report.wan_copies,
            wan_copies_goal: self.wan_copies,
            reached: report.time_over_bound.p50 <= self.time_over_bound && report.wan_copies.p50 <= self.wan_copies,
            events_per_second: report.events_per_second,
        })
    }
}

impl Row {
    /// What the columns of a row are.
    pub const HEAD: &str = "case                               devices   time/bound  max    goal   WAN copies  max    goal";
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, devices, time_over_bound: time, wan_copies: copies, .. } = self;
        write!(f, "{name:<34} {devices:>7}   {:>8.3} {:>7.3} {:>6.2}", time.p50, time.max, self.time_over_bound_goal)?;
        write!(f, "   {:>8.3} {:>7.3} {:>6.2}", copies.p50, copies.max, self.wan_copies_goal)?;
        if self.reached { Ok(()) } else { write!(f, "   NOT REACHED") }
    }
}
