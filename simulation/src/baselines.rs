//! What other ways of distributing would do at the same sites: no sharing, one gateway, and pieces in random order from whoever
//! has them, as torrents do. Over the same links as the swarm, but without latency, messages or faults, and everybody
//! knows at once who has what: they are shown at their best.
//!
//! Not here: the swarm itself; see `site`.

use protocol::bits::Bits;
use protocol::geometry::Geometry;
use protocol::rendezvous;
use protocol::swarm::FetchId;
use serde::Serialize;

use crate::network::Network;
use crate::network::units::UnitsToCome;
use crate::queue::{Happening, Queue};
use crate::report::Spread;
use crate::scenario::Scenario;

/// Sites that are compared at most: they are samples of one kind.
const SITES_MAX: u32 = 10;

/// Pieces that a device asks for at a time: as many as fill a pipe of a gigabit.
const OUTSTANDING: usize = 8;

/// A way to distribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Every device fetches everything over the WAN.
    NoSharing,
    /// One device of the site fetches over the WAN, the others from whoever has a piece.
    OneGateway,
    /// Every device fetches pieces in random order, from a device that has it, else over the WAN.
    RandomPieces,
}

/// What a strategy reaches.
#[derive(Clone, Debug, Serialize)]
pub struct Baseline {
    /// The strategy.
    pub strategy: Strategy,
    /// Time until the last device has all, over the bound.
    pub time_over_bound: Spread,
    /// Copies over the WAN.
    pub wan_copies: Spread,
}

#[derive(Debug)]
struct Node {
    stored: Bits,
    asked: Bits,
    outstanding: usize,
}

#[derive(Debug)]
struct Site<'a> {
    scenario: &'a Scenario,
    strategy: Strategy,
    geometry: Geometry,
    network: Network,
    queue: Queue,
    nodes: Vec<Node>,
    holders: Vec<Vec<u32>>,
    draws: u64,
    index: u32,
}

/// Every strategy at the first sites of a scenario.
pub fn compare(scenario: &Scenario) -> Vec<Baseline> {
    let each = |strategy| {
        let sites = 0..scenario.sites.min(SITES_MAX);
        let (times, copies) = sites.map(|site| Site::new(scenario, strategy, site).run()).unzip();
        Baseline { strategy, time_over_bound: Spread::of_figures(times), wan_copies: Spread::of_figures(copies) }
    };
    [Strategy::NoSharing, Strategy::OneGateway, Strategy::RandomPieces].map(each).into()
}

impl<'a> Site<'a> {
    fn new(scenario: &'a Scenario, strategy: Strategy, index: u32) -> Self {
        let (geometry, count) = (scenario.geometry(), scenario.devices_of(index));
        let pieces = geometry.pieces();
        let lan: Vec<u64> = (0..count).map(|device| scenario.lan_capacity(device, count)).collect();
        let node = || Node { stored: Bits::new(pieces), asked: Bits::new(pieces), outstanding: 0 };
        Self {
            network: Network::new(scenario.sharing, scenario.wan_at(index, 0), &lan, scenario.wifi_mbit),
            queue: Queue::new(lan.len()),
            nodes: std::iter::repeat_with(node).take(lan.len()).collect(),
            holders: vec![Vec::new(); pieces as usize],
            draws: 0,
            scenario,
            strategy,
            geometry,
            index,
        }
    }

