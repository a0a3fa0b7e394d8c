//! A new version of an app: prepared and signed by the operator, checked by the seed before it is stored. The seed checks
//! as a device would, and besides that versions are immutable and numbered without gaps.
//!
//! | module | holds |
//! |---|---|
//! | `evidence` | what other tools find beside the images |
//! | `prepare` | the operator's side |
//! | `refused` | why a version is not published |
//!
//! Not here: how a publication travels and is stored; the blobs that a statement names.

mod evidence;
mod prepare;
mod refused;

use std::collections::{BTreeMap, BTreeSet};

use protocol::digest::Digest;
use protocol::name::{AppName, OrgName, Platform};
use protocol::statement::version::{StatementRefused, VersionName, VersionStatement};
use protocol::time::WallTime;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sigstore_tuf::{DelegatedRole, TargetFile, Targets, TrustedMetadataSet};

use super::archive::{self, Archive, covers_exactly};
use super::metadata;
use super::online_key::OnlineSigner;
use super::refused::TrustRefused;
use super::repository::{RepositoryFiles, parsed};
use super::rules::published_versions;
use super::source::TARGETS_BYTES_MAX;
use crate::store::meta::{TufFile, VersionRecord};

pub use evidence::CheckedEvidence;
pub(super) use prepare::next_role;
pub use prepare::{NewVersion, prepare_version};
pub use refused::PublicationRefused;

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
    /// The signed evidence for each platform, one envelope for each image of its statement, in order.
    #[serde(default)]
    pub evidence: BTreeMap<Platform, Vec<String>>,
    /// The next version of the app's role.
    pub app_role: TufFile,
    /// The archive that this role pins, when versions leave the role for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<TufFile>,
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
    /// What is stored beside the images.
    pub evidence: Vec<CheckedEvidence>,
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
    let Publication { app, version, statements, app_role, targets, lower_floor, .. } = publication;
    let name = VersionName { app: app.clone(), version: *version };
    let role = metadata::role_name(app);
    let before = current.verified(org, Some(app)).map_err(PublicationRefused::Repository)?;
    let previous = before.targets_role(&role);
    check_number(&name, previous)?;
    let statements = checked_text(org, &name, statements.iter().map(|(platform, text)| (platform.clone(), text.clone().into())))?;

    let mut pins = current.pins().map_err(PublicationRefused::Repository)?;
    pins.insert(metadata::unversioned(&role), successor(app_role, &role, previous)?);
    if let Some(targets) = targets {
        pins.insert("targets.json".to_owned(), successor(targets, "targets", before.targets_role("targets"))?);
    }
    let (timestamp, snapshot) = current.online_versions().map_err(PublicationRefused::Repository)?;
    let online = signer.online_files((timestamp.saturating_add(1), snapshot.saturating_add(1)), &pins, now);
    let after = as_a_device(&before, publication, current, &online, now)?;
    if targets.is_some() {
        check_delegations(app, before.targets_role("targets"), after.targets_role("targets"))?;
    }
    let old = Listed::of(app, previous, current.archive.as_ref()).map_err(PublicationRefused::Repository)?;
    if let Some(archive) = &publication.archive {
        check_archive_name(app, archive)?;
    }
    let archive = publication.archive.as_ref().or(current.archive.as_ref());
    let new = Listed::of(app, after.targets_role(&role), archive)?;
    check_targets(&name, &old, &new, &statements)?;
    check_floor(&name, previous, after.targets_role(&role), *lower_floor)?;
    let evidence = evidence::check(org, &statements, &publication.evidence, (after.targets_role("targets"), &role))?;

    let digests = statements.iter().map(|(platform, text)| (platform.clone(), Digest::sha256(text.as_bytes()))).collect();
    let record = VersionRecord { app: app.clone(), version: *version, statements: digests, published: now, retired: None };
    let files = [publication.archive.as_ref(), Some(app_role), targets.as_ref()].into_iter().flatten().cloned().chain(online).collect();
    let statements = statements.into_values().map(|text| (Digest::sha256(text.as_bytes()), text.into_bytes())).collect();
    Ok(CheckedPublication { record, files, statements, evidence })
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

/// The archive's file is named after its content, so that no publication replaces another file.
fn check_archive_name(app: &AppName, archive: &TufFile) -> Result<(), PublicationRefused> {
    if archive.content.len() > TARGETS_BYTES_MAX {
        return Err(TrustRefused::TooLarge { file: archive.name.clone(), bytes_max: TARGETS_BYTES_MAX }.into());
    }
    let wanted = archive::file_name(app, &Digest::sha256(archive.content.as_bytes()));
    if archive.name == wanted { Ok(()) } else { Err(PublicationRefused::OtherName { found: archive.name.clone(), wanted }) }
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

/// What an app's role lists, and what the archive that it pins does.
#[derive(Default)]
struct Listed {
    role: BTreeMap<String, TargetFile>,
    archive: BTreeMap<String, TargetFile>,
    delegates: bool,
}

impl Listed {
    fn of(app: &AppName, role: Option<&Targets>, archive: Option<&TufFile>) -> Result<Self, TrustRefused> {
        let Some(found) = role else { return Ok(Self::default()) };
        let (mut role, path) = (found.targets.clone(), archive::path(app));
        let archive = match (role.remove(&path), archive) {
            (None, _) => BTreeMap::new(),
            (Some(_), Some(file)) => Archive::verified(app, found, file)?.targets,
            (Some(_), None) => {
                return Err(TrustRefused::Unavailable { name: path, detail: "the role pins an archive that is not here".to_owned() });
            }
        };
        Ok(Self { role, archive, delegates: found.delegations.is_some() })
    }

    fn get(&self, path: &str) -> Option<&TargetFile> {
        self.role.get(path).or_else(|| self.archive.get(path))
    }
}

/// Role and archive together keep every target, each in one of them, and the role adds exactly the statements of `name`; what
/// is archived stays so.
fn check_targets(
    name: &VersionName,
    before: &Listed,
    after: &Listed,
    statements: &BTreeMap<Platform, String>,
) -> Result<(), PublicationRefused> {
    if let Some((path, _)) = before.archive.iter().find(|(path, target)| after.archive.get(*path) != Some(target)) {
        return Err(PublicationRefused::ChangedTarget(path.clone()));
    }
    if let Some((path, _)) = before.role.iter().find(|(path, target)| after.get(path) != Some(target)) {
        return Err(PublicationRefused::ChangedTarget(path.clone()));
    }
    if let Some(path) = after.role.keys().find(|path| after.archive.contains_key(*path)) {
        return Err(PublicationRefused::OtherTargets(format!("{path} stands in the archive too")));
    }
    if after.delegates {
        return Err(PublicationRefused::OtherTargets("it delegates further".to_owned()));
    }
    let listed = after.role.keys().chain(after.archive.keys());
    let added: BTreeSet<&str> = listed.filter(|path| before.get(path).is_none()).map(String::as_str).collect();
    let wanted: BTreeMap<String, &String> = statements.iter().map(|(platform, text)| (name.target_path(platform), text)).collect();
    if let Some(path) = added.iter().find(|path| !wanted.contains_key(**path)) {
        return Err(PublicationRefused::OtherTargets(format!("{path} is too much")));
    }
    for (path, text) in wanted {
        let listed = after.role.get(&path).map(|target| json!({ "length": target.length, "hashes": target.hashes }));
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
mod sizes;
#[cfg(test)]
mod tests;
