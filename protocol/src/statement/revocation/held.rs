//! What a device holds of the lists that it accepted.
//!
//! With a higher epoch lists begin anew, perhaps from a backup of yesterday, which does not know what was revoked since. So
//! devices hold what the lists of earlier epochs named until no certificate of it is accepted any more, and say that the seed
//! has forgotten it. Only the root can end that, for a seed that was taken over and revoked what it liked.
//!
//! Not here: which list is accepted; see [`super`].

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{AcceptedRevocations, LISTED_SECONDS, RevocationList};
use crate::digest::Digest;
use crate::statement::counters::Seen;
use crate::statement::desired::Counter;
use crate::time::WallTime;

/// Whom a device refuses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldRevocations {
    /// The counter of the newest list.
    pub counter: Counter,
    /// The SHA-256 of that list; none if a program took it that did not note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The keys on that list.
    pub keys: BTreeSet<Digest>,
    /// Keys on lists of earlier epochs alone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub earlier: BTreeMap<Digest, Earlier>,
    /// The newest list as signed, and the last of each earlier epoch of which a key is still refused: a seed that was restored from
    /// a backup learns from them what it has forgotten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lists: Vec<SignedList>,
}

/// A list as it was signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedList {
    /// Its epoch.
    pub epoch: u64,
    /// The envelope.
    pub envelope: String,
}

/// A key that a list of an earlier epoch named last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Earlier {
    /// The epoch.
    pub epoch: u64,
    /// Until when it is refused, in seconds since 1970.
    pub until: WallTime,
}

impl HeldRevocations {
    /// What is held after `accepted`, `held` being what was before; lists of epochs before `since`, which the root names, do not
    /// count any more.
    pub fn after(held: Option<&Self>, accepted: &AcceptedRevocations, since: u64, now: WallTime) -> Self {
        let RevocationList { counter, keys, .. } = accepted.list.clone();
        let (mut earlier, mut lists) = held.map(|held| (held.earlier.clone(), held.lists.clone())).unwrap_or_default();
        if let Some(held) = held.filter(|held| held.counter.epoch < counter.epoch) {
            let last = Earlier { epoch: held.counter.epoch, until: now.plus_seconds(LISTED_SECONDS) };
            earlier.extend(held.keys.iter().map(|key| (*key, last)));
        }
        earlier.retain(|key, last| !keys.contains(key) && last.epoch >= since && now <= last.until);
        lists.retain(|list| list.epoch != counter.epoch && earlier.values().any(|last| last.epoch == list.epoch));
        lists.push(SignedList { epoch: counter.epoch, envelope: accepted.envelope.clone() });
        Self { counter, digest: accepted.seen.digest, keys, earlier, lists }
    }

    /// The list that was accepted last.
    pub const fn seen(&self) -> Seen {
        Seen { counter: self.counter, digest: self.digest }
    }

    /// The list that was accepted last, as signed.
    pub fn newest(&self) -> Option<&str> {
        self.lists.iter().find(|list| list.epoch == self.counter.epoch).map(|list| list.envelope.as_str())
    }

    /// The lists to give back to a seed whose newest one is in force here, or else (`is_behind`) is older, or is none.
    pub fn forgotten(&self, is_behind: bool) -> impl Iterator<Item = &str> {
        self.lists.iter().filter(move |list| is_behind || list.epoch != self.counter.epoch).map(|list| list.envelope.as_str())
    }

    /// Every key that is refused.
    pub fn refused(&self) -> impl Iterator<Item = Digest> + '_ {
        self.keys.iter().chain(self.earlier.keys()).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallTime = WallTime::from_unix_seconds(1_000);

    fn keys(of: &[&str]) -> BTreeSet<Digest> {
        of.iter().map(|key| Digest::sha256(key.as_bytes())).collect()
    }

    /// An accepted list with these keys.
    fn accepted(epoch: u64, n: u64, of: &[&str]) -> AcceptedRevocations {
        let list = RevocationList {
            counter: Counter { epoch, n },
            keys: keys(of),
            ..RevocationList::next(None, &"acme".parse().unwrap(), epoch, NOW, BTreeSet::new())
        };
        let seen = Seen { counter: list.counter, digest: Some(list.digest()) };
        AcceptedRevocations { envelope: format!("{epoch}.{n}"), list, seen }
    }

    #[test]
    fn a_list_of_a_new_epoch_forgets_nobody_before_their_certificates_are_over() {
        let refused = |held: &HeldRevocations| held.refused().collect::<BTreeSet<_>>();
        let first = HeldRevocations::after(None, &accepted(1, 7, &["stolen", "lost"]), 0, NOW);
        let within = HeldRevocations::after(Some(&first), &accepted(1, 8, &["lost"]), 0, NOW);
        assert_eq!(refused(&within), keys(&["lost"]), "within an epoch a list is whole");
        assert_eq!((within.newest(), within.forgotten(false).count()), (Some("1.8"), 0));
        assert_eq!(within.forgotten(true).collect::<Vec<_>>(), ["1.8"]);
        let restored = HeldRevocations::after(Some(&first), &accepted(2, 1, &["lost"]), 0, NOW);
        assert_eq!((refused(&restored), restored.earlier.len()), (keys(&["stolen", "lost"]), 1));
        assert_eq!(restored.forgotten(false).collect::<Vec<_>>(), ["1.7"], "it goes back to the seed");
        let again = HeldRevocations::after(Some(&restored), &accepted(2, 2, &["stolen", "lost"]), 0, NOW);
        assert!(again.earlier.is_empty() && again.forgotten(false).next().is_none(), "it was revoked anew");
        let in_time = HeldRevocations::after(Some(&restored), &accepted(3, 1, &[]), 0, NOW.plus_seconds(LISTED_SECONDS));
        assert_eq!(refused(&in_time), keys(&["stolen", "lost"]));
        let over = HeldRevocations::after(Some(&restored), &accepted(2, 2, &[]), 0, NOW.plus_seconds(LISTED_SECONDS + 1));
        assert_eq!(refused(&over), keys(&[]));
        let forgiven = HeldRevocations::after(Some(&first), &accepted(2, 1, &["lost"]), 2, NOW);
        assert_eq!(refused(&forgiven), keys(&["lost"]), "the root says that lists of epoch 1 do not count");
    }
}
