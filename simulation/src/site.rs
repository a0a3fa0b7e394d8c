//! One site: its devices, each with the machine that a real node runs, and what happens to them in virtual time.
//!
//! | room | holds |
//! |---|---|
//! | [`carry_out`] | what the machines want done |
//! | [`presence`] | devices come, find each other, and go |
//! | [`transfers`] | requests, flows, and the units that come of them |
//!
//! Not here: other sites; they share nothing.

mod carry_out;
mod presence;
mod transfers;

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use protocol::digest::Digest;
use protocol::geometry::Geometry;
use protocol::rendezvous;
use protocol::sorted_map::SortedMap;
use protocol::swarm::{AskId, FetchId, Input, Swarm};
use protocol::time::Instant;
use protocol::verify::VerifiedBlob;
use protocol::wire::Message;

use crate::checker::{Checker, Violation};
use crate::decisions::DecisionLog;
use crate::network::Network;
use crate::node_ids::ShortId;
use crate::queue::{Happening, Queue};
use crate::scenario::{Role, Scenario};
use crate::site_log::{SiteLog, SiteView};

/// What is drawn for a device, so that one draw does not repeat another.
mod purpose {
    pub(super) const MACHINE: u64 = 1;
    pub(super) const START: u64 = 2;
    pub(super) const CHURN: u64 = 3;
    pub(super) const CHURN_AT: u64 = 4;
    pub(super) const IDENTITY: u64 = 5;
}

#[derive(Debug)]
struct Device {
    id: ShortId,
    starts_at: u64,
    /// When it begins to want the blob, if that is later than its start.
    wants_at: Option<u64>,
    role: Role,
    alive: bool,
    /// How often it was switched on again.
    life: u32,
    killed: bool,
    complete: bool,
    machine: Option<Swarm<SiteView>>,
    /// The time of the one timer event that counts.
    armed: Option<u64>,
    fetches: SortedMap<FetchId, OpenFetch>,
    /// The requests of peers that are not over, who asked, and in which of its lives.
    asks: SortedMap<AskId, (u32, FetchId, u32)>,
    next_ask: u64,
    /// Until when it hashes and writes what came.
    stores_until: u64,
    /// Until when its connection to the seed counts as in use.
    warm_until: u64,
}

/// A fetch that is not over.
#[derive(Clone, Debug)]
struct OpenFetch {
    /// The peer that is asked; none for the WAN.
    server: Option<u32>,
    units: Range<u32>,
    /// What the peer calls the request, once it arrived there.
    ask: Option<AskId>,
    /// The flow, once it runs.
    slot: Option<usize>,
}

/// What a site did.
#[derive(Clone, Debug, Default)]
pub(crate) struct SiteOutcome {
    pub(crate) digest: [u8; 32],
    pub(crate) events: u64,
    pub(crate) messages: u64,
    pub(crate) message_bytes: u64,
    pub(crate) wan_bytes: u64,
    pub(crate) lan_bytes: u64,
    pub(crate) stored_twice: u64,
    pub(crate) complete: u32,
    pub(crate) killed: u32,
    /// From the first byte over the WAN to the last device that is complete.
    pub(crate) duration_us: u64,
    pub(crate) bound_us: u64,
    pub(crate) view_bytes: u64,
    /// When each device was complete, in order.
    pub(crate) done_at_ms: Vec<u32>,
    /// Payload bytes over the WAN in each second.
    pub(crate) wan_by_second: Vec<u32>,
}

/// A site in the middle of a run.
#[derive(Debug)]
pub(crate) struct Site<'a> {
    scenario: &'a Scenario,
    index: u32,
    blob: Digest,
    geometry: Geometry,
    now: u64,
    queue: Queue,
    devices: Vec<Device>,
    network: Network,
    log: Rc<RefCell<SiteLog>>,
    decisions: DecisionLog,
    checker: Checker,
    incomplete: u32,
    /// Until when devices with even indices and those with odd ones hear nothing of each other.
    apart_until: u64,
    outcome: SiteOutcome,
}

