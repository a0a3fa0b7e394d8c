//! Which version of an app the signed documents ask for, and whether this device may start it now.
//!
//! A device acts on a desired state for an app only when its assignment names that group for it.
//!
//! Not here: starting it; see `start`.

use std::collections::BTreeMap;

use super::RoleTerms;
use super::documents::Granted;
use super::moment::Moment;
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
    /// After this moment the documents that say so count no longer: nothing is started by them.
    expires: WallTime,
    /// Whether a grant says so, which bounds itself: the app's role may have expired on a device that is cut off.
    is_granted: bool,
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
                expires: state.expires.min(assignment.expires),
                is_granted: false,
            };
            wanted.insert(app.clone(), found);
        }
    }
    for (app, assigned) in &assignment.apps {
        if let Assigned::Pin(pin) = assigned {
            let (version, target) = (pin.version, release(pin.version, &pin.statements));
            wanted.insert(app.clone(), Wanted::at_once(version, target, assignment.expires));
        }
    }
    wanted
}

/// What an app shall have by a grant.
pub(super) fn granted(granted: &Granted) -> (AppName, Wanted) {
    let grant = granted.grant.grant();
    let target = Release { version: grant.version, statement: granted.statement };
    let wanted = Wanted { is_granted: true, ..Wanted::at_once(grant.version, Some(target), grant.not_after) };
    (grant.app.clone(), wanted)
}

impl Wanted {
    /// A version without a rollout.
    fn at_once(version: u64, target: Option<Release>, expires: WallTime) -> Self {
        let activation = Activation::default();
        Self { rollout: None, version, target, activation, position: 0, before: None, expires, is_granted: false }
    }

    /// Whether `other` differs in its expiry at most.
    pub(super) fn asks_the_same(&self, other: &Self) -> bool {
        Self { expires: other.expires, ..self.clone() } == *other
    }

    /// Whether the version failed on this device in this rollout: it is not tried again.
    pub(super) fn has_failed(&self, record: &Record) -> bool {
        record.failed.as_ref().is_some_and(|failed| failed.version == self.version && failed.rollout == self.rollout)
    }

    /// Whether its content is to be fetched.
    pub(super) fn is_fetched(&self, record: &Record) -> bool {
        self.activation.starts != Starts::Ended || (self.target.is_some() && record.started() == self.target)
    }

    /// The last good version, if this one failed and that one may be started again; also when no document counts any more,
    /// since it is the device's own way back.
    pub(super) fn way_back(&self, record: &Record, role: Option<&RoleTerms>) -> Option<Release> {
        record.good.filter(|good| Some(*good) != self.target).filter(|good| is_allowed(role, good))
    }

    /// Which version shall run now, never one below the floor that does not run already, and none that did not run before
    /// once the documents or the app's role are over.
    pub(super) fn goal(&self, record: &Record, role: Option<&RoleTerms>, moment: Moment) -> Goal {
        let allowed = |release: &Release| is_allowed(role, release);
        let running = record.started();
        if self.has_failed(record) {
            return Goal { release: self.way_back(record, role), next: None };
        }
        let Some(target) = self.target else { return Goal { release: running, next: None } };
        if running == Some(target) {
            return Goal { release: running, next: None };
        }
        if !allowed(&target) {
            return Goal { release: running, next: None };
        }
        let signed = self.is_granted || role.is_none_or(|role| moment.is_before(role.expires));
        let in_force = moment.is_before(self.expires) && signed;
        if !in_force {
            return Goal { release: running.or_else(|| record.good.filter(allowed)), next: None };
        }
        let (may_start, next) = self.may_start(moment);
        if may_start {
            return Goal { release: Some(target), next };
        }
        let failed = |release: &Release| record.failed.as_ref().is_some_and(|failed| failed.version == release.version);
        let before = self.before.filter(|before| allowed(before) && !failed(before));
        Goal { release: before.or(running).or_else(|| record.good.filter(allowed)), next }
    }

    /// Whether the device may start the version, and when that may change.
    fn may_start(&self, moment: Moment) -> (bool, Option<WallTime>) {
        let Activation { starts, since, steps, window, start_until } = &self.activation;
        if *starts != Starts::Open || start_until.is_some_and(|until| !moment.is_before(until)) {
            return (false, None);
        }
        let Some(now) = moment.calendar else { return (steps.is_at_once() && window.is_none(), None) };
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

fn is_allowed(role: Option<&RoleTerms>, release: &Release) -> bool {
    role.and_then(|role| role.floor).is_none_or(|floor| release.version >= floor)
}
