//! Which version of an app the signed documents ask for, and whether this device may start it now.
//!
//! A device acts on a desired state for an app only when its assignment names that group for it.
//!
//! Not here: starting it; see `start`.

use std::collections::BTreeMap;

use super::record::{Record, Release};
use crate::digest::Digest;
use crate::name::{AppName, DeviceId, Platform, RolloutId};
use crate::rollout::steps::position;
use crate::statement::assignment::{AcceptedAssignment, Assigned};
use crate::statement::desired::{AcceptedDesiredState, Activation, Starts};
use crate::time::WallTime;

/// What a device shall do with one app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The rollout; none if the version is pinned.
    pub(super) rollout: Option<RolloutId>,
    /// The version.
    pub(super) version: u64,
    /// The same with its statement for this platform; none if there is none.
    pub(super) target: Option<Release>,
    /// When it may be started.
    activation: Activation,
    /// The device's place in the rollout.
    position: u64,
    /// What it shall have until it may start the version.
    before: Option<Release>,
}

/// Which version an app shall run now, and from when on that may be another one without a new document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Goal {
    pub(super) release: Option<Release>,
    pub(super) next: Option<WallTime>,
}

/// What each app shall have on a device of this platform.
pub(super) fn resolve(
    assignment: &AcceptedAssignment,
    states: &[AcceptedDesiredState],
    platform: &Platform,
    device: &DeviceId,
) -> BTreeMap<AppName, Wanted> {
    let assignment = assignment.assignment();
    let release = |version: u64, statements: &BTreeMap<Platform, Digest>| {
        statements.get(platform).map(|statement| Release { version, statement: *statement })
    };
    let mut wanted = BTreeMap::new();
    for state in states.iter().map(AcceptedDesiredState::state) {
        for (app, desired) in state.apps.iter().filter(|(app, _)| assignment.takes(app, &state.group)) {
            let found = Wanted {
                rollout: Some(desired.rollout.clone()),
                version: desired.version,
                target: release(desired.version, &desired.statements),
                activation: desired.activation.clone(),
                position: position(&desired.rollout, device),
                before: desired.before.as_ref().and_then(|before| release(before.version, &before.statements)),
            };
            wanted.insert(app.clone(), found);
        }
    }
    for (app, assigned) in &assignment.apps {
        if let Assigned::Pin(pin) = assigned {
            let (version, target) = (pin.version, release(pin.version, &pin.statements));
            let found = Wanted { rollout: None, version, target, activation: Activation::default(), position: 0, before: None };
            wanted.insert(app.clone(), found);
        }
    }
    wanted
}

impl Wanted {
    /// Whether the version failed on this device in this rollout: it is not tried again.
    pub(super) fn has_failed(&self, record: &Record) -> bool {
        record.failed.as_ref().is_some_and(|failed| failed.version == self.version && failed.rollout == self.rollout)
    }

    /// Whether its content is to be fetched.
    pub(super) fn is_fetched(&self, record: &Record) -> bool {
        self.activation.starts != Starts::Ended || (self.target.is_some() && record.started() == self.target)
    }

    /// Which version shall run now, never one below `floor` that does not run already.
    pub(super) fn goal(&self, record: &Record, floor: Option<u64>, calendar: Option<WallTime>) -> Goal {
        let allowed = |release: &Release| floor.is_none_or(|floor| release.version >= floor);
        let running = record.started();
        if self.has_failed(record) {
            let back = record.good.filter(|good| Some(*good) != self.target).filter(allowed);
            return Goal { release: back, next: None };
        }
        let Some(target) = self.target else { return Goal { release: running, next: None } };
        if running == Some(target) {
            return Goal { release: running, next: None };
        }
        if !allowed(&target) {
            return Goal { release: running, next: None };
        }
        let (may_start, next) = self.may_start(calendar);
        if may_start {
            return Goal { release: Some(target), next };
        }
        let failed = |release: &Release| record.failed.as_ref().is_some_and(|failed| failed.version == release.version);
        let before = self.before.filter(|before| allowed(before) && !failed(before));
        Goal { release: before.or(running).or_else(|| record.good.filter(allowed)), next }
    }

    /// Whether the device may start the version, and when that may change.
    fn may_start(&self, calendar: Option<WallTime>) -> (bool, Option<WallTime>) {
        let Activation { starts, since, steps, window, start_until } = &self.activation;
        if *starts != Starts::Open {
            return (false, None);
        }
        let Some(now) = calendar else { return (steps.is_at_once() && window.is_none(), None) };
        if start_until.is_some_and(|until| until <= now) {
            return (false, None);
        }
        let turn = since.plus_seconds(steps.reached_after(self.position));
        if !steps.is_at_once() && now < turn {
            return (false, Some(turn));
        }
        match window {
            Some(window) if !window.contains(now) => (false, Some(window.opens_after(now))),
            _ => (true, None),
        }
    }
}
