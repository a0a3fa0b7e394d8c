//! Correctness mode: the machines of `protocol`, unchanged, in small fleets in which everything goes wrong that can, one fleet
//! a seed. After a while the faults end, and everything must come right within a bound. The same seed gives the same run.
//!
//! | module | holds |
//! |---|---|
//! | [`batch`] | many seeds over threads |
//! | `plan` | what a seed makes of a run |
//! | `world` | the run: devices, sites, seed, and the driver of the machines |
//! | `agenda` | what happens next, in one order |
//! | `faults` | what goes wrong, and when it ends |
//! | `operator` | what is asked of the seed |
//! | `seed_side` | the seed: rollouts and signed documents |
//! | `device`, `disk` | a device, and what survives a crash on it |
//! | `content` | versions, blobs, and tags that stand for bytes |
//! | `checks` | what must hold |
//! | `seeded` | bugs that prove that the checkers see |
//! | `draws` | random numbers |
//!
//! Driven: the swarm machine, the device agent's machine, the rollout machine, assignments and desired states with their
//! signatures and counters, the clock's floor. Not driven: TUF (statements come accepted), the wire codec, the dialer, the
//! store of `node`, whose rules for partial blobs and kept documents the driver here follows.
//!
//! Not here: how fast a site is; the performance mode models rates, this one only orders of events.

mod agenda;
pub mod batch;
mod checks;
mod content;
mod device;
mod disk;
mod draws;
mod faults;
mod operator;
mod plan;
mod seed_side;
mod seeded;
mod world;

use std::fmt;

pub use seeded::SeededBug;

/// A run in which everything held.
#[derive(Clone, Debug)]
pub struct Passed {
    /// The seed.
    pub seed: u64,
    /// Of all decisions of all devices, in order, with their times.
    pub digest: u64,
    /// What happened to devices, counted.
    pub events: u64,
    /// Virtual time that it took, in microseconds.
    pub micros: u64,
    /// How many devices there were.
    pub devices: usize,
    /// What happened, if it was asked for.
    pub trace: Vec<String>,
}

/// A run in which something did not hold.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The seed.
    pub seed: u64,
    /// The virtual time, in microseconds.
    pub at_us: u64,
    /// What did not hold.
    pub what: String,
    /// What kind of run it was.
    pub plan: String,
    /// The bug that the run was given.
    pub bug: Option<SeededBug>,
    /// What happened before, if it was asked for.
    pub trace: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, at_us, what, plan, bug, .. } = self;
        writeln!(f, "seed {seed}, {}.{:06} s: {what}", at_us / 1_000_000, at_us % 1_000_000)?;
        writeln!(f, "  {plan}")?;
        write!(f, "  to see it again: hedgerow-sim check --seed {seed} --trace")?;
        bug.map_or(Ok(()), |bug| write!(f, " --bug {bug}"))
    }
}

impl std::error::Error for Violation {}

/// The run of `seed`, with a bug if one is given, and with a trace of what happened if it is asked for.
///
/// # Errors
/// When something does not hold.
pub fn run(seed: u64, bug: Option<SeededBug>, trace: bool) -> Result<Passed, Violation> {
    let plan = plan::Plan::of(seed);
    let describe = plan.to_string();
    let refused = |what| Violation { seed, at_us: 0, what, plan: describe, bug, trace: Vec::new() };
    world::World::new(plan, bug, trace).map_err(refused)?.run()
}
