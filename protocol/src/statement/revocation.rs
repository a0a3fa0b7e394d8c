//! Revocation lists: the device keys that nobody of an organisation talks to any more, signed by the seed's online key, with
//! a counter that never goes back.
//!
//! A list is whole: within an epoch a newer one takes the place of an older one, and may leave out keys whose certificates have
//! been over for so long that no peer accepts them. Whoever has the online key could sign a list that forgets a key; that key's
//! thief would gain nothing by it, because the same seed has the device CA and could sign a certificate for any key. A list that
//! was accepted stays in force however old it gets; its expiry only bounds how long an old one can be passed off as new.
//!
//! Not here: what is done with connections of a revoked key; see `node::transport::admission`.

mod held;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::counters::{self, Document, Seen};
use super::desired::{Counter, OnlineKey};
use super::refused::DocumentRefused;
use super::renewal::DOCUMENT_SECONDS;
use super::signed::Format;
use crate::digest::Digest;
use crate::identity::standing::GRACE_SECONDS;
use crate::name::OrgName;
use crate::time::WallTime;

pub use held::{Earlier, HeldRevocations, SignedList};

/// The DSSE payload type of a revocation list.
pub const PAYLOAD_TYPE: &str = "application/vnd.hedgerow.revocations+json";

/// The only `format` this code reads and writes.
pub const FORMAT: u32 = 1;

/// The most keys on a list: what one token enrols can be revoked, and in base64 that fits an envelope. Of more than that within
/// [`LISTED_SECONDS`] the newest stand on it; then the certificate authority should be replaced.
pub const KEYS_MAX: usize = 10_240;

/// The longest life of a device certificate, in seconds.
pub const LEAF_SECONDS_MAX: u64 = 90 * 86_400;

/// A key of which no certificate is known stays on the list for this long, in seconds: after it, none that was signed before it
/// was revoked is accepted by anybody. The seed itself never forgets it.
pub const LISTED_SECONDS: u64 = LEAF_SECONDS_MAX + GRACE_SECONDS;

/// The revoked keys of an organisation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevocationList {
    /// The format of this document, [`FORMAT`].
    pub format: u32,
    /// The organisation.
    pub org: OrgName,
    /// Order among the lists of the organisation.
    pub counter: Counter,
    /// After this moment the list is no longer taken as the newest, in seconds since 1970.
    pub expires: WallTime,
    /// SHA-256 of each revoked key (`SubjectPublicKeyInfo`), at most [`KEYS_MAX`].
    pub keys: BTreeSet<Digest>,
}

impl RevocationList {
    /// The list that follows one with the counter `previous`: by one within the epoch, anew when the root delegates a higher
    /// `epoch`.
    pub fn next(previous: Option<Counter>, org: &OrgName, epoch: u64, now: WallTime, keys: BTreeSet<Digest>) -> Self {
        let counter = Counter::after(previous, epoch);
        Self { format: FORMAT, org: org.clone(), counter, expires: now.plus_seconds(DOCUMENT_SECONDS), keys }
    }

    /// The list as it is signed.
    ///
    /// # Panics
    /// Never: it consists of strings and numbers.
    #[expect(clippy::unwrap_used, reason = "strings and numbers always serialise")]
    pub fn payload(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap()
    }

    /// The SHA-256 of what is signed.
    pub fn digest(&self) -> Digest {
        Digest::sha256(&self.payload())
    }
}

/// The keys that have to stand on a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// The newest of them, at most [`KEYS_MAX`].
    pub keys: BTreeSet<Digest>,
    /// How many there is no room for: the seed refuses them, peers do not.
    pub left_out: usize,
}

/// A key that was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// SHA-256 of the key.
    pub key: Digest,
    /// When it was revoked.
    pub at: WallTime,
    /// Until when the last certificate of it is valid; a clock that was ahead may have signed a late one. None if none is known.
    pub leaf_until: Option<WallTime>,
}

impl Revoked {
    /// Whether it still has to stand on a list at `now`: a peer might accept a certificate of it.
    pub fn is_listed(&self, now: WallTime) -> bool {
        let until = self.leaf_until.map_or(self.at.plus_seconds(LISTED_SECONDS), |until| until.plus_seconds(GRACE_SECONDS));
        now <= until
    }
}

/// What has to stand on a list at `now`, of the keys that were ever revoked.
pub fn listed(revoked: impl IntoIterator<Item = Revoked>, now: WallTime) -> Listed {
    let mut due: Vec<(WallTime, Digest)> =
        revoked.into_iter().filter(|revoked| revoked.is_listed(now)).map(|revoked| (revoked.at, revoked.key)).collect();
    due.sort_unstable_by(|one, other| other.cmp(one));
    let left_out = due.len().saturating_sub(KEYS_MAX);
    Listed { keys: due.into_iter().take(KEYS_MAX).map(|(_, key)| key).collect(), left_out }
}

impl Format for RevocationList {
    const FORMAT: u32 = FORMAT;
}

