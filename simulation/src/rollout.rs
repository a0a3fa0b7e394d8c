//! A rollout to the whole fleet: the machine of a device's agent on every device and the rules of rollouts on the seed, both
//! unchanged, in virtual time. When a device has what it wants was found out before, site by site, by the swarm.
//!
//! Modelled: polls in each device's own phase, wave after wave, prefetch, time windows, starts that end well or not, devices
//! that say nothing any more, a seed that counts once a minute, aborts, and that a device hears of anything with its next poll
//! alone. Checked: no device starts the version before its turn, and none after the last word it heard says no.
//!
//! Not modelled: signatures, lost polls. Not here: how a site fetches; see `site`.

mod documents;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use protocol::agent::record::{Record, Release, Run};
use protocol::agent::{Agent, Effect, Input, Now, Outcome, Settings};
use protocol::digest::Digest;
use protocol::label::Labels;
use protocol::name::{DeviceId, GroupName};
use protocol::rendezvous;
use protocol::rollout::judge::{self, Verdict};
use protocol::rollout::machine::{Command, Rollout, RolloutState};
use protocol::rollout::steps::position;
use protocol::rollout::{DeviceReport, Member, count};
use protocol::statement::desired::{AcceptedDesiredState, Starts};
use protocol::statement::version::AcceptedStatement;
use protocol::time::floor::CheckedTime;
use protocol::time::{Instant, WallTime};
use serde::Serialize;

use crate::scenario::Scenario;
use crate::scenario::staged::Rules;
use crate::site::SiteOutcome;
use documents::{app, desired, platform, statement};

/// The seed counts and judges this often, in seconds.
const JUDGE_SECONDS: u64 = 60;
/// A rollout that goes on for longer is not watched any further, in seconds.
const WATCH_SECONDS: u64 = 14 * 86_400;
/// A midnight in UTC, in seconds since 1970.
const MIDNIGHT: u64 = 20_000 * 86_400;

const FAILS: u64 = 1;
const MUTE: u64 = 2;

/// How a rollout went.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RolloutOutcome {
    /// Its last state.
    pub state: String,
    /// Why it ended, if for a reason.
    pub reason: String,
    /// Seconds from its start to that state.
    pub seconds: u64,
    /// Devices in each state at the end, as the seed counts them.
    pub devices: BTreeMap<String, u64>,
    /// Devices that started the version.
    pub started: u64,
    /// Devices that started it before their turn or against the last word that they heard: none, or a rule is broken.
    pub started_early: u64,
    /// Polls that the seed answered.
    pub polls: u64,
    /// Most polls in one second.
    pub polls_per_second_max: u64,
    /// Seconds, devices on which the version is healthy.
    pub healthy: Vec<(f64, f64)>,
    /// Seconds, devices on which it failed.
    pub failed: Vec<(f64, f64)>,
}

#[derive(Debug)]
struct Device {
    id: DeviceId,
    site: u32,
    agent: Agent,
    /// The newest desired state that it heard.
    heard: u64,
    starts: Starts,
    mute: bool,
    report: Option<DeviceReport>,
    armed: Option<u64>,
    /// The version that it started last.
    starting: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Judge,
    Timer,
    Stored(Digest),
    Started,
}

#[derive(Debug)]
struct Fleet<'a> {
    rules: &'a Rules,
    seed: u64,
    now_us: u64,
    queue: BinaryHeap<Reverse<(u64, u32, u64, Happening)>>,
    pushes: u64,
    devices: Vec<Device>,
    rollout: Rollout,
    counter: u64,
    state: AcceptedDesiredState,
    statements: [AcceptedStatement; 2],
    /// For each site, when its first device wanted the version, and when its devices have it after that, in order.
    sites: Vec<(Option<u64>, std::vec::IntoIter<u32>)>,
    polls: BTreeMap<u64, u64>,
    outcome: RolloutOutcome,
}

/// Rolls version 2 out to the fleet of a scenario, if it has a rollout.
pub(crate) fn run(scenario: &Scenario, sites: &[(u32, SiteOutcome)]) -> Option<RolloutOutcome> {
    Some(Fleet::new(scenario, scenario.rollout.as_ref()?, sites)?.run())
}

