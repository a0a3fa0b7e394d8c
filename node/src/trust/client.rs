//! An organisation's metadata as a device or an operator believes it: the TUF client of [`super::updater`], and on top of
//! it what our repositories ask for besides TUF.
//!
//! A root belongs to the organisation, and its epoch never goes back. With a higher one timestamp and snapshot begin anew;
//! what people sign does not: the top-level targets never go back while the same keys may sign them, and the floor of an app
//! is the one that its newest role ever named. A version statement counts only from the role of its own app, which the
//! top-level targets delegate, or from the archive that this role pins; what any other role lists is not looked at. No version
//! below the floor that the app's role names is accepted.
//!
//! | module | holds |
//! |---|---|
//! | `floors` | what people signed and holds against older roles |
//!
//! Not here: the TUF client workflow, see [`super::updater`]; transport, see [`super::source`]; which version a device
//! should have, see `protocol::statement::desired`.

mod floors;

use std::path::Path;

use protocol::name::{AppName, OrgName, Platform};
use protocol::statement::TrustToken;
use protocol::statement::desired::OnlineKey;
use protocol::statement::grant::GrantAuthority;
use protocol::statement::version::{AcceptedStatement, STATEMENT_BYTES_MAX, StatementRefused, VersionName};
use protocol::time::WallTime;
use sigstore_tuf::{DelegatedRole, Delegations, Root, TargetFile, Targets, TrustedMetadataSet};

use super::archive::{self, Archive};
use super::metadata;
use super::refused::TrustRefused;
use super::rules::{PublishedVersions, check_target, published_versions};
use super::source::{self, MetadataSource, ROOT_BYTES_MAX, TARGETS_BYTES_MAX};
use super::updater::{ROOT_ROTATIONS_MAX, Refreshed, RootRules, Updater, not_kept};
use crate::store::meta::TufFile;

/// Verified metadata of one organisation, and the directory that keeps it.
#[derive(Debug)]
pub struct VerifiedRepository {
    org: OrgName,
    updater: Updater,
    online: OnlineKey,
}

/// A role that is in force, and who may sign it.
#[derive(Clone, Debug)]
pub struct RoleInForce {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u64,
    /// When it expires.
    pub expires: jiff::Timestamp,
    /// Who may sign it.
    pub keyids: Vec<String>,
    /// How many of them must.
    pub threshold: usize,
    /// Whether the seed signs it.
    pub is_online: bool,
    /// The least version that devices may start, if it is an app's.
    pub floor: Option<u64>,
}

/// What a root of this organisation must say.
#[derive(Debug)]
pub(super) struct RootsOf(pub(super) OrgName);

impl RootRules for RootsOf {
    fn check(&self, trusted: Option<&Root>, next: &Root) -> Result<(), TrustRefused> {
        let online = metadata::online_key(next, &self.0)?;
        let before = trusted.map(|trusted| metadata::online_key(trusted, &self.0)).transpose()?;
        match before.filter(|before| online.epoch < before.epoch) {
            Some(before) => Err(TrustRefused::RolledBack {
                file: metadata::versioned("root", next.version),
                detail: format!("it delegates epoch {}, the root before it epoch {}", online.epoch, before.epoch),
            }),
            None => Ok(()),
        }
    }

    /// A raised epoch is the recovery from whatever the online key signed.
    fn begins_anew(&self, trusted: &Root, next: &Root) -> bool {
        let epoch = |root| metadata::online_key(root, &self.0).map(|online| online.epoch);
        matches!((epoch(trusted), epoch(next)), (Ok(before), Ok(after)) if after > before)
    }

    fn holds_targets(&self) -> bool {
        true
    }
}

/// The newest root of `org` that `source` has and that follows `anchor` step by step (TUF 1.0 §5.3), expired or not.
///
/// # Errors
/// When a root on the way does not verify, or the source fails.
pub async fn newest_root(org: &OrgName, anchor: &[u8], source: &dyn MetadataSource) -> Result<Vec<u8>, TrustRefused> {
    let mut roots = RootChain::from(org, anchor)?;
    for _ in 0..ROOT_ROTATIONS_MAX {
        let Some(next) = source::find(source, &roots.next_name(), ROOT_BYTES_MAX).await? else { break };
        roots.follow(&next)?;
    }
    Ok(roots.newest())
}

