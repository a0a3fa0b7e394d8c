//! What a change means, in words for whoever is asked to sign it.
//!
//! Not here: whether it may be signed; see [`super`].

use std::collections::{BTreeMap, BTreeSet};

use protocol::digest::Digest;
use protocol::name::OrgName;
use rustls_pki_types::CertificateDer;
use sigstore_tuf::{DelegatedRole, Root, TargetFile, Targets};

use super::super::metadata;
use super::super::refused::TrustRefused;
use super::short;

/// What a new root changes.
pub(super) fn root(before: &Root, after: &Root, org: &OrgName) -> Result<Vec<String>, TrustRefused> {
    let mut words = vec![format!("root: version {} after {}, valid until {}", after.version, before.version, after.expires)];
    for (name, what) in [("root", "who signs roots"), ("targets", "who signs the list of apps")] {
        if let (Some(old), Some(new)) = (before.role(name), after.role(name)) {
            words.extend(keys(&format!("{name} ({what})"), (&old.keyids, old.threshold), (&new.keyids, new.threshold)));
        }
    }
    let (old, new) = (metadata::online_key(before, org)?, metadata::online_key(after, org)?);
    if old.key != new.key {
        let keyid = metadata::keyid(&new.key);
        words.push(format!("root: the seed's online key becomes {}; the old one signs nothing any more", short(&keyid)));
    }
    if old.epoch != new.epoch {
        words.push(format!("root: the epoch of desired states goes from {} to {}; their counters start anew", old.epoch, new.epoch));
    }
    if metadata::revocations_since(after) > metadata::revocations_since(before) {
        words.push("root: the keys of devices that were revoked so far are accepted again, unless the seed revokes them anew".to_owned());
    }
    match (metadata::allows_grants(before), metadata::allows_grants(after)) {
        (false, true) => words.push("root: grants of the app keys count from now on, where a device cannot ask the seed".to_owned()),
        (true, false) => words.push("root: grants do not count any more".to_owned()),
        _ => {}
    }
    Ok(words)
}

/// What a new root changes about the certificate authorities that devices trust.
pub(super) fn authorities(before: Option<&[CertificateDer<'_>]>, after: Option<&[CertificateDer<'_>]>) -> Vec<String> {
    let set = |named: Option<&[CertificateDer<'_>]>| -> BTreeSet<Digest> {
        named.unwrap_or_default().iter().map(|certificate| Digest::sha256(certificate)).collect()
    };
    let (old, new) = (set(before), set(after));
    let mut words = Vec::new();
    match (before, after) {
        (None, Some(_)) => {
            words.push("root: devices trust the certificate authorities that it names, not those of their enrolment".to_owned());
        }
        (Some(_), None) => {
            words.push("root: names no certificate authorities any more; devices go back to those of their enrolment".to_owned());
        }
        _ => {}
    }
    words.extend(new.difference(&old).map(|added| format!("root: devices trust certificates of the authority {added} from now on")));
    words.extend(old.difference(&new).map(|gone| format!("root: devices trust no certificate of the authority {gone} any more")));
    words
}

/// What new top-level targets change.
pub(super) fn targets(before: Option<&Targets>, after: &Targets) -> Vec<String> {
    let mut words = vec![format!("targets: version {}, valid until {}", after.version, after.expires)];
    let roles = |targets: Option<&Targets>| -> Vec<DelegatedRole> {
        targets.and_then(|targets| targets.delegations.as_ref()).map(|found| found.roles.clone()).unwrap_or_default()
    };
    let (old, new) = (roles(before), roles(Some(after)));
    for role in &new {
        match old.iter().find(|found| found.name == role.name) {
            None => {
                let ids: Vec<&str> = role.keyids.iter().map(|keyid| short(keyid)).collect();
                let paths = role.paths.as_deref().unwrap_or_default().join(", ");
                words.push(format!("{}: new; may list {paths}; {} of these keys must sign: {}", role.name, role.threshold, ids.join(", ")));
            }
            Some(found) => words.extend(keys(&role.name, (&found.keyids, found.threshold), (&role.keyids, role.threshold))),
        }
    }
    for gone in old.iter().filter(|role| !new.iter().any(|found| found.name == role.name)) {
        words.push(format!("{}: is no longer delegated", gone.name));
    }
    words
}

/// What the new role of an app, with its archive, changes.
pub(super) fn app_role(
    role: &str,
    before: &BTreeMap<String, TargetFile>,
    after: &BTreeMap<String, TargetFile>,
    (from, to): (u64, u64),
) -> Vec<String> {
    let mut words = Vec::new();
    for (path, target) in after.iter().filter(|(path, _)| !before.contains_key(*path)) {
        let sha256 = target.hashes.get("sha256").map_or("unknown", String::as_str);
        words.push(format!("{role}: lists {path}, sha256:{sha256}"));
    }
    for (path, old) in before {
        match after.get(path) {
            None => words.push(format!("{role}: no longer lists {path}")),
            Some(new) if new != old => words.push(format!("{role}: CHANGES {path}, which devices refuse")),
            Some(_) => {}
        }
    }
    if from != to {
        words.push(format!("{role}: devices start no version below {to} any more (before: {from})"));
    }
    words
}

/// Who gains and who loses the right to sign, and how many must.
fn keys(role: &str, (old, old_threshold): (&[String], usize), (new, new_threshold): (&[String], usize)) -> Vec<String> {
    let (before, after): (BTreeSet<&String>, BTreeSet<&String>) = (old.iter().collect(), new.iter().collect());
    let mut words = Vec::new();
    words.extend(after.difference(&before).map(|keyid| format!("{role}: key {} may sign from now on", short(keyid))));
    words.extend(before.difference(&after).map(|keyid| format!("{role}: key {} may not sign any more", short(keyid))));
    if old_threshold != new_threshold {
        words.push(format!("{role}: {new_threshold} of {} keys must sign (before: {old_threshold} of {})", after.len(), before.len()));
    }
    words
}
