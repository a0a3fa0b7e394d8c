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

use super::counters::Seen;
use super::desired::{Counter, OnlineKey};
use super::renewal::DOCUMENT_SECONDS;
use crate::digest::Digest;
use crate::envelope::{Envelope, EnvelopeRefused};
use crate::identity::standing::GRACE_SECONDS;
use crate::name::OrgName;
use crate::time::WallTime;

pub use held::{Earlier, HeldRevocations};

/// The DSSE payload type of a revocation list.
pub const PAYLOAD_TYPE: &str = "application/vnd.hedgerow.revocations+json";

/// The only `format` this code reads and writes.
pub const FORMAT: u32 = 1;

/// The most keys on a list: what one token enrols can be revoked, and in base64 that fits an envelope. Of more than that within
/// [`LISTED_SECONDS`] the newest stand on it; then the certificate authority should be replaced.
pub const KEYS_MAX: usize = 10_240;

/// The longest life of a device certificate, in seconds.
pub const LEAF_SECONDS_MAX: u64 = 90 * 86_400;

/// A key stays on the list for this long, in seconds: after it, no certificate of it is accepted by anybody. The seed itself
/// never forgets it.
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

/// What has to stand on a list at `now`, of the keys that were ever revoked, and when each was.
pub fn listed(revoked: impl IntoIterator<Item = (Digest, WallTime)>, now: WallTime) -> Listed {
    let mut due: Vec<(WallTime, Digest)> = revoked.into_iter().filter(|(_, at)| is_listed(*at, now)).map(|(key, at)| (at, key)).collect();
    due.sort_unstable_by(|one, other| other.cmp(one));
    let left_out = due.len().saturating_sub(KEYS_MAX);
    Listed { keys: due.into_iter().take(KEYS_MAX).map(|(_, key)| key).collect(), left_out }
}

/// Whether a key that was revoked at `revoked` still has to stand on a list at `now`.
pub fn is_listed(revoked: WallTime, now: WallTime) -> bool {
    now <= revoked.plus_seconds(LISTED_SECONDS)
}

/// Why a revocation list is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RevocationsRefused {
    /// The envelope is broken, of another type, or not signed by the online key.
    #[error(transparent)]
    Envelope(#[from] EnvelopeRefused),
    /// Signed, but not JSON of the expected shape.
    #[error("the revocation list cannot be read: {0}")]
    Malformed(String),
    /// Written in a format this program does not know.
    #[error("the revocation list has format {0}, this program reads {FORMAT}; update it")]
    OtherFormat(u32),
    /// It belongs to another organisation.
    #[error("the revocation list belongs to organisation {0}")]
    ForeignOrg(OrgName),
    /// Its epoch is not the one that the root delegates.
    #[error("the revocation list has epoch {found}, the root delegates epoch {delegated}")]
    OtherEpoch {
        /// What the document says.
        found: u64,
        /// What the root says.
        delegated: u64,
    },
    /// It is older than one that was accepted before.
    #[error("the revocation list has counter {}.{}, older than {}.{} accepted before", found.epoch, found.n, accepted.epoch, accepted.n)]
    OlderCounter {
        /// What the document says.
        found: Counter,
        /// The newest accepted before.
        accepted: Counter,
    },
    /// Another list with the same counter was accepted before.
    #[error("the revocation list has the counter {}.{} of another one that was accepted before", .0.epoch, .0.n)]
    OtherContent(Counter),
    /// Its time is over.
    #[error("the revocation list expired at {0}")]
    Expired(WallTime),
    /// It has more keys than a list may have.
    #[error("the revocation list has {0} keys, more than {KEYS_MAX}")]
    TooMany(usize),
}

impl RevocationsRefused {
    /// A short name of the reason, for metrics and reports.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Envelope(EnvelopeRefused::BadSignature) => "bad_signature",
            Self::Envelope(EnvelopeRefused::Malformed | EnvelopeRefused::OtherType(_)) | Self::Malformed(_) => "malformed",
            Self::OtherFormat(_) => "other_format",
            Self::ForeignOrg(_) => "foreign_org",
            Self::OtherEpoch { .. } => "other_epoch",
            Self::OlderCounter { .. } => "older_counter",
            Self::OtherContent(_) => "other_content",
            Self::Expired(_) => "expired",
            Self::TooMany(_) => "too_many",
        }
    }
}

/// A revocation list that passed every check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedRevocations {
    list: RevocationList,
    digest: Digest,
}