/// The last of the roots `later` of `org`, of which the first follows `anchor` and each other one the one before it (TUF 1.0
/// §5.3), expired or not; `anchor` itself if there is none.
///
/// # Errors
/// When one does not verify.
pub fn last_root(org: &OrgName, anchor: &[u8], later: &[String]) -> Result<Vec<u8>, TrustRefused> {
    let mut roots = RootChain::from(org, anchor)?;
    later.iter().try_for_each(|next| roots.follow(next.as_bytes()))?;
    Ok(roots.newest())
}

/// Roots that follow each other.
struct RootChain {
    rules: RootsOf,
    trusted: TrustedMetadataSet,
}

impl RootChain {
    fn from(org: &OrgName, anchor: &[u8]) -> Result<Self, TrustRefused> {
        let rules = RootsOf(org.clone());
        let trusted = TrustedMetadataSet::from_root(anchor).map_err(|error| TrustRefused::of("root.json", error))?;
        rules.check(None, trusted.root())?;
        Ok(Self { rules, trusted })
    }

    fn next_name(&self) -> String {
        metadata::versioned("root", self.trusted.root().version.saturating_add(1))
    }

    fn follow(&mut self, next: &[u8]) -> Result<(), TrustRefused> {
        let (name, before) = (self.next_name(), self.trusted.root().clone());
        self.trusted.update_root(next).map_err(|error| TrustRefused::of(&name, error))?;
        self.rules.check(Some(&before), self.trusted.root())
    }

    fn newest(&self) -> Vec<u8> {
        self.trusted.root_bytes().to_vec()
    }
}

impl VerifiedRepository {
    /// Opens the metadata kept in `dir`, which is created if missing. Everything kept is verified again, from
    /// `initial_root` on (TUF 1.0 §5.2); what does not verify is left aside.
    ///
    /// # Errors
    /// When `initial_root` is not a root of `org`, or the directory cannot be made.
    pub fn open(dir: &Path, org: &OrgName, initial_root: &[u8]) -> Result<Self, TrustRefused> {
        let updater = Updater::open(dir, initial_root, Box::new(RootsOf(org.clone())))?;
        let online = metadata::online_key(updater.root(), org)?;
        Ok(Self { org: org.clone(), updater, online })
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
        self.updater.root_bytes()
    }

    /// The exact bytes of the newest verified timestamp, to be compared with what the seed offers.
    pub fn timestamp(&self) -> Option<&[u8]> {
        self.updater.timestamp()
    }

    /// The version of the newest verified timestamp.
    pub fn timestamp_version(&self) -> Option<u64> {
        Some(self.updater.trusted().timestamp()?.version)
    }

    /// When the newest verified timestamp expires.
    pub fn timestamp_expires(&self) -> Option<WallTime> {
        let expires = self.updater.trusted().timestamp()?.expires.as_second();
        Some(WallTime::from_unix_seconds(u64::try_from(expires).unwrap_or(0)))
    }

    /// Brings the metadata up to date (TUF 1.0 §5.3 to §5.6); see [`Updater::refresh`]. With `timestamp`, which the seed's
    /// answer to a poll carried, nothing is requested if it is the trusted one.
    ///
    /// # Errors
    /// With the reason; what was in force before stays so, and each file that did verify is taken.
    pub async fn refresh(
        &mut self,
        now: WallTime,
        source: &dyn MetadataSource,
        timestamp: Option<&[u8]>,
    ) -> Result<Refreshed, TrustRefused> {
        let outcome = self.updater.refresh(now, source, timestamp).await;
        self.online = metadata::online_key(self.updater.root(), &self.org)?;
        if matches!(outcome, Ok(Refreshed::Updated)) {
            self.follow_kept_apps(source).await;
        }
        outcome
    }

    /// Whether the newest verified root allows grants.
    pub fn allows_grants(&self) -> bool {
        metadata::allows_grants(self.updater.root())
    }

    /// The first epoch whose revocation lists still count; 0 if all do.
    pub fn revocations_since(&self) -> u64 {
        metadata::revocations_since(self.updater.root())
    }

