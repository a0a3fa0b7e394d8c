//! Requests, the flows that answer them, and the units that come of them.
//!
//! Not here: who asks whom for what; the machines decide that.

use std::ops::Range;

use protocol::swarm::{AskId, FetchEnd, FetchId, Input};
use protocol::verify::UnitProof;

use super::{OpenFetch, Site};
use crate::network::Arrival;
use crate::network::units::UnitsToCome;
use crate::queue::Happening;
use crate::scenario::Role;
use crate::scenario::rates::IDLE_US;

impl Site<'_> {
    /// A request arrives, unless it was cancelled on its way.
    pub(super) fn asked(&mut self, device: u32, by: u32, fetch: FetchId, units: Range<u32>) -> Result<(), String> {
        let ask = AskId(self.devices[device as usize].next_ask);
        let life = self.devices[by as usize].life;
        let Some(open) = self.devices[by as usize].fetches.get_mut(&fetch) else { return Ok(()) };
        open.ask = Some(ask);
        let server = &mut self.devices[device as usize];
        server.next_ask += 1;
        server.asks.insert(ask, (by, fetch, life));
        self.input(device, Input::Asked { peer: self.id(by), ask, blob: self.blob, units })
    }

    /// A request that a device serves is over: all was sent, or the stream broke.
    pub(super) fn ask_ended(&mut self, device: u32, ask: AskId) -> Result<(), String> {
        self.devices[device as usize].asks.remove(&ask);
        self.checker.ask_over(device, ask);
        self.input(device, Input::AskEnded { ask })
    }

    pub(super) fn serving_reached(&mut self, device: u32, ask: AskId, fetch: FetchId) {
        let Some(open) = self.devices[device as usize].fetches.get(&fetch).filter(|open| open.ask == Some(ask)) else { return };
        let Some(server) = open.server.filter(|server| self.devices[*server as usize].alive) else { return };
        if self.are_apart(server, device) {
            return self.queue.push(self.apart_until, device, Happening::ServingReached { ask, fetch });
        }
        let to_come = UnitsToCome::new(self.geometry, open.units.clone());
        let slot = self.network.start(self.now, Some(server), device, fetch, to_come, &mut self.queue);
        if let Some(open) = self.devices[device as usize].fetches.get_mut(&fetch) {
            open.slot = Some(slot);
        }
    }

    pub(super) fn wan_reached(&mut self, device: u32, fetch: FetchId) {
        let Some(open) = self.devices[device as usize].fetches.get(&fetch) else { return };
        let to_come = UnitsToCome::new(self.geometry, open.units.clone());
        let slot = self.network.start(self.now, None, device, fetch, to_come, &mut self.queue);
        if let Some(open) = self.devices[device as usize].fetches.get_mut(&fetch) {
            open.slot = Some(slot);
        }
    }

    pub(super) fn unit_due(&mut self, slot: usize, schedule: u64) -> Result<(), String> {
        let arrival = self.network.take_due(self.now, slot, schedule, &mut self.queue);
        arrival.map_or(Ok(()), |arrival| self.arrived(arrival))
    }

    fn arrived(&mut self, arrival: Arrival) -> Result<(), String> {
        let Arrival { device, fetch, from, unit, last } = arrival;
        if from.is_some_and(|from| self.devices[from as usize].role == Role::Liar) {
            return self.refused(device, fetch, unit);
        }
        let receiver = &mut self.devices[device as usize];
        if from.is_none() {
            receiver.warm_until = self.now + IDLE_US;
        }
        if let Some(open) = receiver.fetches.get_mut(&fetch).filter(|_| last) {
            open.slot = None;
        }
        let life = receiver.life;
        let Some(mbit) = self.scenario.rates.storing_mbit() else { return self.unit_stored(device, (fetch, life), unit, last) };
        let bytes = self.geometry.bytes_of(unit..unit + 1);
        let stored_at = receiver.stores_until.max(self.now) + ((bytes.end - bytes.start) * 8).div_ceil(mbit);
        receiver.stores_until = stored_at;
        self.queue.push(stored_at, device, Happening::UnitStored { fetch, unit, last, life });
        Ok(())
    }

    /// A unit is stored, unless its fetch was stopped before or its device switched off.
    pub(super) fn unit_stored(&mut self, device: u32, (fetch, life): (FetchId, u32), unit: u32, last: bool) -> Result<(), String> {
        let receiver = &self.devices[device as usize];
        if life != receiver.life || !receiver.fetches.contains_key(&fetch) {
            return Ok(());
        }
        self.checker.unit_arrived(device, fetch, unit)?;
        self.input(device, Input::UnitStored { fetch, proof: UnitProof::simulated(self.blob, unit) })?;
        if last { self.end_fetch(device, fetch, FetchEnd::Complete) } else { Ok(()) }
    }

    /// A unit does not match its hash: nothing more of the fetch is read.
    fn refused(&mut self, device: u32, fetch: FetchId, unit: u32) -> Result<(), String> {
        if let Some(open) = self.devices[device as usize].fetches.get(&fetch).cloned() {
            self.stop_flow(&open);
        }
        self.end_fetch(device, fetch, FetchEnd::Refused { unit })
    }

    /// A fetch is over, unless it was cancelled before.
    pub(super) fn end_fetch(&mut self, device: u32, fetch: FetchId, end: FetchEnd) -> Result<(), String> {
        let Some(open) = self.close_fetch(device, fetch) else { return Ok(()) };
        if let (Some(server), Some(ask), FetchEnd::Complete) = (open.server, open.ask, end) {
            self.queue.push(self.now, server, Happening::AskEnded { ask });
        }
        self.input(device, Input::FetchEnded { fetch, end })
    }

    pub(super) fn close_fetch(&mut self, device: u32, fetch: FetchId) -> Option<OpenFetch> {
        self.checker.fetch_over(device, fetch);
        self.devices[device as usize].fetches.remove(&fetch)
    }

    /// Stops the flow of a fetch, if it has one.
    pub(super) fn stop_flow(&mut self, open: &OpenFetch) {
        if let Some(slot) = open.slot {
            self.network.stop(self.now, slot, &mut self.queue);
        }
    }

    /// Stops what `device` serves to `peer`; the fetches stay open, with nothing more to come.
    pub(super) fn stop_flows_between(&mut self, device: u32, peer: u32) {
        let fetches = self.devices[peer as usize].fetches.values_mut();
        let slots: Vec<usize> = fetches.filter(|open| open.server == Some(device)).filter_map(|open| open.slot.take()).collect();
        for slot in slots {
            self.network.stop(self.now, slot, &mut self.queue);
        }
    }

    /// Stops every flow to and from a device that died.
    pub(super) fn stop_all_flows_of(&mut self, device: u32) {
        for open in std::mem::take(&mut self.devices[device as usize].fetches).into_values() {
            self.stop_flow(&open);
        }
        for peer in 0..self.count() {
            self.stop_flows_between(device, peer);
        }
    }

    /// Says how many bytes of each fetch arrived, units that are not whole too.
    pub(super) fn report_progress(&mut self, device: u32) -> Result<(), String> {
        let open = &self.devices[device as usize].fetches;
        let flows: Vec<(FetchId, usize)> = open.iter().filter_map(|(fetch, open)| Some((*fetch, open.slot?))).collect();
        for (fetch, slot) in flows {
            let bytes = self.network.progress(self.now, slot);
            if bytes > 0 {
                self.input(device, Input::Progressed { fetch, bytes })?;
            }
        }
        Ok(())
    }
}
