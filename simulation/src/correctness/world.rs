//! A run: devices, sites, a seed, and what happens to them in virtual time, from one seed number.
//!
//! | room | holds |
//! |---|---|
//! | `agents` | what the agents want done: polls, statements, starts, reports |
//! | `swarms` | what the swarm machines want done |
//! | `transfers` | requests, and the units that come of them |
//! | `lan` | connections and control messages, and what happens to these |
//! | `hostile` | what hostile devices do |
//! | [`super::faults`] | what goes wrong, and how it is mended in the end |
//! | [`super::operator`] | what is asked of the seed |
//!
//! Not here: what must hold; see [`super::checks`].

mod agents;
mod hostile;
mod lan;
mod swarms;
mod transfers;

use std::collections::BTreeMap;

use protocol::agent::{Agent, Settings};
use protocol::label::Labels;
use protocol::name::DeviceId;
use protocol::rendezvous;
use protocol::swarm::Swarm;
use protocol::swarm::peer_view::OwnView;
use protocol::time::floor::TimeFloor;
use protocol::time::{Instant, WallTime};

use super::agenda::{Agenda, Deed, Happening};
use super::checks::Checks;
use super::content::Library;
use super::device::{self, BEGINNING, BOUNDS, Device};
use super::draws::Draws;
use super::plan::{Plan, Role};
use super::seed_side::SeedSide;
use super::seeded::SeededBug;
use super::{Passed, Violation};
use crate::node_ids::node_id;
use lan::Lan;
pub(super) use lan::NOTICED_US;
use transfers::Wan;

/// Whether what must hold does; if not, what is wrong.
pub(super) type Verdict = Result<(), String>;

/// How long after the end of all faults everything must be done, beyond what the plan takes: bans, demotions, lapses of claims
/// and pauses after failures, several times over.
const LIVENESS_SECONDS: u64 = 1800;

/// A run.
#[derive(Debug)]
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) bug: Option<SeededBug>,
    pub(super) now: u64,
    pub(super) agenda: Agenda,
    pub(super) library: Library,
    pub(super) devices: Vec<Device>,
    pub(super) lan: Lan,
    /// The WAN of each site.
    pub(super) wans: Vec<Wan>,
    pub(super) seed: SeedSide,
    pub(super) checks: Checks,
    pub(super) draws: Draws,
    pub(super) healed: bool,
    pub(super) rollouts: u64,
    /// Whether the seed has forgotten counters.
    pub(super) restored: bool,
    /// Whether something happened since that may have been the last thing.
    pub(super) done_is_possible: bool,
    digest: u64,
    events: u64,
    trace: Option<Vec<String>>,
}

impl World {
    /// The run of a plan.
    pub(super) fn new(plan: Plan, bug: Option<SeededBug>, trace: bool) -> Result<Self, String> {
        let library = Library::new(&plan.versions)?;
        let mut devices = Vec::new();
        for (index, device) in plan.devices.iter().enumerate() {
            let name: DeviceId = format!("d-{}-{index}", plan.seed).parse().map_err(|error| format!("{error}"))?;
            let id = node_id(plan.seed, 0, u32::try_from(index).unwrap_or(u32::MAX));
            devices.push(Device::new(id, name, *device));
        }
        let names = devices.iter().map(|device| device.name.clone()).collect();
        let mut world = Self {
            bug,
            now: 0,
            agenda: Agenda::default(),
            lan: Lan::new(devices.len()),
            wans: (0..plan.sites).map(|_| Wan::default()).collect(),
            seed: SeedSide::new(&library, names),
            checks: Checks::new(&plan),
            draws: Draws::new(plan.seed, 3),
            healed: false,
            rollouts: 0,
            restored: false,
            done_is_possible: false,
            digest: plan.seed,
            events: 0,
            trace: trace.then(Vec::new),
            library,
            devices,
            plan,
        };
        for device in 0..world.devices.len() {
            let at = world.devices[device].plan.starts_at;
            world.agenda.push(at, Happening::Started { device });
        }
        world.plan_errands();
        world.plan_faults();
        let heals_at = world.plan.heals_at;
        world.agenda.push(heals_at, Happening::Healed);
        Ok(world)
    }

