//! What devices of a site tell each other of signed documents: how far each has got, so that what one of them was told by
//! the seed reaches all, also those whose WAN is down. A device that hears of something newer asks for it and checks it as
//! if it came from the seed; peers decide nothing.
//!
//! Who says how much follows Trickle (RFC 6206): soon after a change, and now and then after that, unless others said the
//! same.
//!
//! | module | holds |
//! |---|---|
//! | [`message`] | what is said |
//!
//! Not here: how it is carried; which documents are accepted, see [`crate::statement`].

pub mod message;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::digest::Digest;
use crate::name::NodeId;
use crate::rendezvous;
use crate::time::Instant;
use message::Heads;

/// Peers that a device calls for gossip: with those that call it, about twice as many.
const CALLS_MAX: usize = 4;
/// After a change or a new peer it is said within this time.
const SOON: Duration = Duration::from_secs(1);
/// Without a change it is said once in half of this time to all of it.
const REPEAT: Duration = Duration::from_secs(60);
/// So many others that said the same are enough (the redundancy constant of RFC 6206 §4.1).
const SAME_MAX: u32 = 2;
/// One peer is asked again after this long: one that boasts of documents that are refused costs no more.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// What the driver must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Tell all.
    Tell(Heads),
    /// Ask this peer for what is newer than these.
    Ask(NodeId, Heads),
}

/// The machine of one device.
#[derive(Debug)]
pub struct Gossip {
    seed: u64,
    draws: u64,
    own: Heads,
    same: u32,
    changed: bool,
    next: Instant,
    asked: BTreeMap<NodeId, Instant>,
    effects: VecDeque<Effect>,
}

impl Gossip {
    /// The machine of a device that knows nothing; `seed` makes its random choices reproducible.
    pub const fn new(now: Instant, seed: u64) -> Self {
        let own = Heads { states: BTreeMap::new(), revocations: None };
        Self { seed, draws: 0, own, same: 0, changed: false, next: now, asked: BTreeMap::new(), effects: VecDeque::new() }
    }

    /// These documents are in force now.
    pub fn on_own(&mut self, now: Instant, own: Heads) {
        if own != self.own {
            self.own = own;
            self.tell_soon(now);
        }
    }

    /// A peer is connected.
    pub fn on_joined(&mut self, now: Instant) {
        self.tell_soon(now);
    }

    /// A peer is gone.
    pub fn on_left(&mut self, peer: NodeId) {
        self.asked.remove(&peer);
    }

    /// What was heard through `peer`.
    pub fn on_heard(&mut self, now: Instant, peer: NodeId, heads: &Heads) {
        if self.own.is_behind(heads) {
            let is_due = self.asked.get(&peer).is_none_or(|asked| now.since(*asked) >= ASK_AGAIN);
            if is_due {
                self.asked.insert(peer, now);
                self.effects.push_back(Effect::Ask(peer, self.own.clone()));
            }
        } else if heads.is_behind(&self.own) {
            self.tell_soon(now);
        } else {
            self.same = self.same.saturating_add(1);
        }
    }

    /// Takes note that time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now < self.next {
            return;
        }
        if self.changed || self.same < SAME_MAX {
            self.effects.push_back(Effect::Tell(self.own.clone()));
        }
        (self.same, self.changed) = (0, false);
        self.next = now + REPEAT / 2 + self.draw(REPEAT / 2);
    }

    /// The next thing the driver must do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`Self::handle_timeout`] is to be called next.
    pub const fn poll_timeout(&self) -> Instant {
        self.next
    }

    fn tell_soon(&mut self, now: Instant) {
        self.changed = true;
        let soon = now + self.draw(SOON);
        self.next = self.next.min(soon);
    }

    fn draw(&mut self, limit: Duration) -> Duration {
        self.draws += 1;
        let micros = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX).saturating_add(1);
        Duration::from_micros(rendezvous::draw(self.seed, self.draws) % micros)
    }
}

