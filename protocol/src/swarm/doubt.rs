//! Peers that say what they hold and do not deliver it. After some requests in vain the word of such a peer keeps the WAN
//! waiting no longer: for the blob, and for every other one if it leaves whatever it is asked for unanswered. It is tried again
//! with a single piece now and then, because a switch may have restarted or a site may have been in two parts; once it delivers,
//! it counts.
//!
//! Not here: wrong bytes; see [`super::ban`].

use std::time::Duration;

use super::peer_view::PeerView;
use super::peers::Peer;
use super::{Fetch, Source, Swarm};
use crate::digest::Digest;
use crate::time::Instant;

impl<V: PeerView> Swarm<V> {
    /// A peer did not fulfil a request, or did not even answer it: that it does not hold a thing is an answer.
    pub(super) fn on_unfulfilled(&mut self, now: Instant, id: V::Id, blob: Digest, is_silent: bool) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let was_doubted = peer.is_doubted(&self.parameters, &blob);
        peer.count_unfulfilled(blob, is_silent);
        if !peer.is_doubted(&self.parameters, &blob) {
            return;
        }
        peer.put_off(now, &self.parameters);
        if !was_doubted {
            self.survey_all();
        }
    }

    /// A peer answered `Busy`. Who serves its peers in turn has a place for one request of each: with no other request of this
    /// node under way, the answer is an excuse.
    pub(super) fn on_busy(&mut self, now: Instant, id: V::Id, blob: Digest) {
        if self.peers.contains(&id) && self.pulls_from(id) == 0 {
            self.on_unfulfilled(now, id, blob, true);
        }
    }

    /// A peer delivered a unit.
    pub(super) fn on_delivered(&mut self, now: Instant, id: V::Id, blob: Digest) {
        self.last_delivery = Some((now, id));
        self.fetches.values_mut().filter(|fetch| fetch.source == Source::Peer(id)).for_each(|fetch| fetch.is_served = true);
        let Some(peer) = self.peers.remark_mut(&id) else { return };
        let was_doubted = peer.is_doubted(&self.parameters, &blob);
        peer.on_delivered(&blob);
        if was_doubted {
            self.survey_all();
        }
    }

    /// Whether a peer sends what it was asked for, but hardly: a byte now and then is no progress. It may have
    /// waited in the queue before.
    pub(super) fn crawls(&self, now: Instant, fetch: &Fetch<V::Id>) -> bool {
        let earned = Duration::from_secs(fetch.bytes / self.parameters.pull_rate_min.max(1));
        fetch.source != Source::Wan && fetch.bytes > 0 && now.since(fetch.started_at) >= 2 * self.parameters.queue_wait + earned
    }

    /// Asks doubted peers whose time has come for a piece.
    pub(super) fn probe(&mut self, now: Instant) {
        let is_due = |peer: &Peer| !peer.distrusted && peer.busy_until <= now && peer.probe_at <= now;
        let due = self.peers.remarkable().filter(|(id, peer)| is_due(peer) && self.pulls_from(*id) == 0);
        let due: Vec<V::Id> = due.map(|(id, _)| id).collect();
        let mut room = self.parameters.pulls_max.saturating_sub(self.pulls_in_flight());
        for id in due {
            if room > 0
                && let Some((blob, piece)) = self.probe_piece(now, id)
            {
                self.start_fetch(now, Source::Peer(id), blob, piece..piece + 1);
                room -= 1;
            }
        }
    }

    /// A piece that is missing here, and that a doubted peer says it holds: the last one, which the WAN would bring last.
    fn probe_piece(&self, now: Instant, id: V::Id) -> Option<(Digest, u32)> {
        let peer = self.peers.get(&id)?;
        let is_asked = |blob: &Digest| peer.is_doubted(&self.parameters, blob);
        let mut open = self.downloads.iter().filter(|(_, download)| !download.seed_only && download.paused_until <= now);
        open.find_map(|(blob, download)| {
            let held = |piece: &u32| download.lacks(*piece) && self.view.holds(id, blob, *piece);
            let pieces = 0..download.geometry.pieces();
            is_asked(blob).then(|| pieces.rev().find(held)).flatten().map(|piece| (*blob, piece))
        })
    }

    /// Learns anew what the site holds, as who is believed has changed.
    fn survey_all(&mut self) {
        self.look_at_everything();
        let blobs: Vec<Digest> = self.downloads.keys().copied().collect();
        for blob in blobs {
            self.survey_site(blob);
        }
    }
}
