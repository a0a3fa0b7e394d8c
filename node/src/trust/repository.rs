//! The making of an organisation's TUF repository: its first files by the operator, its snapshots and timestamps by the
//! seed.
//!
//! A new root takes effect with the next timestamp: whoever stores a root renews the online files in the same step.
//!
//! Not here: publishing versions; see [`super::publication`].

use std::collections::BTreeMap;

use ed25519_dalek::VerifyingKey;
use protocol::digest::Digest;
use protocol::name::{AppName, OrgName};
use protocol::time::WallTime;
use protocol::time::floor::AHEAD_SECONDS_MAX;
use sigstore_tuf::metadata::{Metadata, Role};
use sigstore_tuf::{Snapshot, Targets, Timestamp, TrustedMetadataSet};

use super::archive;
use super::key_file::KeyError;
use super::metadata::{self, RootContent, SNAPSHOT_SECONDS, TIMESTAMP_FILE, TIMESTAMP_RENEWAL_SECONDS, TIMESTAMP_SECONDS};
use super::online_key::OnlineSigner;
use super::operator_keys::{OperatorKeys, ROOT_KEY, TARGETS_KEY};
use super::refused::TrustRefused;
use super::source::{self, MetadataSource, ROOT_BYTES_MAX, SNAPSHOT_BYTES_MAX, TARGETS_BYTES_MAX, TIMESTAMP_BYTES_MAX};
use super::updater::ROOT_ROTATIONS_MAX;
use crate::store::meta::TufFile;

/// The seed trusts its own store: what it stored may have expired, and is renewed.
pub(super) const BEFORE_EVERY_EXPIRY: jiff::Timestamp = jiff::Timestamp::UNIX_EPOCH;

/// The epoch of a new organisation's online key.
const FIRST_EPOCH: u64 = 1;

/// The first root and targets metadata of the keys' organisation, with `online` as the key of its seed.
///
/// # Errors
/// When a key is not there or cannot be opened.
pub fn new_repository(keys: &OperatorKeys, online: &VerifyingKey, now: WallTime) -> Result<Vec<TufFile>, KeyError> {
    let (root, targets) = (keys.public(ROOT_KEY)?, keys.public(TARGETS_KEY)?);
    let content = RootContent { org: keys.org(), version: 1, root: &root, targets: &targets, online, epoch: FIRST_EPOCH };
    let top_level = metadata::next_targets(metadata::empty_targets(), 0, now);
    Ok(vec![
        TufFile { name: metadata::versioned("root", 1), content: keys.sign(&metadata::root(&content, now), &[metadata::keyid(&root)])? },
        TufFile { name: metadata::versioned("targets", 1), content: keys.sign(&top_level, &[metadata::keyid(&targets)])? },
    ])
}

/// The metadata in force on a seed, and the role of one app.
#[derive(Clone, Debug)]
pub struct RepositoryFiles {
    /// The newest root.
    pub root: TufFile,
    /// The timestamp: the state that a change depends on.
    pub timestamp: TufFile,
    /// The snapshot that the timestamp names.
    pub snapshot: TufFile,
    /// The top-level targets that the snapshot names.
    pub targets: TufFile,
    /// The role of the app asked for, if it is published.
    pub app_role: Option<TufFile>,
    /// The archive that this role pins, if it does.
    pub archive: Option<TufFile>,
}

impl RepositoryFiles {
    /// Reads the files in force from the seed's own `source`, with the role of `app` if one is given.
    ///
    /// # Errors
    /// When a file is missing or cannot be read.
    pub async fn load(source: &dyn MetadataSource, app: Option<&AppName>) -> Result<Self, TrustRefused> {
        let mut root = fetch(source, metadata::versioned("root", 1), ROOT_BYTES_MAX).await?;
        for version in 2..ROOT_ROTATIONS_MAX {
            let name = metadata::versioned("root", version);
            let Some(bytes) = source::find(source, &name, ROOT_BYTES_MAX).await? else { break };
            root = file(name, bytes)?;
        }
        let timestamp = fetch(source, TIMESTAMP_FILE.to_owned(), TIMESTAMP_BYTES_MAX).await?;
        let snapshot = pinned_snapshot(&timestamp)?;
        let snapshot = fetch(source, metadata::versioned("snapshot", snapshot), SNAPSHOT_BYTES_MAX).await?;
        let pins = pins(&snapshot)?;
        let targets = pins.get("targets.json").copied().unwrap_or(1);
        let targets = fetch(source, metadata::versioned("targets", targets), TARGETS_BYTES_MAX).await?;
        let (mut app_role, mut archive) = (None, None);
        if let Some((app, role)) = app.map(|app| (app, metadata::role_name(app)))
            && let Some(version) = pins.get(&metadata::unversioned(&role))
        {
            let file = fetch(source, metadata::versioned(&role, *version), TARGETS_BYTES_MAX).await?;
            archive = pinned_archive(source, app, &parsed(&file)?).await?;
            app_role = Some(file);
        }
        Ok(Self { root, timestamp, snapshot, targets, app_role, archive })
    }