impl<'a> Site<'a> {
    pub(crate) fn new(scenario: &'a Scenario, index: u32) -> Self {
        let (geometry, blob) = (scenario.geometry(), Digest::sha256(b"the blob of hedgerow-sim"));
        let count = scenario.devices_of(index);
        let devices: Vec<Device> = (0..count).map(|device| Device::new(scenario, index, device)).collect();
        let liars = (0..count).filter(|device| devices[*device as usize].role == Role::Liar).collect();
        let mut site = Self {
            scenario,
            index,
            blob,
            geometry,
            now: 0,
            queue: Queue::new(devices.len()),
            network: Network::new(
                scenario.sharing,
                scenario.wan_at(index, 0),
                &(0..count).map(|device| scenario.lan_capacity(device, count)).collect::<Vec<_>>(),
                scenario.wifi_mbit,
            ),
            log: Rc::new(RefCell::new(SiteLog::new(devices.len(), &blob, geometry.pieces()))),
            decisions: DecisionLog::new(),
            checker: Checker::new(devices.len(), liars, geometry, (*scenario.parameters).clone()),
            incomplete: scenario.faults.receivers(count),
            apart_until: 0,
            outcome: SiteOutcome::default(),
            devices,
        };
        for device in 0..count {
            let starts_at = site.devices[device as usize].starts_at;
            site.queue.push(starts_at, device, Happening::Started);
        }
        for kill in scenario.kills.iter().filter(|kill| kill.site == index) {
            site.queue.push(kill.at_ms * 1000, kill.device, Happening::Killed);
        }
        site.plan_faults();
        site
    }

    /// Puts what goes wrong at every site into the queue.
    fn plan_faults(&mut self) {
        let (faults, count) = (self.scenario.faults, self.count());
        if let Some(at_ms) = faults.kill_owner_ms {
            self.queue.push(at_ms * 1000, 0, Happening::OwnerKilled);
        }
        if let Some(at_ms) = faults.kill_half_ms {
            for device in (1..count).step_by(2) {
                self.queue.push(at_ms * 1000, device, Happening::Killed);
            }
        }
        if let Some(at_ms) = faults.partition_ms {
            self.queue.push(at_ms * 1000, 0, Happening::FellApart);
        }
        for (at, capacity) in self.scenario.wan_changes(self.index) {
            self.queue.push(at, 0, Happening::WanChanged { capacity });
        }
        let (off_us, within_us) = (faults.churn_off_ms() * 1000, faults.churn_within_ms() * 1000);
        let draw = |device, purpose| draw(self.scenario.seed, self.index, device, purpose);
        let churns = |device: &u32| draw(*device, purpose::CHURN) % 100 < faults.churn_percent.unwrap_or(0);
        let receives = |device: &u32| self.devices[*device as usize].role.receives();
        for device in (0..count).filter(receives).filter(churns) {
            let off = self.devices[device as usize].starts_at + 1 + draw(device, purpose::CHURN_AT) % (within_us + 1);
            self.queue.push(off, device, Happening::SwitchedOff);
            self.queue.push(off + off_us, device, Happening::SwitchedOn);
        }
    }

    /// Runs until then, in microseconds of virtual time, or until every device that survives is complete; whether they are.
    pub(crate) fn run_until(&mut self, until: u64) -> Result<bool, Violation> {
        let limit = self.scenario.limit_us(self.index);
        while self.incomplete > 0 {
            let Some(at) = self.queue.next_at() else {
                return Err(self.violation(format!("nothing is left to happen, but {}", self.laggards())));
            };
            if at > limit {
                let seconds = limit / 1_000_000;
                return Err(self.violation(format!("not done after {seconds} s of virtual time: {}", self.laggards())));
            }
            if at >= until {
                return Ok(false);
            }
            let Some((_, device, happening)) = self.queue.pop() else { continue };
            self.now = at;
            let lives_on = match happening {
                Happening::OwnerKilled | Happening::FellApart | Happening::WanChanged { .. } | Happening::ReceivedByAll { .. } => true,
                Happening::SwitchedOn => !self.devices[device as usize].killed,
                _ => false,
            };
            if lives_on || self.devices[device as usize].alive {
                self.happen(device, happening).map_err(|what| self.violation(what))?;
            }
        }
        Ok(true)
    }