/// The peers that `me` calls for gossip. Only the smaller of two calls, so that no pair has two connections; who has anybody
/// larger calls somebody, so all are connected with the largest, and through it with each other.
pub fn calls<'a>(me: &NodeId, peers: impl Iterator<Item = &'a NodeId>) -> Vec<NodeId> {
    let mine = Digest::Sha256(me.0);
    let mut larger: Vec<NodeId> = peers.filter(|peer| *peer > me).copied().collect();
    larger.sort_unstable_by_key(|peer| (std::cmp::Reverse(rendezvous::weight(&mine, 0, peer)), *peer));
    larger.truncate(CALLS_MAX);
    larger
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::desired::Counter;
    use std::collections::BTreeSet;

    const PEER: NodeId = NodeId([1; 32]);

    fn heads(n: u64) -> Heads {
        let counter = Counter { epoch: 1, n };
        Heads { states: [("all".parse().unwrap(), counter)].into(), revocations: None }
    }

    fn effects(gossip: &mut Gossip, now: Instant) -> Vec<Effect> {
        gossip.handle_timeout(now);
        std::iter::from_fn(|| gossip.poll_effect()).collect()
    }

    fn started(n: u64) -> (Gossip, Instant) {
        let mut gossip = Gossip::new(Instant::ZERO, 7);
        gossip.on_own(Instant::ZERO, heads(n));
        assert_eq!(effects(&mut gossip, Instant::ZERO), [Effect::Tell(heads(n))]);
        (gossip, Instant::ZERO)
    }

    #[test]
    fn who_hears_of_something_newer_asks_for_it_and_not_at_speed() {
        let (mut gossip, now) = started(1);
        for _ in 0..100 {
            gossip.on_heard(now, PEER, &heads(2));
        }
        assert_eq!(effects(&mut gossip, now), [Effect::Ask(PEER, heads(1))]);
        gossip.on_heard(now + ASK_AGAIN, PEER, &heads(2));
        assert_eq!(effects(&mut gossip, now + ASK_AGAIN), [Effect::Ask(PEER, heads(1))]);
    }

    #[test]
    fn a_change_is_told_soon_and_so_is_one_that_somebody_missed() {
        let (mut gossip, now) = started(1);
        gossip.on_own(now, heads(2));
        assert_eq!(effects(&mut gossip, now + SOON), [Effect::Tell(heads(2))]);
        gossip.on_heard(now + SOON, PEER, &heads(1));
        assert_eq!(effects(&mut gossip, now + SOON * 2), [Effect::Tell(heads(2))]);
    }

    #[test]
    fn what_others_said_is_not_said_again() {
        let (mut gossip, now) = started(1);
        for _ in 0..SAME_MAX {
            gossip.on_heard(now, PEER, &heads(1));
        }
        assert_eq!(effects(&mut gossip, now + REPEAT), []);
        assert_eq!(effects(&mut gossip, now + REPEAT * 2), [Effect::Tell(heads(1))], "nobody else said it");
    }

    #[test]
    fn documents_of_other_groups_are_nobody_elses_business() {
        let other = Heads { states: [("other".parse().unwrap(), Counter { epoch: 9, n: 9 })].into(), revocations: None };
        assert!(!heads(1).is_behind(&other));
        assert!(heads(1).is_behind(&Heads { revocations: Some(Counter { epoch: 1, n: 1 }), ..Heads::default() }));
    }

    #[test]
    fn calls_connect_a_site_with_one_connection_a_pair() {
        let nodes: Vec<NodeId> = (0..50u8).map(|n| NodeId(Digest::sha256(&[n]).as_bytes().try_into().unwrap())).collect();
        let mut edges = BTreeSet::new();
        for node in &nodes {
            let called = calls(node, nodes.iter().filter(|other| *other != node));
            assert!(called.len() <= CALLS_MAX && called.iter().all(|other| other > node));
            edges.extend(called.into_iter().map(|other| (*node, other)));
        }
        let mut reached = BTreeSet::from([nodes[0]]);
        for _ in 0..nodes.len() {
            let ends = edges.iter().filter(|(a, b)| reached.contains(a) || reached.contains(b));
            let more: Vec<NodeId> = ends.flat_map(|(a, b)| [*a, *b]).collect();
            reached.extend(more);
        }
        assert_eq!(reached.len(), nodes.len());
        let most = nodes.iter().map(|node| edges.iter().filter(|(a, b)| a == node || b == node).count()).max();
        assert!(most <= Some(32), "{most:?}");
    }
}
