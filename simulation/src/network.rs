//! How long bytes take: fluid flows over shared links, in integers. Each device has a link up and one down, the site has one
//! to the seed; a flow crosses two of them, so that what comes over the WAN takes its share of a device's way down too.
//!
//! | room | holds |
//! |---|---|
//! | [`sharing`] | how links are shared: max-min fair |
//! | [`units`] | a flow's units, and which is next |
//!
//! Work is counted in bits, shifted by [`FRACTION_BITS`]; a megabit a second is a bit a microsecond.
//!
//! Not here: control messages, which cost latency only; which bytes are fetched.

pub(crate) mod sharing;
pub(crate) mod units;

use protocol::swarm::FetchId;

use crate::queue::{Happening, Queue};
use sharing::{Change, Sharing, SharingKind};
use units::UnitsToCome;

/// Binary places below a bit: shares of links are exact to 2⁻¹⁶ bit a microsecond.
pub(crate) const FRACTION_BITS: u32 = 16;

/// A unit that arrived whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) device: u32,
    pub(crate) fetch: FetchId,
    /// The device that sent it; none for the seed.
    pub(crate) from: Option<u32>,
    pub(crate) unit: u32,
    /// Whether it is the last of its fetch.
    pub(crate) last: bool,
}

#[derive(Debug)]
struct Flow {
    from: Option<u32>,
    to: u32,
    fetch: FetchId,
    to_come: UnitsToCome,
    done: u64,
    rate: u64,
    at: u64,
    /// When the next unit is whole, at this rate.
    due: u64,
    /// When the one event that counts comes, and its number: at that moment or before, so that a flow that slows down needs no
    /// other.
    armed: u64,
    schedule: u64,
}

/// The links of a site and what flows over them.
#[derive(Debug)]
pub(crate) struct Network {
    sharing: Sharing,
    devices: usize,
    is_wifi: bool,
    flows: Vec<Option<Flow>>,
    schedules: u64,
    changes: Vec<Change>,
    lan_bytes: u64,
    wan_bytes: u64,
    wan_first_at: Option<u64>,
    wan_by_second: Vec<u32>,
}

impl Network {
    /// A site with a WAN link of `wan` bits a microsecond (shifted by [`FRACTION_BITS`]) and devices with these capacities up
    /// and down each, in the same unit; with `wifi_mbit`, all of them share that much air.
    pub(crate) fn new(kind: SharingKind, wan: u64, lan: &[u64], wifi_mbit: Option<u64>) -> Self {
        let both_ways = lan.iter().chain(lan).copied();
        let air = (wifi_mbit.unwrap_or(0) << FRACTION_BITS) / 2;
        Self {
            sharing: Sharing::new(kind, both_ways.chain([wan, air]).collect()),
            is_wifi: wifi_mbit.is_some(),
            devices: lan.len(),
            flows: Vec::new(),
            schedules: 0,
            changes: Vec::new(),
            lan_bytes: 0,
            wan_bytes: 0,
            wan_first_at: None,
            wan_by_second: Vec::new(),
        }
    }

