//! A TUF client for any repository: the client workflow of TUF 1.0 §5, kept on disk so that what was accepted once is a
//! floor for ever. What the official conformance suite drives is this.
//!
//! | module | holds |
//! |---|---|
//! | `search` | targets, through delegated roles |
//!
//! Not here: transport, see [`super::source`]; what an organisation's repository asks for besides TUF, see
//! [`super::client`].

mod search;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;

use protocol::time::WallTime;
use sigstore_tuf::{Error, Root, TrustedMetadataSet};

pub use search::Found;
pub(super) use search::not_kept;

use super::cache::Cache;
use super::metadata::{self, TIMESTAMP_FILE};
use super::refused::TrustRefused;
use super::rules::{authentic_snapshot, check_expiry, check_floor, pins};
use super::source::{self, MetadataSource, ROOT_BYTES_MAX, SNAPSHOT_BYTES_MAX, TARGETS_BYTES_MAX, TIMESTAMP_BYTES_MAX};
use crate::store::meta::TufFile;

/// The most root versions that one refresh walks through (TUF 1.0 §5.3.3): a root a month for 20 years. More are taken
/// by the next refresh.
pub const ROOT_ROTATIONS_MAX: u64 = 256;

/// The most roles that one search for a target visits (TUF 1.0 §5.6.7.1): our own repositories need three.
pub const ROLES_VISITED_MAX: usize = 32;

/// A moment before every expiry: kept metadata is a rollback floor also when it has expired. Its expiry is checked when
/// it is used.
const BEFORE_EVERY_EXPIRY: jiff::Timestamp = jiff::Timestamp::UNIX_EPOCH;

/// The files that are no targets roles.
const ONLINE_AND_ROOT: [&str; 3] = ["root.json", TIMESTAMP_FILE, "snapshot.json"];

/// The top-level targets role.
const TARGETS: &str = "targets";

/// What a refresh found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// Nothing new.
    Unchanged,
    /// A newer root or timestamp is in force.
    Updated,
}

/// What the owner of a repository asks of a root besides what TUF does.
pub trait RootRules: Debug + Send + Sync {
    /// Whether `next`, whose signatures and version are right, may follow `trusted`; without `trusted` it is the first.
    ///
    /// # Errors
    /// With the reason why not.
    fn check(&self, trusted: Option<&Root>, next: &Root) -> Result<(), TrustRefused>;

    /// Whether timestamp and snapshot begin anew with `next`, also if their keys stay.
    fn begins_anew(&self, _trusted: &Root, _next: &Root) -> bool {
        false
    }

    /// Whether the top-level targets never go back while those who may sign them stay, also when snapshots begin anew. TUF
    /// lets them, so that a targets role that was fast-forwarded comes back by a new snapshot key.
    fn holds_targets(&self) -> bool {
        false
    }
}

/// TUF alone.
#[derive(Clone, Copy, Debug)]
pub struct AnyRoot;

impl RootRules for AnyRoot {
    fn check(&self, _trusted: Option<&Root>, _next: &Root) -> Result<(), TrustRefused> {
        Ok(())
    }
}

/// Verified metadata of one repository, and the directory that keeps it.
#[derive(Debug)]
pub struct Updater {
    cache: Cache,
    trusted: TrustedMetadataSet,
    rules: Box<dyn RootRules>,
    /// The exact bytes of the trusted timestamp, by which an unchanged one is known without parsing.
    timestamp: Option<Vec<u8>>,
    /// The versions that the newest authentic snapshot pinned, also if its timestamp has gone on since.
    floor: BTreeMap<String, u64>,
}

impl Updater {
    /// Opens the metadata kept in `dir`, which is created if missing. Everything kept is verified again, from
    /// `initial_root` on (TUF 1.0 §5.2); what does not verify is left aside.
    ///
    /// # Errors
    /// When `initial_root` is no root that `rules` allow, or the directory cannot be made.
    pub fn open(dir: &Path, initial_root: &[u8], rules: Box<dyn RootRules>) -> Result<Self, TrustRefused> {
        let trusted = TrustedMetadataSet::from_root(initial_root).map_err(|error| TrustRefused::of("root.json", error))?;
        rules.check(None, trusted.root())?;
        let mut updater = Self { cache: Cache::open(dir)?, trusted, rules, timestamp: None, floor: BTreeMap::new() };
        while let Some(bytes) = updater.cache.load(&updater.next_root_kept(), ROOT_BYTES_MAX) {
            match updater.verified_root(&bytes) {
                Ok(next) => updater.trusted = next,
                Err(error) => {
                    tracing::warn!(%error, "a kept root does not verify and is left aside");
                    break;
                }
            }
        }
        updater.reload_kept();
        Ok(updater)
    }

