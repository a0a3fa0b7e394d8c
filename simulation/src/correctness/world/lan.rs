//! The LAN: connections between the devices of a site, and control messages, which are lost, doubled, late and out of order
//! where the plan says so.
//!
//! Not here: bytes of blobs; see [`super::transfers`].

use std::collections::BTreeMap;

use protocol::digest::Digest;
use protocol::swarm::{AskId, Input};
use protocol::time::Instant;
use protocol::wire::Message;

use super::{Deed, Happening, Verdict, World};
use crate::correctness::seeded::SeededBug;

/// Of a thousand messages, so many are lost, come twice, or come late and out of order.
const LOST_PERMILLE: u64 = 30;
const DOUBLED_PERMILLE: u64 = 30;
const LATE_PERMILLE: u64 = 50;
const LATE_US: u64 = 2_000_000;

/// How long a device takes at most to notice that a connection is gone.
pub(in crate::correctness) const NOTICED_US: u64 = 5_000_000;

/// How long a device waits before it connects again to a peer that it sent away.
const REDIAL_US: u64 = 5_000_000;

/// A connection.
#[derive(Clone, Debug, Default)]
struct Link {
    up: bool,
    /// Which connection of the two devices it is.
    number: u32,
    /// When the last message each way arrives.
    arrives: [u64; 2],
}

/// The connections of all sites.
#[derive(Debug)]
pub(in crate::correctness) struct Lan {
    links: BTreeMap<(usize, usize), Link>,
    /// The part of its site that each device is in, while sites are split.
    pub(in crate::correctness) parts: Vec<u64>,
}

impl Lan {
    pub(super) fn new(devices: usize) -> Self {
        Self { links: BTreeMap::new(), parts: vec![0; devices] }
    }

    fn link(&mut self, one: usize, other: usize) -> &mut Link {
        self.links.entry((one.min(other), one.max(other))).or_default()
    }

    /// Whether connection `number` of two devices still stands.
    pub(super) fn stands(&self, one: usize, other: usize, number: u32) -> bool {
        self.links.get(&(one.min(other), one.max(other))).is_some_and(|link| link.up && link.number == number)
    }

    /// The pairs of devices that are connected.
    pub(in crate::correctness) fn standing(&self) -> Vec<(usize, usize)> {
        self.links.iter().filter(|(_, link)| link.up).map(|(pair, _)| *pair).collect()
    }
}

impl World {
    /// Whether two devices are of one site.
    pub(in crate::correctness) fn is_neighbour(&self, one: usize, other: usize) -> bool {
        self.devices[one].plan.site == self.devices[other].plan.site
    }

    /// Two devices find each other in a while.
    pub(in crate::correctness) fn dial_soon(&mut self, one: usize, other: usize) {
        let wait = self.draws.below(self.plan.discovery_us);
        self.agenda.push(self.now + wait, Happening::Dialled { one, other });
    }

    pub(super) fn dial(&mut self, one: usize, other: usize) -> Verdict {
        let apart = self.lan.parts[one] != self.lan.parts[other] || !self.is_neighbour(one, other);
        if apart || self.lan.link(one, other).up || !self.devices[one].alive || !self.devices[other].alive {
            return Ok(());
        }
        let able_at = self.devices[one].frozen_until.max(self.devices[other].frozen_until);
        let able_at = able_at.max(self.banned_until(one, other).unwrap_or(0));
        if able_at > self.now {
            let at = able_at + 1 + self.draws.below(1_000_000);
            self.agenda.push(at, Happening::Dialled { one, other });
            return Ok(());
        }
        let now = self.now;
        let link = self.lan.link(one, other);
        *link = Link { up: true, number: link.number + 1, arrives: [now; 2] };
        let number = link.number;
        for (device, peer) in [(one, other), (other, one)] {
            if let Some(old) = self.devices[device].links.get(&peer).copied() {
                self.link_lost(device, peer, old)?;
            }
            self.devices[device].links.insert(peer, number);
            let id = self.devices[peer].id;
            self.swarm_input(device, Input::PeerJoined { peer: id })?;
        }
        Ok(())
    }

