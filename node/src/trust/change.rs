//! A change of who may sign what: a new root, new top-level targets, app roles under other keys or for longer. Prepared by
//! the operator, checked by the seed as a device would, and besides that no version and no app comes or goes.
//!
//! | module | holds |
//! |---|---|
//! | `prepare` | the operator's side |
//!
//! Not here: new versions, see [`super::publication`]; signing by several people, see [`super::proposal`].

mod prepare;

use std::collections::{BTreeMap, BTreeSet};

use protocol::digest::Digest;
use protocol::identity::authorities::{SeedAuthorities, check_root};
use protocol::name::{AppName, OrgName};
use protocol::time::WallTime;
use serde::{Deserialize, Serialize};
use sigstore_tuf::{DelegatedRole, Root, Targets, TrustedMetadataSet};

use super::archive::covers_exactly;
use super::authorities::named_in;
use super::client::RootsOf;
use super::metadata;
use super::online_key::OnlineSigner;
use super::publication::{PublicationRefused, successor};
use super::refused::TrustRefused;
use super::repository::{BEFORE_EVERY_EXPIRY, RepositoryFiles};
use super::source::MetadataSource;
use super::updater::RootRules as _;
use crate::store::meta::TufFile;

pub use prepare::{KeysWanted, RootWanted, prepare_apps, prepare_root, prepare_targets};

/// What an operator uploads to change who may sign.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustChange {
    /// The next root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<TufFile>,
    /// The next top-level targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<TufFile>,
    /// The next roles of apps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<TufFile>,
    /// Whether a floor may be lowered.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lower_floor: bool,
}

/// Checks `change` against the files in force, and gives the timestamp that it depends on and the files to store.
///
/// # Errors
/// With the reason; nothing is changed.
pub async fn check_change(
    org: &OrgName,
    source: &dyn MetadataSource,
    change: &TrustChange,
    signer: &OnlineSigner,
    authorities: &SeedAuthorities,
    now: WallTime,
) -> Result<(TufFile, Vec<TufFile>), PublicationRefused> {
    let own = PublicationRefused::Repository;
    let current = RepositoryFiles::load(source, None).await.map_err(own)?;
    let before = current.verified(org, None).map_err(own)?;
    let mut after = before.clone();
    if let Some(root) = &change.root {
        take_root(org, &mut after, (&current.root, root), signer, authorities, now)?;
    }
    let mut pins = current.pins().map_err(own)?;
    if let Some(targets) = &change.targets {
        pins.insert("targets.json".to_owned(), successor(targets, "targets", before.targets_role("targets"))?);
    }
    let mut apps = BTreeMap::new();
    for app in affected(&before, change)? {
        let files = RepositoryFiles::load(source, Some(&app)).await.map_err(own)?;
        let verified = files.verified(org, Some(&app)).map_err(own)?;
        apps.insert(app, (files, verified));
    }
    for file in &change.roles {
        let (role, app) = named_role(file)?;
        let Some((_, verified)) = apps.get(&app) else { return Err(PublicationRefused::Change(format!("the app {app} is not published"))) };
        let previous = verified.targets_role(&role);
        if previous.is_none() {
            return Err(PublicationRefused::Change(format!("there is no role {role} yet; publish a version")));
        }
        pins.insert(metadata::unversioned(&role), successor(file, &role, previous)?);
    }
    let is_new_key = metadata::online_key(before.root(), org)?.key != signer.public_key();
    // A new key begins anew, since a fast-forward leaves no higher version.
    let (timestamp, snapshot) = if is_new_key { (0, 0) } else { current.online_versions().map_err(own)? };
    let online = signer.online_files((timestamp.saturating_add(1), snapshot.saturating_add(1)), &pins, now);
    let moment = metadata::calendar(now);
    let refused = |file: &TufFile, error| PublicationRefused::Metadata(TrustRefused::of(&file.name, error));
    after.check_root_expired(moment).map_err(|error| TrustRefused::of("root.json", error))?;
    after.update_timestamp(online[1].content.as_bytes(), moment).map_err(|error| refused(&online[1], error))?;
    after.update_snapshot(online[0].content.as_bytes(), moment).map_err(|error| refused(&online[0], error))?;
    let (targets, valid_at) = change.targets.as_ref().map_or((&current.targets, BEFORE_EVERY_EXPIRY), |targets| (targets, moment));
    after.update_targets(targets.content.as_bytes(), valid_at).map_err(|error| refused(targets, error))?;
    check_same_apps(before.targets_role("targets"), after.targets_role("targets"))?;
    for (app, (files, verified)) in &apps {
        take_app(&mut after, change, app, files, moment)?;
        check_same_versions(app, verified, &after, change.lower_floor)?;
    }
    let files = change.root.iter().chain(&change.targets).chain(&change.roles).cloned().chain(online).collect();
    Ok((current.timestamp, files))
}

