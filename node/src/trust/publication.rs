//! A new version of an app: prepared and signed by the operator, checked by the seed before it is stored. The seed checks
//! as a device would, and besides that versions are immutable and numbered without gaps.
//!
//! | module | holds |
//! |---|---|
//! | `prepare` | the operator's side |
//!
//! Not here: how a publication travels and is stored; the blobs that a statement names.

mod prepare;

use std::collections::{BTreeMap, BTreeSet};

use protocol::digest::Digest;
use protocol::name::{AppName, OrgName, Platform};
use protocol::statement::version::{StatementRefused, VersionName, VersionStatement};
use protocol::time::WallTime;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sigstore_tuf::{DelegatedRole, Targets, TrustedMetadataSet};

use super::archive::{self, covers_exactly};
use super::key_file::KeyError;
use super::metadata;
use super::online_key::OnlineSigner;
use super::refused::TrustRefused;
use super::repository::{RepositoryFiles, parsed};
use super::rules::published_versions;
use super::source::TARGETS_BYTES_MAX;
use crate::store::meta::{TufFile, VersionRecord};

pub(super) use prepare::next_role;
pub use prepare::{NewVersion, prepare_version};

/// The largest publication as JSON, in bytes: the role of an app with thousands of versions, and the statements of a dozen
/// platforms with hundreds of blobs each.
pub const PUBLICATION_BYTES_MAX: usize = 8 << 20;

/// The most platforms of one version: the platforms that Linux images are commonly built for are about ten.
pub const PLATFORMS_MAX: usize = 64;

/// What an operator uploads to publish a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publication {
    /// The app.
    pub app: AppName,
    /// N, counted from 1.
    pub version: u64,
    /// The exact text of the statement for each platform.
    pub statements: BTreeMap<Platform, String>,
    /// The next version of the app's role.
    pub app_role: TufFile,
    /// The next version of the app's archive, when versions leave the app's role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive_role: Option<TufFile>,
    /// The next version of the top-level targets, when the app is new or they are due for renewal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<TufFile>,
    /// Whether the floor may be lowered.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lower_floor: bool,
}

/// What a seed stores, all of it or nothing, for a publication that passed every check.
#[derive(Clone, Debug)]
pub struct CheckedPublication {
    /// The version.
    pub record: VersionRecord,
    /// The uploaded metadata, and the snapshot and timestamp that put it in force.
    pub files: Vec<TufFile>,
    /// The statements, to be stored as blobs before the rest.
    pub statements: Vec<(Digest, Vec<u8>)>,
}

/// Why a version is not published.
#[derive(Debug, thiserror::Error)]
pub enum PublicationRefused {
    /// The number is taken, or would leave a gap. The seed answers 409.
    #[error("version {asked} cannot be published: the next version is {next}")]
    OtherNumber {
        /// The number asked for.
        asked: u64,
        /// The number that can be published.
        next: u64,
    },
    /// The metadata does not follow the one in force, because something was published in between. The seed answers 409.
    #[error("{file} should have version {wanted} and has {found}: the repository changed meanwhile, publish again")]
    Stale {
        /// The metadata file.
        file: String,
        /// The version that follows the one in force.
        wanted: u64,
        /// The version found.
        found: u64,
    },
    /// A published target was changed or removed.
    #[error("{0} is published already and must stay as it is")]
    ChangedTarget(String),
    /// The role lists something else than this version's statements.
    #[error("the app's role does not list exactly this version's statements: {0}")]
    OtherTargets(String),
    /// The top-level targets change more than the delegation of this app.
    #[error("the targets metadata may only add the delegation of {app}: {detail}")]
    OtherDelegations {
        /// The app.
        app: AppName,
        /// What differs.
        detail: String,
    },
    /// A file's name does not fit its content.
    #[error("the file {found} should be called {wanted}")]
    OtherName {
        /// The name given.
        found: String,
        /// The name that fits.
        wanted: String,
    },
    /// No statement, or too many.
    #[error("a version has 1 to {PLATFORMS_MAX} platforms, not {0}")]
    OtherPlatformCount(usize),
    /// A statement is not this version's.
    #[error("the statement for {platform} is refused: {refused}")]
    Statement {
        /// The platform.
        platform: Platform,
        /// Why.
        refused: StatementRefused,
    },
    /// The least version that devices may start would go down, and nobody said that it shall.
    #[error(
        "the floor would go down from {from} to {to}, and devices could start versions again that were ruled out; if that is wanted, say --lower-floor"
    )]
    LowersFloor {
        /// The floor in force.
        from: u64,
        /// The floor asked for.
        to: u64,
    },
    /// The floor is above the newest version: devices could start none.
    #[error("the floor {floor} is above version {version}, the newest; devices could start none")]
    FloorAboveVersions {
        /// The floor asked for.
        floor: u64,
        /// The newest version.
        version: u64,
    },
    /// A change of who may sign does more than that, or would leave nobody who can.
    #[error("the change is refused: {0}")]
    Change(String),
    /// A key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The operator's key is not the one that the metadata in force names.
    #[error("the key in the --keys directory may not sign for {0}; use the keys that the organisation was created with")]
    ForeignKey(String),
    /// The uploaded metadata, or the operator's view, is refused.
    #[error(transparent)]
    Metadata(#[from] TrustRefused),
    /// The seed's own files are refused: not the operator's fault. The seed answers 500.
    #[error("the seed's own trust metadata is broken: {0}")]
    Repository(TrustRefused),
}

