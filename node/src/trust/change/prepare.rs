//! Changes on the operator's side: new roots, new top-level targets, new roles of apps.
//!
//! Not here: what the seed checks; see [`super`].

use std::collections::BTreeSet;

use ed25519_dalek::VerifyingKey;
use protocol::name::AppName;
use protocol::time::WallTime;
use serde_json::{Value, json};
use sigstore_tuf::DelegatedRole;

use super::super::client::VerifiedRepository;
use super::super::metadata::{self, MEMBER, ROOT_SECONDS};
use super::super::operator_keys::OperatorKeys;
use super::super::publication::{PublicationRefused, next_role};
use super::super::refused::TrustRefused;
use super::TrustChange;
use crate::store::meta::TufFile;

/// What shall become of the keys of a role.
#[derive(Clone, Debug, Default)]
pub struct KeysWanted {
    /// Keys that may sign from now on.
    pub add: Vec<VerifyingKey>,
    /// Keys that may not sign any more, by the beginning of their identity.
    pub remove: Vec<String>,
    /// How many of them must sign; none leaves it as it is.
    pub threshold: Option<usize>,
}

/// What else a new root shall say.
#[derive(Clone, Debug, Default)]
pub struct RootWanted {
    /// The seed's online key, if it changes: then counters start anew too.
    pub online: Option<VerifyingKey>,
    /// Whether counters start anew: recovery from a restored backup, or from a clock that was ahead.
    pub raise_epoch: bool,
    /// With a higher epoch: whether revocation lists of those before do not count any more.
    pub forget_revocations: bool,
    /// Whether grants are allowed, if that changes.
    pub grants: Option<bool>,
    /// The certificate authorities that devices trust, DER in base64, if that changes.
    pub authorities: Option<Vec<String>>,
}

/// The next root: with the keys of `role` (`root` or `targets`) changed, or only valid for longer. Top-level targets whose
/// keys change are signed again.
///
/// # Errors
/// When a key is not there, or too few would be left for the threshold.
pub fn prepare_root(
    view: &VerifiedRepository,
    keys: &OperatorKeys,
    role: Option<(&str, &KeysWanted)>,
    wanted: &RootWanted,
    now: WallTime,
) -> Result<TrustChange, PublicationRefused> {
    let malformed = |detail: String| TrustRefused::Malformed { file: "root.json".to_owned(), detail };
    let document: Value = serde_json::from_slice(view.root()).map_err(|error| malformed(error.to_string()))?;
    let mut signed = document["signed"].clone();
    let root = view.updater().root();
    let mut signers = root.role("root").map(|role| role.keyids.clone()).unwrap_or_default();
    signed["version"] = json!(root.version.saturating_add(1));
    signed["expires"] = json!(metadata::calendar(now.plus_seconds(ROOT_SECONDS)).to_string());
    if let Some((name, wanted)) = role {
        let mut changed = signed["roles"][name].clone();
        change_keys(&mut signed["keys"], &mut changed, wanted)?;
        signed["roles"][name] = changed;
    }
    if let Some(online) = &wanted.online {
        let keyid = metadata::keyid(online);
        signed["keys"][&keyid] = metadata::key_object(online);
        for name in ["snapshot", "timestamp"] {
            signed["roles"][name] = json!({ "keyids": [keyid], "threshold": 1 });
        }
        signed[MEMBER]["online"]["keyid"] = json!(keyid);
    }
    if wanted.raise_epoch || wanted.online.is_some() {
        let epoch = view.online_key().epoch.saturating_add(1);
        signed[MEMBER]["online"]["epoch"] = json!(epoch);
        if wanted.forget_revocations {
            signed[MEMBER]["online"]["revocations_since"] = json!(epoch);
        }
    }
    if let Some(grants) = wanted.grants {
        signed[MEMBER]["grants"] = json!(grants);
    }
    if let Some(authorities) = &wanted.authorities {
        signed[MEMBER]["authorities"] = json!(authorities);
    }
    let named = keyids_of(signed["roles"].as_object().into_iter().flatten().map(|(_, role)| role));
    prune(&mut signed["keys"], &named);
    signers.extend(keyids_of([&signed["roles"]["root"]]));
    let file = metadata::versioned("root", root.version.saturating_add(1));
    let changed = TrustChange { root: Some(TufFile { name: file, content: keys.sign(&signed, &signers)? }), ..TrustChange::default() };
    match role {
        Some(("targets", _)) => {
            let targets = view.targets().ok_or(TrustRefused::NotRefreshed)?;
            let signers: Vec<String> = keyids_of([&signed["roles"]["targets"]]).into_iter().collect();
            let next = next_role("targets", metadata::plain(targets), targets.version, keys, &signers, now)?;
            Ok(TrustChange { targets: Some(next), ..changed })
        }
        _ => Ok(changed),
    }
}

