//! What the agents want done: they ask the seed, take what it signed, start versions and report.
//!
//! Not here: what is signed; see [`super::SeedSide`].

use protocol::agent::content::Proof;
use protocol::agent::record::Record;
use protocol::agent::{Effect, Event, Input, Outcome, Refusal, RoleTerms};
use protocol::geometry::UNIT_BYTES;
use protocol::name::AppName;
use protocol::rollout::report::DeviceReport;
use protocol::statement::assignment::AcceptedAssignment;
use protocol::statement::counters::Counters;
use protocol::statement::desired::{AcceptedDesiredState, OnlineKey};
use protocol::statement::refused::DocumentRefused;
use protocol::time::Instant;

use super::{Deed, Verdict, World};
use crate::correctness::content::Proven;
use crate::correctness::device::{self, BOUNDS};
use crate::correctness::draws::Draws;
use crate::correctness::seed_side::{Answer, Sealed};
use crate::correctness::seeded::SeededBug;

/// How long a request to the seed takes that gets no answer.
const UNANSWERED_US: u64 = 3_000_000;

/// Of a thousand answers, so many are old ones where the plan says so.
const OLD_PERMILLE: u64 = 300;

impl World {
    /// Hands an input to a device's agent, and does what it wants done.
    pub(super) fn agent_input(&mut self, index: usize, input: Input) -> Verdict {
        let device = &mut self.devices[index];
        let clocks = device.clocks(self.now);
        if let Some(agent) = &mut device.agent {
            agent.handle_input(clocks, input);
        }
        self.carry_out_agent(index)
    }

    pub(super) fn agent_timer(&mut self, index: usize) -> Verdict {
        let device = &mut self.devices[index];
        if device.agent_timer.is_some_and(|armed| armed <= self.now) {
            device.agent_timer = None;
        }
        let clocks = device.clocks(self.now);
        if let Some(agent) = &mut device.agent
            && agent.poll_timeout().is_some_and(|due| due <= clocks.monotonic)
        {
            agent.handle_timeout(clocks);
            if agent.poll_timeout().is_some_and(|due| due <= clocks.monotonic) {
                return Err(format!("the agent of d{index} wants to be woken again at once: a real one would spin"));
            }
        }
        self.carry_out_agent(index)
    }

    fn carry_out_agent(&mut self, index: usize) -> Verdict {
        while let Some(effect) = self.devices[index].agent.as_mut().and_then(protocol::agent::Agent::poll_effect) {
            self.carry_out_agents(index, effect)?;
        }
        while let Some(event) = self.devices[index].agent.as_mut().and_then(protocol::agent::Agent::poll_event) {
            self.note(|| format!("d{index} {event:?}"));
            self.done_is_possible |= matches!(event, Event::VersionStarted { .. });
        }
        let device = &mut self.devices[index];
        if let Some(due) = device.agent.as_ref().and_then(protocol::agent::Agent::poll_timeout) {
            let due = due.as_micros().max(self.now + 1);
            if device.agent_timer.is_none_or(|armed| due < armed) {
                device.agent_timer = Some(due);
                self.to(index, due - self.now, Deed::AgentTimer);
            }
        }
        Ok(())
    }

    fn carry_out_agents(&mut self, device: usize, effect: Effect) -> Verdict {
        match effect {
            Effect::Poll(_) => {
                self.record(device, 20, [0, 0]);
                let old = self.plan.kinds.replays && !self.healed && self.draws.chance(OLD_PERMILLE);
                let back = if old { self.draws.index(6) } else { 0 };
                let answer = self.seed.answer(device, back).filter(|_| self.reaches_seed(device)).map(Box::new);
                let after = if answer.is_some() { self.plan.wan_rtt_us } else { UNANSWERED_US };
                self.to(device, after, Deed::Polled { answer });
            }
            Effect::AcceptStatement { name, .. } => {
                self.record(device, 21, [name.version, 0]);
                self.to(device, self.plan.wan_rtt_us, Deed::StatementCame { version: name.version });
            }
            Effect::Want { blob, size, proof } => {
                let by_unit = matches!(proof, Proof::HashList(_)) || size <= UNIT_BYTES;
                let proven = if by_unit { Proven::ByUnit } else { Proven::ByWhole };
                self.devices[device].wants.insert(blob, proven);
                self.open(device, blob)?;
            }
            Effect::Unwant { blob } => self.drop_blob(device, blob)?,
            Effect::Activate { app, release, record, .. } => {
                self.record(device, 22, [release.version, 0]);
                self.checks.fleet.starts(&self.devices[device], (device, self.now), &self.library, release.version)?;
                self.activate(device, app, release.version, record);
            }
            Effect::Keep { app, record } => {
                self.record(device, 23, [record.running.map_or(0, |run| run.release.version), 0]);
                if let Some(run) = record.running.filter(|run| !run.activated) {
                    self.checks.fleet.starts(&self.devices[device], (device, self.now), &self.library, run.release.version)?;
                }
                self.keep(device, app, record);
            }
            Effect::Report(report) => self.report(device, report)?,
            Effect::KeepFresh { .. } => {}
        }
        Ok(())
    }

