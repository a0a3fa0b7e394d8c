//! A new version on the operator's side: its place in the app's role, what moves to the archive, and the signatures.
//!
//! Not here: what the seed checks; see [`super`].

use std::collections::{BTreeMap, BTreeSet};

use protocol::name::{AppName, Platform};
use protocol::statement::version::VersionName;
use protocol::time::WallTime;
use serde_json::{Value, json};
use sigstore_tuf::{DelegatedRole, Targets};

use super::super::archive;
use super::super::client::VerifiedRepository;
use super::super::metadata;
use super::super::operator_keys::{APP_KEY, OperatorKeys};
use super::super::refused::TrustRefused;
use super::super::repository::targets_due;
use super::super::rules::published_versions;
use super::{Publication, PublicationRefused, check_number, checked_text, evidence};
use crate::store::meta::TufFile;

/// A version to be signed.
#[derive(Clone, Debug)]
pub struct NewVersion {
    /// App and number.
    pub name: VersionName,
    /// The statement for each platform.
    pub statements: BTreeMap<Platform, Vec<u8>>,
    /// Versions that devices shall have: they stay in the app's role however old they are.
    pub deployed: BTreeSet<u64>,
    /// The least version that devices may start from now on; none leaves it as it is.
    pub floor: Option<u64>,
    /// Whether the floor may be lowered.
    pub lower_floor: bool,
}

/// Signs a version as the successor of what `view` has verified. `view` was refreshed, and asked for the app's versions by
/// [`VerifiedRepository::published`]. Roles that are due for renewal are renewed; versions beyond
/// [`archive::VERSIONS_IN_ROLE`] move to the app's archive.
///
/// # Errors
/// When the number is not the next one, a statement is not this version's, or the keys may not sign.
pub fn prepare_version(
    view: &VerifiedRepository,
    keys: &OperatorKeys,
    new: NewVersion,
    now: WallTime,
) -> Result<Publication, PublicationRefused> {
    let NewVersion { name, statements, deployed, floor, lower_floor } = new;
    let previous = view.loaded_app_role(&name.app)?;
    check_number(&name, previous)?;
    let statements = checked_text(view.org(), &name, statements)?;
    let targets = view.targets().ok_or(TrustRefused::NotRefreshed)?;
    let role = metadata::role_name(&name.app);
    // Who cannot sign the list of apps alone does not renew it by the way.
    let targets_due = targets_due(targets, now) && view.targets_threshold() == 1 && keys.holds_one_of(&view.targets_keyids());
    let (top_level, delegated) = delegating(view, targets, &name.app, keys)?;
    if !keys.holds_one_of(&delegated.keyids) {
        return Err(PublicationRefused::ForeignKey(role));
    }
    let evidence = evidence::seal(view.org(), &statements, keys, &delegated.keyids)?;
    let mut signed = previous.map_or_else(metadata::empty_targets, metadata::plain);
    for (platform, text) in &statements {
        signed["targets"][name.target_path(platform)] = metadata::target_entry(text.as_bytes());
    }
    let mut listed = previous.map(|role| published_versions(&name.app, role)).unwrap_or_default();
    listed.insert(name.version, statements.keys().cloned().collect());
    if let Some(floor) = floor {
        metadata::set_floor(&mut signed, floor);
    }
    let surplus = archive::surplus(&listed, &deployed);
    let archive = match previous {
        Some(role) if !surplus.is_empty() => {
            let before = view.kept_archive(&name.app, role)?;
            Some(archive::move_surplus(&name.app, &mut signed, before, &surplus))
        }
        _ => None,
    };
    let app_role = next_role(&role, signed, previous.map_or(0, |role| role.version), keys, &delegated.keyids, now)?;
    let targets = if previous.is_none() || targets_due {
        Some(next_role("targets", top_level, targets.version, keys, &view.targets_keyids(), now)?)
    } else {
        None
    };
    Ok(Publication { app: name.app, version: name.version, statements, evidence, app_role, archive, targets, lower_floor })
}

/// The top-level targets as they delegate `app`, and the delegation; the app's key is the one called [`APP_KEY`] if the app is
/// new.
fn delegating(
    view: &VerifiedRepository,
    targets: &Targets,
    app: &AppName,
    keys: &OperatorKeys,
) -> Result<(Value, DelegatedRole), PublicationRefused> {
    let role = metadata::role_name(app);
    let mut signed = metadata::plain(targets);
    let roles = targets.delegations.as_ref().map(|found| found.roles.as_slice()).unwrap_or_default();
    if let Some(found) = roles.iter().find(|found| found.name == role) {
        return Ok((signed, found.clone()));
    }
    if !keys.holds_one_of(&view.targets_keyids()) {
        return Err(PublicationRefused::ForeignKey("targets".to_owned()));
    }
    let key = keys.public(APP_KEY)?;
    let keyid = metadata::keyid(&key);
    let delegation = metadata::delegation(&role, app, std::slice::from_ref(&keyid), 1);
    if targets.delegations.is_none() {
        signed["delegations"] = json!({ "keys": {}, "roles": [] });
    }
    signed["delegations"]["keys"][keyid] = metadata::key_object(&key);
    if let Some(roles) = signed["delegations"]["roles"].as_array_mut() {
        roles.push(delegation.clone());
    }
    let malformed = |error: serde_json::Error| TrustRefused::Malformed { file: "targets.json".to_owned(), detail: error.to_string() };
    Ok((signed, serde_json::from_value(delegation).map_err(malformed)?))
}

/// The next version of a role, signed by each key that is here and among `keyids`; one must be.
pub(in crate::trust) fn next_role(
    role: &str,
    signed: Value,
    previous: u64,
    keys: &OperatorKeys,
    keyids: &[String],
    now: WallTime,
) -> Result<TufFile, PublicationRefused> {
    if !keys.holds_one_of(keyids) {
        return Err(PublicationRefused::ForeignKey(role.to_owned()));
    }
    let signed = metadata::next_targets(signed, previous, now);
    Ok(TufFile { name: metadata::versioned(role, previous.saturating_add(1)), content: keys.sign(&signed, keyids)? })
}