impl Document for RevocationList {
    const PAYLOAD_TYPE: &'static str = PAYLOAD_TYPE;

    fn org(&self) -> &OrgName {
        &self.org
    }

    fn counter(&self) -> Counter {
        self.counter
    }

    fn expires(&self) -> WallTime {
        self.expires
    }
}

/// A revocation list that passed every check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedRevocations {
    list: RevocationList,
    seen: Seen,
    /// As it was signed.
    envelope: String,
}

impl AcceptedRevocations {
    /// Checks the envelope `bytes` for a device that accepted `newest` last.
    ///
    /// # Errors
    /// With the reason why the list must not be taken.
    pub fn accept(bytes: &[u8], online: &OnlineKey, newest: Option<&Seen>, now: WallTime) -> Result<Self, DocumentRefused> {
        let (list, digest) = open(bytes, online)?;
        let seen = counters::check_order(&list, digest, online, newest, now)?;
        Ok(Self { list, seen, envelope: String::from_utf8_lossy(bytes).into_owned() })
    }

    /// What was accepted.
    pub const fn list(&self) -> &RevocationList {
        &self.list
    }
}

fn open(bytes: &[u8], online: &OnlineKey) -> Result<(RevocationList, Digest), DocumentRefused> {
    let (list, digest) = counters::open::<RevocationList>(bytes, online)?;
    if list.keys.len() > KEYS_MAX {
        return Err(DocumentRefused::TooManyKeys(list.keys.len()));
    }
    Ok((list, digest))
}

