//! A grid of runs: every combination of settings, each with several seeds, with confidence intervals over the seeds.
//!
//! Not here: one run; see [`crate::fleet`].

use std::fmt;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, ensure};
use serde::Serialize;

use crate::fleet;
use crate::report::Report;
use crate::scenario::{Choices, Scenario};

/// Runs of one sweep at most: an unlimited grid is a typing error.
const RUNS_MAX: usize = 100_000;

/// Student's t for a two-sided interval of 95 %, by degrees of freedom from 1 on.
const STUDENT_T: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093,
    2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// A mean over seeds, and how far the true one may be away, with 95 % confidence; nothing is known of that after one seed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Half of the confidence interval.
    pub plus_minus: Option<f64>,
}

/// The outcome of one combination.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    /// The settings, `key=value`.
    pub settings: Vec<String>,
    /// Seeds.
    pub seeds: u64,
    /// The median site's time over its bound.
    pub time_over_bound: Estimate,
    /// The median site's copies over the WAN.
    pub wan_copies: Estimate,
    /// The slowest site's time in seconds.
    pub slowest_seconds: Estimate,
}

/// The combinations of `axes`, each `key=value,value…`, in order.
///
/// # Errors
/// When an axis is none, or the grid is beyond reason.
pub fn grid(axes: &[String], seeds: u64) -> anyhow::Result<Vec<Vec<String>>> {
    let mut grid: Vec<Vec<String>> = vec![Vec::new()];
    for axis in axes {
        let (key, values) =
            axis.split_once('=').with_context(|| format!("--set {axis}: expected key=value,value…, such as wan_mbit=10,20"))?;
        let longer = |before: Vec<String>| {
            values.split(',').map(move |value| before.iter().cloned().chain([format!("{key}={}", value.trim())]).collect::<Vec<_>>())
        };
        grid = grid.into_iter().flat_map(longer).collect();
    }
    let runs = grid.len().saturating_mul(usize::try_from(seeds).unwrap_or(usize::MAX));
    ensure!((1..=RUNS_MAX).contains(&runs), "the sweep has {runs} runs; from 1 to {RUNS_MAX} are allowed");
    Ok(grid)
}

/// Runs every combination with so many seeds, one run a thread.
///
/// # Errors
/// When a scenario is wrong, or a rule does not hold in a run.
pub fn run(
    flags: &Choices,
    file: Option<&Path>,
    grid: &[Vec<String>],
    seeds: u64,
    threads: NonZeroUsize,
    progress: &(impl Fn() + Sync),
) -> anyhow::Result<Vec<Point>> {
    let mut scenarios = Vec::new();
    for settings in grid {
        let base = Scenario::load(flags.clone(), settings, file)?;
        for seed in 0..seeds {
            let flags = Choices { seed: Some(base.seed.wrapping_add(seed)), ..flags.clone() };
            scenarios.push(Scenario::load(flags, settings, file)?);
        }
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut reports = Vec::new();
        while let Some((index, scenario)) = Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|n| Some((n, scenarios.get(n)?))) {
            reports.push((index, fleet::run(scenario, NonZeroUsize::MIN, &|_| {})));
            progress();
        }
        reports
    };
    let mut reports: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.get()).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    reports.sort_unstable_by_key(|(index, _)| *index);
    let reports = reports.into_iter().map(|(_, report)| report).collect::<Result<Vec<Report>, _>>()?;
    let per_point = reports.chunks(usize::try_from(seeds).unwrap_or(1).max(1));
    Ok(grid.iter().zip(per_point).map(|(settings, reports)| Point::new(settings.clone(), reports)).collect())
}

impl Point {
    fn new(settings: Vec<String>, reports: &[Report]) -> Self {
        let estimate = |of: fn(&Report) -> f64| Estimate::of(&reports.iter().map(of).collect::<Vec<_>>());
        Self {
            settings,
            seeds: reports.len() as u64,
            time_over_bound: estimate(|report| report.time_over_bound.p50),
            wan_copies: estimate(|report| report.wan_copies.p50),
            slowest_seconds: estimate(|report| report.virtual_seconds.max),
        }
    }
}

impl Estimate {
    fn of(figures: &[f64]) -> Self {
        let count = figures.len() as f64;
        let mean = figures.iter().sum::<f64>() / count.max(1.0);
        let variance = figures.iter().map(|figure| (figure - mean).powi(2)).sum::<f64>() / (count - 1.0);
        let t = figures.len().checked_sub(2).map(|freedom| STUDENT_T.get(freedom).copied().unwrap_or(1.96));
        Self { mean, plus_minus: t.map(|t| t * (variance / count).sqrt()) }
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.plus_minus {
            Some(half) => write!(f, "{:>9.4} ± {half:<8.4}", self.mean),
            None => write!(f, "{:>9.4}           ", self.mean),
        }
    }
}

impl Point {
    /// What the columns of a point are.
    pub const HEAD: &str = "time / bound         WAN copies           slowest site, s      settings";
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{} {}", self.time_over_bound, self.wan_copies, self.slowest_seconds, self.settings.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_has_every_combination() {
        let grid = grid(&["wan_mbit=10,20".into(), "faults.liars=0,1,2".into()], 3).unwrap();
        assert_eq!(grid.len(), 6);
        assert_eq!(grid[4], ["wan_mbit=20", "faults.liars=1"]);
        assert!(super::grid(&["wan_mbit".into()], 1).is_err() && super::grid(&[], 0).is_err());
    }

    #[test]
    fn the_interval_is_students() {
        let estimate = Estimate::of(&[1.0, 2.0, 3.0]);
        assert!((estimate.mean - 2.0).abs() < 1e-9 && (estimate.plus_minus.unwrap() - 4.303 / 3f64.sqrt()).abs() < 1e-9);
        assert_eq!(Estimate::of(&[5.0]), Estimate { mean: 5.0, plus_minus: None });
    }
}
