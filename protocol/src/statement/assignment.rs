//! Assignments: which group's desired state a device acts on for each app, or which version it is pinned to; signed by the
//! seed's online key, one for each device.
//!
//! Not here: what a group shall have; see [`super::desired`]. Which group a device belongs to; see [`crate::group`].

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::counters::{self, Counters, Document};
use super::desired::{Counter, OnlineKey};
use super::refused::DocumentRefused;
use super::signed::Format;
use crate::digest::Digest;
use crate::name::{AppName, DeviceId, GroupName, OrgName, Platform};
use crate::time::WallTime;

/// The DSSE payload type of an assignment.
pub const PAYLOAD_TYPE: &str = "application/vnd.hedgerow.assignment+json";

/// The only `format` this code reads and writes.
pub const FORMAT: u32 = 1;

/// Where a device finds out which version of an app it shall have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Assigned {
    /// In the desired state of this group.
    Group(GroupName),
    /// Here: this version, whatever its groups get.
    Pin(Pin),
}

/// A version for one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// The version's number.
    pub version: u64,
    /// The SHA-256 of the statement for each platform that the version exists for.
    pub statements: BTreeMap<Platform, Digest>,
}

/// What one device acts on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assignment {
    /// The format of this document, [`FORMAT`].
    pub format: u32,
    /// The organisation.
    pub org: OrgName,
    /// The device.
    pub device: DeviceId,
    /// Order among the device's assignments.
    pub counter: Counter,
    /// After this moment the document is no longer accepted, in seconds since 1970.
    pub expires: WallTime,
    /// The group of every app that `apps` does not name.
    pub otherwise: GroupName,
    /// The apps for which it is another group, or a version of the device's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub apps: BTreeMap<AppName, Assigned>,
}

impl Assignment {
    /// The groups whose desired states the device acts on.
    pub fn groups(&self) -> BTreeSet<&GroupName> {
        let named = self.apps.values().filter_map(|assigned| match assigned {
            Assigned::Group(group) => Some(group),
            Assigned::Pin(_) => None,
        });
        named.chain([&self.otherwise]).collect()
    }

    /// Whether the device takes `app` from the desired state of `group`.
    pub fn takes(&self, app: &AppName, group: &GroupName) -> bool {
        match self.apps.get(app) {
            Some(Assigned::Group(assigned)) => assigned == group,
            Some(Assigned::Pin(_)) => false,
            None => self.otherwise == *group,
        }
    }
}

impl Format for Assignment {
    const FORMAT: u32 = FORMAT;
}

impl Document for Assignment {
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

/// An assignment that passed every check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedAssignment(Assignment);

impl AcceptedAssignment {
    /// Checks the envelope `bytes` for `device`, and notes it in `counters`.
    ///
    /// # Errors
    /// With the reason why the document must not be acted on; `counters` stay as they are.
    pub fn accept(
        bytes: &[u8],
        online: &OnlineKey,
        device: &DeviceId,
        counters: &mut Counters,
        now: WallTime,
    ) -> Result<Self, DocumentRefused> {
        let (assignment, digest) = counters::open::<Assignment>(bytes, online)?;
        if assignment.device != *device {
            return Err(DocumentRefused::OtherDevice(assignment.device));
        }
        let seen = counters::check_order(&assignment, digest, online, counters.assignment(), now)?;
        counters.note_assignment(seen);
        Ok(Self(assignment))
    }

    /// An accepted assignment without a signature, for the simulation, which moves no bytes.
    #[cfg(feature = "simulated")]
    pub const fn simulated(assignment: Assignment) -> Self {
        Self(assignment)
    }

    /// What was accepted.
    pub const fn assignment(&self) -> &Assignment {
        &self.0
    }
}
