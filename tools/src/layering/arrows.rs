//! The edges between the crates of the workspace are exactly the arrows of the design.
//!
//! Crates from elsewhere are not looked at here.

use crate::cargo::{Crate, Workspace};
use crate::finding::Finding;

/// What one crate of the workspace may and must depend on, for whatever purpose.
struct Arrows {
    from: &'static str,
    must: &'static [&'static str],
    may: &'static [&'static str],
    why: &'static str,
}

const ARROWS: &[Arrows] = &[
    Arrows { from: "node", must: &["protocol"], may: &[], why: "it carries out what `protocol` decides" },
    Arrows { from: "protocol", must: &[], may: &[], why: "it decides alone and knows nobody who carries it out" },
    Arrows { from: "simulation", must: &["protocol"], may: &[], why: "it drives the machines without `node`" },
    Arrows { from: "tests", must: &[], may: &["node", "simulation"], why: "it sees the product from outside, not through `protocol`" },
    Arrows { from: "tools", must: &[], may: &[], why: "it must be able to judge a broken tree" },
];

/// Edges and crates that are not in the design, or missing from the tree.
pub(super) fn check(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for arrows in ARROWS {
        match workspace.crates.iter().find(|member| member.name == arrows.from) {
            Some(member) => findings.extend(arrows.check(member, workspace)),
            None => findings.push(Finding::new(
                arrows.from,
                "the crate is in the design but not in the workspace",
                "add it to `members` in Cargo.toml",
            )),
        }
    }
    for member in &workspace.crates {
        if !ARROWS.iter().any(|arrows| arrows.from == member.name) {
            findings.push(Finding::new(
                &member.name,
                "the crate is in the workspace but not in the design",
                "move what it holds to the crate that it belongs to, or add it to ARROWS with its reason",
            ));
        }
    }
    findings
}

impl Arrows {
    fn check(&self, member: &Crate, workspace: &Workspace) -> Vec<Finding> {
        let targets: Vec<_> = member
            .dependencies
            .iter()
            .filter(|dependency| dependency.is_path && dependency.name != member.name)
            .filter(|dependency| workspace.crates.iter().any(|other| other.name == dependency.name))
            .map(|dependency| dependency.name.as_str())
            .collect();
        let wrong = targets.iter().filter(|target| !self.must.contains(target) && !self.may.contains(target)).map(|target| {
            Finding::new(
                self.from,
                format!("depends on `{target}`, an arrow that is not in the design: {}", self.why),
                format!("take `{target}` out of {}/Cargo.toml", self.from),
            )
        });
        let missing = self.must.iter().filter(|target| !targets.contains(target)).map(|target| {
            Finding::new(
                self.from,
                format!("does not depend on `{target}`, though {}", self.why),
                format!("add `{target}` to {}/Cargo.toml", self.from),
            )
        });
        wrong.chain(missing).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{TinyWorkspace, depends};

    #[test]
    fn an_arrow_the_wrong_way_is_found_even_in_a_ring() {
        let tiny = TinyWorkspace::clean();
        tiny.add_with_feature("protocol", "simulated", &depends(&["node"]));
        assert_faults(&tiny, &["depends on `node`, an arrow that is not in the design: it decides alone"]);
    }

    #[test]
    fn each_crate_is_kept_to_its_own_arrows() {
        for (from, to) in [("simulation", "node"), ("tests", "protocol"), ("tools", "protocol"), ("node", "tests")] {
            let tiny = TinyWorkspace::clean();
            let mut names = vec![to];
            if from == "simulation" || from == "node" {
                names.push("protocol");
            }
            tiny.add(from, &depends(&names), "//! Library.\n");
            assert_faults(&tiny, &[&format!("depends on `{to}`, an arrow")]);
        }
    }

    #[test]
    fn an_arrow_for_tests_alone_is_an_arrow_too() {
        let tiny = TinyWorkspace::clean();
        let manifest = depends(&["node"]).replace("dependencies", "dev-dependencies");
        tiny.add("tools", &manifest, "//! Tools.\n");
        assert_faults(&tiny, &["depends on `node`, an arrow"]);
    }

    #[test]
    fn a_missing_arrow_and_an_unknown_crate_are_found() {
        let tiny = TinyWorkspace::clean();
        tiny.add("node", "", "//! Node.\n");
        tiny.add("extra", "", "//! Extra.\n");
        assert_faults(&tiny, &["does not depend on `protocol`", "in the workspace but not in the design"]);
    }

    fn assert_faults(tiny: &TinyWorkspace, expected: &[&str]) {
        let findings = check(&tiny.read());
        assert_eq!(findings.len(), expected.len(), "{findings:?}");
        for (finding, expected) in findings.iter().zip(expected) {
            assert!(finding.fault.contains(expected), "{finding}");
        }
    }
}
