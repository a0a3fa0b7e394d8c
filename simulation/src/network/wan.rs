//! A site's WAN link: its fetches share it evenly. Each flow needs a fixed amount of service from when it starts, so one
//! level that rises for all of them at once says who is next; a change costs O(log flows).
//!
//! Not here: the seed, whose egress is unlimited; see the crate's first page.

use std::collections::{BTreeMap, BTreeSet};

use protocol::swarm::FetchId;

use super::{Arrival, FRACTION_BITS, UnitsToCome};

#[derive(Debug)]
struct Flow {
    started: u64,
    to_come: UnitsToCome,
}

/// The WAN link of a site.
#[derive(Debug)]
pub(crate) struct WanLink {
    mbit: u64,
    /// Service that a flow got which is there since the beginning.
    level: u64,
    at: u64,
    flows: BTreeMap<(u32, FetchId), Flow>,
    /// The level at which each flow's next unit is whole.
    due: BTreeSet<(u64, u32, FetchId)>,
    /// Payload bytes that came over the link, those of unfinished units too.
    delivered: u64,
    first_byte_at: Option<u64>,
}

impl WanLink {
    pub(crate) const fn new(mbit: u64) -> Self {
        Self { mbit, level: 0, at: 0, flows: BTreeMap::new(), due: BTreeSet::new(), delivered: 0, first_byte_at: None }
    }

    pub(crate) const fn delivered(&self) -> u64 {
        self.delivered
    }

    pub(crate) const fn first_byte_at(&self) -> Option<u64> {
        self.first_byte_at
    }

    /// The first byte of a fetch is there.
    pub(crate) fn start(&mut self, now: u64, device: u32, fetch: FetchId, to_come: UnitsToCome) {
        self.settle(now);
        self.first_byte_at.get_or_insert(now);
        self.due.insert((self.level + to_come.work_to_next(), device, fetch));
        self.flows.insert((device, fetch), Flow { started: self.level, to_come });
    }

    /// A fetch is stopped; what came of its unfinished unit counts as delivered.
    pub(crate) fn stop(&mut self, now: u64, device: u32, fetch: FetchId) {
        self.settle(now);
        let Some(flow) = self.flows.remove(&(device, fetch)) else { return };
        self.due.remove(&(flow.started + flow.to_come.work_to_next(), device, fetch));
        self.delivered += flow.to_come.bytes_after(self.level - flow.started) - flow.to_come.whole_bytes();
    }

    /// When, and to which device, the next unit comes if nothing changes.
    pub(crate) fn next_due(&self) -> Option<(u64, u32)> {
        let (level, device, _) = self.due.first()?;
        let work = level.saturating_sub(self.level) * self.flows.len() as u64;
        Some((self.at + work.div_ceil(self.mbit << FRACTION_BITS), *device))
    }

    /// Takes the unit that is due.
    pub(crate) fn take_due(&mut self, now: u64) -> Option<Arrival> {
        self.settle(now);
        let (_, device, fetch) = *self.due.first().filter(|(level, ..)| *level <= self.level)?;
        self.due.pop_first();
        let flow = self.flows.get_mut(&(device, fetch))?;
        let (unit, last) = flow.to_come.take_next();
        self.delivered += flow.to_come.bytes_of_unit(unit);
        if last {
            self.flows.remove(&(device, fetch));
        } else {
            self.due.insert((flow.started + flow.to_come.work_to_next(), device, fetch));
        }
        Some(Arrival { device, fetch, unit, last })
    }

    /// Bytes of a fetch that arrived so far.
    pub(crate) fn progress(&mut self, now: u64, device: u32, fetch: FetchId) -> u64 {
        self.settle(now);
        self.flows.get(&(device, fetch)).map_or(0, |flow| flow.to_come.bytes_after(self.level - flow.started))
    }

    fn settle(&mut self, now: u64) {
        if let Some(service) = ((now - self.at) * (self.mbit << FRACTION_BITS)).checked_div(self.flows.len() as u64) {
            self.level += service;
        }
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use protocol::geometry::{Geometry, UNIT_BYTES};

    use super::*;

    fn units(count: u32) -> UnitsToCome {
        UnitsToCome::new(Geometry::listed(1 << 20), 0..count)
    }

    #[test]
    fn two_fetches_share_the_link_evenly_and_one_alone_has_all_of_it() {
        let mut link = WanLink::new(8);
        link.start(0, 0, FetchId(0), units(2));
        link.start(0, 1, FetchId(0), units(1));
        let unit_us = UNIT_BYTES;
        assert_eq!(link.next_due(), Some((2 * unit_us, 0)));
        assert_eq!(link.take_due(unit_us), None);
        assert_eq!(link.progress(unit_us, 0, FetchId(0)), UNIT_BYTES / 2);
        let first = link.take_due(2 * unit_us).unwrap();
        assert_eq!((first.device, first.unit, first.last), (0, 0, false));
        let second = link.take_due(2 * unit_us).unwrap();
        assert_eq!((second.device, second.unit, second.last), (1, 0, true));
        assert_eq!(link.next_due(), Some((3 * unit_us, 0)));
        link.stop(2 * unit_us + unit_us / 4, 0, FetchId(0));
        assert_eq!(link.delivered(), 2 * UNIT_BYTES + UNIT_BYTES / 4);
        assert_eq!((link.next_due(), link.first_byte_at()), (None, Some(0)));
    }
}
