//! Pulling from peers: a random missing piece that a peer holds, from the less busy of two random holders. On a site where
//! everyone sees what everyone holds, random beats rarest-first, which makes all nodes want the same piece.
//!
//! Not here: which pieces come over the WAN; see [`super::wan`].

use super::peer_on_node::Peer;
use super::peer_view::PeerView;
use super::{Ban, Effect, Event, Fetch, FetchEnd, FetchId, Source, Swarm};
use crate::digest::Digest;
use crate::name::NodeId;
use crate::time::Instant;
use crate::wire::limits::GET_UNITS_MAX;

impl<V: PeerView> Swarm<V> {
    /// Starts requests to peers while there is room for more and something to ask for.
    pub(super) fn pull(&mut self, now: Instant) {
        let mut in_flight = self.fetches.values().filter(|fetch| fetch.source != Source::Wan).count();
        let blobs: Vec<Digest> = self.order.iter().map(|(_, blob)| *blob).collect();
        for blob in blobs {
            while in_flight < self.parameters.pulls_max {
                let Some((peer, pieces)) = self.choose_pull(now, blob) else { break };
                if self.start_fetch(now, Source::Peer(peer), blob, pieces).is_none() {
                    break;
                }
                in_flight += 1;
            }
        }
    }

    fn choose_pull(&mut self, now: Instant, blob: Digest) -> Option<(NodeId, std::ops::Range<u32>)> {
        let download = self.downloads.get(&blob)?;
        if download.available.is_empty() || download.paused_until > now {
            return None;
        }
        let (pieces, geometry) = (download.geometry.pieces(), download.geometry);
        #[expect(clippy::cast_possible_truncation, reason = "below the number of pieces")]
        let start = self.draw_below(pieces as usize) as u32;
        let available = &self.downloads.get(&blob)?.available;
        let candidates: Vec<u32> =
            available.range(start..).chain(available.range(..start)).take(self.parameters.candidates_max).copied().collect();
        let (first, holders) = candidates.into_iter().find_map(|piece| {
            let holders = self.idle_holders(now, &blob, piece);
            (!holders.is_empty()).then_some((piece, holders))
        })?;
        let peer = self.less_busy_of_two(&holders)?;
        let available = &self.downloads.get(&blob)?.available;
        let fits = |piece: u32| {
            let units = geometry.units_of(first..piece + 1);
            let bytes = geometry.bytes_of(units.clone());
            units.end - units.start <= GET_UNITS_MAX && bytes.end - bytes.start <= self.parameters.pull_bytes_max
        };
        let more =
            (first + 1..pieces).take_while(|piece| available.contains(piece) && fits(*piece) && self.view.holds(peer, &blob, *piece));
        Some((peer, first..more.last().unwrap_or(first) + 1))
    }

    fn idle_holders(&self, now: Instant, blob: &Digest, piece: u32) -> Vec<NodeId> {
        let holds = |id: &NodeId, peer: &Peer| peer.is_usable(&self.parameters, blob) && self.view.holds(*id, blob, piece);
        self.peers.iter().filter(|(id, peer)| peer.busy_until <= now && holds(id, peer)).map(|(id, _)| *id).collect()
    }

    fn less_busy_of_two(&mut self, holders: &[NodeId]) -> Option<NodeId> {
        if holders.is_empty() {
            return None;
        }
        let (one, other) = (holders[self.draw_below(holders.len())], holders[self.draw_below(holders.len())]);
        let pulls = |id: &NodeId| self.peers.get(id).map_or(0, |peer| peer.pulls);
        Some(if pulls(&other) < pulls(&one) { other } else { one })
    }

    pub(super) fn on_pull_ended(&mut self, now: Instant, id: NodeId, fetch: &Fetch, end: FetchEnd) {
        match end {
            FetchEnd::Complete => {
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.unfulfilled.remove(&fetch.blob);
                }
            }
            FetchEnd::Busy => {
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.busy_until = now + self.parameters.busy_wait;
                }
            }
            FetchEnd::Failed | FetchEnd::NotHeld => self.count_unfulfilled(id, fetch.blob),
            FetchEnd::StorageFailed => {}
            FetchEnd::Refused { .. } => self.ban(now, id),
        }
    }

    fn count_unfulfilled(&mut self, id: NodeId, blob: Digest) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let count = peer.unfulfilled.entry(blob).or_default();
        *count += 1;
        if *count == self.parameters.unfulfilled_max {
            self.survey_site(blob);
        }
    }

    fn ban(&mut self, now: Instant, id: NodeId) {
        let count = self.bans.get(&id).map_or(0, |ban| ban.count);
        let until = now + self.parameters.ban.saturating_mul(1 << count.min(10));
        self.bans.insert(id, Ban { until, count: count + 1 });
        self.events.push_back(Event::PeerBanned { peer: id, until });
        self.effects.push_back(Effect::Disconnect { peer: id });
        self.on_peer_left(now, id);
    }

    /// Whether `peer` holds `piece` and may be asked for it.
    pub(super) fn look_for_holders(&mut self, blob: Digest, piece: u32) {
        let held = self.peers.iter().any(|(id, peer)| peer.is_usable(&self.parameters, &blob) && self.view.holds(*id, &blob, piece));
        if let Some(download) = self.downloads.get_mut(&blob).filter(|download| held && !download.seed_only) {
            download.note_available(piece);
        }
    }

    /// Learns anew which pieces of `blob` the site holds, after a holder is gone.
    pub(super) fn survey_site(&mut self, blob: Digest) {
        let Some(download) = self.downloads.get_mut(&blob).filter(|download| !download.seed_only) else { return };
        download.reset_site();
        for piece in 0..download.geometry.pieces() {
            let held = self.peers.iter().any(|(id, peer)| peer.is_usable(&self.parameters, &blob) && self.view.holds(*id, &blob, piece));
            if held {
                download.note_available(piece);
            }
        }
    }

    /// This node's requests to `peer`.
    pub(super) fn fetches_from(&self, peer: NodeId) -> Vec<FetchId> {
        self.fetches.iter().filter(|(_, fetch)| fetch.source == Source::Peer(peer)).map(|(id, _)| *id).collect()
    }
}
