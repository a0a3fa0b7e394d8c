//! `cargo tools layering`: the crates point at each other as the design says, and `protocol` is pure.
//!
//! It reads manifests, the resolved graph and the source of `protocol`, and compiles nothing. What takes the compiler
//! to see is banned in `protocol/.clippy.toml` and found by clippy.

mod arrows;
mod dependencies;
mod features;
mod purity;

use anyhow::Result;

use crate::cargo::{Workspace, stdout_of};
use crate::finding::{Finding, report};

/// Check the arrows between the crates and the purity of `protocol`
#[derive(clap::Args)]
pub(crate) struct Args {}

/// Runs the verb.
pub(crate) fn run(workspace: &Workspace, _: &Args) -> Result<()> {
    report("layering", &check(workspace)?)
}

/// All that is wrong with the layers of `workspace`.
pub(crate) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut findings = arrows::check(workspace);
    if !findings.is_empty() {
        // With an arrow the wrong way the graph may be a ring, of which nothing more can be asked.
        return Ok(findings);
    }
    findings.extend(dependencies::check(workspace)?);
    findings.extend(features::check(workspace)?);
    findings.extend(purity::check(workspace)?);
    Ok(findings)
}

/// What `cargo tree` prints with these arguments.
fn tree(workspace: &Workspace, arguments: &[&str]) -> Result<String> {
    stdout_of(workspace.cargo().arg("tree").args(arguments))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::TinyWorkspace;

    #[test]
    fn a_clean_workspace_passes() {
        let tiny = TinyWorkspace::clean();
        assert_eq!(check(&tiny.read()).unwrap(), []);
    }
}
