//! Desired states: which version of each app a group shall have, and when its devices may start it; signed by the seed's
//! online key, with a counter that never goes back (Uptane's Director).
//!
//! Not here: what a version is; see [`super::version`]. Who acts on which group's; see [`super::assignment`].

use std::collections::BTreeMap;

use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Serialize};

use super::assignment::AcceptedAssignment;
use super::counters::{self, Counters, Document};
use super::refused::DocumentRefused;
use super::signed::Format;
use crate::digest::Digest;
use crate::name::{AppName, GroupName, OrgName, Platform, RolloutId};
use crate::rollout::steps::Steps;
use crate::rollout::window::Window;
use crate::time::WallTime;

/// The DSSE payload type of a desired state.
pub const PAYLOAD_TYPE: &str = "application/vnd.hedgerow.desired-state+json";

/// The `format` this code writes. It reads format 1 too, in which every device starts a version at once.
pub const FORMAT: u32 = 2;

/// A counter that never goes back: the epoch stands in the root-signed delegation of the online key, `n` is the seed's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counter {
    /// Raised by a new root alone.
    pub epoch: u64,
    /// Raised by the seed with every change.
    pub n: u64,
}

impl Counter {
    /// The counter after `previous`: one up within the epoch, from 1 on when the root delegates another `epoch`.
    #[must_use]
    pub const fn after(previous: Option<Self>, epoch: u64) -> Self {
        match previous {
            Some(Self { epoch: same, n }) if same == epoch => Self { epoch, n: n.saturating_add(1) },
            _ => Self { epoch, n: 1 },
        }
    }
}

/// Whether the devices of a group may start a version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Starts {
    /// Those whose turn has come may.
    #[default]
    Open,
    /// None may for now, but all may fetch it.
    Held,
    /// None may any more, and none need fetch it; a device that runs it goes on.
    Ended,
}

/// When the devices of a group may start a version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Activation {
    /// Whether any may.
    #[serde(default)]
    pub starts: Starts,
    /// From when on the steps count, in seconds since 1970.
    #[serde(default)]
    pub since: WallTime,
    /// Which share of the devices may start it how long after that.
    #[serde(default)]
    pub steps: Steps,
    /// The time of day in which devices may start it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// After this moment no device starts it on the strength of this document, in seconds since 1970: it bounds how long a
    /// device that is cut off goes on by the steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_until: Option<WallTime>,
}

impl Activation {
    fn is_at_once(&self) -> bool {
        *self == Self::default()
    }
}

/// Which version of an app the group shall have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DesiredApp {
    /// The version's number.
    pub version: u64,
    /// The rollout that put it here.
    pub rollout: RolloutId,
    /// The SHA-256 of the statement for each platform that the version exists for.
    pub statements: BTreeMap<Platform, Digest>,
    /// When devices may start it.
    #[serde(default, skip_serializing_if = "Activation::is_at_once")]
    pub activation: Activation,
    /// What a device shall have that may not start it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Before>,
}

/// The version that a group had before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Before {
    /// The version's number.
    pub version: u64,
    /// The SHA-256 of the statement for each platform that the version exists for.
    pub statements: BTreeMap<Platform, Digest>,
}

/// What a group shall have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DesiredState {
    /// The format of this document, at most [`FORMAT`].
    pub format: u32,
    /// The organisation.
    pub org: OrgName,
    /// The group.
    pub group: GroupName,
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

impl Format for DesiredState {
    const FORMAT: u32 = FORMAT;
}

impl Document for DesiredState {
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

/// A desired state that passed every check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedDesiredState(DesiredState);

impl AcceptedDesiredState {
    /// Checks the envelope `bytes` for a device with this `assignment`, and notes it in `counters`.
    ///
    /// # Errors
    /// With the reason why the document must not be acted on; `counters` stay as they are.
    pub fn accept(
        bytes: &[u8],
        online: &OnlineKey,
        assignment: &AcceptedAssignment,
        counters: &mut Counters,
        now: WallTime,
    ) -> Result<Self, DocumentRefused> {
        let (state, digest) = counters::open::<DesiredState>(bytes, online)?;
        if !assignment.assignment().groups().contains(&state.group) {
            return Err(DocumentRefused::OtherGroup(state.group));
        }
        let seen = counters::check_order(&state, digest, online, counters.desired(&state.group), now)?;
        counters.note_desired(&state.group, seen)?;
        Ok(Self(state))
    }

    /// An accepted state without a signature, for the simulation, which moves no bytes.
    #[cfg(feature = "simulated")]
    pub const fn simulated(state: DesiredState) -> Self {
        Self(state)
    }

    /// What was accepted.
    pub const fn state(&self) -> &DesiredState {
        &self.0
    }
}

#[cfg(test)]
pub(crate) mod tests;
