//! `cargo tools test`: all tests of the workspace, against the binaries as they are shipped.
//!
//! It decides nothing about a single test: one that lacks a tool fails by itself, or skips itself when
//! `HEDGEROW_SKIP_MISSING` is set.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::cargo::{Workspace, succeed};
use crate::setup;
use crate::shipped::{HEDGEROW, SIMULATION, Shipped};

/// Set up, build the shipped binaries and run all tests
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Install nothing, and skip the tests whose tools are missing
    #[arg(long)]
    pub(crate) skip_missing: bool,
    /// Run only tests with one of these in their name; passed on to the test runner as they are
    #[arg(last = true, value_name = "FILTER")]
    pub(crate) filters: Vec<String>,
}

/// Runs the verb.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    if args.skip_missing {
        setup::say_missing();
    } else {
        setup::install_missing()?;
    }
    let runs = commands(workspace, &args.filters, setup::is_on_path("cargo-nextest"));
    run_all(workspace, runs, args.skip_missing)
}

/// Runs the tests that the verb leaves out, because they are marked as long; see `soak`.
pub(crate) fn run_long(workspace: &Workspace) -> Result<()> {
    setup::install_missing()?;
    run_all(workspace, vec![long_command(workspace, setup::is_on_path("cargo-nextest"))], false)
}

fn run_all(workspace: &Workspace, runs: Vec<Command>, skip_missing: bool) -> Result<()> {
    let mut binaries = Vec::new();
    for shipped in [HEDGEROW, SIMULATION] {
        binaries.push((shipped, shipped.build(workspace)?));
    }
    // All of them are run, so that one failure does not hide another.
    let mut outcome = Ok(());
    for mut command in runs {
        tell(&mut command, &binaries, skip_missing);
        outcome = outcome.and(succeed(&mut command));
    }
    outcome
}

/// The runs of the tests, the one with the summary last. Documentation is tested too, unless tests were named.
fn commands(workspace: &Workspace, filters: &[String], with_nextest: bool) -> Vec<Command> {
    let mut commands = Vec::new();
    if with_nextest {
        if filters.is_empty() {
            let mut documentation = workspace.cargo();
            documentation.args(["test", "--doc", "--release", "--workspace", "--no-fail-fast"]);
            commands.push(documentation);
        }
        let mut tests = workspace.cargo();
        tests.args(["nextest", "run", "--release", "--workspace", "--no-fail-fast"]).args(filters);
        commands.push(tests);
    } else {
        let mut tests = workspace.cargo();
        tests.args(["test", "--release", "--workspace", "--no-fail-fast", "--"]).args(filters);
        commands.push(tests);
    }
    commands
}

fn long_command(workspace: &Workspace, with_nextest: bool) -> Command {
    let mut tests = workspace.cargo();
    if with_nextest {
        tests.args(["nextest", "run", "--release", "--workspace", "--no-fail-fast", "--run-ignored", "only", "--no-tests", "pass"]);
    } else {
        tests.args(["test", "--release", "--workspace", "--no-fail-fast", "--tests", "--", "--ignored"]);
    }
    tests
}

fn tell(command: &mut Command, binaries: &[(Shipped, PathBuf)], skip_missing: bool) {
    for (shipped, path) in binaries {
        command.env(shipped.variable, path);
    }
    if skip_missing {
        command.env("HEDGEROW_SKIP_MISSING", "1");
    } else {
        command.env_remove("HEDGEROW_SKIP_MISSING");
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;
    use crate::cargo::line_of;

    #[test]
    fn the_run_with_the_summary_is_the_last() {
        let workspace = nowhere();
        let lines = |filters: &[String], nextest| -> Vec<String> { commands(&workspace, filters, nextest).iter().map(line_of).collect() };
        assert_eq!(
            lines(&[], true),
            ["cargo test --doc --release --workspace --no-fail-fast", "cargo nextest run --release --workspace --no-fail-fast",]
        );
        assert_eq!(lines(&["rollout".to_owned()], true), ["cargo nextest run --release --workspace --no-fail-fast rollout"]);
        assert_eq!(lines(&["rollout".to_owned()], false), ["cargo test --release --workspace --no-fail-fast -- rollout"]);
    }

    #[test]
    fn long_tests_are_run_alone() {
        let long = "cargo nextest run --release --workspace --no-fail-fast --run-ignored only --no-tests pass";
        assert_eq!(line_of(&long_command(&nowhere(), true)), long);
        assert_eq!(line_of(&long_command(&nowhere(), false)), "cargo test --release --workspace --no-fail-fast --tests -- --ignored");
    }

    #[test]
    fn tests_are_told_where_the_binaries_are_and_whether_to_skip() {
        let mut command = Command::new("cargo");
        tell(&mut command, &[(HEDGEROW, PathBuf::from("/t/shipped/hedgerow"))], true);
        let told: Vec<_> = command.get_envs().collect();
        assert!(told.contains(&(OsStr::new("HEDGEROW_BIN"), Some(OsStr::new("/t/shipped/hedgerow")))));
        assert!(told.contains(&(OsStr::new("HEDGEROW_SKIP_MISSING"), Some(OsStr::new("1")))));
    }

    fn nowhere() -> Workspace {
        Workspace { root: PathBuf::from("."), target: PathBuf::from("target"), crates: Vec::new() }
    }
}