    fn reaches_seed(&self, device: usize) -> bool {
        self.wans[self.devices[device].plan.site].is_up
    }

    /// Keeps a record; false if there is no room.
    fn keep(&mut self, device: usize, app: AppName, record: Record) -> bool {
        let disk = &mut self.devices[device].disk;
        let room = !disk.is_full();
        if room {
            disk.kept.records.insert(app, record);
        }
        room
    }

    /// A version is started; whether it comes to run depends on version and device.
    fn activate(&mut self, device: usize, app: AppName, version: u64, record: Record) {
        let mut draws = Draws::new(self.plan.seed, 7 << 32 | version << 16 | device as u64);
        let bad = usize::try_from(version - 1).ok().and_then(|at| self.plan.versions.get(at)).map_or(0, |plan| plan.bad_permille);
        let outcome = if !self.keep(device, app.clone(), record) {
            Outcome::NotTried("the disk is full".to_owned())
        } else if draws.chance(bad) {
            Outcome::Failed("it exits with 1".to_owned())
        } else {
            Outcome::Healthy
        };
        let after = draws.between(500_000, 8_000_000);
        self.to(device, after, Deed::Activated { app, outcome });
    }

    pub(super) fn activated(&mut self, device: usize, app: AppName, outcome: Outcome) -> Verdict {
        self.done_is_possible = true;
        self.agent_input(device, Input::Activated { app, outcome })
    }

    fn report(&mut self, device: usize, report: DeviceReport) -> Verdict {
        let counter = report.counter;
        self.record(device, 24, [counter, 0]);
        self.checks.fleet.reports(device, counter)?;
        self.devices[device].disk.kept.report_counter = counter;
        let arrives = self.reaches_seed(device);
        if arrives {
            self.seed.take(device, report);
        }
        let answered = arrives && !(self.plan.kinds.wan_failures && !self.healed && self.draws.chance(100));
        let after = if answered { self.plan.wan_rtt_us } else { UNANSWERED_US };
        self.to(device, after, Deed::Reported { counter, taken: answered });
        Ok(())
    }

    pub(super) fn reported(&mut self, device: usize, counter: u64, taken: bool) -> Verdict {
        self.agent_input(device, if taken { Input::Reported { counter } } else { Input::ReportFailed })
    }

    pub(super) fn statement_came(&mut self, device: usize, version: u64) -> Verdict {
        let found = self.library.statement(version).filter(|_| self.reaches_seed(device)).cloned();
        let input = match found {
            Some(statement) => Input::StatementAccepted(statement),
            None => {
                let name = protocol::statement::version::VersionName { app: self.library.app.clone(), version };
                Input::StatementRefused { name, refusal: Refusal::Temporary("the seed is out of reach".to_owned()) }
            }
        };
        self.agent_input(device, input)
    }

    /// The seed's answer came, or none did.
    pub(super) fn polled(&mut self, index: usize, answer: Option<Box<Answer>>) -> Verdict {
        let Some(answer) = answer else { return self.agent_input(index, Input::PollFailed) };
        let now = self.now;
        let device = &mut self.devices[index];
        device.knows_time = true;
        device.time.heard(device::wall(now), Instant::from_micros(now));
        let kept = &mut device.disk.kept;
        kept.floor = Some(device.time.kept());
        kept.epoch = kept.epoch.max(answer.epoch);
        let new_role = answer.role.0 > kept.role.0;
        kept.role = kept.role.max(answer.role);
        let unchanged = kept.state.as_ref() == Some(&answer.state) && kept.assignment.as_ref() == Some(&answer.assignment);
        if new_role {
            self.tell_role(index)?;
        }
        let complete = unchanged || self.take_documents(index, Some(&answer))?;
        self.agent_input(index, if complete { Input::Polled { at_ms: None } } else { Input::PollFailed })
    }

