//! How the reports of devices add up to the state of a rollout.
//!
//! Not here: who reports over which connection, and waves, thresholds and the statistics of an abort, which come later.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::name::{AppName, OrgName};
use crate::statement::desired::{Counter, DesiredApp, DesiredState, FORMAT};
use crate::time::WallTime;

/// The most apps that one report speaks of.
pub const APPS_MAX: usize = 256;
/// The longest reason of a failure, in bytes.
pub const REASON_BYTES_MAX: usize = 512;
/// The most different reasons that a rollout's status names.
pub const REASONS_MAX: usize = 20;
/// Under this the status counts the failures whose reasons it does not name.
pub const OTHER_REASONS: &str = "other reasons";

/// What a device does with a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceState {
    /// It has not said anything about the version yet.
    Pending,
    /// It fetches the version's blobs.
    Fetching,
    /// It holds and has verified all of them.
    Stored,
    /// It starts the version.
    Starting,
    /// The version runs and is healthy.
    Healthy,
    /// It cannot have the version.
    Failed,
    /// It went back to the version before.
    RolledBack,
    /// It did not report before the deadline.
    Silent,
}

impl DeviceState {
    /// Every state, in the order in which they are shown.
    pub const ALL: [Self; 8] =
        [Self::Pending, Self::Fetching, Self::Stored, Self::Starting, Self::Healthy, Self::Failed, Self::RolledBack, Self::Silent];

    /// Whether a device in this state has what the rollout wants; one without activation ends in `stored`.
    pub const fn is_done(self) -> bool {
        matches!(self, Self::Stored | Self::Healthy)
    }
}

/// What a device says about one app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppReport {
    /// The version it is about.
    pub version: u64,
    /// What the device does with it.
    pub state: DeviceState,
    /// Why it failed, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Everything a device says, newest counter wins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceReport {
    /// Raised by the device with every report, so that an old one cannot be replayed.
    pub counter: u64,
    /// Its apps.
    pub apps: BTreeMap<AppName, AppReport>,
}

/// A reason, cut so that a report may carry it.
pub fn short_reason(mut reason: String) -> String {
    reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
    reason
}

/// Why a report is not kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportRefused {
    /// It speaks of too many apps.
    #[error("the report speaks of {0} apps, more than {APPS_MAX}; report fewer")]
    TooManyApps(usize),
    /// A reason is too long.
    #[error("the reason given for {0} has more than {REASON_BYTES_MAX} bytes; shorten it")]
    ReasonTooLong(AppName),
}

impl DeviceReport {
    /// Checks the limits.
    ///
    /// # Errors
    /// When one is exceeded.
    pub fn check(&self) -> Result<(), ReportRefused> {
        if self.apps.len() > APPS_MAX {
            return Err(ReportRefused::TooManyApps(self.apps.len()));
        }
        let long = |report: &AppReport| report.reason.as_ref().is_some_and(|reason| reason.len() > REASON_BYTES_MAX);
        match self.apps.iter().find(|(_, report)| long(report)) {
            Some((app, _)) => Err(ReportRefused::ReasonTooLong(app.clone())),
            None => Ok(()),
        }
    }
}

/// The state of a rollout as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutState {
    /// Devices are still on their way.
    Running,
    /// No further device starts.
    Paused,
    /// Ended before all devices were done.
    Aborted,
    /// There are devices, and every one is done.
    Done,
}

/// A rollout's devices by state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutCount {
    /// The state of the whole.
    pub state: RolloutState,
    /// How many devices are in each state; every state is present.
    pub devices: BTreeMap<DeviceState, u64>,
}

/// The desired state that follows `previous` when `change` is made; without a previous one it is the group's first.
///
/// The counter goes up by one within the epoch, and starts anew when the root delegates a higher `epoch`.
pub fn next_desired_state(
    previous: Option<&DesiredState>,
    org: &OrgName,
    group: &str,
    epoch: u64,
    expires: WallTime,
    change: Option<(AppName, DesiredApp)>,
) -> DesiredState {
    let counter = match previous.map(|previous| previous.counter) {
        Some(Counter { epoch: same, n }) if same == epoch => Counter { epoch, n: n + 1 },
        _ => Counter { epoch, n: 1 },
    };
    let mut apps = previous.map(|previous| previous.apps.clone()).unwrap_or_default();
    apps.extend(change);
    DesiredState { format: FORMAT, org: org.clone(), group: group.to_owned(), counter, expires, apps }
}

/// Counts the devices of a rollout of `version` of `app`; `reports` has one entry a device, none if it never reported.
pub fn count<'a>(app: &AppName, version: u64, reports: impl Iterator<Item = Option<&'a DeviceReport>>) -> RolloutCount {
    let mut devices: BTreeMap<_, u64> = DeviceState::ALL.into_iter().map(|state| (state, 0)).collect();
    let (mut any, mut all_done) = (false, true);
    for report in reports {
        any = true;
        let state = report
            .and_then(|report| report.apps.get(app))
            .filter(|report| report.version == version)
            .map_or(DeviceState::Pending, |report| report.state);
        all_done &= state.is_done();
        *devices.entry(state).or_default() += 1;
    }
    let state = if any && all_done { RolloutState::Done } else { RolloutState::Running };
    RolloutCount { state, devices }
}

