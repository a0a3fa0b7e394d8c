//! A site's LAN: every device has a capacity up and one down, which its flows share evenly; a flow gets the smaller of its
//! two shares. What one flow leaves of its share is not given to the others: exact when the WAN is the limit, pessimistic
//! when the LAN is.
//!
//! Not here: whom a device serves; the machine decides that.

use protocol::swarm::FetchId;

use super::{Arrival, FRACTION_BITS, UnitsToCome};
use crate::queue::{Happening, Queue};

#[derive(Debug)]
struct Flow {
    from: u32,
    to: u32,
    fetch: FetchId,
    to_come: UnitsToCome,
    done: u64,
    rate: u64,
    at: u64,
    schedule: u64,
}

/// The LAN of a site.
#[derive(Debug)]
pub(crate) struct Lan {
    mbit: u64,
    flows: Vec<Option<Flow>>,
    free: Vec<usize>,
    up: Vec<Vec<usize>>,
    down: Vec<Vec<usize>>,
    schedules: u64,
    delivered: u64,
}

impl Lan {
    pub(crate) fn new(mbit: u64, devices: usize) -> Self {
        let links = || vec![Vec::new(); devices];
        Self { mbit, flows: Vec::new(), free: Vec::new(), up: links(), down: links(), schedules: 0, delivered: 0 }
    }

    /// Payload bytes of whole units that came over the LAN.
    pub(crate) const fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Bytes of a fetch begin to arrive; the flow's slot.
    pub(crate) fn start(&mut self, now: u64, from: u32, to: u32, fetch: FetchId, to_come: UnitsToCome, queue: &mut Queue) -> usize {
        let flow = Flow { from, to, fetch, to_come, done: 0, rate: 0, at: now, schedule: 0 };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.flows.push(None);
            self.flows.len() - 1
        });
        self.flows[slot] = Some(flow);
        self.up[from as usize].push(slot);
        self.down[to as usize].push(slot);
        self.share_anew(now, from, to, queue);
        slot
    }

    /// A flow is over, or stopped.
    pub(crate) fn stop(&mut self, now: u64, slot: usize, queue: &mut Queue) {
        let Some(flow) = self.flows.get_mut(slot).and_then(Option::take) else { return };
        self.free.push(slot);
        self.up[flow.from as usize].retain(|other| *other != slot);
        self.down[flow.to as usize].retain(|other| *other != slot);
        self.share_anew(now, flow.from, flow.to, queue);
    }

    /// Takes the unit of a flow that is due, unless the flow was scheduled anew since.
    pub(crate) fn take_due(&mut self, now: u64, slot: usize, schedule: u64, queue: &mut Queue) -> Option<Arrival> {
        let flow = self.flows.get_mut(slot)?.as_mut().filter(|flow| flow.schedule == schedule)?;
        flow.settle(now);
        let (unit, last) = flow.to_come.take_next();
        self.delivered += flow.to_come.bytes_of_unit(unit);
        let arrival = Arrival { device: flow.to, fetch: flow.fetch, unit, last };
        if last {
            self.stop(now, slot, queue);
        } else {
            self.schedule(slot, queue);
        }
        Some(arrival)
    }

    /// Bytes of a flow that arrived so far.
    pub(crate) fn progress(&mut self, now: u64, slot: usize) -> u64 {
        let Some(flow) = self.flows.get_mut(slot).and_then(Option::as_mut) else { return 0 };
        flow.settle(now);
        flow.to_come.bytes_after(flow.done)
    }

    fn share_anew(&mut self, now: u64, from: u32, to: u32, queue: &mut Queue) {
        let others = self.down[to as usize].iter().filter(|slot| !self.up[from as usize].contains(slot));
        let touched: Vec<usize> = self.up[from as usize].iter().chain(others).copied().collect();
        for slot in touched {
            let Some(flow) = self.flows.get_mut(slot).and_then(Option::as_mut) else { continue };
            let sharers = self.up[flow.from as usize].len().max(self.down[flow.to as usize].len());
            let rate = (self.mbit << FRACTION_BITS) / sharers as u64;
            if rate != flow.rate {
                flow.settle(now);
                flow.rate = rate;
                self.schedule(slot, queue);
            }
        }
    }

    fn schedule(&mut self, slot: usize, queue: &mut Queue) {
        let Some(flow) = self.flows.get_mut(slot).and_then(Option::as_mut) else { return };
        self.schedules += 1;
        flow.schedule = self.schedules;
        let wait = flow.to_come.work_to_next().saturating_sub(flow.done).div_ceil(flow.rate);
        queue.push(flow.at + wait, flow.to, Happening::LanUnitDue { slot, schedule: flow.schedule });
    }
}

impl Flow {
    const fn settle(&mut self, now: u64) {
        self.done += (now - self.at) * self.rate;
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

    fn arrivals(lan: &mut Lan, queue: &mut Queue) -> Vec<(u64, u32, u32, bool)> {
        let mut arrivals = Vec::new();
        while let Some((at, _, happening)) = queue.pop() {
            if let Happening::LanUnitDue { slot, schedule } = happening
                && let Some(arrival) = lan.take_due(at, slot, schedule, queue)
            {
                arrivals.push((at, arrival.device, arrival.unit, arrival.last));
            }
        }
        arrivals
    }

    #[test]
    fn flows_from_one_device_share_its_upload() {
        let (mut lan, mut queue) = (Lan::new(8, 3), Queue::new(3));
        lan.start(0, 0, 1, FetchId(0), units(1), &mut queue);
        lan.start(0, 0, 2, FetchId(0), units(2), &mut queue);
        let unit_us = UNIT_BYTES;
        assert_eq!(arrivals(&mut lan, &mut queue), [(2 * unit_us, 1, 0, true), (2 * unit_us, 2, 0, false), (3 * unit_us, 2, 1, true)]);
        assert_eq!(lan.delivered(), 3 * UNIT_BYTES);
    }

    #[test]
    fn a_stopped_flow_leaves_its_share_to_the_others() {
        let (mut lan, mut queue) = (Lan::new(8, 3), Queue::new(3));
        let stopped = lan.start(0, 0, 2, FetchId(0), units(1), &mut queue);
        lan.start(0, 1, 2, FetchId(1), units(1), &mut queue);
        lan.stop(UNIT_BYTES, stopped, &mut queue);
        assert_eq!(arrivals(&mut lan, &mut queue), [(UNIT_BYTES * 3 / 2, 2, 0, true)]);
    }
}
