//! Many seeds over threads. A run belongs to one thread, so the number of threads changes nothing but the time it takes.
//!
//! Not here: a run; see [`super::run`].

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{Passed, SeededBug, Violation, run};
use crate::fleet::timed;

/// What came of a range of seeds.
#[derive(Clone, Debug, Serialize)]
pub struct Batch {
    /// Runs in which everything held.
    pub passed: u64,
    /// Runs in which something did not.
    pub failed: u64,
    /// Of the digests of all runs that passed, in order of their seeds.
    pub digest: String,
    /// What happened to devices, counted.
    pub events: u64,
    /// Virtual hours.
    pub virtual_hours: u64,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// The failures that were kept, in order of their seeds.
    #[serde(skip)]
    pub violations: Vec<Violation>,
}

/// Failures that are kept: enough to see whether they are of one kind.
const VIOLATIONS_MAX: usize = 20;

/// Runs `seeds`, each with `bug`. With `stop`, no further one is begun after the first that failed.
pub fn check(seeds: Range<u64>, bug: Option<SeededBug>, threads: NonZeroUsize, stop: bool, done: &(dyn Fn(u64) + Sync)) -> Batch {
    let (next, ended, failed) = (AtomicU64::new(seeds.start), AtomicU64::new(0), AtomicBool::new(false));
    let results: Mutex<Vec<Result<Passed, Violation>>> = Mutex::new(Vec::new());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end || (stop && failed.load(Ordering::Relaxed)) {
                return;
            }
            let result = run_caught(seed, bug);
            failed.fetch_or(result.is_err(), Ordering::Relaxed);
            results.lock().unwrap_or_else(PoisonError::into_inner).push(result);
            done(ended.fetch_add(1, Ordering::Relaxed) + 1);
        }
    };
    let ((), seconds) = timed(|| {
        std::thread::scope(|scope| {
            for _ in 0..threads.get() {
                scope.spawn(work);
            }
        });
    });
    summary(results.into_inner().unwrap_or_else(PoisonError::into_inner), seconds)
}

/// A run, in which a panic is a failure like others.
fn run_caught(seed: u64, bug: Option<SeededBug>) -> Result<Passed, Violation> {
    std::panic::catch_unwind(|| run(seed, bug, false)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        let what = format!("it panicked: {}", said.unwrap_or("no reason given"));
        Err(Violation { seed, at_us: 0, what, plan: String::new(), bug, trace: Vec::new() })
    })
}

fn summary(results: Vec<Result<Passed, Violation>>, seconds: f64) -> Batch {
    let (mut passed, mut violations) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(run) => passed.push(run),
            Err(violation) => violations.push(violation),
        }
    }
    passed.sort_by_key(|run| run.seed);
    violations.sort_by_key(|violation| violation.seed);
    let failed = violations.len() as u64;
    violations.truncate(VIOLATIONS_MAX);
    let mut hasher = Sha256::new();
    for run in &passed {
        hasher.update(run.seed.to_be_bytes());
        hasher.update(run.digest.to_be_bytes());
    }
    Batch {
        passed: passed.len() as u64,
        failed,
        digest: hex::encode(hasher.finalize()),
        events: passed.iter().map(|run| run.events).sum(),
        virtual_hours: passed.iter().map(|run| run.micros).sum::<u64>() / 3_600_000_000,
        seconds,
        violations,
    }
}
