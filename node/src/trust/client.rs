//! An organisation's metadata as a device or an operator believes it: the TUF client of [`super::updater`], and on top of
//! it what our repositories ask for besides TUF.
//!
//! A root belongs to the organisation, and its epoch never goes back. A version statement counts only from the role of
//! its own app, which the top-level targets delegate; what any other role lists is not looked at.
//!
//! Not here: the TUF client workflow, see [`super::updater`]; transport, see [`super::source`]; which version a device
//! should have, see `protocol::statement::desired`.

use std::path::Path;

use protocol::name::{AppName, OrgName, Platform};
use protocol::statement::TrustToken;
use protocol::statement::desired::OnlineKey;
use protocol::statement::version::{AcceptedStatement, STATEMENT_BYTES_MAX, VersionName};
use protocol::time::WallTime;
use sigstore_tuf::{DelegatedRole, Root, TargetFile, Targets};

use super::metadata;
use super::refused::TrustRefused;
use super::rules::{PublishedVersions, check_path, check_target, published_versions};
use super::source::MetadataSource;
use super::updater::{Refreshed, RootRules, Updater, not_kept};

/// Verified metadata of one organisation, and the directory that keeps it.
#[derive(Debug)]
pub struct VerifiedRepository {
    org: OrgName,
    updater: Updater,
    online: OnlineKey,
}

/// What a root of this organisation must say.
#[derive(Debug)]
struct RootsOf(OrgName);

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
        outcome
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
        let kept = kept_target(&path);
        let bytes = self.updater.cache().load(&kept, STATEMENT_BYTES_MAX);
        if let Some(bytes) = bytes.filter(|bytes| check_target(&path, &target, bytes).is_ok()) {
            return Ok(AcceptedStatement::accept(token, &self.org, name, platform, &bytes)?);
        }
        let bytes = self.updater.download(&path, &target, STATEMENT_BYTES_MAX, source).await?;
        let accepted = AcceptedStatement::accept(token, &self.org, name, platform, &bytes)?;
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
        let role_name = metadata::role_name(&name.app);
        let root = self.updater.root();
        let targets = self.updater.kept_role("targets", &root.keys, root.role("targets"))?;
        check_path(Some(&targets), &name.app, &path)?;
        let delegations = targets.delegations.as_ref().ok_or_else(|| TrustRefused::NotPublished(path.clone()))?;
        let delegated = delegations.roles.iter().find(|role| role.name == role_name).map(DelegatedRole::role_keys);
        let role = self.updater.kept_role(&role_name, &delegations.keys, delegated.as_ref())?;
        let target = role.target(&path).ok_or_else(|| TrustRefused::NotPublished(path.clone()))?;
        let bytes = self.updater.cache().load(&kept_target(&path), STATEMENT_BYTES_MAX).ok_or_else(|| not_kept(&path))?;
        check_target(&path, target, &bytes)?;
        Ok(AcceptedStatement::accept(token, &self.org, name, platform, &bytes)?)
    }

    /// The versions whose statements for `platform` [`Self::statement`] gave before and are still kept.
    pub fn kept_versions(&self, platform: &Platform) -> Vec<VersionName> {
        let (mut found, cache) = (Vec::new(), self.updater.cache());
        for app in cache.entries("targets").iter().filter_map(|app| app.parse::<AppName>().ok()) {
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
        let role = metadata::role_name(app);
        self.updater.load_role(&role, "targets", None, source).await?;
        Ok(self.loaded_app_role(app)?.map(|role| published_versions(app, role)).unwrap_or_default())
    }

    /// The verified top-level targets, if they are those that the snapshot pins.
    pub(super) fn targets(&self) -> Option<&Targets> {
        self.updater.pins_hold().then(|| self.updater.trusted().targets_role("targets")).flatten()
    }

    /// Whether the root names this key for the top-level targets.
    pub(super) fn may_sign_targets(&self, keyid: &str) -> bool {
        self.updater.root().role("targets").is_some_and(|role| role.keyids.iter().any(|found| found == keyid))
    }

    /// The verified role of `app`; `Ok(None)` if the app is not published, an error if the role was not loaded.
    pub(super) fn loaded_app_role(&self, app: &AppName) -> Result<Option<&Targets>, TrustRefused> {
        let role = metadata::role_name(app);
        match self.updater.trusted().targets_role(&role) {
            None if self.updater.pin(&role).is_some() => Err(TrustRefused::NotRefreshed),
            found => Ok(found),
        }
    }

    /// The target `path` as the role of `app` lists it, with nothing on the way expired.
    async fn listed(&mut self, app: &AppName, path: &str, now: WallTime, source: &dyn MetadataSource) -> Result<TargetFile, TrustRefused> {
        let found = self.updater.find(path, now, source).await?;
        let own = ["targets".to_owned(), metadata::role_name(app)];
        let found = found.filter(|found| found.roles == own).map(|found| found.target);
        found.ok_or_else(|| TrustRefused::NotPublished(path.to_owned()))
    }
}

fn kept_target(path: &str) -> String {
    format!("targets/{path}")
}

#[cfg(test)]
mod tests;