/// Why devices failed to have `version` of `app`, the most frequent ones: at most [`REASONS_MAX`] reasons by name, the
/// rest summed under [`OTHER_REASONS`].
pub fn failures<'a>(app: &AppName, version: u64, reports: impl Iterator<Item = &'a DeviceReport>) -> BTreeMap<String, u64> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for report in reports.filter_map(|report| report.apps.get(app)) {
        if report.version == version && report.state == DeviceState::Failed {
            *counts.entry(report.reason.as_deref().unwrap_or("no reason given")).or_default() += 1;
        }
    }
    let mut ranked: Vec<(&str, u64)> = counts.into_iter().collect();
    ranked.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let (named, others) = ranked.split_at(ranked.len().min(REASONS_MAX));
    let mut failures: BTreeMap<String, u64> = named.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect();
    if !others.is_empty() {
        *failures.entry(OTHER_REASONS.to_owned()).or_default() += others.iter().map(|(_, count)| count).sum::<u64>();
    }
    failures
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(version: u64, state: DeviceState) -> DeviceReport {
        let app = AppReport { version, state, reason: None };
        DeviceReport { counter: 1, apps: [("web".parse().unwrap(), app)].into() }
    }

    #[test]
    fn a_change_raises_the_counter_and_keeps_the_other_apps() {
        let desired = |version| DesiredApp { version, rollout: "r".into(), statements: BTreeMap::new() };
        let (org, expires) = ("acme".parse().unwrap(), WallTime::from_unix_seconds(9));
        let next = |previous: Option<&DesiredState>, epoch, app: &str, version| {
            next_desired_state(previous, &org, "all", epoch, expires, Some((app.parse().unwrap(), desired(version))))
        };
        let first = next(None, 1, "web", 1);
        let second = next(Some(&first), 1, "db", 4);
        assert_eq!((first.counter, second.counter), (Counter { epoch: 1, n: 1 }, Counter { epoch: 1, n: 2 }));
        assert_eq!(second.apps.len(), 2);
        assert_eq!(next(Some(&second), 2, "web", 2).counter, Counter { epoch: 2, n: 1 });
    }

    #[test]
    fn counts_by_state_and_is_done_when_every_device_is() {
        let web = "web".parse().unwrap();
        let stored = report(2, DeviceState::Stored);
        let older = report(1, DeviceState::Stored);
        let running = count(&web, 2, [Some(&stored), Some(&older), None].into_iter());
        assert_eq!(running.state, RolloutState::Running);
        assert_eq!((running.devices[&DeviceState::Stored], running.devices[&DeviceState::Pending]), (1, 2));
        assert_eq!(running.devices.len(), 8);
        assert_eq!(count(&web, 2, std::iter::empty()).state, RolloutState::Running, "nobody has it yet");
        let healthy = report(2, DeviceState::Healthy);
        assert_eq!(count(&web, 2, [Some(&stored), Some(&healthy)].into_iter()).state, RolloutState::Done);
    }

    fn failed(reason: &str) -> DeviceReport {
        let mut failed = report(2, DeviceState::Failed);
        failed.apps.values_mut().for_each(|app| app.reason = Some(reason.to_owned()));
        failed
    }

    #[test]
    fn a_report_has_limits() {
        assert_eq!(failed(&"x".repeat(REASON_BYTES_MAX)).check(), Ok(()));
        assert_eq!(failed(&"x".repeat(REASON_BYTES_MAX + 1)).check(), Err(ReportRefused::ReasonTooLong("web".parse().unwrap())));
        assert_eq!(short_reason("ä".repeat(REASON_BYTES_MAX)).len(), REASON_BYTES_MAX);
        let app = AppReport { version: 1, state: DeviceState::Stored, reason: None };
        let apps = |count| (0..count).map(|n| (format!("app{n}").parse().unwrap(), app.clone())).collect();
        assert_eq!(DeviceReport { counter: 1, apps: apps(APPS_MAX) }.check(), Ok(()));
        assert_eq!(DeviceReport { counter: 1, apps: apps(APPS_MAX + 1) }.check(), Err(ReportRefused::TooManyApps(APPS_MAX + 1)));
    }

    #[test]
    fn names_the_frequent_reasons_and_sums_the_rest() {
        let mut reports: Vec<DeviceReport> = (0..30).map(|n| failed(&format!("reason {n}"))).collect();
        reports.extend([failed("z frequent"), failed("z frequent"), report(1, DeviceState::Failed), report(2, DeviceState::Stored)]);
        let failures = failures(&"web".parse().unwrap(), 2, reports.iter());
        assert_eq!(failures.len(), REASONS_MAX + 1);
        assert_eq!((failures["z frequent"], failures[OTHER_REASONS]), (2, 11));
        assert_eq!(failures.values().sum::<u64>(), 32);
    }
}
