//! Desired states: which version of each app a group shall have, signed by the seed's online key, with a counter that
//! never goes back (Uptane's Director).
//!
//! Not here: what a version is; see [`super::version`].

use std::collections::BTreeMap;

use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::envelope::{Envelope, EnvelopeRefused};
use crate::name::{AppName, OrgName, Platform};
use crate::time::WallTime;

/// The DSSE payload type of a desired state.
pub const PAYLOAD_TYPE: &str = "application/vnd.hedgerow.desired-state+json";

/// The only `format` this code reads and writes.
pub const FORMAT: u32 = 1;

/// The group that every device belongs to while no other is defined.
pub const GROUP_ALL: &str = "all";

/// A counter that never goes back: the epoch stands in the root-signed delegation of the online key, `n` is the seed's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counter {
    /// Raised by a new root alone.
    pub epoch: u64,
    /// Raised by the seed with every change.
    pub n: u64,
}

/// Which version of an app the group shall have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DesiredApp {
    /// The version's number.
    pub version: u64,
    /// The rollout that put it here.
    pub rollout: String,
    /// The SHA-256 of the statement for each platform that the version exists for.
    pub statements: BTreeMap<Platform, Digest>,
}

/// What a group shall have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DesiredState {
    /// The format of this document, [`FORMAT`].
    pub format: u32,
    /// The organisation.
    pub org: OrgName,
    /// The group.
    pub group: String,
    /// Order among the desired states of the group.
    pub counter: Counter,
    /// After this moment the document is no longer acted on, in seconds since 1970.
    pub expires: WallTime,
    /// The apps, by name.
    pub apps: BTreeMap<AppName, DesiredApp>,
}

/// The online key as the organisation's root delegates it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnlineKey {
    /// The organisation whose root delegates.
    pub org: OrgName,
    /// The epoch of the counters that the key may sign.
    pub epoch: u64,
    /// The key.
    pub key: VerifyingKey,
}

/// Why a desired state is not acted on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DesiredStateRefused {
    /// The envelope is broken, of another type, or not signed by the online key.
    #[error(transparent)]
    Envelope(#[from] EnvelopeRefused),
    /// Signed, but not JSON of the expected shape.
    #[error("the desired state cannot be read: {0}")]
    Malformed(String),
    /// Written in a format this program does not know.
    #[error("the desired state has format {0}, this program reads {FORMAT}; update it")]
    OtherFormat(u32),
    /// It belongs to another organisation.
    #[error("the desired state belongs to organisation {0}")]
    ForeignOrg(OrgName),
    /// It is for a group this device is not in.
    #[error("the desired state is for group {0}")]
    OtherGroup(String),
    /// Its epoch is not the one that the root delegates.
    #[error("the desired state has epoch {found}, the root delegates epoch {delegated}")]
    OtherEpoch {
        /// What the document says.
        found: u64,
        /// What the root says.
        delegated: u64,
    },
    /// It is older than one that was accepted before.
    #[error("the desired state has counter {}.{}, older than {}.{} accepted before", found.epoch, found.n, accepted.epoch, accepted.n)]
    OlderCounter {
        /// What the document says.
        found: Counter,
        /// The newest accepted before.
        accepted: Counter,
    },
    /// Its time is over.
    #[error("the desired state expired at {0}")]
    Expired(WallTime),
}

impl DesiredStateRefused {
    /// A short name of the reason, for metrics and reports.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Envelope(EnvelopeRefused::BadSignature) => "bad_signature",
            Self::Envelope(EnvelopeRefused::Malformed | EnvelopeRefused::OtherType(_)) | Self::Malformed(_) => "malformed",
            Self::OtherFormat(_) => "other_format",
            Self::ForeignOrg(_) => "foreign_org",
            Self::OtherGroup(_) => "other_group",
            Self::OtherEpoch { .. } => "other_epoch",
            Self::OlderCounter { .. } => "older_counter",
            Self::Expired(_) => "expired",
        }
    }
}

/// A desired state that passed every check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedDesiredState(DesiredState);

