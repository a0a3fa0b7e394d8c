//! Max-min fair shares of links: a flow gets the smaller share of its two links, and what it leaves of the larger one is
//! shared by that link's other flows.
//!
//! Found by relaxation: a link's share is the level at which its flows, none of them above what its other link offers, fill
//! it; when the level of a link moves by more than one part in [`PRECISION`], the links at the other ends are levelled
//! again. A change touches few links, so it costs little, and rates are within about that precision of the exact ones.
//!
//! Not here: what flows; see [`super::Network`].

use std::collections::VecDeque;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A share that moves by less than one part in this many is left as it is.
const PRECISION: u64 = 64;

/// Links levelled after one change at most: a bound on work; what is left then is levelled with the next change.
const LEVELLED_MAX: usize = 256;

/// How flows share links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum SharingKind {
    /// Max-min fair, within two percent.
    #[default]
    MaxMin,
    /// Max-min fair, to a millionth: to see what the two percent are worth.
    Exact,
    /// Each flow gets the same part of each of its links, and what it leaves is lost: exact where the WAN is the limit,
    /// pessimistic elsewhere. For a quick look, not for claims.
    Equal,
}

impl SharingKind {
    const fn precision(self) -> u64 {
        match self {
            Self::MaxMin | Self::Equal => PRECISION,
            Self::Exact => 1_000_000,
        }
    }

    const fn levelled_max(self) -> usize {
        match self {
            Self::MaxMin | Self::Equal => LEVELLED_MAX,
            Self::Exact => 1 << 16,
        }
    }
}

#[derive(Debug)]
struct Link {
    capacity: u64,
    share: u64,
    flows: Vec<usize>,
    waiting: bool,
}

#[derive(Clone, Copy, Debug)]
struct Route {
    links: [usize; 2],
    rate: u64,
}

/// A flow's new rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) slot: usize,
    pub(crate) rate: u64,
}

/// Links, and the flows that share them.
#[derive(Debug)]
pub(crate) struct Sharing {
    kind: SharingKind,
    links: Vec<Link>,
    routes: Vec<Option<Route>>,
    free: Vec<usize>,
    worklist: VecDeque<usize>,
    offers: Vec<u64>,
    touched: Vec<usize>,
}

impl Sharing {
    pub(crate) fn new(kind: SharingKind, capacities: Vec<u64>) -> Self {
        let link = |capacity| Link { capacity, share: capacity, flows: Vec::new(), waiting: false };
        let links = capacities.into_iter().map(link).collect();
        Self { kind, links, routes: Vec::new(), free: Vec::new(), worklist: VecDeque::new(), offers: Vec::new(), touched: Vec::new() }
    }

    /// A flow crosses these links from now on; its slot. Its rate comes with the next [`Self::settle`].
    pub(crate) fn add(&mut self, links: [usize; 2]) -> usize {
        let slot = self.free.pop().unwrap_or(self.routes.len());
        if slot == self.routes.len() {
            self.routes.push(None);
        }
        self.routes[slot] = Some(Route { links, rate: 0 });
        for link in links {
            self.links[link].flows.push(slot);
        }
        slot
    }

    /// A flow is gone; the links that it crossed.
    pub(crate) fn remove(&mut self, slot: usize) -> [usize; 2] {
        let Some(route) = self.routes[slot].take() else { return [0; 2] };
        for link in route.links {
            self.links[link].flows.retain(|other| *other != slot);
        }
        self.free.push(slot);
        route.links
    }

    pub(crate) fn set_capacity(&mut self, link: usize, capacity: u64) {
        self.links[link].capacity = capacity;
    }

    /// Shares `changed` links anew, and those that depend on them; `changes` takes the flows whose rate is another one.
    pub(crate) fn settle(&mut self, changed: &[usize], changes: &mut Vec<Change>) {
        for link in changed {
            self.enqueue(*link);
        }
        let precision = self.kind.precision();
        let mut touched = std::mem::take(&mut self.touched);
        for _ in 0..self.kind.levelled_max() {
            let Some(link) = self.worklist.pop_front() else { break };
            self.links[link].waiting = false;
            let (before, share) = (self.links[link].share, self.level(link));
            self.links[link].share = share;
            touched.extend(&self.links[link].flows);
            if self.kind != SharingKind::Equal && before.abs_diff(share) > before / precision {
                for index in 0..self.links[link].flows.len() {
                    let slot = self.links[link].flows[index];
                    let Some(route) = self.routes[slot] else { continue };
                    let other = route.links[usize::from(route.links[0] == link)];
                    if before.min(share) < self.links[other].share {
                        self.enqueue(other);
                    }
                }
            }
        }
        touched.sort_unstable();
        touched.dedup();
        for slot in touched.drain(..) {
            let Some(route) = self.routes[slot].as_mut() else { continue };
            let rate = route.links.iter().map(|link| self.links[*link].share).min().unwrap_or(0);
            if rate.abs_diff(route.rate) > route.rate / precision || (rate == 0) != (route.rate == 0) {
                route.rate = rate;
                changes.push(Change { slot, rate });
            }
        }
        self.touched = touched;
    }

