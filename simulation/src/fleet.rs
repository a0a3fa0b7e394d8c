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

/// Runs `scenario` on `threads` threads; `progress` is told how many sites are done, out of order at times.
///
/// # Errors
/// When a rule does not hold at some site, or it is not done in time: the first such site.
pub fn run(scenario: &Scenario, threads: NonZeroUsize, progress: &(impl Fn(u32) + Sync)) -> Result<Report, Violation> {
    run_until(scenario, threads, &AtomicBool::new(false), progress)
}

/// The same, but no further site is begun once `stop` is set; the report says then that it is partial.
///
/// # Errors
/// As [`run`].
pub fn run_until(
    scenario: &Scenario,
    threads: NonZeroUsize,
    stop: &AtomicBool,
    progress: &(impl Fn(u32) + Sync),
) -> Result<Report, Violation> {
    let threads = threads.get().min(scenario.sites as usize);
    let (outcomes, seconds) = timed(|| run_sites(scenario, threads, stop, progress));
    let outcomes = outcomes.into_iter().map(|(site, outcome)| Ok((site, outcome?))).collect::<Result<Vec<_>, Violation>>()?;
    let mut report = Report::new(scenario, threads, seconds, &outcomes);
    report.rollout = if report.partial { None } else { rollout::run(scenario, &outcomes) };
    Ok(report)
}

type Outcomes = Vec<(u32, Result<SiteOutcome, Violation>)>;

fn run_sites(scenario: &Scenario, threads: usize, stop: &AtomicBool, progress: &(impl Fn(u32) + Sync)) -> Outcomes {
    let (next, done) = (AtomicU32::new(0), AtomicU32::new(0));
    let work = || {
        let mut outcomes = Vec::new();
        loop {
            let site = next.fetch_add(1, Ordering::Relaxed);
            if site >= scenario.sites || stop.load(Ordering::Relaxed) {
                return outcomes;
            }
            outcomes.push((site, run_site(scenario, site)));
            progress(done.fetch_add(1, Ordering::Relaxed) + 1);
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

/// Runs one site; a machine that panics is a violation like any other.
fn run_site(scenario: &Scenario, site: u32) -> Result<SiteOutcome, Violation> {
    let panicked = || Violation { site, at_us: 0, what: "panicked, as said above".to_owned(), command: scenario.command() };
    catch_unwind(AssertUnwindSafe(|| Site::new(scenario, site).run())).unwrap_or_else(|_panic| Err(panicked()))
}

/// What `run` gives, and the wall time that it took, in seconds.
#[expect(clippy::disallowed_methods, reason = "the one place that measures wall time; no decision depends on it")]
pub(crate) fn timed<T>(run: impl FnOnce() -> T) -> (T, f64) {
    let start = std::time::Instant::now();
    let outcome = run();
    (outcome, start.elapsed().as_secs_f64())
}