impl AcceptedDesiredState {
    /// Checks the envelope `bytes` for a device of `group` that accepted `newest` before.
    ///
    /// # Errors
    /// With the reason why the document must not be acted on.
    pub fn accept(
        bytes: &[u8],
        online: &OnlineKey,
        group: &str,
        newest: Option<Counter>,
        now: WallTime,
    ) -> Result<Self, DesiredStateRefused> {
        let payload = Envelope::open(bytes, PAYLOAD_TYPE, &online.key)?;
        let malformed = |error: serde_json::Error| DesiredStateRefused::Malformed(error.to_string());
        let super::Formatted { format } = serde_json::from_slice(&payload).map_err(malformed)?;
        if format != FORMAT {
            return Err(DesiredStateRefused::OtherFormat(format));
        }
        let state: DesiredState = serde_json::from_slice(&payload).map_err(malformed)?;
        if state.org != online.org {
            return Err(DesiredStateRefused::ForeignOrg(state.org));
        }
        if state.group != group {
            return Err(DesiredStateRefused::OtherGroup(state.group));
        }
        if state.counter.epoch != online.epoch {
            return Err(DesiredStateRefused::OtherEpoch { found: state.counter.epoch, delegated: online.epoch });
        }
        if let Some(accepted) = newest.filter(|accepted| state.counter < *accepted) {
            return Err(DesiredStateRefused::OlderCounter { found: state.counter, accepted });
        }
        if state.expires <= now {
            return Err(DesiredStateRefused::Expired(state.expires));
        }
        Ok(Self(state))
    }

    /// What was accepted.
    pub const fn state(&self) -> &DesiredState {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signer, SigningKey};

    const NOW: WallTime = WallTime::from_unix_seconds(1_000);

    fn state() -> DesiredState {
        DesiredState {
            format: FORMAT,
            org: "acme".parse().unwrap(),
            group: GROUP_ALL.into(),
            counter: Counter { epoch: 1, n: 5 },
            expires: NOW.plus_seconds(1),
            apps: BTreeMap::new(),
        }
    }

    fn accept(state: &DesiredState, newest: Option<Counter>) -> Result<AcceptedDesiredState, DesiredStateRefused> {
        let key = SigningKey::from_bytes(&[7; 32]);
        let envelope = Envelope::seal(PAYLOAD_TYPE, &serde_json::to_vec(state).unwrap(), "online", |bytes| key.sign(bytes));
        let online = OnlineKey { org: "acme".parse().unwrap(), epoch: 1, key: key.verifying_key() };
        AcceptedDesiredState::accept(&serde_json::to_vec(&envelope).unwrap(), &online, GROUP_ALL, newest, NOW)
    }

    #[test]
    fn accepts_the_same_and_a_newer_counter_but_no_older_one() {
        let at = |n| Some(Counter { epoch: 1, n });
        assert!(accept(&state(), None).is_ok());
        assert!(accept(&state(), at(4)).is_ok());
        assert!(accept(&state(), at(5)).is_ok());
        let refused = DesiredStateRefused::OlderCounter { found: state().counter, accepted: Counter { epoch: 1, n: 6 } };
        assert_eq!(accept(&state(), at(6)), Err(refused));
    }

    #[test]
    fn refuses_foreign_expired_and_other_epochs() {
        let foreign = DesiredState { org: "evil".parse().unwrap(), ..state() };
        assert_eq!(accept(&foreign, None), Err(DesiredStateRefused::ForeignOrg(foreign.org.clone())));
        let expired = DesiredState { expires: NOW, ..state() };
        assert_eq!(accept(&expired, None), Err(DesiredStateRefused::Expired(NOW)));
        let forward = DesiredState { counter: Counter { epoch: 2, n: 0 }, ..state() };
        assert_eq!(accept(&forward, None), Err(DesiredStateRefused::OtherEpoch { found: 2, delegated: 1 }));
        let group = DesiredState { group: "west".into(), ..state() };
        assert_eq!(accept(&group, None), Err(DesiredStateRefused::OtherGroup("west".into())));
        let format = DesiredState { format: 9, ..state() };
        assert_eq!(accept(&format, None), Err(DesiredStateRefused::OtherFormat(9)));
    }

    #[test]
    fn refuses_another_key() {
        let other = SigningKey::from_bytes(&[8; 32]);
        let envelope = Envelope::seal(PAYLOAD_TYPE, &serde_json::to_vec(&state()).unwrap(), "online", |bytes| other.sign(bytes));
        let online = OnlineKey { org: "acme".parse().unwrap(), epoch: 1, key: SigningKey::from_bytes(&[7; 32]).verifying_key() };
        let refused = AcceptedDesiredState::accept(&serde_json::to_vec(&envelope).unwrap(), &online, GROUP_ALL, None, NOW);
        assert_eq!(refused, Err(DesiredStateRefused::Envelope(EnvelopeRefused::BadSignature)));
    }
}