/// The next top-level targets, valid for longer.
///
/// # Errors
/// When no key is here that may sign them.
pub fn prepare_targets(view: &VerifiedRepository, keys: &OperatorKeys, now: WallTime) -> Result<TrustChange, PublicationRefused> {
    let targets = view.targets().ok_or(TrustRefused::NotRefreshed)?;
    let next = next_role("targets", metadata::plain(targets), targets.version, keys, &view.targets_keyids(), now)?;
    Ok(TrustChange { targets: Some(next), ..TrustChange::default() })
}

/// The next roles of `apps`, with their keys changed, another floor, or only valid for longer. `view` was asked for the
/// versions of each of them.
///
/// # Errors
/// When an app is not published, a key is not there, or too few would be left for the threshold.
pub fn prepare_apps(
    view: &VerifiedRepository,
    keys: &OperatorKeys,
    apps: &[AppName],
    wanted: &KeysWanted,
    floor: Option<u64>,
    now: WallTime,
) -> Result<TrustChange, PublicationRefused> {
    let targets = view.targets().ok_or(TrustRefused::NotRefreshed)?;
    let mut top_level = metadata::plain(targets);
    let before = top_level.clone();
    let mut change = TrustChange::default();
    for app in apps {
        let name = metadata::role_name(app);
        let role = view.loaded_app_role(app)?.ok_or_else(|| PublicationRefused::Change(format!("the app {app} is not published")))?;
        let mut known = top_level["delegations"]["keys"].clone();
        let roles = top_level["delegations"]["roles"].as_array_mut();
        let delegation = roles.into_iter().flatten().find(|found| found["name"] == json!(name));
        let delegation = delegation.ok_or_else(|| PublicationRefused::Change(format!("the app {app} is not delegated")))?;
        change_keys(&mut known, delegation, wanted)?;
        let authority: DelegatedRole = serde_json::from_value(delegation.clone())
            .map_err(|error| TrustRefused::Malformed { file: "targets.json".to_owned(), detail: error.to_string() })?;
        top_level["delegations"]["keys"] = known;
        let mut signed = metadata::plain(role);
        if let Some(floor) = floor {
            metadata::set_floor(&mut signed, floor);
        }
        change.roles.push(next_role(&name, signed, role.version, keys, &authority.keyids, now)?);
    }
    let named = keyids_of(top_level["delegations"]["roles"].as_array().into_iter().flatten());
    prune(&mut top_level["delegations"]["keys"], &named);
    if top_level != before {
        change.targets = Some(next_role("targets", top_level, targets.version, keys, &view.targets_keyids(), now)?);
    }
    Ok(change)
}

/// Changes the keys of `role` as it is wanted; `known` holds their content.
fn change_keys(known: &mut Value, role: &mut Value, wanted: &KeysWanted) -> Result<(), PublicationRefused> {
    let mut keyids: Vec<String> = keyids_of([&*role]).into_iter().collect();
    for key in &wanted.add {
        let keyid = metadata::keyid(key);
        if keyids.contains(&keyid) {
            return Err(PublicationRefused::Change(format!("the key {keyid} may sign already")));
        }
        known[&keyid] = metadata::key_object(key);
        keyids.push(keyid);
    }
    for beginning in &wanted.remove {
        let matching: Vec<usize> = (0..keyids.len()).filter(|at| keyids[*at].starts_with(beginning)).collect();
        let [only] = matching.as_slice() else {
            let detail = format!(
                "{} keys begin with {beginning}; give more of the key's identity, as `hedgerow trust show` prints it",
                matching.len()
            );
            return Err(PublicationRefused::Change(detail));
        };
        keyids.remove(*only);
    }
    let threshold = wanted.threshold.or_else(|| usize::try_from(role["threshold"].as_u64()?).ok()).unwrap_or(1);
    if threshold == 0 || keyids.len() < threshold {
        return Err(PublicationRefused::Change(format!("{threshold} signatures of {} keys can never be had", keyids.len())));
    }
    role["keyids"] = json!(keyids);
    role["threshold"] = json!(threshold);
    Ok(())
}

fn keyids_of<'a>(roles: impl IntoIterator<Item = &'a Value>) -> BTreeSet<String> {
    let ids = roles.into_iter().flat_map(|role| role["keyids"].as_array().into_iter().flatten());
    ids.filter_map(|id| id.as_str().map(str::to_owned)).collect()
}

/// Leaves out keys that no role names.
fn prune(known: &mut Value, named: &BTreeSet<String>) {
    if let Some(known) = known.as_object_mut() {
        known.retain(|keyid, _| named.contains(keyid));
    }
}