fn wall(now_us: u64) -> WallTime {
    WallTime::from_unix_seconds(MIDNIGHT + now_us / 1_000_000)
}

fn draw(seed: u64, device: u32, purpose: u64) -> u64 {
    rendezvous::draw(rendezvous::draw(seed, u64::MAX - purpose), u64::from(device))
}

impl<'a> Fleet<'a> {
    fn new(scenario: &'a Scenario, rules: &'a Rules, sites: &[(u32, SiteOutcome)]) -> Option<Self> {
        let statements = [statement(1)?, statement(2)?];
        let rollout = Rollout::start("r-1".parse().ok()?, (app()?, 2), GroupName::all(), rules.plan.clone(), Some(1), wall(0));
        let release = Release { version: 1, statement: statements[0].digest() };
        let running = Run { release, healthy: true, activated: true, tries: 0 };
        let record = Record { running: Some(running), good: Some(release), failed: None };
        let mut devices = Vec::with_capacity(scenario.devices as usize);
        for (site, _) in sites {
            for _ in 0..scenario.devices_of(*site) {
                let index = u32::try_from(devices.len()).ok()?;
                let id: DeviceId = format!("d{index}").parse().ok()?;
                let settings = Settings {
                    platform: platform()?,
                    device: id.clone(),
                    seed: draw(scenario.seed, index, 0),
                    interval: Duration::from_secs(rules.poll_seconds),
                    report_counter: 0,
                    fresh_at: None,
                    activates: true,
                    labels: Labels::new(),
                    records: BTreeMap::from([(app()?, record.clone())]),
                };
                let agent = Agent::new(Instant::ZERO, settings);
                devices.push(Device {
                    id,
                    site: *site,
                    agent,
                    heard: 0,
                    starts: Starts::Held,
                    mute: false,
                    report: None,
                    armed: None,
                    starting: None,
                });
            }
        }
        Some(Self {
            rules,
            seed: scenario.seed,
            now_us: 0,
            queue: BinaryHeap::new(),
            pushes: 0,
            devices,
            state: desired(&rollout, 1, &statements, wall(0))?,
            rollout,
            counter: 1,
            statements,
            sites: sites.iter().map(|(_, outcome)| (None, outcome.done_at_ms.clone().into_iter())).collect(),
            polls: BTreeMap::new(),
            outcome: RolloutOutcome::default(),
        })
    }

    fn run(mut self) -> RolloutOutcome {
        for device in 0..self.devices.len() {
            self.arm(device);
        }
        self.push(JUDGE_SECONDS * 1_000_000, u32::MAX, Happening::Judge);
        let mut ends_at = WATCH_SECONDS * 1_000_000;
        while let Some(Reverse((at, device, _, happening))) = self.queue.pop() {
            if at > ends_at {
                break;
            }
            self.now_us = at;
            if happening == Happening::Judge {
                if self.judge() {
                    // What was begun is seen through: starts under way end, and every device hears the last word.
                    ends_at = ends_at.min(at + (2 * self.rules.poll_seconds + self.rules.start_seconds + 1) * 1_000_000);
                }
            } else {
                self.happen(device as usize, happening);
            }
        }
        self.finish()
    }

    fn finish(mut self) -> RolloutOutcome {
        let counted = self.count();
        let state = counted.state_of(&self.rollout);
        self.outcome.devices =
            counted.devices.iter().filter(|(_, devices)| **devices > 0).map(|(state, devices)| (word(state), *devices)).collect();
        self.outcome.state = word(&state);
        self.outcome.reason = self.rollout.reason.clone().unwrap_or_default();
        self.outcome.polls = self.polls.values().sum();
        self.outcome.polls_per_second_max = self.polls.values().copied().max().unwrap_or(0);
        self.outcome
    }

    fn push(&mut self, at: u64, device: u32, happening: Happening) {
        self.pushes += 1;
        self.queue.push(Reverse((at, device, self.pushes, happening)));
    }