    /// Roles do not expire in a run.
    fn tell_role(&mut self, index: usize) -> Verdict {
        let floor = self.devices[index].disk.kept.role.1;
        let app = self.library.app.clone();
        let terms = RoleTerms { floor, expires: BOUNDS.until };
        self.agent_input(index, Input::Role { app, terms })
    }

    /// What a device kept is in force again when it starts.
    pub(super) fn take_kept_documents(&mut self, index: usize) -> Verdict {
        self.tell_role(index)?;
        self.take_documents(index, None)?;
        self.carry_out_agent(index)
    }

    /// Takes what is acceptable of an answer; what was accepted before stays in force. Whether all of it was.
    fn take_documents(&mut self, index: usize, answer: Option<&Answer>) -> Result<bool, String> {
        let online = self.seed.online(self.devices[index].disk.kept.epoch);
        let mut complete = true;
        for kept in [false, true] {
            let known = &self.devices[index].disk.kept;
            let offered = if kept { known.assignment.clone() } else { answer.map(|answer| answer.assignment.clone()) };
            let Some(sealed) = offered else { continue };
            match self.accept_assignment(index, &online, &sealed)? {
                Ok(assignment) => {
                    self.devices[index].disk.kept.assignment = Some(sealed);
                    complete &= self.take_states(index, &online, &assignment, answer)?;
                    return Ok(complete);
                }
                Err(refused) => {
                    complete = false;
                    self.agent_input(index, Input::DocumentRefused { document: "assignment", reason: refused.reason() })?;
                }
            }
        }
        Ok(complete)
    }

    fn take_states(
        &mut self,
        index: usize,
        online: &OnlineKey,
        assignment: &AcceptedAssignment,
        answer: Option<&Answer>,
    ) -> Result<bool, String> {
        let mut complete = true;
        let mut states = Vec::new();
        for kept in [false, true] {
            let known = &self.devices[index].disk.kept;
            let offered = if kept { known.state.clone() } else { answer.map(|answer| answer.state.clone()) };
            let Some(sealed) = offered else { continue };
            match self.accept_state(index, online, assignment, &sealed)? {
                Ok(state) => {
                    self.devices[index].disk.kept.state = Some(sealed);
                    states.push(state);
                    break;
                }
                Err(refused) => {
                    complete = false;
                    self.agent_input(index, Input::DocumentRefused { document: "desired_state", reason: refused.reason() })?;
                }
            }
        }
        self.checks.fleet.in_force(index, states.first().map(AcceptedDesiredState::state));
        self.agent_input(index, Input::StateAccepted { assignment: assignment.clone(), states })?;
        Ok(complete)
    }

    fn accept_assignment(
        &mut self,
        index: usize,
        online: &OnlineKey,
        sealed: &Sealed,
    ) -> Result<Result<AcceptedAssignment, DocumentRefused>, String> {
        let device = &mut self.devices[index];
        let now = device.checked_time(self.now).now;
        let counters = &mut device.disk.kept.counters;
        let mut accepted = AcceptedAssignment::accept(sealed, online, &device.name, counters, now);
        if self.bug == Some(SeededBug::AcceptEqualCounter) && matches!(accepted, Err(DocumentRefused::OtherContent(_))) {
            accepted = AcceptedAssignment::accept(sealed, online, &device.name, &mut Counters::default(), now);
        }
        if let Ok(found) = &accepted {
            self.checks.fleet.accepts(index, "assignment", found.assignment().counter, sealed)?;
        }
        Ok(accepted)
    }

    fn accept_state(
        &mut self,
        index: usize,
        online: &OnlineKey,
        assignment: &AcceptedAssignment,
        sealed: &Sealed,
    ) -> Result<Result<AcceptedDesiredState, DocumentRefused>, String> {
        let device = &mut self.devices[index];
        let now = device.checked_time(self.now).now;
        let counters = &mut device.disk.kept.counters;
        let mut accepted = AcceptedDesiredState::accept(sealed, online, assignment, counters, now);
        if self.bug == Some(SeededBug::AcceptEqualCounter) && matches!(accepted, Err(DocumentRefused::OtherContent(_))) {
            accepted = AcceptedDesiredState::accept(sealed, online, assignment, &mut Counters::default(), now);
        }
        if let Ok(found) = &accepted {
            self.checks.fleet.accepts(index, "desired state", found.state().counter, sealed)?;
        }
        Ok(accepted)
    }
}