    /// Payload bytes of units that came over the WAN, in each second of virtual time.
    pub(crate) fn take_wan_by_second(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.wan_by_second)
    }

    /// Payload bytes of whole units that came over the LAN.
    pub(crate) const fn lan_bytes(&self) -> u64 {
        self.lan_bytes
    }

    /// Payload bytes that came over the WAN, those of units that were never whole too.
    pub(crate) const fn wan_bytes(&self) -> u64 {
        self.wan_bytes
    }

    /// When the first fetch over the WAN began to arrive.
    pub(crate) const fn wan_first_at(&self) -> Option<u64> {
        self.wan_first_at
    }

    /// Bytes of a fetch begin to arrive, from a device or from the seed; the flow's slot.
    pub(crate) fn start(&mut self, now: u64, from: Option<u32>, to: u32, fetch: FetchId, to_come: UnitsToCome, queue: &mut Queue) -> usize {
        if from.is_none() {
            self.wan_first_at.get_or_insert(now);
        }
        let (wan, air) = (2 * self.devices, 2 * self.devices + 1);
        let links = match from {
            Some(device) => [if self.is_wifi { air } else { device as usize }, self.devices + to as usize],
            None => [wan, if self.is_wifi { air } else { self.devices + to as usize }],
        };
        let slot = self.sharing.add(links);
        if slot == self.flows.len() {
            self.flows.push(None);
        }
        self.flows[slot] = Some(Flow { from, to, fetch, to_come, done: 0, rate: 0, at: now, due: NEVER, armed: NEVER, schedule: 0 });
        self.share_anew(now, &links, queue);
        slot
    }

    /// A flow is over, or stopped.
    pub(crate) fn stop(&mut self, now: u64, slot: usize, queue: &mut Queue) {
        let Some(mut flow) = self.flows.get_mut(slot).and_then(Option::take) else { return };
        if flow.from.is_none() {
            flow.settle(now);
            self.wan_bytes += flow.to_come.bytes_after(flow.done) - flow.to_come.whole_bytes();
        }
        let links = self.sharing.remove(slot);
        self.share_anew(now, &links, queue);
    }

    /// The WAN link has this capacity from now on, in bits a microsecond, shifted by [`FRACTION_BITS`]; none at all while it is
    /// cut.
    pub(crate) fn set_wan(&mut self, now: u64, capacity: u64, queue: &mut Queue) {
        let wan = 2 * self.devices;
        self.sharing.set_capacity(wan, capacity);
        self.share_anew(now, &[wan], queue);
    }

    /// Takes the unit of a flow that is due, unless the flow was scheduled anew since.
    pub(crate) fn take_due(&mut self, now: u64, slot: usize, schedule: u64, queue: &mut Queue) -> Option<Arrival> {
        let flow = self.flows.get_mut(slot)?.as_mut().filter(|flow| flow.schedule == schedule)?;
        flow.armed = NEVER;
        if now < flow.due {
            self.arm(slot, queue);
            return None;
        }
        flow.settle(now);
        let (unit, last) = flow.to_come.take_next();
        let bytes = flow.to_come.bytes_of_unit(unit);
        let arrival = Arrival { device: flow.to, fetch: flow.fetch, from: flow.from, unit, last };
        match flow.from {
            Some(_) => self.lan_bytes += bytes,
            None => {
                self.wan_bytes += bytes;
                note_second(&mut self.wan_by_second, now, bytes);
            }
        }
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

    fn share_anew(&mut self, now: u64, links: &[usize], queue: &mut Queue) {
        let mut changes = std::mem::take(&mut self.changes);
        self.sharing.settle(links, &mut changes);
        for Change { slot, rate } in changes.drain(..) {
            let Some(flow) = self.flows.get_mut(slot).and_then(Option::as_mut) else { continue };
            flow.settle(now);
            flow.rate = rate;
            self.schedule(slot, queue);
        }
        self.changes = changes;
    }

    fn schedule(&mut self, slot: usize, queue: &mut Queue) {
        let Some(flow) = self.flows.get_mut(slot).and_then(Option::as_mut) else { return };
        let work = flow.to_come.work_to_next().saturating_sub(flow.done);
        flow.due = if flow.rate > 0 { flow.at + work.div_ceil(flow.rate) } else { NEVER };
        self.arm(slot, queue);
    }

    /// Puts the flow's next unit into the queue, unless an event comes early enough: then it is looked at again.
    fn arm(&mut self, slot: usize, queue: &mut Queue) {
        let Some(flow) = self.flows.get_mut(slot).and_then(Option::as_mut).filter(|flow| flow.due < flow.armed) else { return };
        self.schedules += 1;
        (flow.armed, flow.schedule) = (flow.due, self.schedules);
        queue.push(flow.due, flow.to, Happening::UnitDue { slot, schedule: flow.schedule });
    }
}

/// The due time of a flow without a rate.
const NEVER: u64 = u64::MAX;

/// Seconds of which the bytes are kept: more than any run that ends by itself.
const SECONDS_MAX: usize = 1 << 17;

