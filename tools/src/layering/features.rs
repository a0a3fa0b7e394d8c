//! The feature of `protocol` that mints proofs without bytes is not in the graph of `node` by itself.
//!
//! In a build of the whole workspace it is there, for the simulation; so what is shipped is never built that way.

use anyhow::{Result, bail};

use super::tree;
use crate::cargo::Workspace;
use crate::finding::Finding;

const MINTING: &str = "protocol feature \"simulated\"";

/// Whether `node`, resolved by itself, can mint proofs without bytes.
pub(super) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let features = tree(workspace, &["-p", "node", "-e", "features,normal", "--prefix", "none"])?;
    if !features.contains("protocol feature ") {
        bail!(
            "`cargo tree -p node -e features,normal` names no feature of `protocol`, not even `default`; has its output \
             changed? Run it and adapt tools/src/layering/features.rs"
        );
    }
    if !features.contains(MINTING) {
        return Ok(Vec::new());
    }
    Ok(vec![Finding::new(
        "node",
        "has the feature `simulated` of `protocol` in its graph: the shipped binary could accept what nobody verified",
        "see who asks for it with `cargo tree -p node -e features,normal -i protocol`, and leave that out",
    )])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::TinyWorkspace;

    #[test]
    fn the_feature_is_found_when_node_asks_for_it() {
        let tiny = TinyWorkspace::clean();
        let manifest = "[dependencies]\nprotocol = { path = \"../protocol\", features = [\"simulated\"] }\n";
        tiny.add("node", manifest, "//! Node.\n");
        assert_found(&tiny);
    }

    #[test]
    fn the_feature_is_found_when_it_comes_as_a_default() {
        let tiny = TinyWorkspace::clean();
        tiny.add("protocol", "[features]\ndefault = [\"simulated\"]\nsimulated = []\n", "//! Protocol.\n");
        assert_found(&tiny);
    }

    #[test]
    fn the_feature_may_be_asked_for_by_others() {
        let tiny = TinyWorkspace::clean();
        assert_eq!(check(&tiny.read()).unwrap(), []);
    }

    fn assert_found(tiny: &TinyWorkspace) {
        let findings = check(&tiny.read()).unwrap();
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].fault.contains("has the feature `simulated` of `protocol`"), "{}", findings[0]);
    }
}