    /// When the later of two devices' bans of each other ends.
    fn banned_until(&self, one: usize, other: usize) -> Option<u64> {
        let now = Instant::from_micros(self.now);
        let until = |device: usize, peer: usize| self.devices[device].swarm.as_ref()?.banned_until(now, self.devices[peer].id);
        until(one, other).into_iter().chain(until(other, one)).max().map(Instant::as_micros)
    }

    /// A connection breaks; each end notices in its time, within `noticed_us`.
    pub(in crate::correctness) fn break_link(&mut self, one: usize, other: usize, noticed_us: u64) {
        let link = self.lan.link(one, other);
        if !link.up {
            return;
        }
        link.up = false;
        let number = link.number;
        for (device, peer) in [(one, other), (other, one)] {
            let after = self.draws.below(noticed_us + 1);
            self.to(device, after, Deed::LinkLost { peer, link: number });
        }
    }

    pub(super) fn link_lost(&mut self, device: usize, peer: usize, link: u32) -> Verdict {
        if self.devices[device].links.get(&peer) != Some(&link) {
            return Ok(());
        }
        self.devices[device].links.remove(&peer);
        let asks = self.devices[device].asks.iter().filter(|(_, ask)| ask.by == peer);
        let broken: Vec<AskId> = asks.map(|(ask, _)| *ask).collect();
        for ask in broken {
            self.ask_ended(device, ask)?;
        }
        self.checks.claims.unlinked(device, peer);
        let id = self.devices[peer].id;
        self.swarm_input(device, Input::PeerLeft { peer: id })
    }

    /// A device closes a connection.
    pub(super) fn disconnect(&mut self, device: usize, peer: usize) -> Verdict {
        let number = self.lan.link(device, peer).number;
        if self.lan.stands(device, peer, number) {
            self.lan.link(device, peer).up = false;
            let latency = self.plan.latency_us;
            self.to(peer, latency, Deed::LinkLost { peer: device, link: number });
            self.agenda.push(self.now + REDIAL_US, Happening::Dialled { one: device, other: peer });
        }
        self.link_lost(device, peer, number)
    }

    /// Puts a message on its way.
    pub(super) fn send(&mut self, from: usize, to: usize, message: &Message) {
        let Some(number) = self.devices[from].links.get(&to).copied().filter(|number| self.lan.stands(from, to, *number)) else { return };
        let unruly = self.plan.kinds.messages && !self.healed;
        if unruly && self.draws.chance(LOST_PERMILLE) {
            return;
        }
        let copies = if unruly && self.draws.chance(DOUBLED_PERMILLE) { 2 } else { 1 };
        for _ in 0..copies {
            let mut at = self.now + self.plan.latency_us + self.draws.below(self.plan.latency_us);
            if unruly && self.draws.chance(LATE_PERMILLE) {
                at += self.draws.below(LATE_US);
            } else {
                let arrives = &mut self.lan.link(from, to).arrives[usize::from(from > to)];
                at = at.max(*arrives);
                *arrives = at;
            }
            self.to(to, at - self.now, Deed::Received { from, link: number, message: message.clone() });
        }
    }

    pub(super) fn received(&mut self, device: usize, from: usize, link: u32, message: Message) -> Verdict {
        if self.devices[device].links.get(&from) != Some(&link) {
            return Ok(());
        }
        if !self.devices[device].is_honest() {
            self.hostile_received(device, from, &message);
            return Ok(());
        }
        self.checks.claims.received(self.now, device, from, &message);
        let released = match &message {
            Message::Release { blob, span } => Some((*blob, *span)),
            _ => None,
        };
        if released.is_none() || self.bug != Some(SeededBug::IgnoreRelease) {
            let peer = self.devices[from].id;
            self.swarm_input(device, Input::Received { peer, message })?;
        }
        released.map_or(Ok(()), |(blob, span)| self.check_release(device, from, blob, span))
    }

    fn check_release(&self, device: usize, from: usize, blob: Digest, span: u32) -> Verdict {
        let Some(swarm) = &self.devices[device].swarm else { return Ok(()) };
        self.checks.claims.released((device, from), self.devices[from].id, (blob, span), swarm.claims())
    }
}