    /// Runs until, after the faults, every honest device has and runs the newest version.
    pub(super) fn run(&mut self) -> Result<Passed, Violation> {
        let deadline = self.plan.heals_at + self.liveness_us();
        while !self.is_done() {
            let Some((at, what)) = self.agenda.pop() else { return Err(self.violation("nothing is left to happen".to_owned())) };
            if at > deadline {
                let what = format!("not done {} s after the faults ended: {}", self.liveness_us() / 1_000_000, self.laggards());
                return Err(self.violation(what));
            }
            self.now = at;
            self.happen(what).map_err(|what| self.violation(what))?;
        }
        let (digest, events) = (self.digest, self.events);
        Ok(Passed { seed: self.plan.seed, digest, events, micros: self.now, devices: self.devices.len(), trace: self.take_trace() })
    }

    fn violation(&mut self, what: String) -> Violation {
        let plan = self.plan.to_string();
        Violation { seed: self.plan.seed, at_us: self.now, what, plan, bug: self.bug, trace: self.take_trace() }
    }

    fn take_trace(&mut self) -> Vec<String> {
        self.trace.take().unwrap_or_default()
    }

    fn liveness_us(&self) -> u64 {
        let units: u64 = self.plan.versions.iter().flat_map(|version| &version.layers).map(|layer| layer.size.div_ceil(65_536)).sum();
        let everyone = units * self.devices.len() as u64;
        let transfer = everyone * (self.plan.wan_unit_us + self.plan.lan_unit_us);
        (LIVENESS_SECONDS + 4 * self.plan.poll_seconds) * 1_000_000 + 2 * transfer
    }

    fn happen(&mut self, what: Happening) -> Verdict {
        match what {
            Happening::To { device, life, deed } => {
                let known = &self.devices[device];
                if known.life != life || !known.alive {
                    return Ok(());
                }
                if known.frozen_until > self.now {
                    let at = known.frozen_until;
                    self.agenda.push(at, Happening::To { device, life, deed });
                    return Ok(());
                }
                self.events += 1;
                self.happen_to(device, deed)
            }
            Happening::Started { device } => self.start(device),
            Happening::Dialled { one, other } => self.dial(one, other),
            Happening::Fault(fault) => self.go_wrong(fault),
            Happening::Errand(errand) => self.run_errand(errand),
            Happening::Healed => self.heal(),
        }
    }

    fn happen_to(&mut self, device: usize, deed: Deed) -> Verdict {
        match deed {
            Deed::SwarmTimer => self.swarm_timer(device),
            Deed::AgentTimer => self.agent_timer(device),
            Deed::Mischief => {
                self.mischief(device);
                Ok(())
            }
            Deed::Received { from, link, message } => self.received(device, from, link, message),
            Deed::LinkLost { peer, link } => self.link_lost(device, peer, link),
            Deed::Asked { by, fetch, blob, units, link } => self.asked(device, (by, fetch, link), blob, units),
            Deed::AskEnded { ask } => self.ask_ended(device, ask),
            Deed::FetchRefused { fetch, end } => self.end_fetch(device, fetch, end),
            Deed::LanUnit { fetch } => self.lan_unit(device, fetch),
            Deed::WanUnit { fetch } => self.wan_unit(device, fetch),
            Deed::WanFailed { fetch } => self.end_fetch(device, fetch, protocol::swarm::FetchEnd::Failed),
            Deed::Verified { blob } => self.verified(device, blob),
            Deed::Rechecked { blob } => self.rechecked(device, blob),
            Deed::OpenAgain { blob } => self.open(device, blob),
            Deed::CheckedLate { fetch, blob, unit } => self.checked_late(device, fetch, blob, unit),
            Deed::Polled { answer } => self.polled(device, answer),
            Deed::StatementCame { version } => self.statement_came(device, version),
            Deed::Reported { counter, taken } => self.reported(device, counter, taken),
            Deed::Activated { app, outcome } => self.activated(device, app, outcome),
        }
    }

