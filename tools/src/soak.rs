//! `cargo tools soak`: what takes longer than `check` may.
//!
//! A test that takes minutes is marked `#[ignore = "soak: …"]`, with what it takes so long for; it belongs to the job
//! `tests`.
//!
//! Not here: the jobs; each is a verb or a command that can be run alone.

use anyhow::{Result, bail};

use crate::cargo::Workspace;
use crate::steps::{Step, run_steps};
use crate::{faults, fuzz, test, tuf_suite};

/// Run what takes longer than `check` may: fuzzing, simulated faults, the tests that are marked as long, the conformance suite of TUF
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run this job alone
    #[arg(long, value_name = "JOB")]
    job: Option<String>,
}

/// Runs the verb.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let jobs = jobs(workspace);
    let names: Vec<&str> = jobs.iter().map(|job| job.name).collect();
    let Some(wanted) = args.job.as_deref() else { return run_steps(&jobs) };
    match names.iter().position(|name| *name == wanted) {
        Some(at) => run_steps(&jobs[at..=at]),
        None => bail!("there is no job `{wanted}`; there are {}", names.join(", ")),
    }
}

fn jobs(workspace: &Workspace) -> Vec<Step<'_>> {
    vec![
        Step::new("fuzz", "cargo tools fuzz", move || {
            fuzz::run(workspace, &fuzz::Args { target: None, minutes: fuzz::MINUTES, output: fuzz::Output::Text })
        }),
        Step::new("faults", "cargo tools soak --job faults", move || faults::run_long(workspace)),
        Step::new("tests", "cargo tools soak --job tests", move || test::run_long(workspace)),
        Step::new("tuf", "cargo tools soak --job tuf", move || tuf_suite::run(workspace)),
    ]
}
