//! A whole run: sites shared out over threads by their index, outcomes put together in the order of sites. Threads share
//! nothing but the number of the next site, so that they change the time of a run and nothing else.
//!
//! Not here: what happens at a site; see `site`.

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::checker::Violation;
use crate::report::Report;
use crate::rollout;
use crate::scenario::Scenario;
use crate::site::{Site, SiteOutcome};

/// What carries a run: it changes the time and the memory that it takes, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workers {
    /// Threads.
    pub threads: NonZeroUsize,
    /// Sites that each thread runs side by side, a moment of each in turn. One after the other takes the least memory; side by
    /// side shows what devices take that are all active.
    pub abreast: NonZeroUsize,
}

impl From<NonZeroUsize> for Workers {
    /// So many threads, each with one site after the other.
    fn from(threads: NonZeroUsize) -> Self {
        Self { threads, abreast: NonZeroUsize::MIN }
    }
}

/// The moment of each site in turn, in microseconds of virtual time.
const TURN_US: u64 = 100_000;

/// Runs `scenario`; `progress` is told how many sites are done, out of order at times.
///
/// # Errors
/// When a rule does not hold at some site, or it is not done in time: the first such site.
pub fn run(scenario: &Scenario, workers: impl Into<Workers>, progress: &(impl Fn(u32) + Sync)) -> Result<Report, Violation> {
    run_until(scenario, workers, &AtomicBool::new(false), progress)
}

/// The same, but no further site is begun once `stop` is set; the report says then that it is partial.
///
/// # Errors
/// As [`run`].
pub fn run_until(
    scenario: &Scenario,
    workers: impl Into<Workers>,
    stop: &AtomicBool,
    progress: &(impl Fn(u32) + Sync),
) -> Result<Report, Violation> {
    let workers = workers.into();
    let threads = workers.threads.get().min(scenario.sites as usize);
    let (outcomes, seconds) = timed(|| run_sites(scenario, threads, workers.abreast.get(), stop, progress));
    let outcomes = outcomes.into_iter().map(|(site, outcome)| Ok((site, outcome?))).collect::<Result<Vec<_>, Violation>>()?;
    let mut report = Report::new(scenario, threads, seconds, &outcomes);
    report.rollout = if report.partial { None } else { rollout::run(scenario, &outcomes) };
    Ok(report)
}

type Outcomes = Vec<(u32, Result<SiteOutcome, Violation>)>;

fn run_sites(scenario: &Scenario, threads: usize, abreast: usize, stop: &AtomicBool, progress: &(impl Fn(u32) + Sync)) -> Outcomes {
    let (next, done) = (AtomicU32::new(0), AtomicU32::new(0));
    let next_site = || {
        let site = next.fetch_add(1, Ordering::Relaxed);
        (site < scenario.sites && !stop.load(Ordering::Relaxed)).then_some(site)
    };
    let work = || {
        let mut outcomes = Vec::new();
        loop {
            let sites: Vec<u32> = std::iter::from_fn(next_site).take(abreast).collect();
            if sites.is_empty() {
                return outcomes;
            }
            run_abreast(scenario, &sites, &mut |site, outcome| {
                outcomes.push((site, outcome));
                progress(done.fetch_add(1, Ordering::Relaxed) + 1);
            });
        }
    };
    let mut outcomes: Outcomes = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut outcomes = work();
        for other in others {
            match other.join() {
                Ok(theirs) => outcomes.extend(theirs),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        outcomes
    });
    outcomes.sort_unstable_by_key(|(site, _)| *site);
    outcomes
}

/// Runs some sites, a moment of each in turn; the memory of each is free when it is done.
fn run_abreast(scenario: &Scenario, sites: &[u32], done: &mut impl FnMut(u32, Result<SiteOutcome, Violation>)) {
    let mut running: Vec<(u32, Box<Site<'_>>)> = sites.iter().map(|site| (*site, Box::new(Site::new(scenario, *site)))).collect();
    let mut until = 0u64;
    while !running.is_empty() {
        until = until.saturating_add(TURN_US);
        for (site, mut state) in std::mem::take(&mut running) {
            match guarded(scenario, site, || state.run_until(until)) {
                Ok(true) => done(site, Ok(state.finish())),
                Ok(false) => running.push((site, state)),
                Err(violation) => done(site, Err(violation)),
            }
        }
    }
}

/// What a part of a site's run gives; a machine that panics is a violation like any other.
fn guarded<T>(scenario: &Scenario, site: u32, run: impl FnOnce() -> Result<T, Violation>) -> Result<T, Violation> {
    let panicked = || Violation { site, at_us: 0, what: "panicked, as said above".to_owned(), command: scenario.command() };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_panic| Err(panicked()))
}

/// What `run` gives, and the wall time that it took, in seconds.
#[expect(clippy::disallowed_methods, reason = "the one place that measures wall time; no decision depends on it")]
pub(crate) fn timed<T>(run: impl FnOnce() -> T) -> (T, f64) {
    let start = std::time::Instant::now();
    let outcome = run();
    (outcome, start.elapsed().as_secs_f64())
}