    /// What it did, once all are complete.
    pub(crate) fn finish(mut self) -> SiteOutcome {
        let survivors = self.outcome.complete;
        SiteOutcome {
            wan_by_second: self.network.take_wan_by_second(),
            digest: self.decisions.finish(),
            wan_bytes: self.network.wan_bytes(),
            lan_bytes: self.network.lan_bytes(),
            stored_twice: self.checker.stored_twice(),
            duration_us: self.network.wan_first_at().map_or(0, |first| self.now - first),
            bound_us: self.scenario.bound_us(self.index, survivors),
            view_bytes: self.log.borrow().bytes() as u64,
            ..self.outcome
        }
    }

    fn violation(&self, what: String) -> Violation {
        Violation { site: self.index, at_us: self.now, what, command: self.scenario.command() }
    }

    fn laggards(&self) -> String {
        let lagging = (0..).zip(&self.devices).filter(|(_, device)| device.alive && !device.complete);
        let words: Vec<String> = lagging.take(3).map(|(device, _)| self.checker.progress(device)).collect();
        format!("{} devices are incomplete ({})", self.incomplete, words.join(", "))
    }

    fn happen(&mut self, device: u32, happening: Happening) -> Result<(), String> {
        match happening {
            Happening::Started => self.start(device),
            Happening::Wanted => self.want(device),
            Happening::Discovered => {
                self.discover(device);
                Ok(())
            }
            Happening::Killed => {
                self.kill(device);
                Ok(())
            }
            Happening::OwnerKilled => {
                if let Some(owner) = (0..self.count()).find(|device| self.devices[*device as usize].fetches_over_wan()) {
                    self.kill(owner);
                }
                Ok(())
            }
            Happening::FellApart => {
                self.fall_apart();
                Ok(())
            }
            Happening::WanChanged { capacity } => {
                self.network.set_wan(self.now, capacity, &mut self.queue);
                Ok(())
            }
            Happening::SwitchedOff => {
                self.switch_off(device);
                Ok(())
            }
            Happening::SwitchedOn => self.switch_on(device),
            Happening::TimerRang => self.timer_rang(device),
            Happening::PeerJoined { peer } => self.input(device, Input::PeerJoined { peer: self.id(peer) }),
            Happening::PeerLeft { peer, life } if life == self.devices[peer as usize].life => self.peer_left(device, peer),
            Happening::PeerLeft { .. } => Ok(()),
            Happening::Received { from, message } => self.message(device, from, &message),
            Happening::ReceivedByAll { told } => told.0.iter().try_for_each(|peer| self.message(peer.index(), device, &told.1)),
            Happening::Asked { by, fetch, units } => self.asked(device, by, fetch, units),
            Happening::AskEnded { ask } => self.ask_ended(device, ask),
            Happening::ServingReached { ask, fetch } => {
                self.serving_reached(device, ask, fetch);
                Ok(())
            }
            Happening::FetchRefused { fetch, end } => self.end_fetch(device, fetch, end),
            Happening::WanReached { fetch } => {
                self.wan_reached(device, fetch);
                Ok(())
            }
            Happening::UnitDue { slot, schedule } => self.unit_due(slot, schedule),
            Happening::UnitStored { fetch, unit, last, life } => self.unit_stored(device, (fetch, life), unit, last),
            Happening::BlobVerified => {
                let blob = VerifiedBlob::simulated(self.blob, self.geometry.size());
                self.input(device, Input::BlobVerified { blob })
            }
        }
    }

