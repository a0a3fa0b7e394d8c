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
//! Who polled for the site says so at once, with the receipt that the seed gave it; each of the others judges that itself.
//!
//! Not here: how it is carried; who polls, see [`crate::agent::turn`]; which documents are accepted, see [`crate::statement`].

pub mod message;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::digest::Digest;
use crate::name::NodeId;
use crate::rendezvous;
use crate::statement::desired::OnlineKey;
use crate::statement::receipt::{PollReceipt, SitePoll};
use crate::time::Instant;
use message::{Heads, Said};

/// Peers that a device calls for gossip: with those that call it, about twice as many.
const CALLS_MAX: usize = 4;
/// After a change or a new peer it is said within this time.
const SOON: Duration = Duration::from_secs(1);
/// Without a change it is said once in half of this time to all of it.
const REPEAT: Duration = Duration::from_secs(60);
/// So many others that said the same are enough (the redundancy constant of RFC 6206 §4.1).
const SAME_MAX: u32 = 2;
/// One peer whose last answer brought nothing is asked again after this long: one that boasts of documents that are refused costs
/// no more.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// What the driver must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Tell all.
    Tell(Said),
    /// Ask this peer for what is newer than these.
    Ask(NodeId, Heads),
    /// Somebody polled for the site, as the seed says: tell the agent.
    SitePolled(SitePoll),
}

/// The machine of one device.
#[derive(Debug)]
pub struct Gossip {
    seed: u64,
    draws: u64,
    own: Heads,
    /// Whose receipts count; nobody's at first.
    online: Option<OnlineKey>,
    /// The receipt of this device's last poll for its site, until another one polls.
    poll: Option<PollReceipt>,
    /// The newest receipt of another device.
    heard: Option<(PollReceipt, SitePoll)>,
    same: u32,
    changed: bool,
    next: Instant,
    /// When each peer was asked last, and what this device had then.
    asked: BTreeMap<NodeId, (Instant, Heads)>,
    /// Who was heard last to have something newer, and how far it is.
    ahead: Option<(NodeId, Heads)>,
    effects: VecDeque<Effect>,
}

impl Gossip {
    /// The machine of a device that knows nothing; `seed` makes its random choices reproducible.
    pub const fn new(now: Instant, seed: u64) -> Self {
        let own = Heads { states: BTreeMap::new(), revocations: None, timestamp: None };
        Self {
            seed,
            draws: 0,
            own,
            online: None,
            poll: None,
            heard: None,
            same: 0,
            changed: false,
            next: now,
            asked: BTreeMap::new(),
            ahead: None,
            effects: VecDeque::new(),
        }
    }

    /// These documents are in force now.
    pub fn on_own(&mut self, now: Instant, own: Heads) {
        if own != self.own {
            self.own = own;
            self.tell_soon(now);
            // What one answer brought may not be all that the neighbour has by now.
            if let Some((peer, heads)) = self.ahead.take() {
                self.ask(now, peer, heads);
            }
        }
    }

    /// The receipts of this key count, and no others.
    pub fn on_online(&mut self, online: OnlineKey) {
        if self.online.as_ref() != Some(&online) {
            (self.online, self.heard) = (Some(online), None);
        }
    }

    /// This device polled for its site and was given this receipt. The others wait for it: they are told at once.
    pub fn on_polled(&mut self, now: Instant, receipt: PollReceipt) {
        self.poll = Some(receipt);
        self.heard = None;
        (self.changed, self.next) = (true, now);
    }

    /// A peer is connected.
    pub fn on_joined(&mut self, now: Instant) {
        self.tell_soon(now);
    }

    /// A peer is gone.
    pub fn on_left(&mut self, peer: NodeId) {
        self.asked.remove(&peer);
        self.ahead.take_if(|(ahead, _)| *ahead == peer);
    }

