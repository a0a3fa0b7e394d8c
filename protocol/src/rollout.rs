//! How the reports of devices add up to the state of a rollout.
//!
//! Not here: who reports over which connection, and waves, thresholds and the statistics of an abort, which come later.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::name::{AppName, OrgName};
use crate::statement::desired::{Counter, DesiredApp, DesiredState, FORMAT};
use crate::time::WallTime;

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
    /// Every device is done.
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
    let mut all_done = true;
    for report in reports {
        let state = report
            .and_then(|report| report.apps.get(app))
            .filter(|report| report.version == version)
            .map_or(DeviceState::Pending, |report| report.state);
        all_done &= state.is_done();
        *devices.entry(state).or_default() += 1;
    }
    let state = if all_done { RolloutState::Done } else { RolloutState::Running };
    RolloutCount { state, devices }
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
        let healthy = report(2, DeviceState::Healthy);
        assert_eq!(count(&web, 2, [Some(&stored), Some(&healthy)].into_iter()).state, RolloutState::Done);
    }
}