impl AcceptedRevocations {
    /// Checks the envelope `bytes` for a device that accepted `newest` last.
    ///
    /// # Errors
    /// With the reason why the list must not be taken.
    pub fn accept(bytes: &[u8], online: &OnlineKey, newest: Option<&Seen>, now: WallTime) -> Result<Self, RevocationsRefused> {
        let payload = Envelope::open(bytes, PAYLOAD_TYPE, &online.key)?;
        let malformed = |error: serde_json::Error| RevocationsRefused::Malformed(error.to_string());
        let super::Formatted { format } = serde_json::from_slice(&payload).map_err(malformed)?;
        if format != FORMAT {
            return Err(RevocationsRefused::OtherFormat(format));
        }
        let list: RevocationList = serde_json::from_slice(&payload).map_err(malformed)?;
        if list.org != online.org {
            return Err(RevocationsRefused::ForeignOrg(list.org));
        }
        if list.counter.epoch != online.epoch {
            return Err(RevocationsRefused::OtherEpoch { found: list.counter.epoch, delegated: online.epoch });
        }
        let digest = Digest::sha256(&payload);
        if let Some(accepted) = newest {
            if list.counter < accepted.counter {
                return Err(RevocationsRefused::OlderCounter { found: list.counter, accepted: accepted.counter });
            }
            if list.counter == accepted.counter && accepted.digest.is_some_and(|known| known != digest) {
                return Err(RevocationsRefused::OtherContent(list.counter));
            }
        }
        if list.expires <= now {
            return Err(RevocationsRefused::Expired(list.expires));
        }
        if list.keys.len() > KEYS_MAX {
            return Err(RevocationsRefused::TooMany(list.keys.len()));
        }
        Ok(Self { list, digest })
    }

    /// What was accepted.
    pub const fn list(&self) -> &RevocationList {
        &self.list
    }

    /// The SHA-256 of what was signed.
    pub const fn digest(&self) -> Digest {
        self.digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signer, SigningKey};

    const NOW: WallTime = WallTime::from_unix_seconds(1_000);

    fn list() -> RevocationList {
        RevocationList::next(Some(Counter { epoch: 1, n: 4 }), &"acme".parse().unwrap(), 1, NOW, BTreeSet::from([Digest::sha256(b"k")]))
    }

    fn accept(list: &RevocationList, newest: Option<&Seen>, now: WallTime) -> Result<AcceptedRevocations, RevocationsRefused> {
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
        let same = accept(&list(), None, NOW).unwrap().digest();
        for newest in [None, at(4, Some(Digest::sha256(b"x"))), at(5, None), at(5, Some(same))] {
            assert_eq!(accept(&list(), newest.as_ref(), NOW).unwrap().list(), &list());
        }
        let refused = RevocationsRefused::OlderCounter { found: list().counter, accepted: Counter { epoch: 1, n: 6 } };
        assert_eq!(accept(&list(), at(6, None).as_ref(), NOW), Err(refused));
        let other = at(5, Some(Digest::sha256(b"another list")));
        assert_eq!(accept(&list(), other.as_ref(), NOW).unwrap_err().reason(), "other_content");
    }

    #[test]
    fn of_more_keys_than_a_list_has_room_for_the_newest_stand_on_it() {
        let at = |n: usize| (Digest::sha256(&n.to_be_bytes()), NOW.plus_seconds(n as u64));
        let all = listed((0..KEYS_MAX).map(at), NOW);
        assert_eq!((all.keys.len(), all.left_out), (KEYS_MAX, 0));
        let more = listed((0..KEYS_MAX + 2).map(at), NOW);
        assert_eq!((more.keys.len(), more.left_out), (KEYS_MAX, 2));
        assert!(more.keys.contains(&at(KEYS_MAX + 1).0) && !more.keys.contains(&at(1).0));
        assert_eq!(listed([at(0)], NOW.plus_seconds(LISTED_SECONDS + 1)), Listed::default());
    }

    #[test]
    fn foreign_expired_too_long_and_other_epochs_are_refused() {
        let foreign = RevocationList { org: "evil".parse().unwrap(), ..list() };
        assert_eq!(accept(&foreign, None, NOW), Err(RevocationsRefused::ForeignOrg(foreign.org.clone())));
        assert_eq!(accept(&list(), None, list().expires), Err(RevocationsRefused::Expired(list().expires)));
        let forward = RevocationList { counter: Counter { epoch: 2, n: 0 }, ..list() };
        assert_eq!(accept(&forward, None, NOW), Err(RevocationsRefused::OtherEpoch { found: 2, delegated: 1 }));
        assert_eq!(accept(&RevocationList { format: 9, ..list() }, None, NOW), Err(RevocationsRefused::OtherFormat(9)));
        let keys = (0..=KEYS_MAX).map(|n| Digest::sha256(&n.to_be_bytes())).collect();
        assert_eq!(accept(&RevocationList { keys, ..list() }, None, NOW), Err(RevocationsRefused::TooMany(KEYS_MAX + 1)));
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
        assert!(is_listed(NOW, NOW.plus_seconds(180 * 86_400)));
        assert!(!is_listed(NOW, NOW.plus_seconds(180 * 86_400 + 1)));
    }
}