    /// Time over the bound, and copies over the WAN.
    fn run(mut self) -> (f64, f64) {
        for (at, capacity) in self.scenario.wan_changes(self.index) {
            self.queue.push(at, 0, Happening::WanChanged { capacity });
        }
        self.ask_all(0);
        let (mut last, mut incomplete) = (0, self.nodes.len());
        while incomplete > 0 {
            let Some((now, _, happening)) = self.queue.pop() else { break };
            let arrival = match happening {
                Happening::WanChanged { capacity } => {
                    self.network.set_wan(now, capacity, &mut self.queue);
                    None
                }
                Happening::UnitDue { slot, schedule } => self.network.take_due(now, slot, schedule, &mut self.queue),
                _ => None,
            };
            if let Some(arrival) = arrival.filter(|arrival| arrival.last) {
                let piece = self.geometry.piece_of_unit(arrival.unit);
                let node = &mut self.nodes[arrival.device as usize];
                node.outstanding -= 1;
                node.stored.insert(piece);
                incomplete -= usize::from(node.stored.is_full());
                self.holders[piece as usize].push(arrival.device);
                last = now;
                self.ask_all(now);
            }
        }
        let bound_us = self.scenario.bound_us(self.index, self.scenario.devices_of(self.index));
        (last as f64 / bound_us.max(1) as f64, self.network.wan_bytes() as f64 / self.geometry.size() as f64)
    }

    /// Lets every device ask for as much as it may.
    fn ask_all(&mut self, now: u64) {
        for device in 0..self.scenario.devices_of(self.index) {
            while self.nodes[device as usize].outstanding < OUTSTANDING && self.ask(now, device) {}
        }
    }

    fn ask(&mut self, now: u64, device: u32) -> bool {
        let Some((piece, from)) = self.choose(device) else { return false };
        let node = &mut self.nodes[device as usize];
        node.asked.insert(piece);
        node.outstanding += 1;
        let to_come = UnitsToCome::new(self.geometry, self.geometry.units_of(piece..piece + 1));
        self.network.start(now, from, device, FetchId(u64::from(piece)), to_come, &mut self.queue);
        true
    }

    fn choose(&mut self, device: u32) -> Option<(u32, Option<u32>)> {
        let pieces = self.geometry.pieces();
        if self.nodes[device as usize].asked.is_full() {
            return None;
        }
        let fetches_all = self.strategy == Strategy::NoSharing || (self.strategy == Strategy::OneGateway && device == 0);
        let start = if fetches_all { 0 } else { self.draw(pieces) };
        let asked = &self.nodes[device as usize].asked;
        let mut missing = (start..pieces).chain(0..start).filter(|piece| !asked.contains(*piece));
        if fetches_all {
            return missing.next().map(|piece| (piece, None));
        }
        let piece = match self.strategy {
            Strategy::OneGateway => missing.find(|piece| !self.holders[*piece as usize].is_empty())?,
            Strategy::NoSharing | Strategy::RandomPieces => missing.next()?,
        };
        let count = u32::try_from(self.holders[piece as usize].len()).unwrap_or(u32::MAX);
        let holder = if count == 0 { None } else { Some(self.draw(count) as usize) };
        Some((piece, holder.map(|holder| self.holders[piece as usize][holder])))
    }

    fn draw(&mut self, below: u32) -> u32 {
        self.draws += 1;
        let seed = rendezvous::draw(self.scenario.seed, u64::from(self.index));
        u32::try_from(rendezvous::draw(seed, self.draws) % u64::from(below)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Choices;

    #[test]
    fn without_sharing_a_site_fetches_a_copy_a_device_and_with_a_gateway_one() {
        let choices = Choices { devices: Some(8), sites: Some(1), pieces: Some(64), ..Choices::default() };
        let baselines = compare(&Scenario::try_from(choices).unwrap());
        let of = |strategy| baselines.iter().find(|baseline| baseline.strategy == strategy).unwrap();
        let (alone, gateway, random) = (of(Strategy::NoSharing), of(Strategy::OneGateway), of(Strategy::RandomPieces));
        assert_eq!((alone.wan_copies.max, gateway.wan_copies.max), (8.0, 1.0));
        assert!((alone.time_over_bound.max / 8.0 - 1.0).abs() < 0.02, "{alone:?}");
        assert!((1.0..1.2).contains(&gateway.time_over_bound.max), "{gateway:?}");
        assert!((1.01..8.0).contains(&random.wan_copies.max), "{random:?}");
    }
}
