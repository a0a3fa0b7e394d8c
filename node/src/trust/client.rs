//! The organisation's metadata as a device or an operator believes it: the TUF client workflow (TUF 1.0 §5), kept on
//! disk so that what was accepted once is a floor for ever.
//!
//! Stricter than TUF where our repositories need no more: a version statement counts only from the role of its own app,
//! delegated by the top-level targets; deeper delegations and targets of the top-level role are not looked at.
//!
//! Not here: transport, see [`super::source`]; which version a device should have, see `protocol::statement::desired`.

use std::collections::BTreeMap;
use std::path::Path;

use protocol::name::{AppName, OrgName, Platform};
use protocol::statement::TrustToken;
use protocol::statement::desired::OnlineKey;
use protocol::statement::version::{AcceptedStatement, STATEMENT_BYTES_MAX, VersionName};
use protocol::time::WallTime;
use sigstore_tuf::metadata::Metadata;
use sigstore_tuf::{Error, TargetFile, Targets, TrustedMetadataSet};

use super::cache::Cache;
use super::metadata::{self, TIMESTAMP_FILE};
use super::refused::TrustRefused;
use super::rules::{PublishedVersions, authentic_snapshot, check_expiry, check_floor, check_path, check_target, pins, published_versions};
use super::source::{self, MetadataSource, ROOT_BYTES_MAX, SNAPSHOT_BYTES_MAX, TARGETS_BYTES_MAX, TIMESTAMP_BYTES_MAX};

/// The most root versions that one refresh walks through (TUF 1.0 §5.3.3): a root a month for 20 years. More are taken
/// by the next refresh.
pub const ROOT_ROTATIONS_MAX: u64 = 256;

/// A moment before every expiry: kept metadata is a rollback floor also when it has expired. Its expiry is checked when
/// it is used.
const BEFORE_EVERY_EXPIRY: jiff::Timestamp = jiff::Timestamp::UNIX_EPOCH;

/// What a refresh found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// Nothing new.
    Unchanged,
    /// A newer root or timestamp is in force.
    Updated,
}

/// Verified metadata of one organisation, and the directory that keeps it.
#[derive(Debug)]
pub struct VerifiedRepository {
    org: OrgName,
    cache: Cache,
    trusted: TrustedMetadataSet,
    online: OnlineKey,
    /// The exact bytes of the trusted timestamp, by which an unchanged one is known without parsing.
    timestamp: Option<Vec<u8>>,
    /// The versions that the newest authentic snapshot pinned, also if its timestamp has gone on since.
    floor: BTreeMap<String, u64>,
}

impl VerifiedRepository {
    /// Opens the metadata kept in `dir`, which is created if missing. Everything kept is verified again, from
    /// `initial_root` on (TUF 1.0 §5.2); what does not verify is left aside.
    ///
    /// # Errors
    /// When `initial_root` is not a root of `org`, or the directory cannot be made.
    pub fn open(dir: &Path, org: &OrgName, initial_root: &[u8]) -> Result<Self, TrustRefused> {
        let trusted = TrustedMetadataSet::from_root(initial_root).map_err(|error| TrustRefused::of("root.json", error))?;
        let online = metadata::online_key(trusted.root(), org)?;
        let (cache, floor) = (Cache::open(dir)?, BTreeMap::new());
        let mut repository = Self { org: org.clone(), cache, trusted, online, timestamp: None, floor };
        while let Some(bytes) = repository.cache.load(&repository.next_root_kept(), ROOT_BYTES_MAX) {
            match repository.verified_root(&bytes) {
                Ok(next) => repository.set_root(next),
                Err(error) => {
                    tracing::warn!(%error, "a kept root does not verify and is left aside");
                    break;
                }
            }
        }
        repository.reload_kept();
        Ok(repository)
    }

    /// The organisation.
    pub const fn org(&self) -> &OrgName {
        &self.org
    }

    /// The online key and epoch that the newest verified root delegates. A root's expiry is checked by [`Self::refresh`].
    pub fn online_key(&self) -> OnlineKey {
        self.online.clone()
    }

    /// The exact bytes of the newest verified root.
    pub fn root(&self) -> &[u8] {
        self.trusted.root_bytes()
    }

    /// The exact bytes of the newest verified timestamp, to be compared with what the seed offers.
    pub fn timestamp(&self) -> Option<&[u8]> {
        self.timestamp.as_deref()
    }

