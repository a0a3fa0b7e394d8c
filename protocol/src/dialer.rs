//! Which addresses to dial, and when again: configured peers for ever, hinted ones until they proved useless.
//!
//! Not here: sockets, and who a peer is once connected.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use crate::name::NodeId;
use crate::rendezvous;
use crate::time::Instant;

/// Addresses kept at most: a few times the largest neighbourhood; what a peer tells beyond them is not believed.
pub const ADDRESSES_MAX: usize = 256;

/// A hinted address is forgotten after this many failures in a row: it is stale, or was never true.
const HINT_FAILURES_MAX: u32 = 6;
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// An address whose owner refused this node, or was refused by it, is left alone for this long: a certificate or an authority has
/// to change first.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);

/// The machine; `poll_dial` is its only effect.
#[derive(Debug)]
pub struct Dialer {
    me: NodeId,
    seed: u64,
    draws: u64,
    addresses: BTreeMap<SocketAddr, Address>,
    due: VecDeque<SocketAddr>,
}

#[derive(Debug)]
struct Address {
    configured: bool,
    failures: u32,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Waiting(Instant),
    Dialling,
    Connected(NodeId),
    Own,
}

impl Dialer {
    /// The machine of node `me`; `seed` makes its random choices reproducible.
    pub const fn new(me: NodeId, seed: u64) -> Self {
        Self { me, seed, draws: 0, addresses: BTreeMap::new(), due: VecDeque::new() }
    }

    /// A peer may be found at `address`; `configured` says that the operator said so.
    pub fn on_learned(&mut self, now: Instant, address: SocketAddr, configured: bool) {
        if address.port() == 0 || address.ip().is_unspecified() || address.ip().is_multicast() {
            return;
        }
        if !configured && self.addresses.len() >= ADDRESSES_MAX {
            return;
        }
        let known = self.addresses.entry(address).or_insert(Address { configured, failures: 0, state: State::Waiting(now) });
        known.configured |= configured;
    }

    /// `node` takes connections at `address` and is connected now, whoever dialled, over this or another connection.
    pub fn on_connected(&mut self, address: SocketAddr, node: NodeId) {
        let state = if node == self.me { State::Own } else { State::Connected(node) };
        if self.addresses.contains_key(&address) || self.addresses.len() < ADDRESSES_MAX {
            let configured = self.addresses.get(&address).is_some_and(|known| known.configured);
            self.addresses.insert(address, Address { configured, failures: 0, state });
        }
    }

    /// Dialling `address` failed; `refused` says that one end did not trust the other.
    pub fn on_failed(&mut self, now: Instant, address: SocketAddr, refused: bool) {
        self.draws += 1;
        let draw = rendezvous::draw(self.seed, self.draws);
        let Some(known) = self.addresses.get_mut(&address).filter(|known| known.state == State::Dialling) else { return };
        if refused {
            known.state = State::Waiting(now + REFUSED_PAUSE);
            return;
        }
        known.failures = known.failures.saturating_add(1);
        if !known.configured && known.failures >= HINT_FAILURES_MAX {
            self.addresses.remove(&address);
            return;
        }
        let pause = RETRY_MIN.saturating_mul(1 << known.failures.min(10)).min(RETRY_MAX);
        let micros = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX);
        known.state = State::Waiting(now + Duration::from_micros(micros / 2 + draw % (micros / 2 + 1)));
    }

    /// The last connection to `node` is gone.
    pub fn on_left(&mut self, now: Instant, node: NodeId) {
        for known in self.addresses.values_mut().filter(|known| known.state == State::Connected(node)) {
            known.state = State::Waiting(now + RETRY_MIN);
        }
    }

    /// `node` is banned: its addresses are not dialled before `until`.
    pub fn on_banned(&mut self, node: NodeId, until: Instant) {
        for known in self.addresses.values_mut().filter(|known| known.state == State::Connected(node)) {
            known.state = State::Waiting(until);
        }
    }

    /// Takes note that time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        for (address, known) in &mut self.addresses {
            if matches!(known.state, State::Waiting(due) if due <= now) {
                known.state = State::Dialling;
                self.due.push_back(*address);
            }
        }
    }

    /// The next address that the driver must dial.
    pub fn poll_dial(&mut self) -> Option<SocketAddr> {
        self.due.pop_front()
    }

    /// When [`Self::handle_timeout`] is to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = |known: &Address| match known.state {
            State::Waiting(due) => Some(due),
            State::Dialling | State::Connected(_) | State::Own => None,
        };
        self.addresses.values().filter_map(due).min()
    }
}

/// A connection between two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Who dialled.
    pub dialler: NodeId,
    /// It goes over HTTPS, which is for networks where QUIC does not come through.
    pub is_fallback: bool,
}

