//! What devices say about themselves.
//!
//! Not here: how it is signed ([`super::signed`]) and counted ([`mod@super::count`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::label::{LabelRefused, Labels, check_count};
use crate::name::{AppName, RolloutId};

/// The most apps that one report speaks of.
pub const APPS_MAX: usize = 256;
/// The longest reason of a failure, in bytes.
pub const REASON_BYTES_MAX: usize = 512;
/// The most kinds of refused documents that one report names: every kind of document with every reason is fewer.
pub const REFUSALS_MAX: usize = 32;
/// The longest name of a kind of refused document, in bytes.
const REFUSAL_BYTES_MAX: usize = 64;

/// What a device does with a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceState {
    /// It has not said anything about the version yet.
    Pending,
    /// It fetches the version's blobs.
    Fetching,
    /// It holds and has verified all of them, and waits until it may start the version.
    Waiting,
    /// It holds and has verified all of them, may start the version, and has nothing to start it with.
    Stored,
    /// It starts the version.
    Starting,
    /// The version runs and is healthy.
    Healthy,
    /// It cannot have the version.
    Failed,
    /// It went back to the version before.
    RolledBack,
    /// It did not say how it ended before the deadline.
    Silent,
}

impl DeviceState {
    /// Every state, in the order in which they are shown.
    pub const ALL: [Self; 9] = [
        Self::Pending,
        Self::Fetching,
        Self::Waiting,
        Self::Stored,
        Self::Starting,
        Self::Healthy,
        Self::Failed,
        Self::RolledBack,
        Self::Silent,
    ];

    /// Whether a device in this state has what the rollout wants; one without activation ends in `stored`.
    pub const fn is_done(self) -> bool {
        matches!(self, Self::Stored | Self::Healthy)
    }

    /// Whether the version did not come to run on a device in this state.
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::RolledBack | Self::Silent)
    }
}

/// What a device says about one app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppReport {
    /// The version it is about.
    pub version: u64,
    /// The rollout it is about; none for a pinned version, and from programs of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutId>,
    /// What the device does with it.
    pub state: DeviceState,
    /// The version that it started last, and goes on with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<u64>,
    /// Why it failed, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it fetched to have the version whole; none if it did not, or not since it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetched: Option<Fetched>,
}

/// Where bytes of blobs came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fetched {
    /// From the seed.
    pub wan_bytes: u64,
    /// From peers.
    pub lan_bytes: u64,
}

impl Fetched {
    /// All of them.
    pub const fn bytes(self) -> u64 {
        self.wan_bytes.saturating_add(self.lan_bytes)
    }

    /// Counts more of them.
    pub const fn add(&mut self, more: Self) {
        self.wan_bytes = self.wan_bytes.saturating_add(more.wan_bytes);
        self.lan_bytes = self.lan_bytes.saturating_add(more.lan_bytes);
    }
}

/// Everything a device says, newest counter wins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceReport {
    /// Raised by the device with every report, so that an old one cannot be replayed.
    pub counter: u64,
    /// Its apps.
    pub apps: BTreeMap<AppName, AppReport>,
    /// Its own labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: Labels,
    /// How many documents of the seed it refused since it was started, by `<document>/<reason>`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<String, u64>,
    /// Whether for days nothing that its seed said could be accepted; see [`crate::agent::freshness`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
}

/// A reason, cut so that a report may carry it.
pub fn short_reason(mut reason: String) -> String {
    reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
    reason
}

/// Why a report is not kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportTooLarge {
    /// It speaks of too many apps.
    #[error("the report speaks of {0} apps, more than {APPS_MAX}; report fewer")]
    Apps(usize),
    /// A reason is too long.
    #[error("the reason given for {0} has more than {REASON_BYTES_MAX} bytes; shorten it")]
    Reason(AppName),
    /// It names too many kinds of refused documents, or one by a name that is too long.
    #[error("the report names more than {REFUSALS_MAX} kinds of refused documents, or one with more than {REFUSAL_BYTES_MAX} bytes")]
    Refusals,
    /// It has too many labels.
    #[error(transparent)]
    Labels(#[from] LabelRefused),
}

impl DeviceReport {
    /// This report after `before`: a device that was started again does not know any more what it fetched to have a version.
    #[must_use]
    pub fn following(mut self, before: &Self) -> Self {
        for (app, report) in &mut self.apps {
            let known = before.apps.get(app).filter(|known| known.version == report.version);
            report.fetched = report.fetched.or_else(|| known.and_then(|known| known.fetched));
        }
        self
    }

    /// Checks the limits.
    ///
    /// # Errors
    /// When one is exceeded.
    pub fn check(&self) -> Result<(), ReportTooLarge> {
        if self.apps.len() > APPS_MAX {
            return Err(ReportTooLarge::Apps(self.apps.len()));
        }
        if self.refused.len() > REFUSALS_MAX || self.refused.keys().any(|name| name.len() > REFUSAL_BYTES_MAX) {
            return Err(ReportTooLarge::Refusals);
        }
        check_count(&self.labels)?;
        let long = |report: &AppReport| report.reason.as_ref().is_some_and(|reason| reason.len() > REASON_BYTES_MAX);
        match self.apps.iter().find(|(_, report)| long(report)) {
            Some((app, _)) => Err(ReportTooLarge::Reason(app.clone())),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(apps: usize, reason: &str) -> DeviceReport {
        let app = AppReport {
            version: 1,
            rollout: None,
            state: DeviceState::Failed,
            running: None,
            reason: Some(reason.to_owned()),
            fetched: None,
        };
        let apps = (0..apps).map(|n| (format!("app{n}").parse().unwrap(), app.clone())).collect();
        DeviceReport { counter: 1, apps, labels: Labels::new(), refused: BTreeMap::new(), stale: false }
    }

    #[test]
    fn a_report_has_limits() {
        assert_eq!(report(1, &"x".repeat(REASON_BYTES_MAX)).check(), Ok(()));
        let long = report(1, &"x".repeat(REASON_BYTES_MAX + 1));
        assert_eq!(long.check(), Err(ReportTooLarge::Reason("app0".parse().unwrap())));
        assert_eq!(short_reason("ä".repeat(REASON_BYTES_MAX)).len(), REASON_BYTES_MAX);
        assert_eq!(report(APPS_MAX, "").check(), Ok(()));
        assert_eq!(report(APPS_MAX + 1, "").check(), Err(ReportTooLarge::Apps(APPS_MAX + 1)));
        let refused = (0..=REFUSALS_MAX).map(|n| (n.to_string(), 1)).collect();
        assert_eq!(DeviceReport { refused, ..report(0, "") }.check(), Err(ReportTooLarge::Refusals));
    }

    #[test]
    fn reads_a_report_of_a_program_of_before() {
        let old = r#"{"counter":7,"apps":{"web":{"version":2,"state":"stored"}}}"#;
        let report: DeviceReport = serde_json::from_str(old).unwrap();
        assert_eq!(serde_json::to_string(&report).unwrap(), old);
    }
}