    fn count(&self) -> count::Count {
        let members = self.devices.iter().map(|device| Member { device: &device.id, report: device.report.as_ref() });
        count(&self.rollout, members, wall(self.now_us))
    }

    /// The seed counts, judges and signs what follows; whether the rollout has just ended.
    fn judge(&mut self) -> bool {
        let (now, counted) = (wall(self.now_us), self.count());
        let seconds = self.now_us / 1_000_000;
        let sum = |counts: fn(protocol::rollout::DeviceState) -> bool| {
            counted.devices.iter().filter(|(state, _)| counts(**state)).map(|(_, devices)| *devices).sum::<u64>() as f64
        };
        self.outcome.healthy.push((seconds as f64, sum(protocol::rollout::DeviceState::is_done)));
        self.outcome.failed.push((seconds as f64, sum(protocol::rollout::DeviceState::is_failure)));
        let was_open = self.rollout.state.is_open();
        let command = match judge::judge(&self.rollout, &counted) {
            Verdict::Complete => Some(Command::Complete),
            Verdict::Abort(reason) => Some(Command::Abort(reason)),
            Verdict::GoOn if self.rollout.state == RolloutState::Pending && seconds >= self.rules.resume_after_seconds => {
                Some(Command::Resume)
            }
            Verdict::GoOn => None,
        };
        let changed = command.and_then(|command| self.rollout.after(command, now).ok());
        let signed = self.state.state().apps.values().next().map(|app| app.activation.clone()).unwrap_or_default();
        let is_renewed = self.rollout.is_renewal_due(&signed, now);
        let has_changed = changed.is_some();
        self.rollout = changed.unwrap_or_else(|| self.rollout.clone());
        if (has_changed || is_renewed)
            && let Some(state) = desired(&self.rollout, self.counter + 1, &self.statements, now)
        {
            self.counter += 1;
            self.state = state;
        }
        // A rollout whose last devices failed is never done, nor aborted if that is borne: then nothing is left to wait for.
        let all_ended = counted.devices.iter().all(|(state, devices)| state.is_done() || state.is_failure() || *devices == 0);
        let has_ended = was_open && !self.rollout.state.is_open() || (all_ended && self.rollout.state.is_open());
        if has_ended && self.outcome.seconds == 0 {
            self.outcome.seconds = seconds;
        }
        self.push(self.now_us + JUDGE_SECONDS * 1_000_000, u32::MAX, Happening::Judge);
        has_ended
    }

    fn now(&self) -> Now {
        Now { monotonic: Instant::from_micros(self.now_us), wall: CheckedTime::trusted(wall(self.now_us)) }
    }

    fn happen(&mut self, index: usize, happening: Happening) {
        let now = self.now();
        let device = &mut self.devices[index];
        match happening {
            Happening::Timer if device.armed != Some(self.now_us) => return,
            Happening::Timer => {
                device.armed = None;
                device.agent.handle_timeout(now);
            }
            Happening::Stored(blob) => device.agent.handle_input(now, Input::BlobStored { blob }),
            Happening::Started => self.on_started(index),
            Happening::Judge => {}
        }
        self.carry_out(index);
    }

    fn on_started(&mut self, index: usize) {
        let (now, number) = (self.now(), u32::try_from(index).unwrap_or(u32::MAX));
        let fails = draw(self.seed, number, FAILS) % 100 < self.rules.fails_percent;
        let runs = self.devices[index].starting;
        let outcome = if fails && runs == Some(2) { Outcome::Failed("the health check failed".to_owned()) } else { Outcome::Healthy };
        if let Some(app) = app() {
            self.devices[index].agent.handle_input(now, Input::Activated { app, outcome });
        }
    }

    fn carry_out(&mut self, index: usize) {
        while let Some(effect) = self.devices[index].agent.poll_effect() {
            self.carry_out_one(index, effect);
        }
        while self.devices[index].agent.poll_event().is_some() {}
        self.arm(index);
    }