    fn enqueue(&mut self, link: usize) {
        if !self.links[link].waiting {
            self.links[link].waiting = true;
            self.worklist.push_back(link);
        }
    }

    /// The share of `link` at which its flows fill it, given what their other links offer.
    fn level(&mut self, link: usize) -> u64 {
        let Link { capacity, flows, .. } = &self.links[link];
        if self.kind == SharingKind::Equal {
            return capacity.checked_div(flows.len() as u64).unwrap_or(*capacity);
        }
        let mut offers = std::mem::take(&mut self.offers);
        offers.clear();
        for slot in flows {
            let Some(route) = self.routes[*slot] else { continue };
            let other = route.links[usize::from(route.links[0] == link)];
            offers.push(self.links[other].share);
        }
        offers.sort_unstable();
        let (mut left, mut sharers) = (*capacity, offers.len() as u64);
        let mut share = left.checked_div(sharers).unwrap_or(left);
        for offer in &offers {
            if *offer >= share {
                break;
            }
            left -= offer;
            sharers -= 1;
            share = left.checked_div(sharers).unwrap_or(left + offer);
        }
        self.offers = offers;
        share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Progressive filling: the exact shares, in floating point.
    fn exact(capacities: &[u64], routes: &[[usize; 2]]) -> Vec<f64> {
        let mut left: Vec<f64> = capacities.iter().map(|capacity| *capacity as f64).collect();
        let mut rates = vec![None; routes.len()];
        while rates.iter().any(Option::is_none) {
            let open = |link: usize, rates: &[Option<f64>]| {
                routes.iter().zip(rates).filter(|(route, rate)| rate.is_none() && route.contains(&link)).count()
            };
            let narrowest = (0..left.len())
                .filter(|link| open(*link, &rates) > 0)
                .min_by(|one, other| (left[*one] / open(*one, &rates) as f64).total_cmp(&(left[*other] / open(*other, &rates) as f64)));
            let narrowest = narrowest.unwrap();
            let share = left[narrowest] / open(narrowest, &rates) as f64;
            for (index, route) in routes.iter().enumerate() {
                if rates[index].is_none() && route.contains(&narrowest) {
                    rates[index] = Some(share);
                    for link in route {
                        left[*link] -= share;
                    }
                }
            }
        }
        rates.into_iter().map(Option::unwrap).collect()
    }

    #[test]
    fn shares_are_near_the_exact_ones_whatever_comes_and_goes() {
        assert!(worst_error(SharingKind::MaxMin) < 0.1);
        assert!(worst_error(SharingKind::Exact) < 0.0001);
    }

    #[test]
    fn equal_shares_leave_what_a_flow_cannot_use() {
        let mut sharing = Sharing::new(SharingKind::Equal, vec![100, 100, 10]);
        let (mut changes, slots) = (Vec::new(), [sharing.add([0, 1]), sharing.add([0, 2])]);
        sharing.settle(&[0, 1, 2], &mut changes);
        assert_eq!(changes, [Change { slot: slots[0], rate: 50 }, Change { slot: slots[1], rate: 10 }]);
    }

    fn worst_error(kind: SharingKind) -> f64 {
        let capacities = vec![1 << 24, 1 << 24, 1 << 22, 1 << 24, 1 << 24, 1 << 24, 1 << 23, 1 << 24, 3 << 23];
        let mut sharing = Sharing::new(kind, capacities.clone());
        let mut slots: Vec<(usize, [usize; 2])> = Vec::new();
        let (mut worst, mut changes) = (0.0f64, Vec::new());
        for step in 0..2000u64 {
            let draw = |purpose: u64, below: u64| (protocol::rendezvous::draw(step, purpose) % below) as usize;
            let links = if !slots.is_empty() && draw(1, 40) < slots.len() {
                sharing.remove(slots.swap_remove(draw(2, slots.len() as u64)).0)
            } else {
                let links = [[0, 1, 2, 3, 8][draw(3, 5)], 4 + draw(4, 4)];
                slots.push((sharing.add(links), links));
                links
            };
            changes.clear();
            sharing.settle(&links, &mut changes);
            let routes: Vec<[usize; 2]> = slots.iter().map(|(_, links)| *links).collect();
            for ((slot, _), exact) in slots.iter().zip(exact(&capacities, &routes)) {
                let rate = sharing.routes[*slot].unwrap().rate as f64;
                worst = worst.max((rate / exact - 1.0).abs());
            }
        }
        worst
    }
}