    /// Who may grant for `app`, from what is kept on this machine: signatures are checked, expiry is not, because a grant
    /// is for a machine that is cut off.
    ///
    /// # Errors
    /// When the app's role is not kept or does not verify.
    pub fn grant_authority(&self, app: &AppName) -> Result<GrantAuthority, TrustRefused> {
        let (root, name) = (self.updater.root(), metadata::role_name(app));
        let targets = self.updater.kept_role("targets", &root.keys, root.role("targets"))?;
        let floor = self.floor(app)?;
        let delegations = targets.delegations.as_ref().ok_or_else(|| TrustRefused::NotPublished(name.clone()))?;
        let role = delegations.roles.iter().find(|role| role.name == name).ok_or_else(|| TrustRefused::NotPublished(name.clone()))?;
        let keys = role.keyids.iter().filter_map(|keyid| metadata::ed25519_key(delegations.keys.get(keyid)?)).collect();
        let (org, app, is_allowed, threshold) = (self.org.clone(), app.clone(), self.allows_grants(), role.threshold);
        Ok(GrantAuthority { org, app, is_allowed, keys, threshold, floor })
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
        let target = self.listed(&name.app, &path, now, source).await?;
        let floor = self.floor(&name.app)?;
        let accept = |bytes: &[u8]| AcceptedStatement::accept(token, &self.org, name, platform, bytes)?.at_floor(floor);
        let kept = kept_target(&path);
        let bytes = self.updater.cache().load(&kept, STATEMENT_BYTES_MAX);
        if let Some(bytes) = bytes.filter(|bytes| check_target(&path, &target, bytes).is_ok()) {
            return Ok(accept(&bytes)?);
        }
        check_version_floor(name, floor)?;
        let bytes = self.updater.download(&path, &target, STATEMENT_BYTES_MAX, source).await?;
        let accepted = accept(&bytes)?;
        self.updater.cache().store(&kept, &bytes).await?;
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
        let role = self.kept_app_role(&name.app)?;
        let floor = self.floor(&name.app)?;
        let target = match role.target(&path) {
            Some(target) => target.clone(),
            None => {
                let archive = self.kept_archive(&name.app, &role)?;
                archive.and_then(|archive| archive.targets.get(&path).cloned()).ok_or_else(|| TrustRefused::NotPublished(path.clone()))?
            }
        };
        let bytes = self.updater.cache().load(&kept_target(&path), STATEMENT_BYTES_MAX).ok_or_else(|| not_kept(&path))?;
        check_target(&path, &target, &bytes)?;
        Ok(AcceptedStatement::accept(token, &self.org, name, platform, &bytes)?.at_floor(floor)?)
    }