    fn carry_out_one(&mut self, index: usize, effect: Effect) {
        let (now, number) = (self.now(), u32::try_from(index).unwrap_or(u32::MAX));
        match effect {
            Effect::Poll(_) => self.answer_poll(index),
            Effect::AcceptStatement { name, .. } => {
                let known = self.statements.iter().find(|statement| statement.statement().version == name.version);
                if let Some(statement) = known.cloned() {
                    self.devices[index].agent.handle_input(now, Input::StatementAccepted(statement));
                }
            }
            Effect::Want { blob, .. } => {
                let at = self.stored_at(index, blob);
                self.push(at, number, Happening::Stored(blob));
            }
            Effect::Activate { release, .. } => {
                self.devices[index].starting = Some(release.version);
                if release.version == 2 {
                    self.note_started(index);
                }
                self.push(self.now_us + self.rules.start_seconds * 1_000_000, number, Happening::Started);
            }
            Effect::Report(_) if !self.is_online(index) => self.devices[index].agent.handle_input(now, Input::ReportFailed),
            Effect::Report(report) => {
                let counter = report.counter;
                if !self.devices[index].mute {
                    self.devices[index].report = Some(report);
                }
                self.devices[index].agent.handle_input(now, Input::Reported { counter });
            }
            Effect::Keep { .. } | Effect::KeepFresh { .. } | Effect::Unwant { .. } => {}
        }
    }

    fn answer_poll(&mut self, index: usize) {
        let now = self.now();
        if !self.is_online(index) {
            return self.devices[index].agent.handle_input(now, Input::PollFailed);
        }
        *self.polls.entry(self.now_us / 1_000_000).or_default() += 1;
        let device = &mut self.devices[index];
        if device.heard < self.counter {
            device.heard = self.counter;
            device.starts = self.state.state().apps.values().next().map_or(Starts::Held, |app| app.activation.starts);
            if let Some(assignment) = documents::assignment(&device.id) {
                device.agent.handle_input(now, Input::StateAccepted { assignment, states: vec![self.state.clone()] });
            }
        }
        device.agent.handle_input(now, Input::Polled { at_ms: None });
    }

    /// Whether a device is on the network, by the clock of its site.
    fn is_online(&self, index: usize) -> bool {
        let east_us = u64::from(self.devices[index].site) % self.rules.time_zones * 3_600_000_000;
        self.rules.online.is_none_or(|online| online.contains(wall(self.now_us + east_us)))
    }

    /// When a device has a blob that it wants now: the first of its site begins, the others take part.
    fn stored_at(&mut self, index: usize, blob: Digest) -> u64 {
        let is_new = self.statements[1].statement().content().last().is_some_and(|last| last.digest == blob);
        let Some((begun, done)) = self.sites.get_mut(self.devices[index].site as usize).filter(|_| is_new) else { return self.now_us };
        let begun = *begun.get_or_insert(self.now_us);
        done.next().map_or(self.now_us, |done_ms| begun + u64::from(done_ms) * 1000).max(self.now_us)
    }

    /// Checks that a start was allowed.
    fn note_started(&mut self, index: usize) {
        let device = &mut self.devices[index];
        let turn = self.rollout.since().plus_seconds(self.rollout.plan.steps.reached_after(position(&self.rollout.id, &device.id)));
        let now = wall(self.now_us);
        let in_window = self.rollout.plan.window.is_none_or(|window| window.contains(now));
        let allowed = device.starts == Starts::Open && turn <= now && in_window;
        self.outcome.started += 1;
        self.outcome.started_early += u64::from(!allowed);
        device.mute = draw(self.seed, u32::try_from(index).unwrap_or(u32::MAX), MUTE) % 100 < self.rules.mute_percent;
    }

    fn arm(&mut self, index: usize) {
        let device = &mut self.devices[index];
        let Some(due) = device.agent.poll_timeout() else { return };
        let due = due.as_micros().max(self.now_us + 1);
        if device.armed.is_none_or(|armed| due < armed) {
            device.armed = Some(due);
            self.push(due, u32::try_from(index).unwrap_or(u32::MAX), Happening::Timer);
        }
    }
}

/// The word by which people know a state.
fn word(state: &impl Serialize) -> String {
    serde_json::to_value(state).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
