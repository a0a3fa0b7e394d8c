//! Devices come, find each other, and go: for good, or until they are switched on again with what they stored.
//!
//! Not here: what they do while they are there.

use std::rc::Rc;

use protocol::bits::Bits;
use protocol::swarm::{Input, Swarm};
use protocol::time::Instant;
use protocol::verify::VerifiedBlob;

use super::{Site, draw, purpose};
use crate::queue::Happening;
use crate::site_log::SiteView;

impl Site<'_> {
    pub(super) fn start(&mut self, index: u32) -> Result<(), String> {
        let held = Bits::new(self.geometry.units());
        self.start_with(index, held)
    }

    /// Starts a device that holds these units.
    fn start_with(&mut self, index: u32, held: Bits) -> Result<(), String> {
        let view = SiteView::new(Rc::clone(&self.log));
        let seed = draw(self.scenario.seed, self.index, index, purpose::MACHINE);
        let (id, parameters) = (self.id(index), self.scenario.parameters.clone());
        self.devices[index as usize].machine = Some(Swarm::new(Instant::from_micros(self.now), id, seed, parameters, view));
        self.queue.push(self.now + self.scenario.discovery_ms * 1000, index, Happening::Discovered);
        let (geometry, device) = (self.geometry, &self.devices[index as usize]);
        if device.role.receives() && !device.complete {
            if let Some(at) = device.wants_at.filter(|at| *at > self.now) {
                self.queue.push(at, index, Happening::Wanted);
                return Ok(());
            }
            self.input(index, Input::Wanted { blob: self.blob, geometry, held })
        } else {
            self.input(index, Input::Held { blob: VerifiedBlob::simulated(self.blob, geometry.size()), geometry })
        }
    }

    /// A device that runs already begins to want the blob.
    pub(super) fn want(&mut self, index: u32) -> Result<(), String> {
        let (blob, geometry) = (self.blob, self.geometry);
        self.input(index, Input::Wanted { blob, geometry, held: Bits::new(geometry.units()) })
    }

    /// Devices with even indices and those with odd ones hear nothing of each other for a while.
    pub(super) fn fall_apart(&mut self) {
        self.apart_until = self.now + self.scenario.faults.partition_for_ms() * 1000;
        for device in 0..self.count() {
            for peer in (0..self.count()).filter(|peer| peer % 2 != device % 2) {
                self.stop_flows_between(device, peer);
            }
        }
    }

    /// When what a device sends now reaches a peer: if they are apart, after that, as what is lost is sent again.
    pub(super) fn arrival(&self, device: u32, peer: u32) -> u64 {
        let sent = if self.are_apart(device, peer) { self.apart_until } else { self.now };
        sent + self.scenario.lan_latency_us
    }

    pub(super) const fn are_apart(&self, device: u32, peer: u32) -> bool {
        self.now < self.apart_until && device % 2 != peer % 2
    }

    /// Connects a device with all that started before it.
    pub(super) fn discover(&mut self, index: u32) {
        let order = |other: u32| (self.devices[other as usize].starts_at, other);
        let life = self.devices[index as usize].life;
        let meets = |other: &u32| if life > 0 { *other != index } else { order(*other) < order(index) };
        let there = |other: &u32| self.devices[*other as usize].alive && self.devices[*other as usize].machine.is_some();
        let met: Vec<u32> = (0..self.count()).filter(meets).filter(there).collect();
        for peer in met {
            if life > 0 {
                self.queue.push(self.now, peer, Happening::PeerLeft { peer: index, life });
            }
            self.queue.push(self.now, index, Happening::PeerJoined { peer });
            self.queue.push(self.now, peer, Happening::PeerJoined { peer: index });
        }
    }

    pub(super) fn kill(&mut self, index: u32) {
        let device = &mut self.devices[index as usize];
        device.alive = false;
        device.machine = None;
        self.outcome.killed += 1;
        if device.complete {
            device.complete = false;
            self.outcome.complete -= 1;
        } else if device.role.receives() {
            self.incomplete -= 1;
        }
        device.killed = true;
        self.fall_silent(index);
    }

    /// A device says nothing any more, and its peers notice after a while.
    fn fall_silent(&mut self, index: u32) {
        self.stop_all_flows_of(index);
        let (noticed_at, life) = (self.now + self.scenario.loss_ms * 1000, self.devices[index as usize].life);
        for peer in (0..self.count()).filter(|peer| *peer != index) {
            self.queue.push(noticed_at, peer, Happening::PeerLeft { peer: index, life });
        }
    }

    pub(super) fn switch_off(&mut self, index: u32) {
        let device = &mut self.devices[index as usize];
        device.alive = false;
        device.machine = None;
        self.fall_silent(index);
    }

    /// A device starts again with what it stored, and connects with all that are there.
    pub(super) fn switch_on(&mut self, index: u32) -> Result<(), String> {
        let device = &mut self.devices[index as usize];
        device.alive = true;
        device.life += 1;
        device.armed = None;
        device.asks.clear();
        (device.stores_until, device.warm_until) = (0, 0);
        let held = self.checker.switched_on(index);
        self.start_with(index, held)
    }
}
