//! Gives each connection the flow-control windows that [`protocol::swarm::memory`] says, as peers begin and cease to bring
//! and to get bytes.
//!
//! Not here: how the memory is shared.

use std::collections::BTreeMap;

use protocol::name::NodeId;
use protocol::swarm::memory::{self, ACTIVE_FOR};
use protocol::time::Instant;

use super::link::Link;

/// What the peers are busy with.
#[derive(Debug, Default)]
pub(super) struct Windows {
    bringing: BTreeMap<NodeId, Activity>,
    getting: BTreeMap<NodeId, Activity>,
    given: BTreeMap<NodeId, (usize, memory::Windows)>,
    is_stale: bool,
}

/// Requests under way, and when the last one ended.
#[derive(Debug)]
struct Activity {
    requests: usize,
    until: Instant,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The peer brings them.
    Bringing,
    /// The peer gets them.
    Getting,
}

impl Windows {
    /// A request that moves bytes begins.
    pub(super) fn begin(&mut self, peer: NodeId, way: Way) {
        let activities = self.way(way);
        let is_new = !activities.contains_key(&peer);
        activities.entry(peer).or_insert(Activity { requests: 0, until: Instant::ZERO }).requests += 1;
        self.is_stale |= is_new;
    }

    /// It has ended.
    pub(super) fn end(&mut self, now: Instant, peer: NodeId, way: Way) {
        if let Some(activity) = self.way(way).get_mut(&peer) {
            activity.requests = activity.requests.saturating_sub(1);
            activity.until = now + ACTIVE_FOR;
        }
    }

    /// The peers are others than before.
    pub(super) const fn peers_changed(&mut self) {
        self.is_stale = true;
    }

    /// When [`Self::apply`] has something to do, unless something begins before.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.bringing.values().chain(self.getting.values()).filter(|activity| activity.requests == 0).map(|activity| activity.until).min()
    }

    /// Sets the windows that have to change.
    pub(super) fn apply<'a>(&mut self, now: Instant, peers: impl Iterator<Item = (NodeId, &'a Link)>) {
        if self.poll_timeout().is_some_and(|due| due <= now) {
            for activities in [&mut self.bringing, &mut self.getting] {
                activities.retain(|_, activity| activity.requests > 0 || activity.until > now);
            }
            self.is_stale = true;
        }
        if !std::mem::take(&mut self.is_stale) {
            return;
        }
        let peers: BTreeMap<NodeId, &Link> = peers.collect();
        for activities in [&mut self.bringing, &mut self.getting] {
            activities.retain(|peer, _| peers.contains_key(peer));
        }
        self.given.retain(|peer, _| peers.contains_key(peer));
        for (peer, link) in &peers {
            let active = [self.bringing.contains_key(peer), self.getting.contains_key(peer)];
            let windows = memory::windows(peers.len(), [self.bringing.len(), self.getting.len()], active);
            let given = (link.id(), windows);
            if self.given.insert(*peer, given) != Some(given) {
                link.set_windows(windows);
            }
        }
    }

    const fn way(&mut self, way: Way) -> &mut BTreeMap<NodeId, Activity> {
        match way {
            Way::Bringing => &mut self.bringing,
            Way::Getting => &mut self.getting,
        }
    }
}
