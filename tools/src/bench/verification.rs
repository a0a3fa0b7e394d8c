//! `cargo tools bench verification`: how long a device takes to verify a changed state, in an organisation of 1,000 apps × 100
//! versions.
//!
//! What is measured is a part of the device, so it is measured by a test of `node` that `check` leaves out, built as what is
//! shipped; its files are in memory where there is such a file system, and on the disk for the second figure.
//!
//! Not here: the bytes that a new version costs, which a test in `check` bounds.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::cargo::{Workspace, stdout_of};

/// The test that measures.
const TEST: &str = "trust::publication::sizes::what_a_changed_state_costs_a_device_in_time";
/// What the line that it prints begins with.
const MARK: &str = "verification: ";
/// Where Linux has files in memory.
const MEMORY: &str = "/dev/shm";
const GOAL_MS: f64 = 5.0;

/// Measure how long a device takes to verify a changed state
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let on_disk = measure(workspace, &workspace.target)?;
    let in_memory = if Path::new(MEMORY).is_dir() { Some(measure(workspace, Path::new(MEMORY))?) } else { None };
    let verified = in_memory.unwrap_or(on_disk);
    if args.json {
        println!("{}", json!({"verified_ms": verified, "verified_and_kept_ms": on_disk, "goal_ms": GOAL_MS, "holds": verified <= GOAL_MS}));
    } else {
        let verdict = if verified <= GOAL_MS { "holds" } else { "missed" };
        println!("a changed state verified                       {verified:.2} ms (goal {GOAL_MS} ms: {verdict})");
        println!("the same, and durably kept on this disk        {on_disk:.2} ms");
    }
    Ok(())
}

/// The median in milliseconds, with the device's files below `folder`.
fn measure(workspace: &Workspace, folder: &Path) -> Result<f64> {
    let mut test = workspace.cargo();
    test.args(["test", "--quiet", "--release", "--package", "node", "--lib", "--", "--ignored", "--exact", "--nocapture", TEST]);
    let said = stdout_of(test.env("TMPDIR", folder))?;
    let line = said.lines().find_map(|line| line.split_once(MARK)).map(|(_, figures)| figures);
    let figures: Value = serde_json::from_str(line.with_context(|| format!("`{TEST}` printed no figure"))?)?;
    figures.get("median_ms").and_then(Value::as_f64).context("the figure has no median")
}
