//! The rules for verified metadata that the TUF library leaves to its caller; pure functions.
//!
//! Not here: signatures and the order of files, see [`super::client`].

use std::collections::{BTreeMap, BTreeSet};

use protocol::name::{AppName, Platform};
use sigstore_tuf::metadata::{Metadata, Role};
use sigstore_tuf::{Error, Snapshot, TargetFile, Targets, TrustedMetadataSet};

use super::metadata;
use super::refused::TrustRefused;

/// The versions that an app's role lists, with the platforms of each.
pub type PublishedVersions = BTreeMap<u64, BTreeSet<Platform>>;

/// The versions and platforms in the targets of `app`'s role. Paths of another shape are not versions.
pub(super) fn published_versions(app: &AppName, role: &Targets) -> PublishedVersions {
    versions_in(app, role.targets.keys())
}

/// The same for the paths of any list.
pub(super) fn versions_in(app: &AppName, paths: impl IntoIterator<Item = impl AsRef<str>>) -> PublishedVersions {
    let mut versions = PublishedVersions::new();
    for path in paths {
        let Some((version, file)) = path.as_ref().strip_prefix(app.as_str()).and_then(|rest| rest.strip_prefix('/')?.split_once('/'))
        else {
            continue;
        };
        let platform = file.strip_suffix(".json").and_then(|platform| platform.parse().ok());
        if let (Ok(version), Some(platform)) = (version.parse(), platform) {
            versions.entry(version).or_default().insert(platform);
        }
    }
    versions
}

/// TUF 1.0 §5: valid are moments before `expires`.
pub(super) fn check_expiry(role: &impl Role, name: &str, now: jiff::Timestamp) -> Result<(), TrustRefused> {
    if role.expires() <= now {
        return Err(TrustRefused::Expired { role: name.to_owned(), expires: role.expires() });
    }
    Ok(())
}

/// `bytes` must have the length of `target` and each hash of it that is understood, one at least (TUF 1.0 §5.7.3).
pub fn check_target(path: &str, target: &TargetFile, bytes: &[u8]) -> Result<(), TrustRefused> {
    let mismatch = |detail: String| TrustRefused::Mismatch { file: path.to_owned(), detail };
    if bytes.len() as u64 != target.length {
        return Err(mismatch(format!("{} bytes instead of {}", bytes.len(), target.length)));
    }
    metadata::target_digest(path, target)?;
    for wanted in metadata::target_digests(target) {
        let found = wanted.same_algorithm(bytes);
        if found != wanted {
            return Err(mismatch(format!("{found} instead of {wanted}")));
        }
    }
    Ok(())
}

/// The snapshot in `bytes`, if the root's keys signed it; whether a timestamp names it is not checked.
pub(super) fn authentic_snapshot(trusted: &TrustedMetadataSet, bytes: &[u8]) -> Result<Snapshot, Error> {
    let metadata = Metadata::<Snapshot>::from_slice(bytes)?;
    let root = trusted.root();
    let authority = root.role("snapshot").ok_or_else(|| Error::UnknownRole("snapshot".to_owned()))?;
    metadata.verify_threshold(&root.keys, authority, "snapshot")?;
    Ok(metadata.into_signed())
}

/// The versions that `snapshot` pins, by un-versioned file name.
pub(super) fn pins(snapshot: &Snapshot) -> BTreeMap<String, u64> {
    snapshot.meta.iter().map(|(file, pin)| (file.clone(), pin.version)).collect()
}

/// No role may vanish from a snapshot or go back (TUF 1.0 §5.5.5).
pub(super) fn check_floor(file: &str, floor: &BTreeMap<String, u64>, new: &BTreeMap<String, u64>) -> Result<(), TrustRefused> {
    for (role, accepted) in floor {
        let found = new.get(role);
        if found.is_none_or(|found| found < accepted) {
            let found = found.map_or_else(|| "no longer".to_owned(), |found| format!("with version {found}"));
            let detail = format!("{role} stands in it {found}, version {accepted} was accepted");
            return Err(TrustRefused::RolledBack { file: file.to_owned(), detail });
        }
    }
    Ok(())
}
