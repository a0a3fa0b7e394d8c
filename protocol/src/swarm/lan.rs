//! Pulling from peers: a random missing piece that a peer holds, from the less busy of two random holders. On a site where
//! everyone sees what everyone holds, random beats rarest-first, which makes all nodes want the same piece.
//!
//! Not here: which pieces come over the WAN; see [`super::wan`].

use std::ops::Range;

use super::download::Download;
use super::peer_view::PeerView;
use super::peers::Peer;
use super::tree::Place;
use super::{Fetch, FetchEnd, FetchId, Source, Swarm};
use crate::digest::Digest;
use crate::time::Instant;
use crate::wire::limits::GET_UNITS_MAX;

impl<V: PeerView> Swarm<V> {
    /// Starts requests to peers while there is room for more and something to ask for.
    pub(super) fn pull(&mut self, now: Instant) {
        let mut in_flight = self.pulls_in_flight();
        let mut next = self.blob_after(None);
        while let Some((size, blob)) = next {
            next = self.blob_after(Some((size, blob)));
            while in_flight < self.parameters.pulls_max {
                let Some((peer, pieces)) = self.choose_pull(now, blob) else { break };
                if self.start_fetch(now, Source::Peer(peer), blob, pieces).is_none() {
                    break;
                }
                in_flight += 1;
            }
        }
    }

    /// How many requests to this peer are in flight.
    pub(super) fn pulls_from(&self, peer: V::Id) -> usize {
        self.fetches.values().filter(|fetch| fetch.source == Source::Peer(peer)).count()
    }

    /// How many requests to peers are in flight.
    pub(super) fn pulls_in_flight(&self) -> usize {
        self.fetches.values().filter(|fetch| fetch.source != Source::Wan).count()
    }

    fn choose_pull(&mut self, now: Instant, blob: Digest) -> Option<(V::Id, Range<u32>)> {
        let download = self.downloads.get(&blob)?;
        if download.available.is_empty() || download.paused_until > now {
            return None;
        }
        self.choose_offered(now, blob).or_else(|| self.choose_repair(now, blob))
    }

    /// The first piece that this node's parent in the tree of its span holds.
    fn choose_offered(&mut self, now: Instant, blob: Digest) -> Option<(V::Id, Range<u32>)> {
        let download = self.downloads.get(&blob)?;
        let parent_of = |piece: u32| download.places.get(&download.geometry.span_of_piece(piece)).and_then(|place| place.parent);
        let ready =
            |peer: &V::Id| self.peers.get(peer).is_some_and(|known| known.busy_until <= now && known.is_usable(&self.parameters, &blob));
        let (first, parent) = download.offered.iter().find_map(|piece| Some((*piece, parent_of(*piece).filter(ready)?)))?;
        Some((parent, self.run_from(blob, first, |piece| download.offered.contains(&piece) && parent_of(piece) == Some(parent))))
    }

    /// A random piece that came to nobody's children, from the less busy of two random holders; the first one where nobody
    /// else wants the blob, so that it can be hashed and unpacked as it comes.
    fn choose_repair(&mut self, now: Instant, blob: Digest) -> Option<(V::Id, Range<u32>)> {
        let download = self.downloads.get(&blob).filter(|download| download.repair_at <= now)?;
        let (pieces, wait) = (download.geometry.pieces(), self.parameters.repair_wait);
        let is_wanted_by_others = self.peers.is_wanted(&blob);
        #[expect(clippy::cast_possible_truncation, reason = "below the number of pieces")]
        let start = if is_wanted_by_others { self.draw_below(pieces as usize) as u32 } else { 0 };
        let download = self.downloads.get(&blob)?;
        let due = |piece: u32, since: Instant| {
            since + wait <= now || download.places.get(&download.geometry.span_of_piece(piece)).is_none_or(|place| place.parent.is_none())
        };
        let around = download.available.range(start..).chain(download.available.range(..start));
        let candidates: Vec<u32> =
            around.filter(|(piece, since)| due(**piece, **since)).map(|(piece, _)| *piece).take(self.parameters.candidates_max).collect();
        if candidates.is_empty() {
            let first = download.available.values().min().map_or(now, |since| *since) + wait;
            if let Some(download) = self.downloads.get_mut(&blob) {
                download.repair_at = first;
            }
            return None;
        }
        let (first, holders) = candidates.into_iter().find_map(|piece| {
            let holders = self.idle_holders(now, &blob, piece);
            (!holders.is_empty()).then_some((piece, holders))
        })?;
        let peer = self.less_busy_of_two(&holders)?;
        let download = self.downloads.get(&blob)?;
        let run = self.run_from(blob, first, |piece| {
            download.available.get(&piece).is_some_and(|since| *since + wait <= now) && self.view.holds(peer, &blob, piece)
        });
        Some((peer, run))
    }

    /// The pieces from `first` on that may be asked for in one request, as long as they are `wanted`.
    fn run_from(&self, blob: Digest, first: u32, wanted: impl Fn(u32) -> bool) -> Range<u32> {
        let Some(geometry) = self.downloads.get(&blob).map(|download| download.geometry) else { return first..first };
        let fits = |piece: u32| {
            let units = geometry.units_of(first..piece + 1);
            let bytes = geometry.bytes_of(units.clone());
            units.end - units.start <= GET_UNITS_MAX && bytes.end - bytes.start <= self.parameters.pull_bytes_max
        };
        let more = (first + 1..geometry.pieces()).take_while(|piece| fits(*piece) && wanted(*piece));
        first..more.last().unwrap_or(first) + 1
    }