fn take_root(
    org: &OrgName,
    after: &mut TrustedMetadataSet,
    (old, file): (&TufFile, &TufFile),
    signer: &OnlineSigner,
    authorities: &SeedAuthorities,
    now: WallTime,
) -> Result<(), PublicationRefused> {
    let before: Root = after.root().clone();
    let wanted = metadata::versioned("root", before.version.saturating_add(1));
    if file.name != wanted {
        return Err(PublicationRefused::OtherName { found: file.name.clone(), wanted });
    }
    after.update_root(file.content.as_bytes()).map_err(|error| TrustRefused::of(&file.name, error))?;
    let root = after.root();
    RootsOf(org.clone()).check(Some(&before), root)?;
    let refused = |detail: &str| Err(PublicationRefused::Change(format!("{}: {detail}", file.name)));
    if !root.consistent_snapshot {
        return refused("it must keep consistent snapshots");
    }
    let (online, online_before) = (metadata::online_key(root, org)?, metadata::online_key(&before, org)?);
    if online.key != signer.public_key() {
        return refused("it delegates another online key than this seed's, which could not sign any more");
    }
    let named =
        |file: &TufFile| named_in(file).map(|named| named.map(|named| named.iter().map(|der| Digest::sha256(der)).collect::<Vec<_>>()));
    if let Err(error) = check_root(named(old)?.as_deref(), named(file)?.as_deref(), authorities) {
        return refused(&error.to_string());
    }
    if online.key != online_before.key && online.epoch == online_before.epoch {
        return refused("another online key needs a higher epoch, or the counters of the one before would bind it");
    }
    for (name, role) in &root.roles {
        let distinct: BTreeSet<&String> = role.keyids.iter().filter(|keyid| root.keys.contains_key(*keyid)).collect();
        let online = ["snapshot", "timestamp"].contains(&name.as_str());
        if distinct.len() < role.threshold || (online && (role.threshold != 1 || role.keyids != [signer.keyid()])) {
            return refused(&format!("nobody could sign the role {name} any more"));
        }
    }
    after.check_root_expired(metadata::calendar(now)).map_err(|error| TrustRefused::of(&file.name, error))?;
    Ok(())
}

/// The apps whose roles or keys the change touches.
fn affected(before: &TrustedMetadataSet, change: &TrustChange) -> Result<BTreeSet<AppName>, PublicationRefused> {
    let mut apps = BTreeSet::new();
    for file in &change.roles {
        apps.insert(named_role(file)?.1);
    }
    if let Some(targets) = &change.targets {
        let new: Targets = super::repository::parsed(targets)?;
        let old = roles(before.targets_role("targets"));
        let key = |targets: Option<&Targets>, keyid: &String| targets?.delegations.as_ref()?.keys.get(keyid).cloned();
        let is_changed = |role: &DelegatedRole| {
            let other_key = |keyid: &String| key(before.targets_role("targets"), keyid) != key(Some(&new), keyid);
            !old.contains(role) || role.keyids.iter().any(other_key)
        };
        apps.extend(roles(Some(&new)).iter().filter(|role| is_changed(role)).filter_map(|role| metadata::app_of(&role.name)));
    }
    Ok(apps)
}

/// The role that a file is of, and its app.
fn named_role(file: &TufFile) -> Result<(String, AppName), PublicationRefused> {
    let role = file.name.strip_suffix(".json").and_then(|name| name.split_once('.')).map(|(_, role)| role.to_owned());
    let app = role.as_deref().and_then(metadata::app_of);
    role.zip(app).ok_or_else(|| PublicationRefused::Change(format!("{} is no role of an app", file.name)))
}

fn roles(targets: Option<&Targets>) -> Vec<DelegatedRole> {
    targets.and_then(|targets| targets.delegations.as_ref()).map(|found| found.roles.clone()).unwrap_or_default()
}

/// New top-level targets delegate the same apps for the same paths, and list nothing themselves.
fn check_same_apps(before: Option<&Targets>, after: Option<&Targets>) -> Result<(), PublicationRefused> {
    let (old, new) = (roles(before), roles(after));
    let same = old.len() == new.len() && old.iter().zip(&new).all(|(old, new)| old.name == new.name);
    let covered = new.iter().all(|role| metadata::app_of(&role.name).is_some_and(|app| covers_exactly(role, &role.name, &app)));
    let empty = after.is_some_and(|targets| targets.targets.is_empty());
    if same && covered && empty {
        return Ok(());
    }
    Err(PublicationRefused::Change("the top-level targets must delegate the same apps for their own paths, and list nothing".to_owned()))
}

/// Takes the role of `app` as the change leaves it.
fn take_app(
    after: &mut TrustedMetadataSet,
    change: &TrustChange,
    app: &AppName,
    in_force: &RepositoryFiles,
    now: jiff::Timestamp,
) -> Result<(), PublicationRefused> {
    let role = metadata::role_name(app);
    let new = change.roles.iter().find(|file| named_role(file).is_ok_and(|(found, _)| found == role)).map(|file| (file, now));
    if let Some((file, now)) = new.or_else(|| in_force.app_role.as_ref().map(|file| (file, BEFORE_EVERY_EXPIRY))) {
        let taken = after.update_delegated_targets(file.content.as_bytes(), &role, "targets", now).map(drop);
        taken.map_err(|error| TrustRefused::of(&file.name, error))?;
    }
    Ok(())
}

/// The role lists what it listed, its archive too, delegates nothing, and its floor does not go down unsaid.
fn check_same_versions(
    app: &AppName,
    before: &TrustedMetadataSet,
    after: &TrustedMetadataSet,
    lower_floor: bool,
) -> Result<(), PublicationRefused> {
    let role = metadata::role_name(app);
    let Some(now) = after.targets_role(&role) else { return Err(TrustRefused::NotRefreshed.into()) };
    if before.targets_role(&role).is_none_or(|before| before.targets != now.targets) {
        return Err(PublicationRefused::OtherTargets(format!("{role} must list the same versions as before")));
    }
    if now.delegations.is_some() {
        return Err(PublicationRefused::OtherTargets(format!("{role} may not delegate further")));
    }
    let from = before.targets_role(&role).map_or(Ok(0), |role_before| metadata::floor(&role, role_before))?;
    let to = metadata::floor(&role, now)?;
    if to < from && !lower_floor {
        return Err(PublicationRefused::LowersFloor { from, to });
    }
    let newest = super::rules::published_versions(app, now).last_key_value().map_or(0, |(version, _)| *version);
    if to > newest { Err(PublicationRefused::FloorAboveVersions { floor: to, version: newest }) } else { Ok(()) }
}