    /// A device gets power: its machines start with what is on its disk.
    fn start(&mut self, index: usize) -> Verdict {
        if self.devices[index].alive {
            return Ok(());
        }
        let now = Instant::from_micros(self.now);
        let parameters = self.bug.map_or_else(|| self.plan.parameters.clone(), |bug| bug.parameters(self.plan.parameters.clone()));
        let seed = rendezvous::draw(self.plan.seed, (index as u64) << 16 | u64::from(self.devices[index].life));
        let (platform, interval) = (self.library.platform.clone(), std::time::Duration::from_secs(self.plan.poll_seconds));
        let device = &mut self.devices[index];
        device.alive = true;
        device.time = TimeFloor::new(BEGINNING, BOUNDS, device.disk.kept.floor);
        if device.plan.role == Role::Honest {
            device.swarm = Some(Swarm::new(now, device.id, seed, parameters, OwnView::default()));
            let settings = Settings {
                platform,
                device: device.name.clone(),
                seed,
                interval,
                report_counter: device.disk.kept.report_counter,
                activates: device.plan.activates,
                labels: Labels::new(),
                records: device.disk.kept.records.clone(),
                fresh_at: None,
            };
            device.agent = Some(Agent::new(now, settings));
        }
        self.note(|| format!("d{index} starts"));
        self.checks.started(index);
        let peers: Vec<usize> = (0..self.devices.len()).filter(|peer| *peer != index && self.is_neighbour(index, *peer)).collect();
        for peer in peers {
            self.dial_soon(index, peer);
        }
        if self.devices[index].is_honest() {
            self.take_kept_documents(index)
        } else {
            self.to(index, 0, Deed::Mischief);
            Ok(())
        }
    }

    /// The devices that do as the machines say.
    pub(super) fn honest(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.devices.len()).filter(|index| self.devices[*index].is_honest())
    }

    /// Calendar time without error.
    pub(super) const fn wall(&self) -> WallTime {
        device::wall(self.now)
    }

    /// Something happens to a device after so many microseconds, unless its life ends before.
    pub(super) fn to(&mut self, device: usize, after: u64, deed: Deed) {
        let life = self.devices[device].life;
        self.agenda.push(self.now + after, Happening::To { device, life, deed });
    }

    /// A line for whoever follows the run.
    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>5}.{:06} {}", self.now / 1_000_000, self.now % 1_000_000, line()));
        }
    }

    /// Takes a decision into the digest of the run.
    pub(super) fn record(&mut self, device: usize, kind: u64, words: [u64; 2]) {
        for word in [self.now, (device as u64) << 8 | kind, words[0], words[1]] {
            self.digest = rendezvous::draw(self.digest, word);
        }
    }

    fn is_done(&mut self) -> bool {
        if !self.healed || !std::mem::take(&mut self.done_is_possible) {
            return false;
        }
        self.is_rollout_done() && self.honest().all(|device| self.lack(device).is_none())
    }

    /// What a device still lacks.
    fn lack(&self, index: usize) -> Option<String> {
        let (device, newest) = (&self.devices[index], self.plan.newest());
        let missing = self.library.content(newest).into_iter().filter(|blob| !device.disk.has_whole(blob)).count();
        let running = device.disk.kept.records.get(&self.seed.app).and_then(|record| record.running);
        let runs = running.is_some_and(|run| run.healthy && run.release.version == newest);
        match (missing, runs) {
            (0, true) => None,
            (0, false) => Some(format!("d{index} does not run version {newest} but {running:?}")),
            _ => Some(format!("d{index} lacks {missing} blobs of version {newest}")),
        }
    }

    fn laggards(&self) -> String {
        let lacks: Vec<String> = self.honest().filter_map(|device| self.lack(device)).collect();
        let state = self.seed.rollout.as_ref().map(|rollout| rollout.state);
        format!("{} ({} of them), the rollout is {state:?}", lacks.first().map_or("nobody lacks anything", String::as_str), lacks.len())
    }

    /// Devices by site that hold all of the newest version.
    pub(super) fn complete_by_site(&self) -> BTreeMap<usize, usize> {
        let mut complete = BTreeMap::new();
        let content = self.library.content(self.plan.newest());
        for index in self.honest() {
            let device = &self.devices[index];
            if content.iter().all(|blob| device.disk.is_sound(blob) == Some(true)) {
                *complete.entry(device.plan.site).or_default() += 1;
            }
        }
        complete
    }
}