    /// The files as verified metadata of `org`, expired or not, with the role of `app` if there is one.
    pub(super) fn verified(&self, org: &OrgName, app: Option<&AppName>) -> Result<TrustedMetadataSet, TrustRefused> {
        let refused = |file: &TufFile, error| TrustRefused::of(&file.name, error);
        let now = BEFORE_EVERY_EXPIRY;
        let mut trusted = TrustedMetadataSet::from_root(self.root.content.as_bytes()).map_err(|error| refused(&self.root, error))?;
        metadata::online_key(trusted.root(), org)?;
        trusted.update_timestamp(self.timestamp.content.as_bytes(), now).map_err(|error| refused(&self.timestamp, error))?;
        trusted.update_snapshot(self.snapshot.content.as_bytes(), now).map_err(|error| refused(&self.snapshot, error))?;
        trusted.update_targets(self.targets.content.as_bytes(), now).map_err(|error| refused(&self.targets, error))?;
        if let (Some(file), Some(role)) = (&self.app_role, app.map(metadata::role_name)) {
            trusted.update_delegated_targets(file.content.as_bytes(), &role, "targets", now).map_err(|error| refused(file, error))?;
        }
        Ok(trusted)
    }

    /// The versions that the snapshot pins, by un-versioned file name.
    pub(super) fn pins(&self) -> Result<BTreeMap<String, u64>, TrustRefused> {
        pins(&self.snapshot)
    }

    /// The versions of timestamp and snapshot.
    pub(super) fn online_versions(&self) -> Result<(u64, u64), TrustRefused> {
        Ok((parsed::<Timestamp>(&self.timestamp)?.version, parsed::<Snapshot>(&self.snapshot)?.version))
    }
}

/// The root that `source` has with the SHA-256 `first`, and those after it, the newest last; the newest alone if it has no such.
///
/// # Errors
/// When one cannot be read.
pub async fn roots_from(source: &dyn MetadataSource, first: &Digest) -> Result<Vec<String>, TrustRefused> {
    let (mut roots, mut is_found) = (Vec::new(), false);
    for version in 1..ROOT_ROTATIONS_MAX {
        let name = metadata::versioned("root", version);
        let Some(bytes) = source::find(source, &name, ROOT_BYTES_MAX).await? else { break };
        if !is_found {
            roots.clear();
            is_found = Digest::sha256(&bytes) == *first;
        }
        roots.push(file(name, bytes)?.content);
    }
    Ok(roots)
}

/// Whether the online files should be renewed at `now`: the timestamp is older than
/// [`TIMESTAMP_RENEWAL_SECONDS`], or half of the snapshot's life is over; or one lives for too long, because it was signed under
/// a clock that was ahead. True also if they cannot be read.
pub fn renewal_due(current: &RepositoryFiles, now: WallTime) -> bool {
    let timestamp = parsed::<Timestamp>(&current.timestamp).map_or(0, |timestamp| seconds_left(&timestamp, now));
    let fresh = TIMESTAMP_SECONDS - TIMESTAMP_RENEWAL_SECONDS + 1..=TIMESTAMP_SECONDS + AHEAD_SECONDS_MAX;
    !fresh.contains(&timestamp) || snapshot_due(current, now)
}