    /// The newest verified root. Its expiry is checked by [`Self::refresh`].
    pub fn root(&self) -> &Root {
        self.trusted.root()
    }

    /// The exact bytes of the newest verified root.
    pub fn root_bytes(&self) -> &[u8] {
        self.trusted.root_bytes()
    }

    /// The exact bytes of the newest verified timestamp, to be compared with what a source offers.
    pub fn timestamp(&self) -> Option<&[u8]> {
        self.timestamp.as_deref()
    }

    /// The verified metadata, expired or not.
    pub(super) fn trusted(&self) -> &TrustedMetadataSet {
        &self.trusted
    }

    pub(super) fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Brings the metadata up to date (TUF 1.0 §5.3 to §5.6). Each file is kept as soon as it has been verified.
    ///
    /// With `timestamp`, which an answer of the repository carried, nothing is requested if it is the trusted one; a new
    /// root therefore comes with a new timestamp. Without it, the next root and the timestamp are asked for.
    ///
    /// # Errors
    /// With the reason; what was in force before stays so, and each file that did verify is taken. An expired targets
    /// role is reported too, but loaded, so that its owner can renew it.
    pub async fn refresh(
        &mut self,
        now: WallTime,
        source: &dyn MetadataSource,
        timestamp: Option<&[u8]>,
    ) -> Result<Refreshed, TrustRefused> {
        let now = metadata::calendar(now);
        if timestamp.is_some() && timestamp == self.timestamp() && self.pins_hold() {
            self.check_fresh(now)?;
            return Ok(Refreshed::Unchanged);
        }
        let before = self.generation();
        self.refresh_root(source).await?;
        check_expiry(self.trusted.root(), "root", now)?;
        let timestamp = match timestamp {
            Some(bytes) if bytes.len() > TIMESTAMP_BYTES_MAX => {
                return Err(TrustRefused::TooLarge { file: TIMESTAMP_FILE.to_owned(), bytes_max: TIMESTAMP_BYTES_MAX });
            }
            Some(bytes) => bytes.to_vec(),
            None => source::fetch(source, TIMESTAMP_FILE, TIMESTAMP_BYTES_MAX).await?,
        };
        self.refresh_timestamp(timestamp, now).await?;
        self.refresh_snapshot(source, now).await?;
        self.refresh_targets(source, now).await?;
        self.check_fresh(now)?;
        Ok(if self.generation() == before { Refreshed::Unchanged } else { Refreshed::Updated })
    }

    /// The files in force, as `source` serves them: every root but the first, the top-level targets, and those of `roles`
    /// that the snapshot lists. Whoever takes them verifies them again.
    pub(super) async fn files_in_force(
        &self,
        roles: impl Iterator<Item = String>,
        source: &dyn MetadataSource,
    ) -> Result<Vec<TufFile>, TrustRefused> {
        let roots = (2..=self.trusted.root().version).map(|version| (metadata::versioned("root", version), ROOT_BYTES_MAX));
        let pinned = [TARGETS.to_owned()].into_iter().chain(roles).filter_map(|role| Some(self.served_name(&role, self.pin(&role)?)));
        let names: Vec<(String, usize)> = roots.chain(pinned.map(|name| (name, TARGETS_BYTES_MAX))).collect();
        let mut files = Vec::new();
        for (name, bytes_max) in names {
            let content = String::from_utf8(source::fetch(source, &name, bytes_max).await?)
                .map_err(|error| TrustRefused::Malformed { file: name.clone(), detail: error.to_string() })?;
            files.push(TufFile { name, content });
        }
        Ok(files)
    }

    /// Whether timestamp, snapshot and targets are loaded and name each other's versions: after a refresh that failed
    /// half-way they do not.
    pub(super) fn pins_hold(&self) -> bool {
        let snapshot_pin = self.trusted.timestamp().and_then(|timestamp| timestamp.snapshot_meta()).map(|pin| pin.version);
        let targets = self.trusted.targets_role(TARGETS).map(|targets| targets.version);
        snapshot_pin.is_some()
            && snapshot_pin == self.trusted.snapshot().map(|snapshot| snapshot.version)
            && targets.is_some()
            && targets == self.pin(TARGETS)
    }

