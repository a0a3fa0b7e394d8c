//! How the reports of a group's devices add up.
//!
//! Not here: what follows from it; see [`mod@super::judge`].

use std::collections::BTreeMap;

use super::machine::{Rollout, RolloutState};
use super::report::{AppReport, DeviceReport, DeviceState};
use super::steps::position;
use crate::name::DeviceId;
use crate::span::Span;
use crate::time::WallTime;

/// The most different reasons that a rollout's status names.
pub const REASONS_MAX: usize = 20;
/// The most different reasons that are told apart while a fleet is counted, so that one in which every device gives another
/// fits memory.
const TRACKED_MAX: usize = 1_000;
/// Under this the status counts the failures whose reasons it does not name.
pub const OTHER_REASONS: &str = "other reasons";
/// Under this the status counts devices that did not say how they ended before the deadline.
pub const SILENCE: &str = "no word before the deadline";

/// A device of the rollout's group.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// The device.
    pub device: &'a DeviceId,
    /// The newest that it said.
    pub report: Option<&'a DeviceReport>,
}

/// A rollout's devices by state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// How many devices are in each state.
    pub devices: BTreeMap<DeviceState, u64>,
    /// Why devices failed, and how many for each reason: at most [`REASONS_MAX`] by name, the rest under [`OTHER_REASONS`].
    pub failures: BTreeMap<String, u64>,
}

impl Count {
    /// All devices of the group.
    pub fn total(&self) -> u64 {
        self.devices.values().sum()
    }

    /// Whether there are devices, and every one is done.
    pub fn all_done(&self) -> bool {
        self.total() > 0 && self.devices.iter().all(|(state, devices)| state.is_done() || *devices == 0)
    }

    /// The rollout's state as people ask for it: done while every device is, running again while a new one catches up.
    pub fn state_of(&self, rollout: &Rollout) -> RolloutState {
        match rollout.state {
            RolloutState::Running | RolloutState::Done if self.all_done() => RolloutState::Done,
            RolloutState::Running | RolloutState::Done => RolloutState::Running,
            other => other,
        }
    }
}

/// Counts the devices of a rollout.
pub fn count<'a>(rollout: &Rollout, members: impl Iterator<Item = Member<'a>>, now: WallTime) -> Count {
    let mut counting = Counting::new(rollout, now);
    members.for_each(|member| counting.add(member));
    counting.finish()
}

/// A count under way, of a fleet that is read page by page.
#[derive(Debug)]
pub struct Counting<'a> {
    rollout: &'a Rollout,
    now: WallTime,
    devices: BTreeMap<DeviceState, u64>,
    reasons: BTreeMap<String, u64>,
}

impl<'a> Counting<'a> {
    /// Counts for `rollout` at `now`.
    pub fn new(rollout: &'a Rollout, now: WallTime) -> Self {
        let devices = DeviceState::ALL.into_iter().map(|state| (state, 0)).collect();
        Self { rollout, now, devices, reasons: BTreeMap::new() }
    }

    /// Counts one more device.
    pub fn add(&mut self, member: Member<'_>) {
        let (rollout, now) = (self.rollout, self.now);
        let said = member.report.and_then(|report| report.apps.get(&rollout.app)).filter(|report| is_about(report, rollout));
        let state = said.map_or(DeviceState::Pending, |report| report.state);
        let silent = !state.is_done() && !state.is_failure() && is_overdue(rollout, member.device, now);
        let state = if silent { DeviceState::Silent } else { state };
        *self.devices.entry(state).or_default() += 1;
        if state.is_failure() {
            let said = said.filter(|_| !silent).and_then(|report| report.reason.as_deref());
            let reason = if silent { SILENCE } else { said.unwrap_or("no reason given") };
            let is_known = self.reasons.contains_key(reason) || self.reasons.len() < TRACKED_MAX;
            *self.reasons.entry(if is_known { reason } else { OTHER_REASONS }.to_owned()).or_default() += 1;
        }
    }

    /// The sum.
    pub fn finish(self) -> Count {
        Count { devices: self.devices, failures: most_frequent(self.reasons) }
    }
}

fn is_about(report: &AppReport, rollout: &Rollout) -> bool {
    report.version == rollout.version && report.rollout.as_ref().is_none_or(|id| *id == rollout.id)
}

/// Whether a device should have said how it ended: so long ago its turn came, or the next time window after that.
fn is_overdue(rollout: &Rollout, device: &DeviceId, now: WallTime) -> bool {
    let Some(silence) = rollout.plan.silence.map(Span::seconds).filter(|_| rollout.state == RolloutState::Running) else { return false };
    let turn = rollout.since().plus_seconds(rollout.plan.steps.reached_after(position(&rollout.id, device)));
    let turn = match rollout.plan.window {
        Some(window) if !window.contains(turn) => window.opens_after(turn),
        _ => turn,
    };
    turn.plus_seconds(silence) <= now
}

