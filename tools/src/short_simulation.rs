//! The last step of `check`: a small fleet, simulated again and again from one seed, must come out the same to the last bit:
//! on one thread, on two and on eight, optimised and not.
//!
//! Not a test of what the fleet does: the tests of `simulation` are.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cargo::{Workspace, line_of};
use crate::shipped::SIMULATION;

/// One run may take no longer.
const SECONDS_MAX: u64 = 60;

/// The same fleet on so many threads.
const THREADS: [&str; 3] = ["1", "2", "8"];

/// Builds the simulation, runs it on each number of threads, then a smaller fleet with and without optimisation, and compares.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let binary = SIMULATION.build(workspace)?;
    let output = |name: &str| workspace.target.join("shipped").join(format!("short-simulation-{name}.json"));
    let limit = Duration::from_secs(SECONDS_MAX);
    let mut digests = Vec::new();
    for threads in THREADS {
        digests.push(digest_of(&binary, &arguments(threads), &output(threads), limit)?);
    }
    compare(&digests, &format!("{} threads", THREADS.join(", ")))?;
    let debug = SIMULATION.build_debug(workspace)?;
    let optimised = digest_of(&binary, &SMALL, &output("small"), limit)?;
    let unoptimised = digest_of(&debug, &SMALL, &output("debug"), limit)?;
    compare(&[optimised, unoptimised], "optimised and not")
}

/// The commands that do the same by hand.
pub(crate) fn by_hand(workspace: &Workspace) -> String {
    let binary = workspace.target.join("shipped").join(SIMULATION.binary);
    THREADS.map(|threads| format!("{} {}", binary.display(), arguments(threads).join(" "))).join("\n        ")
}

fn arguments(threads: &str) -> [&str; 10] {
    ["run", "--devices", "1000", "--sites", "50", "--seed", "1", "--threads", threads, "--json"]
}

/// A fleet small enough for a build without optimisation, in which things go wrong too.
const SMALL: [&str; 10] = ["run", "--devices", "60", "--sites", "6", "--liars", "1", "--churn-percent", "20", "--json"];

fn digest_of(binary: &Path, arguments: &[&str], output: &Path, limit: Duration) -> Result<String> {
    let file =
        File::create(output).with_context(|| format!("cannot write {}; is there room, and is it yours to write?", output.display()))?;
    let mut command = Command::new(binary);
    command.args(arguments).stdin(Stdio::null()).stdout(file);
    let line = line_of(&command);
    let seconds = run_within(command, &line, limit)?;
    let text = fs::read_to_string(output).with_context(|| format!("cannot read what `{line}` wrote to {}", output.display()))?;
    let digest = digest_in(&text)
        .with_context(|| format!("`{line}` wrote no JSON object with a `digest` as its last value; see {}", output.display()))?;
    println!("{line}: {seconds:.1} s, digest {digest}");
    Ok(digest)
}

/// Runs `command` and gives its seconds; ends it when it takes longer than `limit`.
fn run_within(mut command: Command, line: &str, limit: Duration) -> Result<f64> {
    let start = Instant::now();
    let mut child = command.spawn().with_context(|| format!("cannot start `{line}`"))?;
    let status = loop {
        if let Some(status) = child.try_wait().with_context(|| format!("cannot wait for `{line}`"))? {
            break status;
        }
        if start.elapsed() > limit {
            child.kill().and_then(|()| child.wait()).with_context(|| format!("cannot end `{line}`"))?;
            bail!("`{line}` took longer than {} s, the limit, and was ended; run it by hand to see where the time goes", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    if !status.success() {
        bail!("`{line}` failed ({status}); its own output above says why");
    }
    Ok(start.elapsed().as_secs_f64())
}

/// The `digest` of the last JSON value in `text`.
fn digest_in(text: &str) -> Option<String> {
    let values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let last = values.collect::<Result<Vec<_>, _>>().ok()?.pop()?;
    Some(last.get("digest")?.as_str()?.to_owned())
}

fn compare(digests: &[String], runs: &str) -> Result<()> {
    if digests.windows(2).any(|pair| pair[0] != pair[1]) {
        bail!("the same seed gave different digests, {runs}: {}; something depends on more than the scenario", digests.join(", "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn takes_the_digest_from_the_last_value() {
        let (folder, binary) = script("echo '{\"digest\": 1}'; echo '{\"digest\": \"ab\", \"asked\": \"'\"$*\"'\"}'");
        let output = folder.path().join("output");
        assert_eq!(digest_of(&binary, &arguments("2"), &output, Duration::from_secs(10)).unwrap(), "ab");
        let text = fs::read_to_string(output).unwrap();
        assert!(text.contains("run --devices 1000 --sites 50 --seed 1 --threads 2 --json"), "{text}");
    }

    #[test]
    fn a_run_that_fails_says_nothing_or_takes_too_long_fails() {
        for (body, because) in [("exit 3", "failed"), ("echo hello", "no JSON"), ("exec sleep 60", "took longer than 0 s")] {
            let (folder, binary) = script(body);
            let limit = Duration::from_millis(if body.contains("sleep") { 50 } else { 10_000 });
            let error = digest_of(&binary, &arguments("1"), &folder.path().join("output"), limit).unwrap_err();
            assert!(error.to_string().contains(because), "{error}");
        }
    }

    #[test]
    fn different_digests_fail() {
        assert!(compare(&["a".to_owned(), "a".to_owned()], "1, 2 threads").is_ok());
        let error = compare(&["a".to_owned(), "b".to_owned()], "1, 2 threads").unwrap_err().to_string();
        assert!(error.contains("1, 2 threads: a, b"), "{error}");
    }

    fn script(body: &str) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let binary = folder.path().join("hedgerow-sim");
        fs::write(&binary, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
        (folder, binary)
    }
}