impl PublicationRefused {
    /// A short name of the reason, for metrics and answers.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::OtherNumber { .. } => "other_number",
            Self::Stale { .. } => "stale",
            Self::ChangedTarget(_) => "changed_target",
            Self::OtherTargets(_) => "other_targets",
            Self::OtherDelegations { .. } => "other_delegations",
            Self::OtherName { .. } => "other_name",
            Self::OtherPlatformCount(_) => "other_platform_count",
            Self::Statement { .. } => "bad_statement",
            Self::LowersFloor { .. } => "lowers_floor",
            Self::FloorAboveVersions { .. } => "floor_above_versions",
            Self::Change(_) => "bad_change",
            Self::Key(_) => "key",
            Self::ForeignKey(_) => "foreign_key",
            Self::Metadata(refused) => refused.reason(),
            Self::Repository(_) => "broken_repository",
        }
    }

    /// Whether the request lost a race or asks for the wrong number: HTTP 409.
    pub const fn is_conflict(&self) -> bool {
        matches!(self, Self::OtherNumber { .. } | Self::Stale { .. })
    }
}

/// Checks `publication` against the files in force and puts it in force with a new snapshot and timestamp.
///
/// # Errors
/// With the reason; nothing is changed.
pub fn check_publication(
    org: &OrgName,
    current: &RepositoryFiles,
    publication: &Publication,
    signer: &OnlineSigner,
    now: WallTime,
) -> Result<CheckedPublication, PublicationRefused> {
    let Publication { app, version, statements, app_role, archive_role, targets, lower_floor } = publication;
    let name = VersionName { app: app.clone(), version: *version };
    let role = metadata::role_name(app);
    let before = current.verified(org, Some(app)).map_err(PublicationRefused::Repository)?;
    let (previous, archive) = (before.targets_role(&role), metadata::archive_name(app));
    check_number(&name, previous)?;
    let statements = checked_text(org, &name, statements.iter().map(|(platform, text)| (platform.clone(), text.clone().into())))?;

    let mut pins = current.pins().map_err(PublicationRefused::Repository)?;
    pins.insert(metadata::unversioned(&role), successor(app_role, &role, previous)?);
    if let Some(archive_role) = archive_role {
        let version = successor(archive_role, &archive, before.targets_role(&archive))?;
        pins.insert(metadata::unversioned(&archive), version);
    }
    if let Some(targets) = targets {
        pins.insert("targets.json".to_owned(), successor(targets, "targets", before.targets_role("targets"))?);
    }
    let (timestamp, snapshot) = current.online_versions().map_err(PublicationRefused::Repository)?;
    let online = signer.online_files((timestamp.saturating_add(1), snapshot.saturating_add(1)), &pins, now);
    let after = as_a_device(&before, publication, current, &online, now)?;
    if targets.is_some() {
        check_delegations(app, before.targets_role("targets"), after.targets_role("targets"))?;
    }
    let listed = |trusted: &TrustedMetadataSet| (trusted.targets_role(&role).cloned(), trusted.targets_role(&archive).cloned());
    check_targets(&name, &listed(&before), &listed(&after), &statements)?;
    check_floor(&name, previous, after.targets_role(&role), *lower_floor)?;

    let digests = statements.iter().map(|(platform, text)| (platform.clone(), Digest::sha256(text.as_bytes()))).collect();
    let record = VersionRecord { app: app.clone(), version: *version, statements: digests, published: now, retired: None };
    let files = [Some(app_role), archive_role.as_ref(), targets.as_ref()].into_iter().flatten().cloned().chain(online).collect();
    let statements = statements.into_values().map(|text| (Digest::sha256(text.as_bytes()), text.into_bytes())).collect();
    Ok(CheckedPublication { record, files, statements })
}

pub(super) fn check_number(name: &VersionName, previous: Option<&Targets>) -> Result<(), PublicationRefused> {
    let published = previous.map(|role| published_versions(&name.app, role)).unwrap_or_default();
    let next = published.last_key_value().map_or(1, |(last, _)| last.saturating_add(1));
    if name.version == next { Ok(()) } else { Err(PublicationRefused::OtherNumber { asked: name.version, next }) }
}

