//! The step `faults` of `check`, and the job of that name of `soak`: small fleets in which everything goes wrong
//! (`hedgerow-sim check`), and the same decisions from the same seeds on one, two and eight threads, and from a build without
//! optimisation and with debug assertions.
//!
//! Not here: what goes wrong and what must hold; see `simulation::correctness`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cargo::{Workspace, line_of, stdout_of};
use crate::shipped::SIMULATION;

/// Seeds of `check`.
const SEEDS: &str = "0..1500";

/// Seeds of `soak`; none of them is one of `check`.
const SEEDS_OF_SOAK: &str = "1500..60000";

/// Seeds that are run on every number of threads and in both builds.
const SEEDS_COMPARED: &str = "0..60";

/// Numbers of threads that must make no difference.
const THREADS: [&str; 3] = ["1", "2", "8"];

/// Runs the seeds of `check`, and compares builds and numbers of threads.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let unoptimised = SIMULATION.build_unoptimised(workspace)?;
    let binary = SIMULATION.build(workspace)?;
    digest_of(&binary, &["--seeds", SEEDS])?;
    let mut digests = Vec::new();
    for (binary, threads) in THREADS.map(|threads| (&binary, threads)).into_iter().chain([(&unoptimised, "2")]) {
        digests.push(digest_of(binary, &["--seeds", SEEDS_COMPARED, "--threads", threads])?);
    }
    compare(&digests)
}

/// Runs the seeds of `soak`.
pub(crate) fn run_long(workspace: &Workspace) -> Result<()> {
    digest_of(&SIMULATION.build(workspace)?, &["--seeds", SEEDS_OF_SOAK]).map(drop)
}

/// The command that does the same as [`run`], but for the comparison, by hand.
pub(crate) fn by_hand(workspace: &Workspace) -> String {
    format!("{} check --seeds {SEEDS}", workspace.target.join("shipped").join(SIMULATION.binary).display())
}

fn digest_of(binary: &Path, flags: &[&str]) -> Result<String> {
    let mut command = Command::new(binary);
    command.arg("check").args(flags).arg("--json");
    let line = line_of(&command);
    let text = stdout_of(command.stderr(std::process::Stdio::inherit())).with_context(|| format!("`{line}` found something"))?;
    let report: Value = serde_json::from_str(&text).with_context(|| format!("`{line}` wrote no JSON"))?;
    println!("{line}: {report}");
    Ok(report.get("digest").and_then(Value::as_str).context("the report has no `digest`")?.to_owned())
}

fn compare(digests: &[String]) -> Result<()> {
    if digests.windows(2).any(|pair| pair[0] != pair[1]) {
        bail!(
            "the same seeds gave different digests on {} threads, or without optimisation on 2: {}; a decision depends on more than its seed",
            THREADS.join(", "),
            digests.join(", ")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_digest_is_taken_from_the_report_and_a_run_that_fails_fails() {
        let folder = tempfile::tempdir().unwrap();
        let binary = folder.path().join("hedgerow-sim");
        for (body, digest) in [("echo '{\"digest\": \"ab\"}'", Some("ab")), ("echo '{}'", None), ("exit 1", None)] {
            std::fs::write(&binary, format!("#!/bin/sh\n{body}\n")).unwrap();
            std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755)).unwrap();
            assert_eq!(digest_of(&binary, &[]).ok().as_deref(), digest);
        }
    }

    #[test]
    fn different_digests_fail() {
        assert!(compare(&["a".to_owned(), "a".to_owned()]).is_ok());
        assert!(compare(&["a".to_owned(), "b".to_owned()]).is_err());
    }
}
