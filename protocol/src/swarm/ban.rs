//! What follows from a wrong unit. One source a unit, so it names its sender; who is told, because a rotten disk is likelier
//! than a hostile owner. Until the ban ends, nothing that the peer says or holds counts, but it is served: a device cut off
//! by its whole site would fetch a copy of its own. A peer that finds its blob rotten says so, once, and is believed again;
//! caught a second time, it is disconnected, for twice as long.
//!
//! Not here: how rot is found; the driver hashes.

use std::time::Duration;

use super::peer_view::PeerView;
use super::{Effect, Event, Swarm};
use crate::digest::Digest;
use crate::time::Instant;
use crate::wire::Message;

/// A ban, and how many there were.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ban {
    pub(super) until: Instant,
    count: u32,
}

impl<V: PeerView> Swarm<V> {
    /// A peer sent a wrong unit.
    pub(super) fn ban(&mut self, now: Instant, id: V::Id, blob: Digest, unit: u32) {
        let count = self.bans.get(&id).map_or(0, |ban| ban.count);
        let until = now + self.parameters.ban.saturating_mul(1 << count.min(10));
        self.bans.insert(id, Ban { until, count: count + 1 });
        self.events.push_back(Event::PeerBanned { peer: id, until });
        self.tell(id, Message::Refused { blob, unit });
        if count == 0 {
            self.set_distrusted(now, id, true);
        } else {
            self.effects.push_back(Effect::Disconnect { peer: id });
            self.on_peer_left(now, id);
        }
    }

    /// A peer says that it threw a rotten blob away.
    pub(super) fn on_mended(&mut self, now: Instant, id: V::Id) {
        if let Some(ban) = self.bans.get_mut(&id).filter(|ban| ban.count == 1 && ban.until > now) {
            ban.until = now;
            self.set_distrusted(now, id, false);
        }
    }

    /// A peer says that this node sent it a wrong unit: what is stored here of the blob is hashed again, now and then.
    pub(super) fn on_accused(&mut self, now: Instant, blob: Digest) {
        let is_known = self.held.contains_key(&blob) || self.downloads.contains_key(&blob);
        let rechecked_at = self.rechecked_at.get(&blob);
        if is_known && rechecked_at.is_none_or(|at| now.since(*at) >= self.parameters.recheck_interval) {
            self.rechecked_at.insert(blob, now);
            self.effects.push_back(Effect::Recheck { blob });
        }
    }

    /// A stored blob, or some of one on its way, has rotted and is gone.
    pub(super) fn on_rotten(&mut self, blob: Digest) {
        if self.held.remove(&blob).is_some() | self.remove_download(blob).is_some() {
            self.rechecked_at.remove(&blob);
            self.events.push_back(Event::StorageFault { blob });
            self.tell_all(Message::Mended { blob });
        }
    }

    /// Trusts peers again whose ban is over.
    pub(super) fn end_bans(&mut self, now: Instant) {
        let over = |id: &V::Id| self.bans.get(id).is_none_or(|ban| ban.until <= now);
        let trusted: Vec<V::Id> = self.peers.iter().filter(|(id, peer)| peer.distrusted && over(id)).map(|(id, _)| id).collect();
        for id in trusted {
            self.set_distrusted(now, id, false);
        }
    }

    fn set_distrusted(&mut self, now: Instant, id: V::Id, distrusted: bool) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.distrusted = distrusted;
        peer.forgive_all();
        for fetch in if distrusted { self.fetches_from(id) } else { Vec::new() } {
            self.cancel_fetch(fetch);
        }
        self.forget_source(now, id);
    }

    /// How long the ban of `id` lasts from `now` on, if there is one.
    pub(super) fn ban_left(&self, now: Instant, id: &V::Id) -> Option<Duration> {
        self.bans.get(id).filter(|ban| ban.until > now).map(|ban| ban.until.since(now))
    }
}