/// Of two connections between `ends`, both ends keep the one over QUIC, else the one that the smaller identity dialled, or the
/// newer of two such: whether `new` takes the place of `known`. A dial whose answer is late on a busy machine falls back to
/// HTTPS; that is no reason to give up a connection that works.
pub fn replaces(ends: [NodeId; 2], new: Way, known: Way) -> bool {
    if new.is_fallback != known.is_fallback {
        return known.is_fallback;
    }
    let preferred = ends[0].min(ends[1]);
    new.dialler == preferred || known.dialler != preferred
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: NodeId = NodeId([0; 32]);
    const PEER: NodeId = NodeId([1; 32]);

    fn due(dialer: &mut Dialer, now: Instant) -> Vec<SocketAddr> {
        dialer.handle_timeout(now);
        std::iter::from_fn(|| dialer.poll_dial()).collect()
    }

    #[test]
    fn dials_once_until_the_outcome_is_known_and_again_when_the_peer_left() {
        let (mut dialer, address, now) = (Dialer::new(ME, 1), "10.0.0.2:7446".parse().unwrap(), Instant::ZERO);
        dialer.on_learned(now, address, false);
        assert_eq!(due(&mut dialer, now), [address]);
        dialer.on_learned(now, address, false);
        assert_eq!(due(&mut dialer, now + RETRY_MAX), []);
        dialer.on_connected(address, PEER);
        assert_eq!(dialer.poll_timeout(), None);
        dialer.on_left(now, PEER);
        assert_eq!(due(&mut dialer, now + RETRY_MIN), [address]);
    }

    #[test]
    fn does_not_dial_a_peer_that_dialled_first() {
        let (mut dialer, address, now) = (Dialer::new(ME, 1), "10.0.0.2:7446".parse().unwrap(), Instant::ZERO);
        dialer.on_connected(address, PEER);
        dialer.on_learned(now, address, false);
        assert_eq!(due(&mut dialer, now + RETRY_MAX), []);
        dialer.on_failed(now, address, false);
        assert_eq!(due(&mut dialer, now + RETRY_MAX), [], "a dial that lost to the peer's own says nothing");
    }

    #[test]
    fn leaves_a_banned_peer_alone_until_the_ban_is_over() {
        let (mut dialer, address, until) = (Dialer::new(ME, 1), "10.0.0.2:7446".parse().unwrap(), Instant::from_micros(3_600_000_000));
        dialer.on_learned(Instant::ZERO, address, false);
        assert_eq!(due(&mut dialer, Instant::ZERO), [address]);
        dialer.on_connected(address, PEER);
        dialer.on_banned(PEER, until);
        dialer.on_left(Instant::ZERO, PEER);
        assert_eq!(due(&mut dialer, until - Duration::from_secs(1)), []);
        assert_eq!(due(&mut dialer, until), [address]);
    }

    #[test]
    fn an_address_where_one_end_does_not_trust_the_other_is_not_tried_at_speed() {
        let (mut dialer, address) = (Dialer::new(ME, 1), "10.0.0.2:7446".parse().unwrap());
        let dials = (0..600).filter(|second| {
            let now = Instant::ZERO + Duration::from_secs(*second);
            dialer.on_learned(now, address, false);
            let due = due(&mut dialer, now);
            due.iter().for_each(|address| dialer.on_failed(now, *address, true));
            !due.is_empty()
        });
        assert_eq!(dials.count(), 10);
    }

    #[test]
    fn forgets_a_useless_hint_but_never_a_configured_peer() {
        let mut dialer = Dialer::new(ME, 1);
        let (hinted, configured) = ("10.0.0.2:1".parse().unwrap(), "10.0.0.3:1".parse().unwrap());
        dialer.on_learned(Instant::ZERO, hinted, false);
        dialer.on_learned(Instant::ZERO, configured, true);
        let mut now = Instant::ZERO;
        for _ in 0..20 {
            now = now + RETRY_MAX;
            for address in due(&mut dialer, now) {
                dialer.on_failed(now, address, false);
            }
        }
        assert_eq!(due(&mut dialer, now + RETRY_MAX), [configured]);
    }

    #[test]
    fn both_ends_keep_the_same_of_two_connections() {
        let over_quic = |dialler| Way { dialler, is_fallback: false };
        let over_https = |dialler| Way { dialler, is_fallback: true };
        for ends in [[ME, PEER], [PEER, ME]] {
            for way in [over_quic, over_https] {
                assert!(replaces(ends, way(ME), way(PEER)), "the smaller identity's dial wins");
                assert!(!replaces(ends, way(PEER), way(ME)));
                assert!(replaces(ends, way(ME), way(ME)) && replaces(ends, way(PEER), way(PEER)), "of two alike the newer one wins");
            }
            for (one, other) in [(ME, ME), (ME, PEER), (PEER, ME)] {
                assert!(replaces(ends, over_quic(one), over_https(other)) && !replaces(ends, over_https(one), over_quic(other)));
            }
        }
    }

    #[test]
    fn does_not_dial_itself_again_and_ignores_impossible_addresses() {
        let (mut dialer, own) = (Dialer::new(ME, 1), "127.0.0.1:7446".parse().unwrap());
        dialer.on_learned(Instant::ZERO, own, true);
        assert_eq!(due(&mut dialer, Instant::ZERO), [own]);
        dialer.on_connected(own, ME);
        dialer.on_left(Instant::ZERO, ME);
        for impossible in ["0.0.0.0:1", "224.0.0.1:1", "10.0.0.1:0"] {
            dialer.on_learned(Instant::ZERO, impossible.parse().unwrap(), true);
        }
        assert_eq!(due(&mut dialer, Instant::ZERO + RETRY_MAX), []);
    }
}
