//! By how much the simulation is wrong: each cell, and all together, as a table and as JSON.
//!
//! Not here: cells that it is fitted to; they are shown, and not counted.

use std::fmt;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::calibration::Calibration;
use super::cells::Cell;
use super::results::{Row, median};
use super::simulation::Simulated;

/// The most that the median cell's time may be wrong by.
const TIME_MEDIAN_MAX: f64 = 0.05;
/// The same of 95 of 100 cells.
const TIME_P95_MAX: f64 = 0.10;
/// The most that the median cell's copies over the WAN may be wrong by.
const COPIES_MEDIAN_MAX: f64 = 0.01;

/// A cell, in the lab and in the simulation.
#[derive(Clone, Debug)]
pub(super) struct Compared {
    pub(super) cell: Cell,
    runs: usize,
    lab: Simulated,
    foretold: Simulated,
}

impl Compared {
    /// Compares the median of a cell's runs with what was foretold; none without runs.
    pub(super) fn of(cell: &Cell, rows: &[Row], foretold: Simulated) -> Option<Self> {
        let runs: Vec<&Row> = rows.iter().filter(|row| row.cell == *cell).collect();
        let of = |name: &str| median(runs.iter().map(|row| row.figure(name)).collect());
        let lab = Simulated { seconds: of("seconds")?, wan_copies: of("wan_copies")? };
        Some(Self { cell: cell.clone(), runs: runs.len(), lab, foretold })
    }

    fn time_error(&self) -> f64 {
        self.foretold.seconds / self.lab.seconds - 1.0
    }

    fn copies_error(&self) -> f64 {
        self.foretold.wan_copies / self.lab.wan_copies - 1.0
    }

    fn json(&self) -> Value {
        let figures = |figures: Simulated| json!({"seconds": figures.seconds, "wan_copies": figures.wan_copies});
        json!({
            "cell": self.cell.name(), "devices": self.cell.devices, "lan_times_wan": self.cell.ratio, "kind": self.cell.kind,
            "calibrates": self.cell.calibrates(), "runs": self.runs, "lab": figures(self.lab), "simulation": figures(self.foretold),
            "time_error": self.time_error(), "copies_error": self.copies_error(),
        })
    }
}

/// All cells that were compared.
pub(super) struct Errors<'a> {
    pub(super) calibration: &'a Calibration,
    pub(super) cells: Vec<Compared>,
    pub(super) wrong: Vec<String>,
}

impl Errors<'_> {
    /// Sizes of errors of the cells that count, in order.
    fn sizes(&self, error: fn(&Compared) -> f64) -> Vec<f64> {
        let mut sizes: Vec<f64> = self.cells.iter().filter(|cell| !cell.cell.calibrates()).map(|cell| error(cell).abs()).collect();
        sizes.sort_by(f64::total_cmp);
        sizes
    }

    /// What is not reached.
    fn missed(&self) -> Vec<String> {
        let (time, copies) = (self.sizes(Compared::time_error), self.sizes(Compared::copies_error));
        let wanted = [
            ("median error of time", rank(&time, 50), TIME_MEDIAN_MAX),
            ("error of time of 95 of 100 cells", rank(&time, 95), TIME_P95_MAX),
            ("median error of copies", rank(&copies, 50), COPIES_MEDIAN_MAX),
        ];
        let missed = wanted.into_iter().filter(|(_, found, most)| found.is_some_and(|found| found > *most));
        let missed =
            missed.map(|(what, found, most)| format!("the {what} is {:.3}, the goal is at most {most}", found.unwrap_or(f64::NAN)));
        missed.chain(self.wrong.iter().cloned()).collect()
    }

    /// One object.
    pub(super) fn json(&self) -> Value {
        let spread = |sizes: &[f64]| json!({"p50": rank(sizes, 50), "p95": rank(sizes, 95), "max": rank(sizes, 100)});
        let missed = self.missed();
        json!({
            "cells": self.cells.iter().map(Compared::json).collect::<Vec<_>>(), "calibration": self.calibration.json(),
            "time_error": spread(&self.sizes(Compared::time_error)), "copies_error": spread(&self.sizes(Compared::copies_error)),
            "passed": missed.is_empty(), "missed": missed,
        })
    }

    /// Fails if a goal was missed.
    pub(super) fn verdict(&self) -> Result<()> {
        match self.missed().len() {
            0 => Ok(()),
            missed => bail!("the simulation misses {missed} of its goals, named above"),
        }
    }
}

impl fmt::Display for Errors<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<24} {:>4} {:>9} {:>11} {:>7}   {:>6} {:>11} {:>7}",
            "cell", "runs", "lab, s", "simulation", "error", "copies", "simulation", "error"
        )?;
        for compared in &self.cells {
            let Compared { cell, runs, lab, foretold } = compared;
            write!(
                f,
                "{:<24} {runs:>4} {:>9.2} {:>11.2} {:>6.1}%",
                cell.name(),
                lab.seconds,
                foretold.seconds,
                100.0 * compared.time_error()
            )?;
            write!(f, "   {:>6.3} {:>11.3} {:>6.1}%", lab.wan_copies, foretold.wan_copies, 100.0 * compared.copies_error())?;
            writeln!(f, "{}", if cell.calibrates() { "   fitted" } else { "" })?;
        }
        for (name, error) in [("time", Compared::time_error as fn(&Compared) -> f64), ("copies", Compared::copies_error)] {
            let sizes = self.sizes(error);
            let percent = |of| rank(&sizes, of).map_or_else(|| "-".to_owned(), |size| format!("{:.1} %", 100.0 * size));
            writeln!(
                f,
                "error of {name}: median {}, 95 of 100 cells {}, largest {}, {} cells",
                percent(50),
                percent(95),
                percent(100),
                sizes.len()
            )?;
        }
        for missed in self.missed() {
            writeln!(f, "  MISSED: {missed}")?;
        }
        Ok(())
    }
}

/// The size that so many of a hundred do not exceed; none of nothing.
fn rank(sorted: &[f64], percent: usize) -> Option<f64> {
    sorted.get((sorted.len() * percent).div_ceil(100).checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::validate::cells::PLAIN;

    fn compared(devices: u32, lab: f64, foretold: f64) -> Compared {
        let simulated = |seconds| Simulated { seconds, wan_copies: 1.0 };
        Compared { cell: Cell { devices, ratio: 5, kind: PLAIN }, runs: 3, lab: simulated(lab), foretold: simulated(foretold) }
    }

    #[test]
    fn cells_that_were_fitted_do_not_count() {
        let calibration = Calibration::default();
        let of = |cells| Errors { calibration: &calibration, cells, wrong: Vec::new() };
        assert!(of(vec![compared(2, 10.0, 20.0), compared(5, 10.0, 10.4)]).verdict().is_ok());
        let errors = of(vec![compared(5, 10.0, 10.4), compared(5, 10.0, 9.0), compared(10, 10.0, 12.0)]);
        assert_eq!(errors.missed().len(), 2, "{errors}");
        assert!(errors.to_string().contains("median 10.0 %, 95 of 100 cells 20.0 %"), "{errors}");
        assert!(of(Vec::new()).verdict().is_ok());
    }
}