    /// What was heard through `peer`.
    pub fn on_heard(&mut self, now: Instant, peer: NodeId, said: &Said) {
        if let Some(receipt) = &said.poll {
            self.on_site_polled(receipt);
        }
        let heads = &said.heads;
        if self.own.is_behind(heads) {
            self.ask(now, peer, heads.clone());
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
            self.effects.push_back(Effect::Tell(Said { heads: self.own.clone(), poll: self.poll.clone() }));
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

    /// Asks a peer that is ahead, unless it was asked just now and this device has nothing more since.
    fn ask(&mut self, now: Instant, peer: NodeId, heads: Heads) {
        if !self.own.is_behind(&heads) {
            return;
        }
        self.ahead = Some((peer, heads));
        let is_due = self.asked.get(&peer).is_none_or(|(at, had)| now.since(*at) >= ASK_AGAIN || *had != self.own);
        if is_due {
            self.asked.insert(peer, (now, self.own.clone()));
            self.effects.push_back(Effect::Ask(peer, self.own.clone()));
        }
    }

    /// Who polled last is the one whose polls are told. A receipt that the seed did not give, or older than another one, is nobody's
    /// business; one that is heard again is not checked again.
    fn on_site_polled(&mut self, receipt: &PollReceipt) {
        let newest = self.poll.as_ref().into_iter().chain(self.heard.as_ref().map(|(heard, _)| heard)).map(|known| known.at_ms).max();
        if newest > Some(receipt.at_ms) {
            return;
        }
        let known = self.heard.as_ref().filter(|(heard, _)| heard == receipt).map(|(_, poll)| poll.clone());
        let opened = known.or_else(|| receipt.open(self.online.as_ref()?).ok());
        let Some(poll) = opened else { return };
        self.poll.take_if(|own| own.at_ms < poll.at_ms);
        self.heard = Some((receipt.clone(), poll.clone()));
        self.effects.push_back(Effect::SitePolled(poll));
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
    use super::message::SiteHeads;
    use super::*;
    use crate::statement::desired::Counter;
    use crate::statement::desired::tests::online;
    use crate::statement::receipt::tests::receipt_by;
    use std::collections::BTreeSet;

    const PEER: NodeId = NodeId([1; 32]);

    fn heads(n: u64) -> Heads {
        let counter = Counter { epoch: 1, n };
        Heads { states: [("all".parse().unwrap(), counter)].into(), ..Heads::default() }
    }

    fn said(n: u64) -> Said {
        Said { heads: heads(n), poll: None }
    }

    fn effects(gossip: &mut Gossip, now: Instant) -> Vec<Effect> {
        gossip.handle_timeout(now);
        std::iter::from_fn(|| gossip.poll_effect()).collect()
    }

    fn started(n: u64) -> (Gossip, Instant) {
        let mut gossip = Gossip::new(Instant::ZERO, 7);
        gossip.on_own(Instant::ZERO, heads(n));
        assert_eq!(effects(&mut gossip, Instant::ZERO), [Effect::Tell(said(n))]);
        (gossip, Instant::ZERO)
    }

    #[test]
    fn who_hears_of_something_newer_asks_for_it_and_not_at_speed() {
        let (mut gossip, now) = started(1);
        for _ in 0..100 {
            gossip.on_heard(now, PEER, &said(2));
        }
        assert_eq!(effects(&mut gossip, now), [Effect::Ask(PEER, heads(1))]);
        gossip.on_heard(now + ASK_AGAIN, PEER, &said(2));
        assert_eq!(effects(&mut gossip, now + ASK_AGAIN), [Effect::Ask(PEER, heads(1))]);
    }

    #[test]
    fn a_neighbour_that_went_on_while_it_answered_is_asked_again_at_once() {
        let (mut gossip, now) = started(1);
        gossip.on_heard(now, PEER, &said(2));
        gossip.on_heard(now, PEER, &said(3));
        assert_eq!(effects(&mut gossip, now), [Effect::Ask(PEER, heads(1))]);
        gossip.on_own(now, heads(2));
        assert_eq!(gossip.poll_effect(), Some(Effect::Ask(PEER, heads(2))));
        gossip.on_own(now, heads(3));
        assert_eq!(gossip.poll_effect(), None, "nothing is missing");
    }

    #[test]
    fn a_change_is_told_soon_and_so_is_one_that_somebody_missed() {
        let (mut gossip, now) = started(1);
        gossip.on_own(now, heads(2));
        assert_eq!(effects(&mut gossip, now + SOON), [Effect::Tell(said(2))]);
        gossip.on_heard(now + SOON, PEER, &said(1));
        assert_eq!(effects(&mut gossip, now + SOON * 2), [Effect::Tell(said(2))]);
    }

    #[test]
    fn what_others_said_is_not_said_again() {
        let (mut gossip, now) = started(1);
        for _ in 0..SAME_MAX {
            gossip.on_heard(now, PEER, &said(1));
        }
        assert_eq!(effects(&mut gossip, now + REPEAT), []);
        assert_eq!(effects(&mut gossip, now + REPEAT * 2), [Effect::Tell(said(1))], "nobody else said it");
    }

    fn site_heads() -> SiteHeads {
        SiteHeads { assignments: [("kiosk".parse().unwrap(), Counter { epoch: 1, n: 3 })].into(), ..SiteHeads::default() }
    }

    fn receipt(at_ms: u64) -> PollReceipt {
        receipt_by(7, at_ms, &site_heads())
    }

    #[test]
    fn who_polled_for_the_site_says_so_at_once_until_somebody_else_did() {
        let (mut gossip, now) = started(1);
        gossip.on_online(online(1));
        let with = |at_ms| Said { poll: Some(receipt(at_ms)), ..said(1) };
        let told = |at_ms| Effect::SitePolled(SitePoll { at_ms, heads: site_heads() });
        let later = now + Duration::from_secs(3);
        gossip.on_polled(later, receipt(1_000));
        assert_eq!(effects(&mut gossip, later), [Effect::Tell(with(1_000))]);

        gossip.on_heard(later, PEER, &with(500));
        gossip.on_joined(later);
        assert_eq!(effects(&mut gossip, later + SOON), [Effect::Tell(with(1_000))], "that poll is older");
        let later = later + SOON;
        gossip.on_heard(later, PEER, &with(2_000));
        gossip.on_heard(later, PEER, &with(2_000));
        gossip.on_joined(later);
        assert_eq!(effects(&mut gossip, later + SOON), [told(2_000), told(2_000), Effect::Tell(said(1))]);
    }

    #[test]
    fn a_receipt_that_the_seed_did_not_give_tells_nobody_anything_and_ends_no_ones_turn() {
        let (mut gossip, now) = started(1);
        gossip.on_online(online(1));
        gossip.on_polled(now, receipt(1_000));
        gossip.on_heard(now, PEER, &Said { poll: Some(receipt_by(8, 9_000, &site_heads())), ..said(1) });
        assert_eq!(effects(&mut gossip, now), [Effect::Tell(Said { poll: Some(receipt(1_000)), ..said(1) })]);
        gossip.on_online(OnlineKey { epoch: 2, key: ed25519_dalek::SigningKey::from_bytes(&[9; 32]).verifying_key(), ..online(1) });
        gossip.on_heard(now, PEER, &Said { poll: Some(receipt(9_000)), ..said(1) });
        assert_eq!(effects(&mut gossip, now), [], "nor one of a key that was replaced");
    }

    #[test]
    fn documents_of_other_groups_are_nobody_elses_business() {
        let other = Heads { states: [("other".parse().unwrap(), Counter { epoch: 9, n: 9 })].into(), ..Heads::default() };
        assert!(!heads(1).is_behind(&other));
        assert!(heads(1).is_behind(&Heads { revocations: Some(Counter { epoch: 1, n: 1 }), ..Heads::default() }));
        assert!(heads(1).is_behind(&Heads { timestamp: Some(1), ..Heads::default() }));
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