/// The statements as text, each of them this version's for its platform.
pub(super) fn checked_text(
    org: &OrgName,
    name: &VersionName,
    statements: impl IntoIterator<Item = (Platform, Vec<u8>)>,
) -> Result<BTreeMap<Platform, String>, PublicationRefused> {
    let mut checked = BTreeMap::new();
    for (platform, bytes) in statements {
        let text = check_statement(org, name, &platform, bytes)
            .map_err(|refused| PublicationRefused::Statement { platform: platform.clone(), refused })?;
        checked.insert(platform, text);
    }
    if (1..=PLATFORMS_MAX).contains(&checked.len()) { Ok(checked) } else { Err(PublicationRefused::OtherPlatformCount(checked.len())) }
}

fn check_statement(org: &OrgName, name: &VersionName, platform: &Platform, bytes: Vec<u8>) -> Result<String, StatementRefused> {
    let statement = VersionStatement::parse(&bytes)?;
    if statement.org != *org {
        return Err(StatementRefused::ForeignOrg(statement.org));
    }
    if statement.name() != *name || statement.platform != *platform {
        return Err(StatementRefused::OtherSubject(name.target_path(platform)));
    }
    String::from_utf8(bytes).map_err(|error| StatementRefused::Malformed(error.to_string()))
}

/// The version of the uploaded `file` of `role`, which must follow `previous` and stand in the file's name.
pub(super) fn successor(file: &TufFile, role: &str, previous: Option<&Targets>) -> Result<u64, PublicationRefused> {
    if file.content.len() > TARGETS_BYTES_MAX {
        return Err(TrustRefused::TooLarge { file: file.name.clone(), bytes_max: TARGETS_BYTES_MAX }.into());
    }
    let found = parsed::<Targets>(file)?.version;
    let wanted = previous.map_or(0, |role| role.version).saturating_add(1);
    if found != wanted {
        return Err(PublicationRefused::Stale { file: file.name.clone(), wanted, found });
    }
    let name = metadata::versioned(role, found);
    if file.name == name { Ok(found) } else { Err(PublicationRefused::OtherName { found: file.name.clone(), wanted: name }) }
}

/// What a device that holds `before` believes at `now` once the publication is in force.
fn as_a_device(
    before: &TrustedMetadataSet,
    publication: &Publication,
    in_force: &RepositoryFiles,
    [snapshot, timestamp]: &[TufFile; 2],
    now: WallTime,
) -> Result<TrustedMetadataSet, PublicationRefused> {
    let now = metadata::calendar(now);
    let own = |file: &TufFile| {
        let name = file.name.clone();
        move |error| PublicationRefused::Repository(TrustRefused::of(&name, error))
    };
    let theirs = |file: &TufFile| {
        let name = file.name.clone();
        move |error| PublicationRefused::Metadata(TrustRefused::of(&name, error))
    };
    let mut after = before.clone();
    after.check_root_expired(now).map_err(|error| TrustRefused::of("root.json", error))?;
    after.update_timestamp(timestamp.content.as_bytes(), now).map_err(own(timestamp))?;
    after.update_snapshot(snapshot.content.as_bytes(), now).map_err(own(snapshot))?;
    let targets = publication.targets.as_ref().unwrap_or(&in_force.targets);
    after.update_targets(targets.content.as_bytes(), now).map_err(theirs(targets))?;
    let role = metadata::role_name(&publication.app);
    let delegations = after.targets_role("targets").and_then(|targets| targets.delegations.as_ref());
    if !delegations.is_some_and(|delegations| delegations.roles.iter().any(|found| found.name == role)) {
        let detail = "it is not delegated yet, and the publication does not delegate it".to_owned();
        return Err(PublicationRefused::OtherDelegations { app: publication.app.clone(), detail });
    }
    let app_role = &publication.app_role;
    after.update_delegated_targets(app_role.content.as_bytes(), &role, "targets", now).map_err(theirs(app_role))?;
    let archive = metadata::archive_name(&publication.app);
    let delegated = after.targets_role(&role).is_some_and(|role| archive::delegates_archive_alone(&publication.app, role));
    if let Some(file) = publication.archive_role.as_ref().or(in_force.archive_role.as_ref()) {
        if !delegated {
            return Err(PublicationRefused::OtherTargets("it does not delegate its archive, or more than that".to_owned()));
        }
        after.update_delegated_targets(file.content.as_bytes(), &archive, &role, now).map_err(theirs(file))?;
    }
    Ok(after)
}

