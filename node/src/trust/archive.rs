//! The archive of an app: a list of the versions that its role no longer does, so that the role which devices fetch for
//! every new version stays small. A path stands in exactly one of the two.
//!
//! The archive is a target of the app's role, which so pins and signs it: the snapshot, which devices fetch for every new
//! version of any app, has no entry for it. Its content is `{"format": 1, "targets": {…}}`, with entries as in the role
//! (TUF 1.0 §4.5, TARGETS).
//!
//! Not here: what is published; see [`super::publication`].

use std::collections::{BTreeMap, BTreeSet};

use protocol::digest::Digest;
use protocol::name::AppName;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sigstore_tuf::{DelegatedRole, TargetFile, Targets};

use super::metadata;
use super::refused::TrustRefused;
use super::rules::{PublishedVersions, check_target, versions_in};
use crate::store::meta::TufFile;

/// How many of the newest versions stay in an app's role, besides those that devices shall have: 50 of two platforms are
/// 12 KiB, and a fleet is seldom further behind.
pub(super) const VERSIONS_IN_ROLE: usize = 50;

/// The only `format` of an archive that this code reads and writes.
const FORMAT: u32 = 1;

/// Statements that left the app's role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Archive {
    format: u32,
    /// Their entries as they stood in the role, by path.
    pub(super) targets: BTreeMap<String, TargetFile>,
}

impl Archive {
    /// Reads the bytes that were verified as the archive of `app`.
    pub(super) fn parse(app: &AppName, bytes: &[u8]) -> Result<Self, TrustRefused> {
        let malformed = |detail: String| TrustRefused::Malformed { file: path(app), detail };
        let archive: Self = serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
        if archive.format == FORMAT {
            return Ok(archive);
        }
        Err(malformed(format!("it has format {}, this program reads {FORMAT}; update it", archive.format)))
    }

    /// Reads the archive in `file`, if it is the one that `role` pins.
    pub(super) fn verified(app: &AppName, role: &Targets, file: &TufFile) -> Result<Self, TrustRefused> {
        let path = path(app);
        let target = role.target(&path).ok_or_else(|| TrustRefused::NotPublished(path.clone()))?;
        check_target(&path, target, file.content.as_bytes())?;
        Self::parse(app, file.content.as_bytes())
    }

    /// The versions that it lists.
    pub(super) fn versions(&self, app: &AppName) -> PublishedVersions {
        versions_in(app, self.targets.keys())
    }
}

/// The path of the archive among the targets of its app's role. No version has the number `archive`.
pub(super) fn path(app: &AppName) -> String {
    format!("{app}/archive/versions.json")
}

/// The file in which a repository has the archive with this digest.
pub(super) fn file_name(app: &AppName, digest: &Digest) -> String {
    format!("targets/{}", metadata::consistent_path(&path(app), digest))
}

/// The versions that leave the app's role.
pub(super) fn surplus(listed: &PublishedVersions, deployed: &BTreeSet<u64>) -> BTreeSet<u64> {
    let old = listed.keys().rev().skip(VERSIONS_IN_ROLE);
    old.filter(|version| !deployed.contains(version)).copied().collect()
}

/// Moves `surplus` from the app's role in `signed` to its archive, which was `before`: the new archive, which the role now pins.
pub(super) fn move_surplus(app: &AppName, signed: &mut Value, before: Option<Archive>, surplus: &BTreeSet<u64>) -> TufFile {
    let before = before.unwrap_or_else(|| Archive { format: FORMAT, targets: BTreeMap::new() });
    let mut archive = metadata::plain(&before);
    let leaving = |path: &str| versions_in(app, [path]).keys().any(|version| surplus.contains(version));
    if let Some(targets) = signed["targets"].as_object_mut() {
        let paths: Vec<String> = targets.keys().filter(|path| leaving(path)).cloned().collect();
        for path in paths {
            if let Some(target) = targets.remove(&path) {
                archive["targets"][path] = target;
            }
        }
    }
    let content = archive.to_string();
    signed["targets"][path(app)] = metadata::target_entry(content.as_bytes());
    TufFile { name: file_name(app, &Digest::sha256(content.as_bytes())), content }
}

/// Whether `role` is called `name` and may list exactly the paths of `app`.
pub(super) fn covers_exactly(role: &DelegatedRole, name: &str, app: &AppName) -> bool {
    role.name == name
        && role.terminating
        && role.threshold >= 1
        && role.path_hash_prefixes.is_none()
        && role.paths.as_deref() == Some(&[metadata::path_pattern(app)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_and_the_deployed_stay() {
        let listed: PublishedVersions = (1..=60).map(|version| (version, BTreeSet::new())).collect();
        assert_eq!(surplus(&listed, &[3, 9].into()), [1, 2, 4, 5, 6, 7, 8, 10].into());
        let few: PublishedVersions = (1..=50).map(|version| (version, BTreeSet::new())).collect();
        assert!(surplus(&few, &BTreeSet::new()).is_empty());
    }

    #[test]
    fn an_archive_of_another_format_is_not_read() {
        let app = "web".parse().unwrap();
        assert!(Archive::parse(&app, br#"{"format":1,"targets":{}}"#).unwrap().targets.is_empty());
        for wrong in [r#"{"format":2,"targets":{}}"#, r#"{"targets":{}}"#, "[]", ""] {
            assert_eq!(Archive::parse(&app, wrong.as_bytes()).unwrap_err().reason(), "malformed", "{wrong}");
        }
    }
}