    fn peer_left(&mut self, device: u32, peer: u32) -> Result<(), String> {
        let asks = self.devices[device as usize].asks.iter();
        let broken: Vec<AskId> = asks.filter(|(_, (asker, ..))| *asker == peer).map(|(ask, _)| *ask).collect();
        for ask in broken {
            self.ask_ended(device, ask)?;
        }
        self.input(device, Input::PeerLeft { peer: self.id(peer) })
    }

    /// Hands a control message to a machine, unless its device is dead or has not started.
    fn message(&mut self, device: u32, from: u32, message: &Message) -> Result<(), String> {
        let sender = self.id(from);
        let receiver = &mut self.devices[device as usize];
        let Some(machine) = receiver.machine.as_mut().filter(|_| receiver.alive) else { return Ok(()) };
        self.outcome.events += 1;
        machine.handle_message(Instant::from_micros(self.now), sender, message);
        self.carry_out(device)
    }

    /// Hands an input to a machine and does what it wants done; nothing to a machine that has not started.
    fn input(&mut self, device: u32, input: Input<ShortId>) -> Result<(), String> {
        let Some(machine) = &mut self.devices[device as usize].machine else { return Ok(()) };
        self.outcome.events += 1;
        machine.handle_input(Instant::from_micros(self.now), input);
        self.carry_out(device)
    }

    fn timer_rang(&mut self, index: u32) -> Result<(), String> {
        let device = &mut self.devices[index as usize];
        if device.armed != Some(self.now) {
            return Ok(());
        }
        device.armed = None;
        let due = device.machine.as_ref().and_then(Swarm::poll_timeout).is_some_and(|due| due.as_micros() <= self.now);
        if due {
            self.report_progress(index)?;
            if let Some(machine) = &mut self.devices[index as usize].machine {
                self.outcome.events += 1;
                machine.handle_timeout(Instant::from_micros(self.now));
            }
        }
        self.carry_out(index)
    }

    /// Arms the timer, unless one rings early enough already: then it looks again.
    fn arm(&mut self, index: u32) {
        let device = &mut self.devices[index as usize];
        let Some(due) = device.machine.as_ref().and_then(Swarm::poll_timeout) else { return };
        let due = due.as_micros().max(self.now + 1);
        if device.armed.is_none_or(|armed| due < armed) {
            device.armed = Some(due);
            self.queue.push(due, index, Happening::TimerRang);
        }
    }

    fn id(&self, device: u32) -> ShortId {
        self.devices[device as usize].id
    }

    fn count(&self) -> u32 {
        self.scenario.devices_of(self.index)
    }
}

impl Device {
    fn new(scenario: &Scenario, site: u32, index: u32) -> Self {
        let role = scenario.faults.role(index, scenario.devices_of(site));
        let late_us = if role == Role::Late { scenario.faults.late_ms() * 1000 } else { 0 };
        let moment = draw(scenario.seed, site, index, purpose::START) % (scenario.start_spread_ms * 1000 + 1);
        let starts_at = late_us + if scenario.wanted_ms.is_some() { 0 } else { moment };
        Self {
            id: ShortId::new(draw(scenario.seed, site, index, purpose::IDENTITY), index),
            starts_at,
            wants_at: scenario.wanted_ms.map(|wanted_ms| starts_at.max(wanted_ms * 1000) + moment),
            role,
            alive: true,
            life: 0,
            killed: false,
            complete: false,
            machine: None,
            armed: None,
            fetches: SortedMap::new(),
            asks: SortedMap::new(),
            next_ask: 0,
            stores_until: 0,
            warm_until: 0,
        }
    }
}

impl Device {
    fn fetches_over_wan(&self) -> bool {
        self.alive && self.fetches.values().any(|open| open.server.is_none())
    }
}

fn draw(seed: u64, site: u32, device: u32, purpose: u64) -> u64 {
    rendezvous::draw(rendezvous::draw(seed, u64::from(site)), u64::from(device) << 8 | purpose)
}