/// New top-level targets keep every delegation and add at most that of `app`, for its own paths.
fn check_delegations(app: &AppName, before: Option<&Targets>, after: Option<&Targets>) -> Result<(), PublicationRefused> {
    let refused = |detail: &str| PublicationRefused::OtherDelegations { app: app.clone(), detail: detail.to_owned() };
    if before.map(|targets| &targets.targets) != after.map(|targets| &targets.targets) {
        return Err(refused("its own targets differ"));
    }
    let roles = |targets: Option<&Targets>| -> Vec<DelegatedRole> {
        targets.and_then(|targets| targets.delegations.as_ref()).map(|found| found.roles.clone()).unwrap_or_default()
    };
    let (old, new) = (roles(before), roles(after));
    let Some((kept, added)) = new.split_at_checked(old.len()).filter(|(kept, _)| *kept == old) else {
        return Err(refused("a delegation in force differs"));
    };
    let keys = |targets: Option<&Targets>| targets.and_then(|found| found.delegations.as_ref()).map(|found| found.keys.clone());
    let new_keys = keys(after).unwrap_or_default();
    if keys(before).unwrap_or_default().iter().any(|(id, key)| new_keys.get(id) != Some(key)) {
        return Err(refused("a key in force differs"));
    }
    let role = metadata::role_name(app);
    match added {
        [] => Ok(()),
        [added] if !kept.iter().any(|found| found.name == role) && covers_exactly(added, &role, app) => Ok(()),
        _ => Err(refused("the added delegation is not that of the app for its own paths")),
    }
}

/// An app's role, and its archive.
type Listed = (Option<Targets>, Option<Targets>);

/// Role and archive together keep every target, each in one of them, and the role adds exactly the statements of `name`; what
/// is archived stays so.
fn check_targets(
    name: &VersionName,
    before: &Listed,
    after: &Listed,
    statements: &BTreeMap<Platform, String>,
) -> Result<(), PublicationRefused> {
    let (Some(role), archive) = (&after.0, &after.1) else { return Err(TrustRefused::NotRefreshed.into()) };
    let archived = |path: &str| archive.as_ref().and_then(|archive| archive.target(path));
    if let Some(archive) = &before.1
        && let Some((path, _)) = archive.targets.iter().find(|(path, target)| archived(path) != Some(target))
    {
        return Err(PublicationRefused::ChangedTarget(path.clone()));
    }
    let old: BTreeMap<_, _> = [&before.0, &before.1].into_iter().flatten().flat_map(|role| &role.targets).collect();
    if let Some((path, _)) = old.iter().find(|(path, target)| role.target(path).or_else(|| archived(path)) != Some(target)) {
        return Err(PublicationRefused::ChangedTarget((*path).clone()));
    }
    if let Some(path) = role.targets.keys().find(|path| archived(path).is_some()) {
        return Err(PublicationRefused::OtherTargets(format!("{path} stands in the archive too")));
    }
    if archive.is_none() && role.delegations.is_some() {
        return Err(PublicationRefused::OtherTargets("it delegates further".to_owned()));
    }
    if archive.as_ref().is_some_and(|archive| archive.delegations.is_some()) {
        return Err(PublicationRefused::OtherTargets("its archive delegates further".to_owned()));
    }
    let listed = role.targets.keys().chain(archive.iter().flat_map(|archive| archive.targets.keys()));
    let added: BTreeSet<&str> = listed.filter(|path| !old.contains_key(path)).map(String::as_str).collect();
    let wanted: BTreeMap<String, &String> = statements.iter().map(|(platform, text)| (name.target_path(platform), text)).collect();
    if let Some(path) = added.iter().find(|path| !wanted.contains_key(**path)) {
        return Err(PublicationRefused::OtherTargets(format!("{path} is too much")));
    }
    for (path, text) in wanted {
        let listed = role.target(&path).map(|target| json!({ "length": target.length, "hashes": target.hashes }));
        if listed != Some(metadata::target_entry(text.as_bytes())) {
            return Err(PublicationRefused::OtherTargets(format!("{path} is missing or has another length or SHA-256")));
        }
    }
    Ok(())
}

/// The floor goes down only if that is said, and devices can start the newest version.
fn check_floor(name: &VersionName, before: Option<&Targets>, after: Option<&Targets>, may_go_down: bool) -> Result<(), PublicationRefused> {
    let role = metadata::role_name(&name.app);
    let floor = |found: Option<&Targets>| found.map_or(Ok(0), |found| metadata::floor(&role, found));
    let (from, to) = (floor(before)?, floor(after)?);
    if to < from && !may_go_down {
        return Err(PublicationRefused::LowersFloor { from, to });
    }
    if to > name.version { Err(PublicationRefused::FloorAboveVersions { floor: to, version: name.version }) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
