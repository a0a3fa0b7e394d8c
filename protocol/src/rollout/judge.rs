//! When a rollout has failed too often, and when it is done.
//!
//! [`AbortRule`] has one kind of rule, a threshold; a sequential test of the failures would be another.
//!
//! Not here: counting; see [`mod@super::count`].

use serde::{Deserialize, Serialize};

use super::count::Count;
use super::machine::{Rollout, RolloutState};
use super::report::DeviceState;
use super::steps::Share;

/// How many devices must have ended before the share of failures counts, unless the operator says otherwise: with fewer, one
/// bad device would be a large share.
pub const DEVICES_MIN: u64 = 10;

/// When failures end a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AbortRule {
    /// When more than this share of the devices that ended failed.
    Threshold {
        /// The largest share of failures that is borne.
        max_failures: Share,
        /// How many devices must have ended first; all of the group if it has fewer.
        devices_min: u64,
    },
}

/// What is to become of a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    GoOn,
    /// Every device is done.
    Complete,
    /// It is aborted, for this reason.
    Abort(String),
}

/// Judges a rollout by how its devices fare.
pub fn judge(rollout: &Rollout, count: &Count) -> Verdict {
    if rollout.state != RolloutState::Running {
        return Verdict::GoOn;
    }
    if count.all_done() {
        return Verdict::Complete;
    }
    match rollout.plan.abort {
        Some(AbortRule::Threshold { max_failures, devices_min }) => threshold(count, max_failures, devices_min),
        None => Verdict::GoOn,
    }
}

fn threshold(count: &Count, max_failures: Share, devices_min: u64) -> Verdict {
    let sum = |counts: fn(DeviceState) -> bool| -> u64 {
        count.devices.iter().filter(|(state, _)| counts(**state)).map(|(_, devices)| devices).sum()
    };
    let (done, failed) = (sum(DeviceState::is_done), sum(DeviceState::is_failure));
    let ended = done + failed;
    let enough = ended >= devices_min.min(count.total()).max(1);
    if !enough || !max_failures.is_exceeded_by(failed, ended) {
        return Verdict::GoOn;
    }
    let most = count.failures.iter().max_by_key(|(_, devices)| **devices).map(|(reason, _)| format!("; most often: {reason}"));
    Verdict::Abort(format!("{failed} of {ended} devices that ended failed, more than {max_failures}{}", most.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::GroupName;
    use crate::rollout::machine::Plan;
    use crate::time::WallTime;

    fn rollout() -> Rollout {
        let abort = Some(AbortRule::Threshold { max_failures: "5%".parse().unwrap(), devices_min: DEVICES_MIN });
        let plan = Plan { abort, ..Plan::default() };
        Rollout::start("r-1".parse().unwrap(), ("web".parse().unwrap(), 2), GroupName::all(), plan, None, WallTime::default())
    }

    fn count(devices: &[(DeviceState, u64)]) -> Count {
        Count { devices: devices.iter().copied().collect(), failures: [("exit 1".into(), 1)].into() }
    }

    #[test]
    fn too_many_failures_abort_once_enough_devices_ended() {
        use DeviceState::{Failed, Fetching, Healthy, RolledBack, Silent};
        let verdict = |devices: &[(DeviceState, u64)]| judge(&rollout(), &count(devices));
        assert_eq!(verdict(&[(Healthy, 8), (Failed, 1), (Fetching, 91)]), Verdict::GoOn, "too few ended");
        assert_eq!(verdict(&[(Healthy, 19), (Failed, 1), (Fetching, 80)]), Verdict::GoOn, "5% is borne");
        let aborted = verdict(&[(Healthy, 18), (Failed, 1), (RolledBack, 1), (Fetching, 80)]);
        assert!(matches!(&aborted, Verdict::Abort(reason) if reason.contains("2 of 20") && reason.contains("exit 1")), "{aborted:?}");
        assert!(matches!(verdict(&[(Healthy, 9), (Silent, 1), (Fetching, 90)]), Verdict::Abort(_)), "silence is failure");
        assert!(matches!(verdict(&[(Healthy, 2), (Failed, 1)]), Verdict::Abort(_)), "a small group is judged when all ended");
    }

    #[test]
    fn it_is_complete_when_every_device_is_done_and_judged_only_while_it_runs() {
        let healthy = count(&[(DeviceState::Healthy, 3), (DeviceState::Stored, 1)]);
        assert_eq!(judge(&rollout(), &healthy), Verdict::Complete);
        assert_eq!(judge(&rollout(), &count(&[])), Verdict::GoOn, "nobody has it yet");
        let paused = Rollout { state: RolloutState::Paused, ..rollout() };
        assert_eq!(judge(&paused, &healthy), Verdict::GoOn);
        let careless = Rollout { plan: Plan::default(), ..rollout() };
        assert_eq!(judge(&careless, &count(&[(DeviceState::Failed, 99), (DeviceState::Fetching, 1)])), Verdict::GoOn);
    }
}
