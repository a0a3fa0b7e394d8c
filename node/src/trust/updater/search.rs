//! The search for a target through delegated roles (TUF 1.0 §5.6.7), and fetching it.
//!
//! Not here: the roles above; see [`super`].

use std::collections::{BTreeMap, BTreeSet};

use protocol::time::WallTime;
use sigstore_tuf::metadata::Metadata;
use sigstore_tuf::{DelegatedRole, Error, Key, RoleKeys, TargetFile, Targets, TrustedMetadataSet};

use super::super::metadata;
use super::super::refused::TrustRefused;
use super::super::rules::{check_expiry, check_target};
use super::super::source::{self, MetadataSource, TARGETS_BYTES_MAX};
use super::{BEFORE_EVERY_EXPIRY, ROLES_VISITED_MAX, TARGETS, Updater};

/// A target as the search found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The roles from the top-level targets to the one that lists it.
    pub roles: Vec<String>,
    /// Length and hashes.
    pub target: TargetFile,
}

impl Updater {
    /// Searches for the target `path` (TUF 1.0 §5.6.7): pre-order, depth first, along the delegations whose patterns
    /// match, loading roles as they are needed; a role that the snapshot does not list is passed over.
    ///
    /// # Errors
    /// When something on the way is missing, expired or does not verify.
    pub async fn find(&mut self, path: &str, now: WallTime, source: &dyn MetadataSource) -> Result<Option<Found>, TrustRefused> {
        let now = metadata::calendar(now);
        self.check_fresh(now)?;
        let mut seen = BTreeSet::new();
        let mut ahead = vec![vec![TARGETS.to_owned()]];
        while let Some(roles) = ahead.pop() {
            let Some(role) = roles.last().filter(|role| !seen.contains(*role)) else { continue };
            if seen.len() == ROLES_VISITED_MAX {
                tracing::warn!(path, "no target is found in {ROLES_VISITED_MAX} roles, and no more are looked at");
                return Ok(None);
            }
            if let [.., delegator, role] = roles.as_slice()
                && !self.load_role(role, delegator, Some(now), source).await?
            {
                continue;
            }
            seen.insert(role.clone());
            let Some(targets) = self.trusted.targets_role(role) else { return Err(TrustRefused::NotRefreshed) };
            if let Some(target) = targets.target(path) {
                return Ok(Some(Found { target: target.clone(), roles }));
            }
            let (children, terminated) = delegated(targets, role, path)?;
            if terminated {
                ahead.clear();
            }
            ahead.extend(children.into_iter().rev().map(|child| roles.iter().cloned().chain([child]).collect()));
        }
        Ok(None)
    }

    /// Fetches `target`, at most `bytes_max` bytes of it, and checks it (TUF 1.0 §5.7.3).
    ///
    /// # Errors
    /// When it is larger, cannot be had, or is not what was signed for.
    pub async fn download(
        &self,
        path: &str,
        target: &TargetFile,
        bytes_max: usize,
        source: &dyn MetadataSource,
    ) -> Result<Vec<u8>, TrustRefused> {
        let length = usize::try_from(target.length).ok().filter(|length| *length <= bytes_max);
        let length = length.ok_or_else(|| TrustRefused::TooLarge { file: path.to_owned(), bytes_max })?;
        let served = match self.trusted.root().consistent_snapshot {
            true => metadata::consistent_path(path, &metadata::target_digest(path, target)?),
            false => path.to_owned(),
        };
        let bytes = source::fetch_target(source, &served, length).await?;
        check_target(path, target, &bytes)?;
        Ok(bytes)
    }

    /// Loads the role that `delegator` delegates, if need be, and checks that its signatures satisfy this delegator;
    /// `false` if the snapshot does not list it. Without `now` it may have expired.
    ///
    /// # Errors
    /// When it cannot be had, does not verify, or has expired at `now`.
    pub(in crate::trust) async fn load_role(
        &mut self,
        role: &str,
        delegator: &str,
        now: Option<jiff::Timestamp>,
        source: &dyn MetadataSource,
    ) -> Result<bool, TrustRefused> {
        if !self.pins_hold() {
            return Err(TrustRefused::NotRefreshed);
        }
        let Some(version) = self.pin(role) else { return Ok(false) };
        let name = self.served_name(role, version);
        let refused = |error| TrustRefused::of(&name, error);
        if self.trusted.targets_role(role).is_some() {
            self.trusted.verify_delegated_targets(role, delegator, BEFORE_EVERY_EXPIRY).map_err(refused)?;
            return self.check_role_expiry(role, now).map(|()| true);
        }
        let take = |trusted: &mut TrustedMetadataSet, bytes: &[u8]| {
            trusted.update_delegated_targets(bytes, role, delegator, BEFORE_EVERY_EXPIRY).map(drop)
        };
        let file = metadata::unversioned(&metadata::encoded(role));
        let kept = self.cache.load(&file, TARGETS_BYTES_MAX);
        if kept.is_some_and(|bytes| take(&mut self.trusted, &bytes).is_ok()) {
            return self.check_role_expiry(role, now).map(|()| true);
        }
        let bytes = source::fetch(source, &name, TARGETS_BYTES_MAX).await?;
        take(&mut self.trusted, &bytes).map_err(refused)?;
        self.check_role_expiry(role, now)?;
        self.cache.store(&file, &bytes).await?;
        Ok(true)
    }

    /// A role as it is kept on disk, set aside or not, verified against `keys` and `authority`; neither pinned nor fresh.
    pub(in crate::trust) fn kept_role(
        &self,
        role: &str,
        keys: &BTreeMap<String, Key>,
        authority: Option<&RoleKeys>,
    ) -> Result<Targets, TrustRefused> {
        let file = metadata::unversioned(&metadata::encoded(role));
        let refused = |error| TrustRefused::of(&file, error);
        let authority = authority.ok_or_else(|| refused(Error::UnknownRole(role.to_owned())))?;
        let kept = self.cache.load(&file, TARGETS_BYTES_MAX).or_else(|| self.cache.load_set_aside(&file, TARGETS_BYTES_MAX));
        let bytes = kept.ok_or_else(|| not_kept(&file))?;
        let metadata = Metadata::<Targets>::from_slice(&bytes).map_err(refused)?;
        metadata.verify_threshold(keys, authority, role).map_err(refused)?;
        Ok(metadata.into_signed())
    }

    fn check_role_expiry(&self, role: &str, now: Option<jiff::Timestamp>) -> Result<(), TrustRefused> {
        match (self.trusted.targets_role(role), now) {
            (Some(targets), Some(now)) => check_expiry(targets, role, now),
            _ => Ok(()),
        }
    }
}

/// What is not on disk although it was asked for.
pub(in crate::trust) fn not_kept(file: &str) -> TrustRefused {
    TrustRefused::Unavailable { name: file.to_owned(), detail: "it is not kept on this machine".to_owned() }
}

/// The roles that `targets` delegates `path` to, in order, and whether the last of them ends the search elsewhere. A
/// delegation that takes the name of a top-level role is passed over.
fn delegated(targets: &Targets, role: &str, path: &str) -> Result<(Vec<String>, bool), TrustRefused> {
    let mut children = Vec::new();
    let delegations = targets.delegations.iter().flat_map(|delegations| &delegations.roles);
    for child in delegations.filter(|child: &&DelegatedRole| !metadata::is_top_level(&child.name)) {
        if child.matches_path(path).map_err(|error| TrustRefused::of(&metadata::unversioned(role), error))? {
            children.push(child.name.clone());
            if child.terminating {
                return Ok((children, true));
            }
        }
    }
    Ok((children, false))
}
