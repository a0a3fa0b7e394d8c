//! What is said, byte by byte: postcard, with a limit on each message.
//!
//! Not here: when it is said; see [`super`].

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::name::{DeviceId, GroupName};
use crate::statement::desired::Counter;
use crate::statement::receipt::{HEADS_BYTES_MAX, PollReceipt};

/// Groups of which a device tells: more than it is in, one for each app.
pub const GROUPS_MAX: usize = 256;

/// Devices for which one of them polls: a site of more has more than one that does.
pub const OTHERS_MAX: usize = 64;

/// A message between devices.
pub trait Message: Serialize + DeserializeOwned {
    /// Bytes of an encoded message at most.
    const BYTES_MAX: usize;

    /// Whether it keeps to the limits.
    fn is_bounded(&self) -> bool;

    /// The bytes; none if they are more than anybody reads.
    fn encode(&self) -> Option<Vec<u8>> {
        postcard::to_stdvec(self).ok().filter(|bytes| bytes.len() <= Self::BYTES_MAX && self.is_bounded())
    }

    /// The message in `bytes`, if that is what they are.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let message: Self = postcard::from_bytes(bytes.get(..).filter(|bytes| bytes.len() <= Self::BYTES_MAX)?).ok()?;
        message.is_bounded().then_some(message)
    }
}

/// The counters of the newest documents that a device accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heads {
    /// Of the desired state of each of its groups.
    pub states: BTreeMap<GroupName, Counter>,
    /// Of the list of revoked keys.
    pub revocations: Option<Counter>,
    /// The version of the organisation's `timestamp.json`, with which a new root comes; none if it is not at hand.
    pub timestamp: Option<u64>,
}

impl Heads {
    /// Whether `other` has something newer that a device with these wants.
    pub fn is_behind(&self, other: &Self) -> bool {
        let newer = |(group, own): (&GroupName, &Counter)| other.states.get(group).is_some_and(|theirs| theirs > own);
        self.revocations < other.revocations || self.timestamp < other.timestamp || self.states.iter().any(newer)
    }
}

impl Message for Heads {
    const BYTES_MAX: usize = 24 << 10;

    fn is_bounded(&self) -> bool {
        self.states.len() <= GROUPS_MAX
    }
}

/// What the seed says of the devices of a site when one of them polls for all: how far their documents are. A device that is
/// behind asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteHeads {
    /// Of the assignment of each device that the poll was for.
    pub assignments: BTreeMap<DeviceId, Counter>,
    /// Of the desired state of each group that one of them is in.
    pub states: BTreeMap<GroupName, Counter>,
    /// Of the list of revoked keys; none if no key was ever revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocations: Option<Counter>,
    /// The version of the organisation's `timestamp.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<u64>,
}

/// What a device tells the others of its site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// How far its own documents are.
    pub heads: Heads,
    /// The receipt of its newest poll, if it is the one that polls for the site.
    pub poll: Option<PollReceipt>,
}

impl Message for Said {
    const BYTES_MAX: usize = Heads::BYTES_MAX + HEADS_BYTES_MAX + (1 << 10);

    fn is_bounded(&self) -> bool {
        self.heads.is_bounded() && self.poll.as_ref().is_none_or(|poll| poll.bytes() <= HEADS_BYTES_MAX)
    }
}

/// Signed documents that one device hands to another; nothing of them is believed before it is checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Documents {
    /// Desired states.
    pub states: Vec<String>,
    /// The list of revoked keys.
    pub revocations: Option<String>,
    /// The organisation's `timestamp.json`: it leads to new roots, and to versions that new desired states name.
    pub timestamp: Option<String>,
}

impl Message for Documents {
    /// A desired state has a few KiB, and a device is in a few groups.
    const BYTES_MAX: usize = 1 << 20;

    fn is_bounded(&self) -> bool {
        self.states.len() <= GROUPS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_they_were_written_and_nothing_else_is() {
        let heads = Heads { states: [("all".parse().unwrap(), Counter { epoch: 1, n: 2 })].into(), revocations: None, timestamp: Some(7) };
        let bytes = heads.encode().unwrap();
        assert_eq!(Heads::decode(&bytes), Some(heads));
        assert!((0..bytes.len()).all(|end| Heads::decode(&bytes[..end]).is_none()));
        let many = (0..=GROUPS_MAX).map(|n| (format!("g{n}").parse().unwrap(), Counter::default())).collect();
        let many = Heads { states: many, ..Heads::default() };
        assert!(many.encode().is_none());
        assert_eq!(Heads::decode(&postcard::to_stdvec(&many).unwrap()), None);
        let large = Documents { states: vec!["x".repeat(Documents::BYTES_MAX)], ..Documents::default() };
        assert_eq!(Documents::decode(&postcard::to_stdvec(&large).unwrap()), None);
        let receipt = |bytes| PollReceipt::of_mark("5 AAAA", " ".repeat(bytes));
        let said = Said { poll: receipt(1), ..Said::default() };
        assert_eq!(Said::decode(&said.encode().unwrap()), Some(said));
        let said = Said { poll: receipt(HEADS_BYTES_MAX), ..Said::default() };
        assert_eq!(Said::decode(&postcard::to_stdvec(&said).unwrap()), None);
    }
}