fn note_second(seconds: &mut Vec<u32>, now: u64, bytes: u64) {
    let second = usize::try_from(now / 1_000_000).unwrap_or(SECONDS_MAX).min(SECONDS_MAX);
    if seconds.len() <= second {
        seconds.resize(second + 1, 0);
    }
    seconds[second] = seconds[second].saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
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

    fn site(wan_mbit: u64, lan_mbit: &[u64]) -> Network {
        let lan: Vec<u64> = lan_mbit.iter().map(|mbit| mbit << FRACTION_BITS).collect();
        Network::new(SharingKind::MaxMin, wan_mbit << FRACTION_BITS, &lan, None)
    }

    #[test]
    fn between_stations_everything_crosses_the_air_twice_and_all_share_it() {
        let (mut network, mut queue) =
            (Network::new(SharingKind::MaxMin, 8 << FRACTION_BITS, &[100 << FRACTION_BITS; 4], Some(16)), Queue::new(4));
        network.start(0, Some(0), 1, FetchId(0), units(1), &mut queue);
        network.start(0, Some(2), 3, FetchId(0), units(1), &mut queue);
        let unit_us = UNIT_BYTES;
        assert_eq!(arrivals(&mut network, &mut queue), [(2 * unit_us, 1, 0, true), (2 * unit_us, 3, 0, true)]);
    }

    fn arrivals(network: &mut Network, queue: &mut Queue) -> Vec<(u64, u32, u32, bool)> {
        let mut arrivals = Vec::new();
        while let Some((at, _, happening)) = queue.pop() {
            if let Happening::UnitDue { slot, schedule } = happening
                && let Some(arrival) = network.take_due(at, slot, schedule, queue)
            {
                arrivals.push((at, arrival.device, arrival.unit, arrival.last));
            }
        }
        arrivals
    }

    #[test]
    fn flows_from_one_device_share_its_way_up() {
        let (mut network, mut queue) = (site(8, &[8; 3]), Queue::new(3));
        network.start(0, Some(0), 1, FetchId(0), units(1), &mut queue);
        network.start(0, Some(0), 2, FetchId(0), units(2), &mut queue);
        let unit_us = UNIT_BYTES;
        assert_eq!(arrivals(&mut network, &mut queue), [(2 * unit_us, 1, 0, true), (2 * unit_us, 2, 0, false), (3 * unit_us, 2, 1, true)]);
        assert_eq!((network.lan_bytes(), network.wan_bytes()), (3 * UNIT_BYTES, 0));
    }

    #[test]
    fn what_comes_over_the_wan_takes_its_share_of_the_way_down() {
        let (mut network, mut queue) = (site(80, &[8; 3]), Queue::new(3));
        network.start(0, None, 2, FetchId(0), units(1), &mut queue);
        network.start(0, Some(0), 2, FetchId(1), units(1), &mut queue);
        let unit_us = UNIT_BYTES;
        assert_eq!(arrivals(&mut network, &mut queue), [(2 * unit_us, 2, 0, true), (2 * unit_us, 2, 0, true)]);
    }

    #[test]
    fn a_stopped_flow_leaves_its_share_to_the_others_and_half_a_unit_over_the_wan_counts() {
        let (mut network, mut queue) = (site(4, &[8; 3]), Queue::new(3));
        let stopped = network.start(0, None, 2, FetchId(0), units(1), &mut queue);
        network.start(0, Some(1), 2, FetchId(1), units(1), &mut queue);
        network.stop(UNIT_BYTES, stopped, &mut queue);
        assert_eq!(arrivals(&mut network, &mut queue), [(UNIT_BYTES * 3 / 2, 2, 0, true)]);
        assert_eq!(network.wan_bytes(), UNIT_BYTES / 2);
    }

    #[test]
    fn nothing_comes_over_a_cut_wan_and_it_goes_on_where_it_stopped() {
        let (mut network, mut queue) = (site(8, &[8; 2]), Queue::new(2));
        network.start(0, None, 1, FetchId(0), units(1), &mut queue);
        network.set_wan(UNIT_BYTES / 2, 0, &mut queue);
        assert_eq!(arrivals(&mut network, &mut queue), []);
        network.set_wan(9 * UNIT_BYTES, 8 << FRACTION_BITS, &mut queue);
        assert_eq!(arrivals(&mut network, &mut queue), [(9 * UNIT_BYTES + UNIT_BYTES / 2, 1, 0, true)]);
    }
}
