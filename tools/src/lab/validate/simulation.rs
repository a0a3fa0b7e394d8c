//! Cells in the simulation: `hedgerow-sim` with their flags.
//!
//! Not here: what it is compared with; see [`super`].

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::calibration::Calibration;
use super::cells::Cell;
use crate::cargo::{Workspace, line_of, stdout_of};
use crate::shipped::SIMULATION;

/// What the median site of a cell came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Simulated {
    /// From the first byte over the WAN to the last device.
    pub(super) seconds: f64,
    pub(super) wan_copies: f64,
}

/// The program.
pub(super) struct Simulation(PathBuf);

impl Simulation {
    /// Builds it, unless `HEDGEROW_SIM_BIN` names one.
    pub(super) fn build(workspace: &Workspace) -> Result<Self> {
        match std::env::var_os(SIMULATION.variable).filter(|path| !path.is_empty()) {
            Some(path) => Ok(Self(path.into())),
            None => SIMULATION.build(workspace).map(Self),
        }
    }

    /// Runs a cell.
    pub(super) fn run(&self, cell: &Cell, calibration: &Calibration) -> Result<Simulated> {
        let mut command = Command::new(&self.0);
        command.args(cell.flags(calibration));
        let text = stdout_of(&mut command)?;
        simulated(&text).with_context(|| format!("`{}` printed no figures of the cell {}", line_of(&command), cell.name()))
    }
}

fn simulated(text: &str) -> Option<Simulated> {
    let report: Value = serde_json::from_str(text).ok()?;
    let median = |figure: &str| report[figure]["p50"].as_f64();
    Some(Simulated { seconds: median("virtual_seconds")?, wan_copies: median("wan_copies")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_site_counts() {
        let text = r#"{"virtual_seconds": {"p50": 9.5, "max": 11.0}, "wan_copies": {"p50": 1.0, "max": 1.2}}"#;
        assert_eq!(simulated(text), Some(Simulated { seconds: 9.5, wan_copies: 1.0 }));
        assert_eq!(simulated("{}"), None);
    }
}
