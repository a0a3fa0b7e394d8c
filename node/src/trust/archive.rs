//! The archive of an app: a role, delegated by the app's own, that lists the versions which the app's role no longer does, so
//! that the role which devices fetch for every new version stays small. A path stands in exactly one of the two.
//!
//! Not here: what is published; see [`super::publication`].

use std::collections::BTreeSet;

use protocol::name::AppName;
use serde_json::{Value, json};
use sigstore_tuf::{DelegatedRole, Targets};

use super::metadata;
use super::rules::PublishedVersions;

/// How many of the newest versions stay in an app's role, besides those that devices shall have: 50 of two platforms are
/// 12 KiB, and a fleet is seldom further behind.
pub(super) const VERSIONS_IN_ROLE: usize = 50;

/// The versions that leave the app's role.
pub(super) fn surplus(listed: &PublishedVersions, deployed: &BTreeSet<u64>) -> BTreeSet<u64> {
    let old = listed.keys().rev().skip(VERSIONS_IN_ROLE);
    old.filter(|version| !deployed.contains(version)).copied().collect()
}

/// Moves `surplus` from the app's role in `signed` to the content of its archive, which was `before`; the role delegates to
/// the archive under the keys that sign itself.
pub(super) fn move_surplus(
    app: &AppName,
    signed: &mut Value,
    before: Option<&Targets>,
    surplus: &BTreeSet<u64>,
    (keys, authority): (&Value, &DelegatedRole),
) -> Value {
    let mut archive = before.map_or_else(metadata::empty_targets, metadata::plain);
    let leaving = |path: &str| {
        let version = path.strip_prefix(app.as_str()).and_then(|rest| rest.strip_prefix('/')?.split('/').next()?.parse().ok());
        version.is_some_and(|version: u64| surplus.contains(&version))
    };
    if let Some(targets) = signed["targets"].as_object_mut() {
        let paths: Vec<String> = targets.keys().filter(|path| leaving(path)).cloned().collect();
        for path in paths {
            if let Some(target) = targets.remove(&path) {
                archive["targets"][path] = target;
            }
        }
    }
    signed["delegations"] = delegations(app, keys, authority);
    archive
}

/// The delegations of an app's role: its archive, under these keys.
pub(super) fn delegations(app: &AppName, keys: &Value, authority: &DelegatedRole) -> Value {
    json!({
        "keys": keys,
        "roles": [metadata::delegation(&metadata::archive_name(app), app, &authority.keyids, authority.threshold)],
    })
}

/// Whether the app's role delegates its archive, for the app's own paths, and nothing else.
pub(super) fn delegates_archive_alone(app: &AppName, role: &Targets) -> bool {
    let roles = role.delegations.as_ref().map(|delegations| delegations.roles.as_slice()).unwrap_or_default();
    matches!(roles, [only] if covers_exactly(only, &metadata::archive_name(app), app))
}

/// Whether `role` is called `name` and may list exactly the paths of `app`.
pub(super) fn covers_exactly(role: &DelegatedRole, name: &str, app: &AppName) -> bool {
    role.name == name
        && role.terminating
        && role.threshold >= 1
        && role.path_hash_prefixes.is_none()
        && role.paths.as_deref() == Some(&[metadata::path_pattern(app)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_and_the_deployed_stay() {
        let listed: PublishedVersions = (1..=60).map(|version| (version, BTreeSet::new())).collect();
        assert_eq!(surplus(&listed, &[3, 9].into()), [1, 2, 4, 5, 6, 7, 8, 10].into());
        let few: PublishedVersions = (1..=50).map(|version| (version, BTreeSet::new())).collect();
        assert!(surplus(&few, &BTreeSet::new()).is_empty());
    }
}
