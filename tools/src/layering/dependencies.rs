//! What `protocol` is made of: the crates it may ask for itself, and those that must not be anywhere in its tree.
//!
//! What its tests use is free.

use std::collections::BTreeSet;

use anyhow::Result;

use super::tree;
use crate::cargo::{DependencyKind, Workspace};
use crate::finding::Finding;

/// A crate and the reason it is on a list.
type Entry = (&'static str, &'static str);

/// What `protocol` may depend on itself.
const ALLOWED: &[Entry] = &[
    ("base64", "keys and signatures in statements"),
    ("bytes", "buffers on the wire, shared without a copy"),
    ("ed25519-dalek", "checks signatures; without its random source"),
    ("hex", "digests as text"),
    ("p256", "checks signatures of keys in hardware, and those of cosign; without its random source"),
    ("postcard", "the wire codec"),
    ("serde", "the shape of what is encoded"),
    ("serde_json", "statements, which are JSON"),
    ("sha2", "digests"),
    ("thiserror", "error types"),
];

/// What must not be in the tree of `protocol`, however deep. A name stands for the crates that start with it and a
/// dash too.
const DENIED: &[Entry] = &[
    ("async-std", "runs tasks: the driver does"),
    ("chrono", "reads the clock: time is an argument"),
    ("getrandom", "asks the system for randomness: the seed is given at construction"),
    ("hyper", "talks to the network: the driver does"),
    ("if-addrs", "reads the interfaces: the driver does"),
    ("instant", "reads the clock: time is an argument"),
    ("jiff", "reads the clock: time is an argument"),
    ("libp2p", "talks to the network: the driver does"),
    ("mio", "waits for sockets: the driver does"),
    ("quanta", "reads the clock: time is an argument"),
    ("quinn", "talks to the network: the driver does"),
    ("rand", "draws from the system by default: the seed is given at construction"),
    ("smol", "runs tasks: the driver does"),
    ("socket2", "opens sockets: the driver does"),
    ("time", "reads the clock: time is an argument"),
    ("tokio", "runs tasks and reads clocks, files and sockets: the driver does"),
    ("web-time", "reads the clock: time is an argument"),
];

/// Dependencies of `protocol` that are not allowed.
pub(super) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut findings = direct(workspace)?;
    findings.extend(whole(workspace)?);
    Ok(findings)
}

fn direct(workspace: &Workspace) -> Result<Vec<Finding>> {
    let protocol = workspace.member("protocol")?;
    let findings = protocol
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind != DependencyKind::Dev)
        .filter(|dependency| !ALLOWED.iter().any(|(name, _)| *name == dependency.name))
        .map(|dependency| {
            Finding::new(
                "protocol",
                format!("depends on `{}`, which is not on the list of what it may", dependency.name),
                "do it in `node`, or add it to ALLOWED with its reason if it reads nothing from outside",
            )
        })
        .collect();
    Ok(findings)
}

fn whole(workspace: &Workspace) -> Result<Vec<Finding>> {
    let text = tree(workspace, &["-p", "protocol", "-e", "normal", "--prefix", "none", "--all-features"])?;
    let names: BTreeSet<_> = text.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let findings = names
        .into_iter()
        .filter_map(|name| reason_against(name).map(|reason| (name, reason)))
        .map(|(name, reason)| {
            Finding::new(
                "protocol",
                format!("has `{name}` in its tree, which {reason}"),
                format!("see who brings it with `cargo tree -p protocol -e normal -i {name}`, and leave that out"),
            )
        })
        .collect();
    Ok(findings)
}

fn reason_against(name: &str) -> Option<&'static str> {
    let is_of = |denied: &str| name.strip_prefix(denied).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
    DENIED.iter().find(|(denied, _)| is_of(denied)).map(|(_, reason)| *reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{TinyWorkspace, depends};

    #[test]
    fn a_dependency_outside_of_the_list_is_found() {
        let tiny = TinyWorkspace::clean();
        tiny.add("left-pad", "", "//! Library.\n");
        tiny.add_with_feature("protocol", "simulated", &depends(&["left-pad"]));
        assert_faults(&tiny, &["depends on `left-pad`, which is not on the list"]);
    }

    #[test]
    fn a_denied_crate_is_found_below_an_allowed_one() {
        for (name, reason) in [("tokio", "runs tasks"), ("quinn-proto", "network"), ("getrandom", "the seed is given")] {
            let tiny = TinyWorkspace::clean();
            tiny.add(name, "", "//! Library.\n");
            tiny.add("bytes", &depends(&[name]), "//! Library.\n");
            tiny.add_with_feature("protocol", "simulated", &depends(&["bytes"]));
            assert_faults(&tiny, &[&format!("has `{name}` in its tree, which")]);
            assert!(check(&tiny.read()).unwrap()[0].fault.contains(reason));
        }
    }

    #[test]
    fn a_denied_crate_is_found_behind_a_feature_and_in_a_build_script() {
        let tiny = TinyWorkspace::clean();
        tiny.add("rand", "", "//! Library.\n");
        tiny.add("serde", "", "//! Library.\n");
        let manifest = "[dependencies]\nrand = { path = \"../rand\", optional = true }\n\n\
                        [build-dependencies]\nserde = { path = \"../serde\" }\nrand = { path = \"../rand\" }\n";
        tiny.add_with_feature("protocol", "simulated", manifest);
        assert_faults(&tiny, &["depends on `rand`", "depends on `rand`", "has `rand` in its tree"]);
    }

    #[test]
    fn what_its_tests_use_is_free() {
        let tiny = TinyWorkspace::clean();
        tiny.add("tokio", "", "//! Library.\n");
        let manifest = depends(&["tokio"]).replace("dependencies", "dev-dependencies");
        tiny.add_with_feature("protocol", "simulated", &manifest);
        assert_faults(&tiny, &[]);
    }

    #[test]
    fn a_longer_name_is_not_taken_for_a_denied_one() {
        assert_eq!(reason_against("timely"), None);
        assert_eq!(reason_against("rand_core"), None);
        assert!(reason_against("tokio-util").is_some());
    }

    fn assert_faults(tiny: &TinyWorkspace, expected: &[&str]) {
        let findings = check(&tiny.read()).unwrap();
        assert_eq!(findings.len(), expected.len(), "{findings:?}");
        for (finding, expected) in findings.iter().zip(expected) {
            assert!(finding.fault.contains(expected), "{finding}");
        }
    }
}
