//! The seed: the rollout machine, the documents that its online key signs, and what it knows of its devices. It signs for
//! real, so that devices check for real.
//!
//! Not here: what an operator asks of it; see [`super::operator`].

use std::collections::BTreeMap;
use std::rc::Rc;

use ed25519_dalek::{Signer, SigningKey};
use protocol::envelope::Envelope;
use protocol::name::{AppName, DeviceId, GroupName, OrgName, Platform};
use protocol::rollout::count::{Count, Member, count};
use protocol::rollout::machine::{Command, Rollout, RolloutState};
use protocol::rollout::report::DeviceReport;
use protocol::statement::assignment::{self, Assignment};
use protocol::statement::desired::{self, Before, Counter, DesiredApp, DesiredState, OnlineKey};
use protocol::time::WallTime;
use serde::Serialize;

use super::content::Library;

/// A signed document.
pub(super) type Sealed = Rc<[u8]>;

/// How long documents are good for, in seconds: longer than any run, unless a clock jumps.
const EXPIRES_SECONDS: u64 = 7 * 86_400;

/// What a device is answered when it asks.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) assignment: Sealed,
    pub(super) state: Sealed,
    /// The epoch that the root delegates.
    pub(super) epoch: u64,
    /// The number of the app's role, and the floor that it says.
    pub(super) role: (u64, Option<u64>),
}

/// The seed.
#[derive(Debug)]
pub(super) struct SeedSide {
    key: SigningKey,
    org: OrgName,
    pub(super) app: AppName,
    platform: Platform,
    devices: Vec<DeviceId>,
    epoch: u64,
    n: u64,
    pub(super) rollout: Option<Rollout>,
    role: (u64, Option<u64>),
    assignments: Vec<Sealed>,
    /// The states that were signed, with what else stood beside each.
    history: Vec<Answer>,
    reports: BTreeMap<usize, DeviceReport>,
}

impl SeedSide {
    /// A seed with nothing rolled out.
    pub(super) fn new(library: &Library, devices: Vec<DeviceId>) -> Self {
        Self {
            key: SigningKey::from_bytes(&[7; 32]),
            org: library.org.clone(),
            app: library.app.clone(),
            platform: library.platform.clone(),
            devices,
            epoch: 1,
            n: 0,
            rollout: None,
            role: (1, None),
            assignments: Vec::new(),
            history: Vec::new(),
            reports: BTreeMap::new(),
        }
    }

    /// The online key as the root of `epoch` delegates it.
    pub(super) fn online(&self, epoch: u64) -> OnlineKey {
        OnlineKey { org: self.org.clone(), epoch, key: self.key.verifying_key() }
    }

    /// The newest answer for `device`, or with `back` one of before.
    pub(super) fn answer(&self, device: usize, back: usize) -> Option<Answer> {
        let at = self.history.len().checked_sub(1)?.saturating_sub(back);
        let assignment = self.assignments.get(device)?.clone();
        self.history.get(at).map(|answer| if back == 0 { Answer { assignment, ..answer.clone() } } else { answer.clone() })
    }

    /// The floor that the app's key signed last.
    pub(super) const fn floor(&self) -> Option<u64> {
        self.role.1
    }

    /// The app's key signs a floor.
    pub(super) fn set_floor(&mut self, floor: u64) {
        self.role = (self.role.0 + 1, Some(floor));
    }

    /// Signs what is in force anew.
    pub(super) fn seal(&mut self, library: &Library, now: WallTime) {
        self.n += 1;
        if self.assignments.is_empty() {
            self.assignments = (0..self.devices.len()).map(|device| self.assignment(device, now)).collect();
        }
        let apps = self.rollout.iter().map(|rollout| (self.app.clone(), self.desired(library, rollout, now))).collect();
        let state = DesiredState {
            format: desired::FORMAT,
            org: self.org.clone(),
            group: GroupName::all(),
            counter: Counter { epoch: self.epoch, n: self.n },
            expires: now.plus_seconds(EXPIRES_SECONDS),
            apps,
        };
        let state = self.sign(desired::PAYLOAD_TYPE, &state);
        let assignment = self.assignments.first().cloned().unwrap_or_else(|| Rc::from(Vec::new()));
        self.history.push(Answer { assignment, state, epoch: self.epoch, role: self.role });
    }

    fn desired(&self, library: &Library, rollout: &Rollout, now: WallTime) -> DesiredApp {
        let statements = |version| library.statement(version).map(|found| (self.platform.clone(), found.digest())).into_iter().collect();
        let before = rollout.before.filter(|_| rollout.tells_before());
        DesiredApp {
            version: rollout.version,
            rollout: rollout.id.clone(),
            statements: statements(rollout.version),
            activation: rollout.activation(now),
            before: before.map(|version| Before { version, statements: statements(version) }),
        }
    }

    fn assignment(&self, device: usize, now: WallTime) -> Sealed {
        let assignment = Assignment {
            format: assignment::FORMAT,
            org: self.org.clone(),
            device: self.devices[device].clone(),
            counter: Counter { epoch: self.epoch, n: self.n },
            expires: now.plus_seconds(EXPIRES_SECONDS),
            otherwise: GroupName::all(),
            apps: BTreeMap::new(),
        };
        self.sign(assignment::PAYLOAD_TYPE, &assignment)
    }

    fn sign(&self, payload_type: &str, document: &impl Serialize) -> Sealed {
        let payload = serde_json::to_vec(document).unwrap_or_default();
        let envelope = Envelope::seal(payload_type, &payload, "online", |bytes| self.key.sign(bytes));
        serde_json::to_vec(&envelope).unwrap_or_default().into()
    }

    /// The seed is restored from a backup: it has forgotten the counter of its newest state, and signs that one again.
    pub(super) fn restore(&mut self, library: &Library, now: WallTime) {
        self.n = self.n.saturating_sub(1);
        self.seal(library, now);
    }

    /// A new root raises the epoch.
    pub(super) fn raise_epoch(&mut self, library: &Library, now: WallTime) {
        self.epoch += 1;
        self.n = 0;
        self.assignments.clear();
        self.seal(library, now);
    }

    /// The version that the group is taken to have, before another is rolled out.
    pub(super) fn settled(&self) -> Option<u64> {
        let rollout = self.rollout.as_ref()?;
        match rollout.state {
            RolloutState::Aborted | RolloutState::RolledBack => rollout.before,
            _ => Some(rollout.version),
        }
    }

    /// Carries out a command, if the rollout's state allows it; whether it did.
    pub(super) fn command(&mut self, command: Command, now: WallTime) -> bool {
        let after = self.rollout.as_ref().and_then(|rollout| rollout.after(command, now).ok());
        let done = after.is_some();
        if done {
            self.rollout = after;
        }
        done
    }

    /// Takes a device's report; false if it has one as new.
    pub(super) fn take(&mut self, device: usize, report: DeviceReport) -> bool {
        let newer = self.reports.get(&device).is_none_or(|known| known.counter < report.counter);
        if newer {
            self.reports.insert(device, report);
        }
        newer
    }

    /// How the rollout stands.
    pub(super) fn count(&self, now: WallTime, members: impl Iterator<Item = usize>) -> Option<Count> {
        let members: Vec<usize> = members.collect();
        let members = members.iter().map(|member| Member { device: &self.devices[*member], report: self.reports.get(member) });
        self.rollout.as_ref().map(|rollout| count(rollout, members, now))
    }
}
