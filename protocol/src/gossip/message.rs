//! What is said, byte by byte: postcard, with a limit on each message.
//!
//! Not here: when it is said; see [`super`].

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::name::GroupName;
use crate::statement::desired::Counter;

/// Groups of which a device tells: more than it is in, one for each app.
pub const GROUPS_MAX: usize = 256;

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
}

impl Heads {
    /// Whether `other` has something newer that a device with these wants.
    pub fn is_behind(&self, other: &Self) -> bool {
        let newer = |(group, own): (&GroupName, &Counter)| other.states.get(group).is_some_and(|theirs| theirs > own);
        self.revocations < other.revocations || self.states.iter().any(newer)
    }
}

impl Message for Heads {
    const BYTES_MAX: usize = 48 << 10;

    fn is_bounded(&self) -> bool {
        self.states.len() <= GROUPS_MAX
    }
}

/// Signed documents that one device hands to another; nothing of them is believed before it is checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Documents {
    /// Desired states.
    pub states: Vec<String>,
    /// The list of revoked keys.
    pub revocations: Option<String>,
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
        let heads = Heads { states: [("all".parse().unwrap(), Counter { epoch: 1, n: 2 })].into(), revocations: None };
        let bytes = heads.encode().unwrap();
        assert_eq!(Heads::decode(&bytes), Some(heads));
        assert!((0..bytes.len()).all(|end| Heads::decode(&bytes[..end]).is_none()));
        let many = (0..=GROUPS_MAX).map(|n| (format!("g{n}").parse().unwrap(), Counter::default())).collect();
        let many = Heads { states: many, revocations: None };
        assert!(many.encode().is_none());
        assert_eq!(Heads::decode(&postcard::to_stdvec(&many).unwrap()), None);
        let large = Documents { states: vec!["x".repeat(Documents::BYTES_MAX)], revocations: None };
        assert_eq!(Documents::decode(&postcard::to_stdvec(&large).unwrap()), None);
    }
}