    /// The version that the snapshot pins for `role`.
    pub(super) fn pin(&self, role: &str) -> Option<u64> {
        self.trusted.snapshot()?.meta.get(&metadata::unversioned(role)).map(|pin| pin.version)
    }

    /// Everything that stands above a target is there, fits together and has not expired.
    pub(super) fn check_fresh(&self, now: jiff::Timestamp) -> Result<(), TrustRefused> {
        let (Some(timestamp), Some(snapshot), Some(targets)) =
            (self.trusted.timestamp(), self.trusted.snapshot(), self.trusted.targets_role(TARGETS))
        else {
            return Err(TrustRefused::NotRefreshed);
        };
        check_expiry(self.trusted.root(), "root", now)?;
        check_expiry(timestamp, "timestamp", now)?;
        check_expiry(snapshot, "snapshot", now)?;
        check_expiry(targets, TARGETS, now)?;
        if self.pins_hold() { Ok(()) } else { Err(TrustRefused::NotRefreshed) }
    }

    async fn refresh_root(&mut self, source: &dyn MetadataSource) -> Result<(), TrustRefused> {
        let mut changed = false;
        for _ in 0..ROOT_ROTATIONS_MAX {
            let name = metadata::versioned("root", self.trusted.root().version.saturating_add(1));
            let Some(bytes) = source::find(source, &name, ROOT_BYTES_MAX).await? else { break };
            let next = self.verified_root(&bytes)?;
            if self.rules.begins_anew(self.trusted.root(), next.root()) {
                self.begin_anew().await?;
            }
            self.cache.store(&self.next_root_kept(), &bytes).await?;
            self.cache.store("root.json", &bytes).await?;
            self.trusted = next;
            changed = true;
        }
        if changed {
            self.reload_kept();
        }
        Ok(())
    }

    /// Timestamp and snapshot are forgotten. Roles may come again under versions that they had before, with other content: those
    /// that are kept are not taken for them, but hold and prove what they did until then.
    async fn begin_anew(&self) -> Result<(), TrustRefused> {
        let kept = self.cache.entries("");
        for name in kept.iter().filter(|name| name.ends_with(".json") && !ONLINE_AND_ROOT.contains(&name.as_str())) {
            self.cache.set_aside(name).await?;
        }
        self.cache.remove(TIMESTAMP_FILE).await?;
        self.cache.remove("snapshot.json").await
    }

    /// The metadata under the root in `bytes`, which must follow the trusted one (TUF 1.0 §5.3.4, §5.3.5).
    fn verified_root(&self, bytes: &[u8]) -> Result<TrustedMetadataSet, TrustRefused> {
        let file = metadata::versioned("root", self.trusted.root().version.saturating_add(1));
        let mut next = self.trusted.clone();
        next.update_root(bytes).map_err(|error| TrustRefused::of(&file, error))?;
        self.rules.check(Some(self.trusted.root()), next.root())?;
        Ok(next)
    }

    /// Takes what is kept below the root as far as it is authentic under the root now trusted; keys that the root no
    /// longer names set no floor (TUF 1.0 §5.3.11).
    fn reload_kept(&mut self) {
        (self.timestamp, self.floor) = (None, BTreeMap::new());
        if let Some(bytes) = self.cache.load(TIMESTAMP_FILE, TIMESTAMP_BYTES_MAX) {
            match self.trusted.update_timestamp(&bytes, BEFORE_EVERY_EXPIRY) {
                Ok(()) => self.timestamp = Some(bytes),
                Err(error) => tracing::warn!(%error, "the kept timestamp does not verify and is left aside"),
            }
        }
        if let Some(bytes) = self.cache.load("snapshot.json", SNAPSHOT_BYTES_MAX) {
            match authentic_snapshot(&self.trusted, &bytes) {
                Ok(snapshot) => self.floor = pins(&snapshot),
                Err(error) => tracing::warn!(%error, "the kept snapshot does not verify and is left aside"),
            }
            if let Err(error) = self.trusted.update_snapshot(&bytes, BEFORE_EVERY_EXPIRY) {
                tracing::debug!(%error, "the kept snapshot is not the one in force");
            }
        }
        self.take_kept_targets();
    }