impl OnlineSigner {
    /// Completes a new repository that an operator made: the four files to store, if a device would believe them at `now`
    /// and the root delegates this key.
    ///
    /// # Errors
    /// When `files` are not exactly `1.root.json` and `1.targets.json` of `org` for this seed.
    pub fn complete_new_repository(&self, org: &OrgName, files: &[TufFile], now: WallTime) -> Result<Vec<TufFile>, TrustRefused> {
        let find = |role: &str| {
            let name = metadata::versioned(role, 1);
            let found = files.iter().find(|file| file.name == name).filter(|_| files.len() == 2);
            found.cloned().ok_or_else(|| TrustRefused::Malformed {
                file: name,
                detail: "a new repository consists of 1.root.json and 1.targets.json".to_owned(),
            })
        };
        let (root, targets) = (find("root")?, find("targets")?);
        let [snapshot, timestamp] = self.online_files((1, 1), &BTreeMap::from([("targets.json".to_owned(), 1)]), now);
        let files = RepositoryFiles { root, timestamp, snapshot, targets, app_role: None, archive: None };
        let trusted = files.verified(org, None)?;
        let malformed = |file: &TufFile, detail: &str| Err(TrustRefused::Malformed { file: file.name.clone(), detail: detail.to_owned() });
        if trusted.root().version != 1 || !trusted.root().consistent_snapshot {
            return malformed(&files.root, "a new repository starts at version 1, with consistent snapshots");
        }
        if metadata::online_key(trusted.root(), org)?.key != self.public_key() {
            return malformed(&files.root, "it delegates the desired states to another key than this seed's");
        }
        let targets = trusted.targets_role("targets");
        if targets.is_none_or(|targets| !targets.targets.is_empty() || targets.delegations.is_some()) {
            return malformed(&files.targets, "the targets of a new repository are empty");
        }
        trusted.check_root_expired(metadata::calendar(now)).map_err(|error| TrustRefused::of(&files.root.name, error))?;
        Ok(vec![files.root, files.targets, files.snapshot, files.timestamp])
    }

    /// A new timestamp over the `current` files, and a new snapshot when half of the old one's life is over.
    ///
    /// # Errors
    /// When the current files cannot be read or verified, or the root delegates another key.
    pub fn renew(&self, org: &OrgName, current: &RepositoryFiles, now: WallTime) -> Result<Vec<TufFile>, TrustRefused> {
        let trusted = current.verified(org, None)?;
        if metadata::online_key(trusted.root(), org)?.key != self.public_key() {
            return Err(TrustRefused::Malformed {
                file: current.root.name.clone(),
                detail: "it delegates the online files to another key than this seed's; nothing is signed until a root names this one"
                    .to_owned(),
            });
        }
        let (timestamp, snapshot) = current.online_versions()?;
        if snapshot_due(current, now) {
            let versions = (timestamp.saturating_add(1), snapshot.saturating_add(1));
            return Ok(self.online_files(versions, &current.pins()?, now).into());
        }
        Ok(vec![self.timestamp_file(timestamp.saturating_add(1), snapshot, now)])
    }

    /// Snapshot and timestamp with these versions (timestamp first), for these pins.
    pub(super) fn online_files(&self, (timestamp, snapshot): (u64, u64), pins: &BTreeMap<String, u64>, now: WallTime) -> [TufFile; 2] {
        let content = metadata::sign(&metadata::snapshot(snapshot, pins, now), &[&self.key]);
        [TufFile { name: metadata::versioned("snapshot", snapshot), content }, self.timestamp_file(timestamp, snapshot, now)]
    }

    fn timestamp_file(&self, version: u64, snapshot: u64, now: WallTime) -> TufFile {
        let content = metadata::sign(&metadata::timestamp(version, snapshot, now), &[&self.key]);
        TufFile { name: TIMESTAMP_FILE.to_owned(), content }
    }
}

/// The content of `file`; its signatures are not checked.
pub(super) fn parsed<T: Role>(file: &TufFile) -> Result<T, TrustRefused> {
    let metadata = Metadata::<T>::from_slice(file.content.as_bytes()).map_err(|error| TrustRefused::of(&file.name, error))?;
    Ok(metadata.into_signed())
}

/// The seconds until `role` expires; 0 if it has.
pub(super) fn seconds_left(role: &impl Role, now: WallTime) -> u64 {
    let expires = u64::try_from(role.expires().as_second()).unwrap_or(0);
    expires.saturating_sub(now.as_unix_seconds())
}

/// Half of the life of `targets` is over.
pub(super) fn targets_due(targets: &Targets, now: WallTime) -> bool {
    seconds_left(targets, now) <= metadata::TARGETS_SECONDS / 2
}

fn snapshot_due(current: &RepositoryFiles, now: WallTime) -> bool {
    let fresh = SNAPSHOT_SECONDS / 2 + 1..=SNAPSHOT_SECONDS + AHEAD_SECONDS_MAX;
    parsed::<Snapshot>(&current.snapshot).map_or(true, |snapshot| !fresh.contains(&seconds_left(&snapshot, now)))
}

