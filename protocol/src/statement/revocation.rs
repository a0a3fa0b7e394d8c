//! Revocation lists: the device keys that nobody of an organisation talks to any more, signed by the seed's online key, with
//! a counter that never goes back.
//!
//! A list is whole: a newer one takes the place of an older one, and may leave out keys whose certificates have been over for
//! so long that no peer accepts them. Whoever has the online key could sign a list that forgets a key; that key's thief would
//! gain nothing by it, because the same seed has the device CA and could sign a certificate for any key. A list that was
//! accepted stays in force however old it gets; its expiry only bounds how long an old one can be passed off as new.
//!
//! Not here: what is done with connections of a revoked key; see `node::transport::admission`.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::desired::{Counter, OnlineKey};
use crate::digest::Digest;
use crate::envelope::{Envelope, EnvelopeRefused};
use crate::identity::standing::GRACE_SECONDS;
use crate::name::OrgName;
use crate::time::WallTime;

/// The DSSE payload type of a revocation list.
pub const PAYLOAD_TYPE: &str = "application/vnd.hedgerow.revocations+json";

/// The only `format` this code reads and writes.
pub const FORMAT: u32 = 1;

/// The most keys on a list: in base64 that is 800 KiB, and the answer to a poll has at most 1 MiB. Whoever has to revoke more
/// within [`LISTED_SECONDS`] replaces the certificate authority instead.
pub const KEYS_MAX: usize = 8_192;

/// A list is accepted for this long after it was signed, in seconds.
pub const LIST_SECONDS: u64 = 14 * 86_400;

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
        Self { format: FORMAT, org: org.clone(), counter, expires: now.plus_seconds(LIST_SECONDS), keys }
    }
}

/// Whether a key that was revoked at `revoked` still has to stand on a list at `now`.
pub fn is_listed(revoked: WallTime, now: WallTime) -> bool {
    now <= revoked.plus_seconds(LISTED_SECONDS)
}

/// Whether a list that expires at `expires` is to be signed anew at `now`: after half of its life.
pub fn renewal_due(expires: WallTime, now: WallTime) -> bool {
    expires <= now.plus_seconds(LIST_SECONDS / 2)
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
            Self::Expired(_) => "expired",
            Self::TooMany(_) => "too_many",
        }
    }
}

/// A revocation list that passed every check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedRevocations(RevocationList);

impl AcceptedRevocations {
    /// Checks the envelope `bytes` for a device that accepted `newest` before.
    ///
    /// # Errors
    /// With the reason why the list must not be taken.
    pub fn accept(bytes: &[u8], online: &OnlineKey, newest: Option<Counter>, now: WallTime) -> Result<Self, RevocationsRefused> {
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
        if let Some(accepted) = newest.filter(|accepted| list.counter < *accepted) {
            return Err(RevocationsRefused::OlderCounter { found: list.counter, accepted });
        }
        if list.expires <= now {
            return Err(RevocationsRefused::Expired(list.expires));
        }
        if list.keys.len() > KEYS_MAX {
            return Err(RevocationsRefused::TooMany(list.keys.len()));
        }
        Ok(Self(list))
    }

    /// What was accepted.
    pub const fn list(&self) -> &RevocationList {
        &self.0
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

    fn accept(list: &RevocationList, newest: Option<Counter>, now: WallTime) -> Result<AcceptedRevocations, RevocationsRefused> {
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
        let at = |n| Some(Counter { epoch: 1, n });
        for newest in [None, at(4), at(5)] {
            assert_eq!(accept(&list(), newest, NOW).unwrap().list(), &list());
        }
        let refused = RevocationsRefused::OlderCounter { found: list().counter, accepted: Counter { epoch: 1, n: 6 } };
        assert_eq!(accept(&list(), at(6), NOW), Err(refused));
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
    fn the_longest_list_fits_an_envelope_and_a_poll() {
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
        assert!(!renewal_due(list().expires, NOW.plus_seconds(6 * 86_400)));
        assert!(renewal_due(list().expires, NOW.plus_seconds(7 * 86_400)));
    }
}