fn most_frequent(mut reasons: BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let unnamed = reasons.remove(OTHER_REASONS).unwrap_or_default();
    let mut ranked: Vec<(String, u64)> = reasons.into_iter().collect();
    ranked.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let (named, others) = ranked.split_at(ranked.len().min(REASONS_MAX));
    let mut failures: BTreeMap<String, u64> = named.iter().cloned().collect();
    let others = unnamed + others.iter().map(|(_, count)| count).sum::<u64>();
    if others > 0 {
        failures.insert(OTHER_REASONS.to_owned(), others);
    }
    failures
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::GroupName;
    use crate::rollout::machine::Plan;

    fn rollout(plan: Plan) -> Rollout {
        Rollout::start("r-2".parse().unwrap(), ("web".parse().unwrap(), 2), GroupName::all(), plan, Some(1), WallTime::default())
    }

    fn report(version: u64, rollout: Option<&str>, state: DeviceState, reason: Option<&str>) -> DeviceReport {
        let rollout = rollout.map(|id| id.parse().unwrap());
        let app = AppReport { version, rollout, state, running: None, reason: reason.map(str::to_owned), fetched: None };
        DeviceReport {
            counter: 1,
            apps: [("web".parse().unwrap(), app)].into(),
            labels: BTreeMap::new(),
            refused: BTreeMap::new(),
            stale: false,
        }
    }

    fn counted(plan: Plan, reports: &[Option<DeviceReport>], now: u64) -> Count {
        let devices: Vec<DeviceId> = (0..reports.len()).map(|n| format!("d{n}").parse().unwrap()).collect();
        let members = devices.iter().zip(reports).map(|(device, report)| Member { device, report: report.as_ref() });
        count(&rollout(plan), members, WallTime::from_unix_seconds(now))
    }

    #[test]
    fn counts_what_devices_say_about_this_rollout() {
        let reports = [
            Some(report(2, Some("r-2"), DeviceState::Stored, None)),
            Some(report(2, None, DeviceState::Stored, None)),
            Some(report(1, None, DeviceState::Stored, None)),
            Some(report(2, Some("r-1"), DeviceState::Failed, Some("an earlier attempt"))),
            None,
        ];
        let count = counted(Plan::default(), &reports, 9);
        assert_eq!((count.devices[&DeviceState::Stored], count.devices[&DeviceState::Pending], count.total()), (2, 3, 5));
        assert_eq!(count.devices.len(), DeviceState::ALL.len());
        assert!(!count.all_done() && count.failures.is_empty());
        assert_eq!(count.state_of(&rollout(Plan::default())), RolloutState::Running);
        let done = counted(Plan::default(), &reports[..2], 9);
        assert_eq!(done.state_of(&rollout(Plan::default())), RolloutState::Done);
        assert!(!counted(Plan::default(), &[], 9).all_done(), "nobody has it yet");
    }

    #[test]
    fn silence_is_failure_after_the_deadline_and_not_before_the_devices_turn() {
        let plan = Plan { silence: Some("30m".parse().unwrap()), ..Plan::default() };
        let reports =
            [None, Some(report(2, Some("r-2"), DeviceState::Healthy, None)), Some(report(2, Some("r-2"), DeviceState::Fetching, None))];
        assert_eq!(counted(plan.clone(), &reports, 1_799).devices[&DeviceState::Silent], 0);
        let late = counted(plan.clone(), &reports, 1_800);
        assert_eq!((late.devices[&DeviceState::Silent], late.failures[SILENCE]), (2, 2));
        let night = Plan { window: Some("22:00-23:00".parse().unwrap()), ..plan.clone() };
        let later = Plan { steps: "0%,1h,100%".parse().unwrap(), ..plan };
        assert_eq!(counted(later.clone(), &reports, 5_399).devices[&DeviceState::Silent], 0);
        assert_eq!(counted(later, &reports, 5_400).devices[&DeviceState::Silent], 2);
        assert_eq!(counted(night.clone(), &reports, 22 * 3_600 + 1_799).devices[&DeviceState::Silent], 0);
        assert_eq!(counted(night, &reports, 22 * 3_600 + 1_800).devices[&DeviceState::Silent], 2);
    }

    #[test]
    fn names_the_frequent_reasons_and_sums_the_rest() {
        let failed = |reason: &str| Some(report(2, None, DeviceState::Failed, Some(reason)));
        let mut reports: Vec<Option<DeviceReport>> = (0..30).map(|n| failed(&format!("reason {n}"))).collect();
        reports.extend([failed("z frequent"), failed("z frequent"), Some(report(2, None, DeviceState::RolledBack, Some("z frequent")))]);
        let failures = counted(Plan::default(), &reports, 0).failures;
        assert_eq!(failures.len(), REASONS_MAX + 1);
        assert_eq!((failures["z frequent"], failures[OTHER_REASONS]), (3, 11));
        assert_eq!(failures.values().sum::<u64>(), 33);
    }
}