/// A list that a device gives back to its seed, which does not know it: it was signed after the backup that the seed was restored
/// from. What the seed's own key signed counts, old or expired, unless the root says that lists of before the epoch `since` do
/// not: then the key was in other hands.
///
/// # Errors
/// With the reason why it does not count.
pub fn give_back(bytes: &[u8], online: &OnlineKey, since: u64) -> Result<RevocationList, DocumentRefused> {
    let (list, _) = open(bytes, online)?;
    let found = list.counter.epoch;
    if found < since { Err(DocumentRefused::OtherEpoch { found, delegated: online.epoch }) } else { Ok(list) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::Envelope;
    use ed25519_dalek::{Signer, SigningKey};

    const NOW: WallTime = WallTime::from_unix_seconds(1_000);

    fn list() -> RevocationList {
        RevocationList::next(Some(Counter { epoch: 1, n: 4 }), &"acme".parse().unwrap(), 1, NOW, BTreeSet::from([Digest::sha256(b"k")]))
    }

    fn accept(list: &RevocationList, newest: Option<&Seen>, now: WallTime) -> Result<AcceptedRevocations, DocumentRefused> {
        let key = SigningKey::from_bytes(&[7; 32]);
        let envelope = Envelope::seal(PAYLOAD_TYPE, &serde_json::to_vec(list).unwrap(), "online", |bytes| key.sign(bytes));
        let online = OnlineKey { org: "acme".parse().unwrap(), epoch: 1, key: key.verifying_key() };
        AcceptedRevocations::accept(&serde_json::to_vec(&envelope).unwrap(), &online, newest, now)
    }

    #[test]
    fn the_counter_goes_up_within_an_epoch_and_starts_anew_in_the_next() {
        let next = |previous, epoch| RevocationList::next(previous, &"acme".parse().unwrap(), epoch, NOW, BTreeSet::new()).counter;
        assert_eq!(next(None, 1), Counter { epoch: 1, n: 1 });
        assert_eq!(next(Some(Counter { epoch: 1, n: 4 }), 1), Counter { epoch: 1, n: 5 });
        assert_eq!(next(Some(Counter { epoch: 1, n: 4 }), 2), Counter { epoch: 2, n: 1 });
    }

    #[test]
    fn a_list_is_accepted_again_and_a_newer_one_but_no_older_one() {
        let at = |n, digest| Some(Seen { counter: Counter { epoch: 1, n }, digest });
        let same = list().digest();
        for newest in [None, at(4, Some(Digest::sha256(b"x"))), at(5, None), at(5, Some(same))] {
            assert_eq!(accept(&list(), newest.as_ref(), NOW).unwrap().list(), &list());
        }
        let refused = DocumentRefused::OlderCounter { found: list().counter, accepted: Counter { epoch: 1, n: 6 } };
        assert_eq!(accept(&list(), at(6, None).as_ref(), NOW), Err(refused));
        let other = at(5, Some(Digest::sha256(b"another list")));
        assert_eq!(accept(&list(), other.as_ref(), NOW).unwrap_err().reason(), "other_content");
    }

    #[test]
    fn of_more_keys_than_a_list_has_room_for_the_newest_stand_on_it() {
        let at = |n: usize| Revoked { key: Digest::sha256(&n.to_be_bytes()), at: NOW.plus_seconds(n as u64), leaf_until: None };
        let all = listed((0..KEYS_MAX).map(at), NOW);
        assert_eq!((all.keys.len(), all.left_out), (KEYS_MAX, 0));
        let more = listed((0..KEYS_MAX + 2).map(at), NOW);
        assert_eq!((more.keys.len(), more.left_out), (KEYS_MAX, 2));
        assert!(more.keys.contains(&at(KEYS_MAX + 1).key) && !more.keys.contains(&at(1).key));
        assert_eq!(listed([at(0)], NOW.plus_seconds(LISTED_SECONDS + 1)), Listed::default());
    }

    #[test]
    fn foreign_expired_too_long_and_other_epochs_are_refused() {
        let foreign = RevocationList { org: "evil".parse().unwrap(), ..list() };
        assert_eq!(accept(&foreign, None, NOW), Err(DocumentRefused::ForeignOrg(foreign.org.clone())));
        assert_eq!(accept(&list(), None, list().expires), Err(DocumentRefused::Expired(list().expires)));
        let forward = RevocationList { counter: Counter { epoch: 2, n: 0 }, ..list() };
        assert_eq!(accept(&forward, None, NOW), Err(DocumentRefused::OtherEpoch { found: 2, delegated: 1 }));
        assert_eq!(
            accept(&RevocationList { format: 9, ..list() }, None, NOW),
            Err(DocumentRefused::OtherFormat { found: 9, known: FORMAT })
        );
        let keys = (0..=KEYS_MAX).map(|n| Digest::sha256(&n.to_be_bytes())).collect();
        assert_eq!(accept(&RevocationList { keys, ..list() }, None, NOW), Err(DocumentRefused::TooManyKeys(KEYS_MAX + 1)));
    }

    #[test]
    fn the_longest_list_fits_an_envelope() {
        let keys: BTreeSet<Digest> = (0..KEYS_MAX).map(|n| Digest::sha256(&n.to_be_bytes())).collect();
        accept(&RevocationList { keys, ..list() }, None, NOW).unwrap();
    }

    #[test]
    fn another_key_and_another_kind_of_document_are_refused() {
        let (own, other) = (SigningKey::from_bytes(&[7; 32]), SigningKey::from_bytes(&[8; 32]));
        let online = OnlineKey { org: "acme".parse().unwrap(), epoch: 1, key: own.verifying_key() };
        let payload = serde_json::to_vec(&list()).unwrap();
        let sealed = |payload_type: &str, key: &SigningKey| {
            serde_json::to_vec(&Envelope::seal(payload_type, &payload, "online", |bytes| key.sign(bytes))).unwrap()
        };
        let accept = |bytes: &[u8]| AcceptedRevocations::accept(bytes, &online, None, NOW).unwrap_err();
        assert_eq!(accept(&sealed(PAYLOAD_TYPE, &other)).reason(), "bad_signature");
        assert_eq!(accept(&sealed(super::super::desired::PAYLOAD_TYPE, &own)).reason(), "malformed");
    }

    #[test]
    fn a_key_leaves_the_list_when_no_certificate_of_it_is_accepted_any_more() {
        const DAY: u64 = 86_400;
        let unknown = Revoked { key: Digest::sha256(b"k"), at: NOW, leaf_until: None };
        assert!(unknown.is_listed(NOW.plus_seconds(180 * DAY)));
        assert!(!unknown.is_listed(NOW.plus_seconds(180 * DAY + 1)));
        for life in [20, 400] {
            let known = Revoked { leaf_until: Some(NOW.plus_seconds(life * DAY)), ..unknown };
            assert!(known.is_listed(NOW.plus_seconds((life + 90) * DAY)), "also if a clock that was ahead signed it");
            assert!(!known.is_listed(NOW.plus_seconds((life + 90) * DAY + 1)));
        }
    }

    #[test]
    fn a_list_that_is_given_back_counts_however_old_unless_the_root_ended_it_or_another_key_signed_it() {
        let sealed = |key: u8, list: &RevocationList| {
            let key = SigningKey::from_bytes(&[key; 32]);
            serde_json::to_vec(&Envelope::seal(PAYLOAD_TYPE, &list.payload(), "online", |bytes| key.sign(bytes))).unwrap()
        };
        let key = SigningKey::from_bytes(&[7; 32]).verifying_key();
        let online = OnlineKey { org: "acme".parse().unwrap(), epoch: 3, key };
        let old = RevocationList { expires: WallTime::default(), ..list() };
        assert_eq!(give_back(&sealed(7, &old), &online, 0), Ok(old.clone()));
        assert_eq!(give_back(&sealed(7, &old), &online, 1), Ok(old.clone()));
        assert_eq!(give_back(&sealed(7, &old), &online, 2), Err(DocumentRefused::OtherEpoch { found: 1, delegated: 3 }));
        assert_eq!(give_back(&sealed(8, &old), &online, 0).unwrap_err().reason(), "bad_signature");
        let foreign = RevocationList { org: "evil".parse().unwrap(), ..old };
        assert_eq!(give_back(&sealed(7, &foreign), &online, 0).unwrap_err().reason(), "foreign_org");
    }
}