fn pinned_snapshot(timestamp: &TufFile) -> Result<u64, TrustRefused> {
    let pin = parsed::<Timestamp>(timestamp)?.snapshot_meta().map(|pin| pin.version);
    pin.ok_or_else(|| TrustRefused::Malformed { file: timestamp.name.clone(), detail: "it names no snapshot".to_owned() })
}

fn pins(snapshot: &TufFile) -> Result<BTreeMap<String, u64>, TrustRefused> {
    Ok(parsed::<Snapshot>(snapshot)?.meta.into_iter().map(|(file, pin)| (file, pin.version)).collect())
}

/// The archive that `role` pins, as `source` has it; it is verified when it is read.
async fn pinned_archive(source: &dyn MetadataSource, app: &AppName, role: &Targets) -> Result<Option<TufFile>, TrustRefused> {
    let path = archive::path(app);
    let Some(target) = role.target(&path) else { return Ok(None) };
    let digest = metadata::target_digest(&path, target)?;
    let bytes = source::fetch_target(source, &metadata::consistent_path(&path, &digest), TARGETS_BYTES_MAX).await?;
    file(archive::file_name(app, &digest), bytes).map(Some)
}

async fn fetch(source: &dyn MetadataSource, name: String, bytes_max: usize) -> Result<TufFile, TrustRefused> {
    let bytes = source::fetch(source, &name, bytes_max).await?;
    file(name, bytes)
}

fn file(name: String, bytes: Vec<u8>) -> Result<TufFile, TrustRefused> {
    match String::from_utf8(bytes) {
        Ok(content) => Ok(TufFile { name, content }),
        Err(error) => Err(TrustRefused::Malformed { file: name, detail: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Fixture, NOW};
    use super::*;

    const HOUR: u64 = 3600;

    #[tokio::test]
    async fn the_timestamp_is_renewed_after_twelve_hours_and_the_snapshot_after_half_its_life() {
        let fixture = Fixture::new();
        let current = fixture.files(None).await;
        assert!(!renewal_due(&current, NOW));
        assert!(!renewal_due(&current, NOW.plus_seconds(12 * HOUR - 1)));
        let later = NOW.plus_seconds(12 * HOUR);
        assert!(renewal_due(&current, later));
        let names = |files: Vec<TufFile>| files.into_iter().map(|file| file.name).collect::<Vec<_>>();
        assert_eq!(names(fixture.signer.renew(&fixture.org, &current, later).unwrap()), ["timestamp.json"]);
        let week = NOW.plus_seconds(SNAPSHOT_SECONDS / 2);
        let renewed = names(fixture.signer.renew(&fixture.org, &current, week).unwrap());
        assert_eq!(renewed, ["2.snapshot.json", "timestamp.json"]);
    }

    #[tokio::test]
    async fn nothing_is_signed_with_a_key_that_the_root_does_not_delegate() {
        let (fixture, other) = (Fixture::new(), Fixture::new());
        let current = fixture.files(None).await;
        let refused = other.signer.renew(&fixture.org, &current, NOW.plus_seconds(12 * HOUR)).unwrap_err();
        assert!(refused.to_string().contains("another key"), "{refused}");
    }

    #[tokio::test]
    async fn a_new_repository_must_be_this_organisation_s_and_delegate_this_seed() {
        let fixture = Fixture::new();
        let other = Fixture::new();
        let files = new_repository(&fixture.keys, &fixture.signer.public_key(), NOW).unwrap();
        assert_eq!(fixture.signer.complete_new_repository(&fixture.org, &files, NOW).unwrap().len(), 4);
        let foreign = fixture.signer.complete_new_repository(&"evil".parse().unwrap(), &files, NOW);
        assert_eq!(foreign.unwrap_err().reason(), "foreign_org");
        let other_seed = other.signer.complete_new_repository(&fixture.org, &files, NOW);
        assert_eq!(other_seed.unwrap_err().reason(), "bad_signature");
        let half = fixture.signer.complete_new_repository(&fixture.org, &files[..1], NOW);
        assert_eq!(half.unwrap_err().reason(), "malformed");
        let mut swapped = files;
        swapped[1].content = swapped[1].content.replace("\"version\":1", "\"version\":2");
        assert!(fixture.signer.complete_new_repository(&fixture.org, &swapped, NOW).is_err());
    }
}