    /// The versions whose statements for `platform` [`Self::statement`] gave before and are still kept.
    pub fn kept_versions(&self, platform: &Platform) -> Vec<VersionName> {
        let (mut found, cache) = (Vec::new(), self.updater.cache());
        for app in self.kept_apps() {
            let versions = cache.entries(&format!("targets/{app}"));
            for version in versions.iter().filter_map(|version| version.parse().ok()) {
                let name = VersionName { app: app.clone(), version };
                if cache.holds(&kept_target(&name.target_path(platform))) {
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
        self.updater.load_role(&metadata::role_name(app), "targets", None, source).await?;
        let Some(role) = self.loaded_app_role(app)? else { return Ok(PublishedVersions::new()) };
        let archived = self.archive(app, role, source).await?.map(|archive| archive.versions(app)).unwrap_or_default();
        Ok(archived.into_iter().chain(published_versions(app, role)).collect())
    }

    /// The apps that the top-level targets delegate, in the order in which they were first published.
    pub fn apps(&self) -> Vec<AppName> {
        let delegations = self.targets().and_then(|targets| targets.delegations.as_ref());
        delegations.iter().flat_map(|delegations| &delegations.roles).filter_map(|role| metadata::app_of(&role.name)).collect()
    }

    /// What is in force: the top-level roles, and the roles of apps that are loaded.
    ///
    /// # Errors
    /// When the metadata was never refreshed, or a role cannot be read.
    pub fn roles_in_force(&self) -> Result<Vec<RoleInForce>, TrustRefused> {
        let (trusted, root) = (self.updater.trusted(), self.updater.root());
        let (Some(timestamp), Some(snapshot), Some(targets)) = (trusted.timestamp(), trusted.snapshot(), self.targets()) else {
            return Err(TrustRefused::NotRefreshed);
        };
        let top_level = [
            ("root", root.version, root.expires),
            ("targets", targets.version, targets.expires),
            ("snapshot", snapshot.version, snapshot.expires),
            ("timestamp", timestamp.version, timestamp.expires),
        ];
        let mut roles = Vec::new();
        for (name, version, expires) in top_level {
            let authority = root.role(name).ok_or(TrustRefused::NotRefreshed)?;
            let (keyids, threshold, is_online) = (authority.keyids.clone(), authority.threshold, ["snapshot", "timestamp"].contains(&name));
            roles.push(RoleInForce { name: name.to_owned(), version, expires, keyids, threshold, is_online, floor: None });
        }
        for delegated in targets.delegations.iter().flat_map(|delegations| &delegations.roles) {
            if let Some(role) = trusted.targets_role(&delegated.name) {
                let (keyids, threshold) = (delegated.keyids.clone(), delegated.threshold);
                let (name, floor) = (delegated.name.clone(), Some(metadata::floor(&delegated.name, role)?));
                roles.push(RoleInForce { name, version: role.version, expires: role.expires, keyids, threshold, is_online: false, floor });
            }
        }
        Ok(roles)
    }

    /// The roles that people sign and that expire within [`metadata::EXPIRY_WARNING_SECONDS`] of `now`, or have.
    pub fn expiring(&self, now: WallTime) -> Vec<RoleInForce> {
        let until = metadata::calendar(now.plus_seconds(metadata::EXPIRY_WARNING_SECONDS));
        let roles = self.roles_in_force().unwrap_or_default();
        roles.into_iter().filter(|role| !role.is_online && role.expires <= until).collect()
    }

    /// The verified top-level targets, if they are those that the snapshot pins.
    pub(super) fn targets(&self) -> Option<&Targets> {
        self.updater.pins_hold().then(|| self.updater.trusted().targets_role("targets")).flatten()
    }

    /// The keys that may sign the top-level targets.
    pub(super) fn targets_keyids(&self) -> Vec<String> {
        self.updater.root().role("targets").map(|role| role.keyids.clone()).unwrap_or_default()
    }

    /// How many of them must.
    pub(super) fn targets_threshold(&self) -> usize {
        self.updater.root().role("targets").map_or(1, |role| role.threshold)
    }

    /// The TUF client below.
    pub(super) const fn updater(&self) -> &Updater {
        &self.updater
    }

    /// The verified role of `app`; `Ok(None)` if the app is not published, an error if the role was not loaded.
    pub(super) fn loaded_app_role(&self, app: &AppName) -> Result<Option<&Targets>, TrustRefused> {
        let role = metadata::role_name(app);
        match self.updater.trusted().targets_role(&role) {
            None if self.updater.pin(&role).is_some() => Err(TrustRefused::NotRefreshed),
            found => Ok(found),
        }
    }

    /// The archive that `role`, the verified role of `app`, pins; an error if [`Self::published`] did not load it.
    pub(super) fn kept_archive(&self, app: &AppName, role: &Targets) -> Result<Option<Archive>, TrustRefused> {
        let path = archive::path(app);
        let Some(target) = role.target(&path) else { return Ok(None) };
        let bytes = self.updater.cache().load(&kept_target(&path), TARGETS_BYTES_MAX).ok_or_else(|| not_kept(&path))?;
        check_target(&path, target, &bytes)?;
        Archive::parse(app, &bytes).map(Some)
    }

    /// The file of the archive that the role of `app` pins, if it pins one; [`Self::published`] loaded it.
    pub(super) fn archive_file(&self, app: &AppName) -> Result<Option<TufFile>, TrustRefused> {
        let path = archive::path(app);
        let Some(target) = self.loaded_app_role(app)?.and_then(|role| role.target(&path)) else { return Ok(None) };
        let bytes = self.updater.cache().load(&kept_target(&path), TARGETS_BYTES_MAX).ok_or_else(|| not_kept(&path))?;
        let name = archive::file_name(app, &metadata::target_digest(&path, target)?);
        let malformed = |error: std::string::FromUtf8Error| TrustRefused::Malformed { file: path.clone(), detail: error.to_string() };
        Ok(Some(TufFile { name, content: String::from_utf8(bytes).map_err(malformed)? }))
    }

    /// The archive that `role` pins, fetched if it is not kept.
    async fn archive(&self, app: &AppName, role: &Targets, source: &dyn MetadataSource) -> Result<Option<Archive>, TrustRefused> {
        if let Ok(kept) = self.kept_archive(app, role) {
            return Ok(kept);
        }
        let path = archive::path(app);
        let Some(target) = role.target(&path) else { return Ok(None) };
        let bytes = self.updater.download(&path, target, TARGETS_BYTES_MAX, source).await?;
        let archive = Archive::parse(app, &bytes)?;
        self.updater.cache().store(&kept_target(&path), &bytes).await?;
        Ok(Some(archive))
    }

    /// The role of `app` as it is kept on disk, verified from the root on.
    fn kept_app_role(&self, app: &AppName) -> Result<Targets, TrustRefused> {
        let root = self.updater.root();
        let targets = self.updater.kept_role("targets", &root.keys, root.role("targets"))?;
        self.kept_delegated(&metadata::role_name(app), targets.delegations.as_ref())
    }

    fn kept_delegated(&self, role: &str, delegations: Option<&Delegations>) -> Result<Targets, TrustRefused> {
        let delegations = delegations.ok_or_else(|| TrustRefused::NotPublished(role.to_owned()))?;
        let delegated = delegations.roles.iter().find(|found| found.name == role).map(DelegatedRole::role_keys);
        let delegated = delegated.ok_or_else(|| TrustRefused::NotPublished(role.to_owned()))?;
        self.updater.kept_role(role, &delegations.keys, Some(&delegated))
    }

    /// The apps that have statements here.
    fn kept_apps(&self) -> Vec<AppName> {
        self.updater.cache().entries("targets").iter().filter_map(|app| app.parse().ok()).collect()
    }

    /// Takes the newest roles of the apps that have statements here, so that a raised floor counts at once, and what was
    /// accepted before can be proved offline under new keys and from the archive too. What fails is tried with the next
    /// change: the refresh itself does not depend on it.
    async fn follow_kept_apps(&mut self, source: &dyn MetadataSource) {
        for app in self.kept_apps() {
            if let Err(error) = self.follow_app(&app, source).await {
                tracing::warn!(%app, %error, "the app's newest role cannot be had");
            }
        }
    }

    async fn follow_app(&mut self, app: &AppName, source: &dyn MetadataSource) -> Result<(), TrustRefused> {
        if !self.updater.load_role(&metadata::role_name(app), "targets", None, source).await? {
            return Ok(());
        }
        self.hold_floor(app).await?;
        let Some(role) = self.loaded_app_role(app)? else { return Ok(()) };
        let listed = published_versions(app, role);
        let kept = self.updater.cache().entries(&format!("targets/{app}"));
        if kept.iter().filter_map(|version| version.parse().ok()).any(|version: u64| !listed.contains_key(&version)) {
            self.archive(app, role, source).await?;
        }
        Ok(())
    }

    /// The target `path` as the role of `app` lists it, with nothing on the way expired.
    async fn listed(&mut self, app: &AppName, path: &str, now: WallTime, source: &dyn MetadataSource) -> Result<TargetFile, TrustRefused> {
        let not_published = || TrustRefused::NotPublished(path.to_owned());
        let name = metadata::role_name(app);
        let found = self.updater.find(path, now, source).await?;
        self.hold_floor(app).await?;
        if let Some(found) = found {
            let own = ["targets", name.as_str()];
            return if found.roles == own { Ok(found.target) } else { Err(not_published()) };
        }
        // The search was led to the app's own role, and found it fresh; what it does not list stands in its archive.
        let role = self.updater.trusted().targets_role(&name).ok_or_else(not_published)?;
        let archive = self.archive(app, role, source).await?.ok_or_else(not_published)?;
        archive.targets.get(path).cloned().ok_or_else(not_published)
    }
}

fn check_version_floor(name: &VersionName, floor: u64) -> Result<(), StatementRefused> {
    if name.version < floor { Err(StatementRefused::BelowFloor { version: name.version, floor }) } else { Ok(()) }
}

fn kept_target(path: &str) -> String {
    format!("targets/{path}")
}

#[cfg(test)]
mod tests;