    /// This node's place in the tree by which `piece` spreads, if its root is known.
    pub(super) fn place(&mut self, blob: &Digest, piece: u32) -> Option<&Place<V::Id>> {
        let download = self.downloads.get_mut(blob)?;
        let span = download.geometry.span_of_piece(piece);
        if !download.places.contains_key(&span) {
            let root = download.roots.get(&span)?;
            let trusted = |id: &V::Id| id == root || self.peers.get(id).is_some_and(|peer| !peer.distrusted);
            let mut members: Vec<V::Id> = self.peers.wanting(blob).filter(trusted).collect();
            for other in [self.me, *root] {
                if let Err(place) = members.binary_search(&other)
                    && (other == self.me || self.peers.contains(&other))
                {
                    members.insert(place, other);
                }
            }
            download.places.insert(span, Place::of(&members, &self.me, root, span));
        }
        download.places.get(&span)
    }

    /// Who wants the blob has changed, and with it the trees.
    pub(super) fn plant_anew(&mut self, blob: &Digest) {
        if let Some(download) = self.downloads.get_mut(blob) {
            download.places.clear();
            download.offered.clear();
            download.trees_changed = true;
            download.repair_at = Instant::ZERO;
            self.due.tell = true;
        }
    }

    /// Looks for what parents hold in trees that have changed.
    pub(super) fn climb_new_trees(&mut self) {
        let changed = |(blob, download): (&Digest, &mut Box<Download<V::Id>>)| {
            std::mem::take(&mut download.trees_changed).then(|| (*blob, download.geometry.pieces()))
        };
        let changed: Vec<(Digest, u32)> = self.downloads.iter_mut().filter_map(changed).collect();
        for (blob, pieces) in changed {
            self.note_offers(blob, 0..pieces);
        }
    }

    /// Notes which of `pieces` this node's parents hold.
    pub(super) fn note_offers(&mut self, blob: Digest, pieces: Range<u32>) {
        let Some(download) = self.downloads.get(&blob) else { return };
        let mut next = download.available.range(pieces.clone()).next().map(|(piece, _)| *piece);
        while let Some(piece) = next {
            let parent = self.place(&blob, piece).and_then(|place| place.parent);
            let offered = parent.is_some_and(|parent| self.view.holds(parent, &blob, piece));
            let Some(download) = self.downloads.get_mut(&blob) else { return };
            if offered {
                download.note_offered(piece);
                self.due.pull = true;
            } else if parent.is_none() {
                download.repair_at = Instant::ZERO;
                self.due.pull = true;
            }
            next = download.available.range(piece + 1..pieces.end.max(piece + 1)).next().map(|(piece, _)| *piece);
        }
    }

    fn idle_holders(&self, now: Instant, blob: &Digest, piece: u32) -> Vec<V::Id> {
        let holds = |id: V::Id, peer: &Peer| peer.is_usable(&self.parameters, blob) && self.view.holds(id, blob, piece);
        self.peers.iter().filter(|(id, peer)| peer.busy_until <= now && holds(*id, peer)).map(|(id, _)| id).collect()
    }

    fn less_busy_of_two(&mut self, holders: &[V::Id]) -> Option<V::Id> {
        if holders.is_empty() {
            return None;
        }
        let (one, other) = (holders[self.draw_below(holders.len())], holders[self.draw_below(holders.len())]);
        Some(if self.pulls_from(other) < self.pulls_from(one) { other } else { one })
    }

    pub(super) fn on_pull_ended(&mut self, now: Instant, id: V::Id, fetch: &Fetch<V::Id>, end: FetchEnd) {
        match end {
            FetchEnd::Complete | FetchEnd::StorageFailed => {}
            FetchEnd::Busy => {
                let until = now + self.parameters.busy_wait;
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.busy_until = until;
                    self.due.pull_at.get_or_insert(until);
                }
                self.on_busy(now, id, *fetch.blob);
            }
            FetchEnd::Failed | FetchEnd::NotHeld => self.on_unfulfilled(now, id, *fetch.blob, end == FetchEnd::Failed),
            FetchEnd::Refused { unit } => self.ban(now, id, *fetch.blob, unit),
        }
    }

    /// Whether `peer` holds `piece` and may be asked for it.
    pub(super) fn look_for_holders(&mut self, blob: Digest, piece: u32) {
        let held = self.peers.iter().any(|(id, peer)| peer.is_usable(&self.parameters, &blob) && self.view.holds(id, &blob, piece));
        if let Some(download) = self.downloads.get_mut(&blob).filter(|download| held && !download.seed_only) {
            download.note_available(piece, Instant::ZERO);
        }
    }

    /// Learns anew which pieces of `blob` the site holds, after a holder is gone.
    pub(super) fn survey_site(&mut self, blob: Digest) {
        let Some(download) = self.downloads.get_mut(&blob).filter(|download| !download.seed_only) else { return };
        download.reset_site();
        self.due.wan = true;
        for piece in 0..download.geometry.pieces() {
            let held = self.peers.iter().any(|(id, peer)| peer.is_usable(&self.parameters, &blob) && self.view.holds(id, &blob, piece));
            if held {
                download.note_available(piece, Instant::ZERO);
            }
        }
    }

    /// This node's requests to `peer`.
    pub(super) fn fetches_from(&self, peer: V::Id) -> Vec<FetchId> {
        self.fetches.iter().filter(|(_, fetch)| fetch.source == Source::Peer(peer)).map(|(id, _)| *id).collect()
    }
}
