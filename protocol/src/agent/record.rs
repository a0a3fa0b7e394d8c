//! What a device keeps of each app, so that it knows after a crash what ran, what it was about to start, and what failed.
//!
//! Not here: writing it to the disk.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::name::RolloutId;

/// A version of an app, and the statement that says what it is on this device's platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// N.
    pub version: u64,
    /// The SHA-256 of the statement.
    pub statement: Digest,
}

/// A version that was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The version.
    pub release: Release,
    /// Whether the start ended well; otherwise it is under way, or was when the device stopped.
    pub healthy: bool,
    /// Whether something started it, or it was only taken into use.
    pub activated: bool,
    /// How many starts of it were begun, one after the other, and did not end, because the device stopped.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tries: u32,
}

/// A version that did not come to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailedStart {
    /// The rollout that wanted it; none if it was pinned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutId>,
    /// The version. It is not tried again for the same rollout.
    pub version: u64,
    /// Why, for people.
    pub reason: String,
}

/// What is kept of one app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// What was started last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<Run>,
    /// The version that was healthy last, to which the device goes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good: Option<Release>,
    /// The start that failed last, until another rollout brings a version that does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<FailedStart>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Record {
    /// How many starts of this version were begun, one after the other, and did not end.
    pub(super) fn tries(&self, release: &Release) -> u32 {
        self.running.filter(|run| run.release == *release && !run.healthy).map_or(0, |run| run.tries)
    }

    /// Whether this version runs and needs no start.
    pub(super) fn is_running(&self, release: &Release, activates: bool) -> bool {
        self.running.is_some_and(|run| run.release == *release && run.healthy && (run.activated || !activates))
    }

    /// The version whose start was begun and did not end: processes of it may be left.
    pub fn unended(&self) -> Option<Release> {
        self.running.filter(|run| run.activated && !run.healthy && run.tries > 0).map(|run| run.release)
    }

    /// The version that was started last, whether or not the start has ended.
    pub(super) fn started(&self) -> Option<Release> {
        self.running.map(|run| run.release)
    }
}
