//! `cargo tools check`: all that a change must pass, in one command; the continuous integration calls just this.
//!
//! It has no rules of its own: each step is a verb or a command that can be run alone.

use anyhow::Result;

use crate::cargo::Workspace;
use crate::steps::{Step, run_steps};
use crate::{faults, lab, layering, lints, short_simulation, test, tidy};

/// Format, lints, documentation, layering, tidy, tests, a short simulation, one of faults, and a short lab
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Install nothing, and skip the tests whose tools are missing
    #[arg(long)]
    skip_missing: bool,
}

/// Runs the verb.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    run_steps(&steps(workspace, args))
}

fn steps<'a>(workspace: &'a Workspace, args: &'a Args) -> Vec<Step<'a>> {
    let test_args = test::Args { skip_missing: args.skip_missing, filters: Vec::new() };
    let test_alone = if args.skip_missing { "cargo tools test --skip-missing" } else { "cargo tools test" };
    vec![
        Step::new("format", "cargo fmt --all --check", || lints::format(workspace)),
        Step::new("clippy", "cargo clippy --workspace --all-targets --release -- -D warnings", || lints::clippy(workspace)),
        Step::new("documentation", "RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --release", || {
            lints::documentation(workspace)
        }),
        Step::new("layering", "cargo tools layering", || layering::run(workspace, &layering::Args {})),
        Step::new("tidy", "cargo tools tidy", || tidy::run(workspace, &tidy::Args {})),
        Step::new("test", test_alone, move || test::run(workspace, &test_args)),
        Step::new("simulation", &short_simulation::by_hand(workspace), || short_simulation::run(workspace)),
        Step::new("faults", &faults::by_hand(workspace), || faults::run(workspace)),
        Step::new("lab", &lab::short_by_hand(), || lab::run_short(workspace, args.skip_missing)),
    ]
}