    /// Brings the metadata up to date (TUF 1.0 §5.3 to §5.6). Each file is kept as soon as it has been verified.
    ///
    /// With `timestamp`, which the seed's answer to a poll carried, nothing is requested if it is the trusted one; a new
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
        self.refresh_targets(source).await?;
        self.check_fresh(now)?;
        Ok(if self.generation() == before { Refreshed::Unchanged } else { Refreshed::Updated })
    }

    /// The statement of version `name` for `platform`, fetched if it is not kept: listed by the app's role, with nothing
    /// on the way expired at `now` (TUF 1.0 §5.7).
    ///
    /// # Errors
    /// With the reason why the version must not be acted on.
    pub async fn statement(
        &mut self,
        token: &TrustToken,
        name: &VersionName,
        platform: &Platform,
        now: WallTime,
        source: &dyn MetadataSource,
    ) -> Result<AcceptedStatement, TrustRefused> {
        let path = name.target_path(platform);
        let target = self.listed(&name.app, &path, metadata::calendar(now), source).await?;
        let kept = kept_target(&path);
        if let Some(bytes) = self.cache.load(&kept, STATEMENT_BYTES_MAX).filter(|bytes| check_target(&path, &target, bytes).is_ok()) {
            return Ok(AcceptedStatement::accept(token, &self.org, name, platform, &bytes)?);
        }
        let served = metadata::consistent_path(&path, &metadata::target_digest(&path, &target)?);
        let length = usize::try_from(target.length).unwrap_or(usize::MAX);
        if length > STATEMENT_BYTES_MAX {
            return Err(TrustRefused::TooLarge { file: path, bytes_max: STATEMENT_BYTES_MAX });
        }
        let bytes = source::fetch_target(source, &served, length).await?;
        check_target(&path, &target, &bytes)?;
        let accepted = AcceptedStatement::accept(token, &self.org, name, platform, &bytes)?;
        self.cache.store(&kept, &bytes).await?;
        Ok(accepted)
    }

    /// A statement that [`Self::statement`] gave before, from disk alone: signatures, coordinates and digest are checked
    /// again, expiry is not. For a device that is cut off and starts what it has accepted earlier; how long it may do so
    /// is not decided here.
    ///
    /// # Errors
    /// When the statement, or the chain that signs it, is not kept or does not verify.
    pub fn accepted_before(&self, token: &TrustToken, name: &VersionName, platform: &Platform) -> Result<AcceptedStatement, TrustRefused> {
        let path = name.target_path(platform);
        let role_name = metadata::role_name(&name.app);
        let targets = self.kept_role("targets", &self.trusted.root().keys, self.trusted.root().role("targets"))?;
        check_path(Some(&targets), &name.app, &path)?;
        let delegations = targets.delegations.as_ref().ok_or_else(|| TrustRefused::NotPublished(path.clone()))?;
        let delegated = delegations.roles.iter().find(|role| role.name == role_name).map(sigstore_tuf::DelegatedRole::role_keys);
        let role = self.kept_role(&role_name, &delegations.keys, delegated.as_ref())?;
        let target = role.target(&path).ok_or_else(|| TrustRefused::NotPublished(path.clone()))?;
        let bytes = self.cache.load(&kept_target(&path), STATEMENT_BYTES_MAX).ok_or_else(|| not_kept(&path))?;
        check_target(&path, target, &bytes)?;
        Ok(AcceptedStatement::accept(token, &self.org, name, platform, &bytes)?)
    }

    /// The versions whose statements for `platform` [`Self::statement`] gave before and are still kept.
    pub fn kept_versions(&self, platform: &Platform) -> Vec<VersionName> {
        let mut found = Vec::new();
        for app in self.cache.entries("targets").iter().filter_map(|app| app.parse::<AppName>().ok()) {
            let versions = self.cache.entries(&format!("targets/{app}"));
            for version in versions.iter().filter_map(|version| version.parse().ok()) {
                let name = VersionName { app: app.clone(), version };
                if self.cache.holds(&kept_target(&name.target_path(platform))) {
                    found.push(name);
                }
            }
        }
        found
    }

    /// The versions of `app` that are published, also if its role has expired: for the operator, who renews it by
    /// publishing. The role is loaded and stays loaded until the next change.
    ///
    /// # Errors
    /// When the metadata was never refreshed, or the role cannot be had or verified.
    pub async fn published(&mut self, app: &AppName, source: &dyn MetadataSource) -> Result<PublishedVersions, TrustRefused> {
        let role = self.app_role(app, source).await?;
        Ok(role.map(|role| published_versions(app, role)).unwrap_or_default())
    }

    /// The verified top-level targets, if they are those that the snapshot pins.
    pub(super) fn targets(&self) -> Option<&Targets> {
        self.pins_hold().then(|| self.trusted.targets_role("targets")).flatten()
    }

    /// Whether the root names this key for the top-level targets.
    pub(super) fn may_sign_targets(&self, keyid: &str) -> bool {
        self.trusted.root().role("targets").is_some_and(|role| role.keyids.iter().any(|found| found == keyid))
    }

    /// The verified role of `app`; `Ok(None)` if the app is not published, an error if the role was not loaded.
    pub(super) fn loaded_app_role(&self, app: &AppName) -> Result<Option<&Targets>, TrustRefused> {
        let role = metadata::role_name(app);
        match self.trusted.targets_role(&role) {
            None if self.pin(&metadata::unversioned(&role)).is_some() => Err(TrustRefused::NotRefreshed),
            found => Ok(found),
        }
    }

    async fn refresh_root(&mut self, source: &dyn MetadataSource) -> Result<(), TrustRefused> {
        let mut changed = false;
        for _ in 0..ROOT_ROTATIONS_MAX {
            let name = metadata::versioned("root", self.trusted.root().version.saturating_add(1));
            let Some(bytes) = source::find(source, &name, ROOT_BYTES_MAX).await? else { break };
            let next = self.verified_root(&bytes)?;
            self.cache.store(&self.next_root_kept(), &bytes).await?;
            self.cache.store("root.json", &bytes).await?;
            self.set_root(next);
            changed = true;
        }
        if changed {
            self.reload_kept();
        }
        Ok(())
    }

    /// The metadata under the root in `bytes`, which must follow the trusted one (TUF 1.0 §5.3.4, §5.3.5).
    fn verified_root(&self, bytes: &[u8]) -> Result<(TrustedMetadataSet, OnlineKey), TrustRefused> {
        let file = metadata::versioned("root", self.trusted.root().version.saturating_add(1));
        let mut next = self.trusted.clone();
        next.update_root(bytes).map_err(|error| TrustRefused::of(&file, error))?;
        let online = metadata::online_key(next.root(), &self.org)?;
        if online.epoch < self.online.epoch {
            let detail = format!("it delegates epoch {}, the root before it epoch {}", online.epoch, self.online.epoch);
            return Err(TrustRefused::RolledBack { file, detail });
        }
        Ok((next, online))
    }

    fn set_root(&mut self, (trusted, online): (TrustedMetadataSet, OnlineKey)) {
        self.trusted = trusted;
        self.online = online;
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
        let name = metadata::versioned("snapshot", pinned);
        let bytes = source::fetch(source, &name, SNAPSHOT_BYTES_MAX).await?;
        let mut next = self.trusted.clone();
        next.update_snapshot(&bytes, now).map_err(|error| TrustRefused::of(&name, error))?;
        let new = next.snapshot().map(pins).unwrap_or_default();
        check_floor(&name, &self.floor, &new)?;
        self.cache.store("snapshot.json", &bytes).await?;
        (self.trusted, self.floor) = (next, new);
        Ok(())
    }

    async fn refresh_targets(&mut self, source: &dyn MetadataSource) -> Result<(), TrustRefused> {
        if self.pins_hold() {
            return Ok(());
        }
        self.take_kept_targets();
        if self.pins_hold() {
            return Ok(());
        }
        let version = self.pin("targets.json").ok_or_else(|| TrustRefused::Malformed {
            file: "snapshot.json".to_owned(),
            detail: "it does not name targets.json".to_owned(),
        })?;
        let name = metadata::versioned("targets", version);
        let bytes = source::fetch(source, &name, TARGETS_BYTES_MAX).await?;
        self.trusted.update_targets(&bytes, BEFORE_EVERY_EXPIRY).map_err(|error| TrustRefused::of(&name, error))?;
        self.cache.store("targets.json", &bytes).await
    }

    /// The role of `app`, loaded if need be; none if the app is not published. Its expiry is not checked.
    async fn app_role(&mut self, app: &AppName, source: &dyn MetadataSource) -> Result<Option<&Targets>, TrustRefused> {
        if !self.pins_hold() {
            return Err(TrustRefused::NotRefreshed);
        }
        let role = metadata::role_name(app);
        let file = metadata::unversioned(&role);
        let Some(version) = self.pin(&file) else { return Ok(None) };
        if self.trusted.targets_role(&role).is_none() {
            let kept = self.cache.load(&file, TARGETS_BYTES_MAX);
            let take = |trusted: &mut TrustedMetadataSet, bytes: &[u8]| {
                trusted.update_delegated_targets(bytes, &role, "targets", BEFORE_EVERY_EXPIRY).map(|_| ())
            };
            if kept.is_none_or(|bytes| take(&mut self.trusted, &bytes).is_err()) {
                let name = metadata::versioned(&role, version);
                let bytes = source::fetch(source, &name, TARGETS_BYTES_MAX).await?;
                take(&mut self.trusted, &bytes).map_err(|error| TrustRefused::of(&name, error))?;
                self.cache.store(&file, &bytes).await?;
            }
        }
        Ok(self.trusted.targets_role(&role))
    }

    /// The target `path` as the role of `app` lists it, with nothing on the way expired.
    async fn listed(
        &mut self,
        app: &AppName,
        path: &str,
        now: jiff::Timestamp,
        source: &dyn MetadataSource,
    ) -> Result<TargetFile, TrustRefused> {
        self.check_fresh(now)?;
        if self.app_role(app, source).await?.is_some() {
            check_path(self.trusted.targets_role("targets"), app, path)?;
        }
        let role_name = metadata::role_name(app);
        let role = self.trusted.targets_role(&role_name).ok_or_else(|| TrustRefused::NotPublished(path.to_owned()))?;
        check_expiry(role, &role_name, now)?;
        role.target(path).cloned().ok_or_else(|| TrustRefused::NotPublished(path.to_owned()))
    }

    /// Everything that stands above a statement is there, fits together and has not expired.
    fn check_fresh(&self, now: jiff::Timestamp) -> Result<(), TrustRefused> {
        let (Some(timestamp), Some(snapshot), Some(targets)) =
            (self.trusted.timestamp(), self.trusted.snapshot(), self.trusted.targets_role("targets"))
        else {
            return Err(TrustRefused::NotRefreshed);
        };
        check_expiry(self.trusted.root(), "root", now)?;
        check_expiry(timestamp, "timestamp", now)?;
        check_expiry(snapshot, "snapshot", now)?;
        check_expiry(targets, "targets", now)?;
        if self.pins_hold() { Ok(()) } else { Err(TrustRefused::NotRefreshed) }
    }

    /// Whether timestamp, snapshot and targets are loaded and name each other's versions: after a refresh that failed
    /// half-way they do not.
    fn pins_hold(&self) -> bool {
        let snapshot_pin = self.trusted.timestamp().and_then(|timestamp| timestamp.snapshot_meta()).map(|pin| pin.version);
        let targets = self.trusted.targets_role("targets").map(|targets| targets.version);
        snapshot_pin.is_some()
            && snapshot_pin == self.trusted.snapshot().map(|snapshot| snapshot.version)
            && targets.is_some()
            && targets == self.pin("targets.json")
    }

    fn pin(&self, file: &str) -> Option<u64> {
        self.trusted.snapshot()?.meta.get(file).map(|pin| pin.version)
    }

    fn generation(&self) -> (u64, Option<u64>) {
        (self.trusted.root().version, self.trusted.timestamp().map(|timestamp| timestamp.version))
    }

    fn next_root_kept(&self) -> String {
        format!("root_history/{}", metadata::versioned("root", self.trusted.root().version.saturating_add(1)))
    }

    fn kept_role(
        &self,
        role: &str,
        keys: &BTreeMap<String, sigstore_tuf::Key>,
        authority: Option<&sigstore_tuf::RoleKeys>,
    ) -> Result<Targets, TrustRefused> {
        let file = metadata::unversioned(role);
        let refused = |error| TrustRefused::of(&file, error);
        let authority = authority.ok_or_else(|| refused(Error::UnknownRole(role.to_owned())))?;
        let bytes = self.cache.load(&file, TARGETS_BYTES_MAX).ok_or_else(|| not_kept(&file))?;
        let metadata = Metadata::<Targets>::from_slice(&bytes).map_err(refused)?;
        metadata.verify_threshold(keys, authority, role).map_err(refused)?;
        Ok(metadata.into_signed())
    }
}

fn kept_target(path: &str) -> String {
    format!("targets/{path}")
}

fn not_kept(file: &str) -> TrustRefused {
    TrustRefused::Unavailable { name: file.to_owned(), detail: "it is not kept on this machine".to_owned() }
}

#[cfg(test)]
mod tests;