    fn take_kept_targets(&mut self) {
        if let Some(bytes) = self.cache.load("targets.json", TARGETS_BYTES_MAX)
            && let Err(error) = self.trusted.update_targets(&bytes, BEFORE_EVERY_EXPIRY)
        {
            tracing::debug!(%error, "the kept targets role is not the one in force");
        }
    }

    async fn refresh_timestamp(&mut self, bytes: Vec<u8>, now: jiff::Timestamp) -> Result<(), TrustRefused> {
        let mut next = self.trusted.clone();
        match next.update_timestamp(&bytes, now) {
            Ok(()) => {
                self.cache.store(TIMESTAMP_FILE, &bytes).await?;
                (self.trusted, self.timestamp) = (next, Some(bytes));
                Ok(())
            }
            Err(Error::EqualVersion { .. }) => Ok(()),
            Err(error) => Err(TrustRefused::of(TIMESTAMP_FILE, error)),
        }
    }

    async fn refresh_snapshot(&mut self, source: &dyn MetadataSource, now: jiff::Timestamp) -> Result<(), TrustRefused> {
        let Some(timestamp) = self.trusted.timestamp() else { return Err(TrustRefused::NotRefreshed) };
        check_expiry(timestamp, "timestamp", now)?;
        let pinned = timestamp
            .snapshot_meta()
            .map(|pin| pin.version)
            .ok_or_else(|| TrustRefused::Malformed { file: TIMESTAMP_FILE.to_owned(), detail: "it names no snapshot".to_owned() })?;
        if self.trusted.snapshot().is_some_and(|snapshot| snapshot.version == pinned) {
            return Ok(());
        }
        let name = self.served_name("snapshot", pinned);
        let bytes = source::fetch(source, &name, SNAPSHOT_BYTES_MAX).await?;
        let mut next = self.trusted.clone();
        next.update_snapshot(&bytes, now).map_err(|error| TrustRefused::of(&name, error))?;
        let new = next.snapshot().map(pins).unwrap_or_default();
        check_floor(&name, &self.floor, &new)?;
        self.cache.store("snapshot.json", &bytes).await?;
        (self.trusted, self.floor) = (next, new);
        Ok(())
    }

    async fn refresh_targets(&mut self, source: &dyn MetadataSource, now: jiff::Timestamp) -> Result<(), TrustRefused> {
        if self.pins_hold() {
            return Ok(());
        }
        self.take_kept_targets();
        if self.pins_hold() {
            return Ok(());
        }
        let version = self.pin(TARGETS).ok_or_else(|| TrustRefused::Malformed {
            file: "snapshot.json".to_owned(),
            detail: "it does not name targets.json".to_owned(),
        })?;
        let name = self.served_name(TARGETS, version);
        self.check_held(&name, version)?;
        let bytes = source::fetch(source, &name, TARGETS_BYTES_MAX).await?;
        let targets = self.trusted.update_targets(&bytes, BEFORE_EVERY_EXPIRY).map_err(|error| TrustRefused::of(&name, error))?;
        check_expiry(targets, TARGETS, now)?;
        self.cache.store("targets.json", &bytes).await
    }

    /// The top-level targets that were accepted before, and that those sign who still may, are the least.
    fn check_held(&self, name: &str, version: u64) -> Result<(), TrustRefused> {
        let root = self.trusted.root();
        let kept = self.kept_role(TARGETS, &root.keys, root.role(TARGETS)).map_or(0, |kept| kept.version);
        if self.rules.holds_targets() && version < kept {
            let detail = format!("the snapshot names version {version}, version {kept} was accepted; renew the targets");
            return Err(TrustRefused::RolledBack { file: name.to_owned(), detail });
        }
        Ok(())
    }

    fn generation(&self) -> (u64, Option<u64>) {
        (self.trusted.root().version, self.trusted.timestamp().map(|timestamp| timestamp.version))
    }

    fn next_root_kept(&self) -> String {
        format!("root_history/{}", metadata::versioned("root", self.trusted.root().version.saturating_add(1)))
    }

    /// The name under which version `version` of `role` is served (TUF 1.0 §6.2).
    fn served_name(&self, role: &str, version: u64) -> String {
        let role = metadata::encoded(role);
        if self.trusted.root().consistent_snapshot { metadata::versioned(&role, version) } else { metadata::unversioned(&role) }
    }
}

#[cfg(test)]
mod tests;
