//! What a device remembers of the documents that it accepted, so that none goes back: the newest counter of its assignment
//! and of each group's desired state.
//!
//! A counter is (epoch, n). Only a verified root raises the epoch; with it n starts anew, which is how a fleet goes on after
//! its seed was restored from a backup.
//!
//! Not here: signatures and shapes; see [`super::desired`] and [`super::assignment`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::desired::{Counter, OnlineKey};
use super::refused::DocumentRefused;
use super::signed::{self, Format};
use crate::digest::Digest;
use crate::envelope::Envelope;
use crate::name::{GroupName, OrgName};
use crate::time::WallTime;

/// The most groups of one epoch whose counters are remembered: more than an organisation may have at a time.
pub const GROUPS_SEEN_MAX: usize = 4096;

/// A document that was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// Its counter.
    pub counter: Counter,
    /// The SHA-256 of what was signed; none if it was accepted by a program that did not note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

/// The newest documents that were accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counters {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    assignment: Option<Seen>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    desired: BTreeMap<GroupName, Seen>,
}

impl Counters {
    /// What a program of before remembered: the counter of the group `all`.
    pub fn of_all(counter: Counter) -> Self {
        Self { assignment: None, desired: [(GroupName::all(), Seen { counter, digest: None })].into() }
    }

    /// The newest assignment that was accepted.
    pub const fn assignment(&self) -> Option<&Seen> {
        self.assignment.as_ref()
    }

    /// The newest desired state of the group that was accepted.
    pub fn desired(&self, group: &GroupName) -> Option<&Seen> {
        self.desired.get(group)
    }

    pub(super) fn note_assignment(&mut self, seen: Seen) {
        self.assignment = Some(seen);
    }

    /// Notes a desired state. Counters of earlier epochs are forgotten: their epoch alone refuses such documents.
    pub(super) fn note_desired(&mut self, group: &GroupName, seen: Seen) -> Result<(), DocumentRefused> {
        let epoch = seen.counter.epoch;
        self.desired.retain(|_, known| known.counter.epoch >= epoch);
        if !self.desired.contains_key(group) && self.desired.len() >= GROUPS_SEEN_MAX {
            return Err(DocumentRefused::TooManyGroups(self.desired.len()));
        }
        self.desired.insert(group.clone(), seen);
        Ok(())
    }
}

/// What every document of the online key says.
pub(super) trait Document: Format {
    const PAYLOAD_TYPE: &'static str;

    fn org(&self) -> &OrgName;
    fn counter(&self) -> Counter;
    fn expires(&self) -> WallTime;
}

/// The document in the envelope `bytes` and its SHA-256, if the online key signed it.
pub(super) fn open<D: Document>(bytes: &[u8], online: &OnlineKey) -> Result<(D, Digest), DocumentRefused> {
    let payload = Envelope::open(bytes, D::PAYLOAD_TYPE, &online.key)?;
    let document: D = signed::read(&payload)?;
    if *document.org() != online.org {
        return Err(DocumentRefused::ForeignOrg(document.org().clone()));
    }
    Ok((document, Digest::sha256(&payload)))
}

/// Checks that a document neither goes back nor is over; what to remember of it.
pub(super) fn check_order(
    document: &impl Document,
    digest: Digest,
    online: &OnlineKey,
    newest: Option<&Seen>,
    now: WallTime,
) -> Result<Seen, DocumentRefused> {
    let found = document.counter();
    if found.epoch != online.epoch {
        return Err(DocumentRefused::OtherEpoch { found: found.epoch, delegated: online.epoch });
    }
    if let Some(accepted) = newest {
        if found < accepted.counter {
            return Err(DocumentRefused::OlderCounter { found, accepted: accepted.counter });
        }
        if found == accepted.counter && accepted.digest.is_some_and(|known| known != digest) {
            return Err(DocumentRefused::OtherContent(found));
        }
    }
    if document.expires() <= now {
        return Err(DocumentRefused::Expired(document.expires()));
    }
    Ok(Seen { counter: found, digest: Some(digest) })
}
