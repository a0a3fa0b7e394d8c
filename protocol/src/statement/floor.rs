//! The least version of an app that may be started, as the role of the app says it, and how it is held.
//!
//! A new root may begin snapshots anew, so that a fleet recovers from a fast-forward or a restored backup. An older role of an
//! app, which people signed once, then may come back into force; the floor that a newer one named must not go down with it.
//! So the newest role decides that was ever verified, until the app is given to other keys: they begin anew too, which ends what
//! a stolen key did.
//!
//! Not here: reading roles; see `node::trust::client`.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// What a verified role of an app says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleFloor {
    /// The role's version.
    pub version: u64,
    /// The least version of the app that may be started; 0 if any may.
    pub floor: u64,
    /// The identities of the keys that may sign the role.
    pub keyids: BTreeSet<String>,
}

impl RoleFloor {
    /// What decides once `role` was verified too, `held` being what decided before.
    pub fn after(held: Option<Self>, role: Self) -> Self {
        held.filter(|held| held.version > role.version && held.keyids == role.keyids).unwrap_or(role)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(version: u64, floor: u64, key: &str) -> RoleFloor {
        RoleFloor { version, floor, keyids: [key.to_owned()].into() }
    }

    #[test]
    fn the_newest_role_decides_until_the_app_is_given_to_other_keys() {
        assert_eq!(RoleFloor::after(None, role(3, 5, "a")).floor, 5);
        assert_eq!(RoleFloor::after(Some(role(3, 5, "a")), role(2, 0, "a")).floor, 5, "an older role lowers nothing");
        assert_eq!(RoleFloor::after(Some(role(3, 5, "a")), role(4, 2, "a")).floor, 2, "the owner lowered it");
        assert_eq!(RoleFloor::after(Some(role(u64::MAX, u64::MAX, "stolen")), role(4, 2, "a")).floor, 2);
    }
}
