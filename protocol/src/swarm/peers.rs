//! The peers of a node, and what it remembers about each while it is connected. A node has dozens of peers and nothing to
//! remember about most of them, so what is as usual takes no memory, and who wants a blob is kept as places in the list.
//!
//! Not here: what a peer holds; see [`super::peer_view`].

use std::time::Duration;

use super::parameters::Parameters;
use crate::digest::Digest;
use crate::name::Identity;
use crate::sorted_map::SortedMap;
use crate::time::Instant;

/// What is remembered about a connected peer.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// Requests that the peer did not fulfil since it delivered of their blob, by blob.
    unfulfilled: SortedMap<Digest, u32>,
    /// Requests of any blob that it left unanswered since it delivered anything.
    in_vain: u32,
    /// When it is tried again if it is doubted, and how long the pause before was.
    pub(super) probe_at: Instant,
    probe_pause: Duration,
    /// Until when it is left alone after answering `Busy`.
    pub(super) busy_until: Instant,
    /// It sent a wrong unit: nothing that it says or holds counts.
    pub(super) distrusted: bool,
    /// Until when it owns no spans, because a claim of its was taken over.
    pub(super) demoted_until: Instant,
}

static AS_USUAL: Peer = Peer {
    unfulfilled: SortedMap::new(),
    in_vain: 0,
    probe_at: Instant::ZERO,
    probe_pause: Duration::ZERO,
    busy_until: Instant::ZERO,
    distrusted: false,
    demoted_until: Instant::ZERO,
};

impl Peer {
    /// Whether the peer counts as a holder of `blob`: not after it failed to deliver what it said it holds, or sent a wrong unit.
    pub(super) fn is_usable(&self, parameters: &Parameters, blob: &Digest) -> bool {
        !self.distrusted && !self.is_doubted(parameters, blob)
    }

    /// Whether its word on what it holds of `blob` counts for nothing until it delivers.
    pub(super) fn is_doubted(&self, parameters: &Parameters, blob: &Digest) -> bool {
        self.in_vain.max(self.unfulfilled.get(blob).copied().unwrap_or(0)) >= parameters.unfulfilled_max
    }

    /// It did not fulfil a request for `blob`, or did not even answer.
    pub(super) fn count_unfulfilled(&mut self, blob: Digest, is_silent: bool) {
        let count = self.unfulfilled.get_or_insert_with(blob, || 0);
        *count = count.saturating_add(1);
        self.in_vain = self.in_vain.saturating_add(u32::from(is_silent));
    }

    /// It is doubted at `now`, anew or still: when it is tried again.
    pub(super) fn put_off(&mut self, now: Instant, parameters: &Parameters) {
        if self.probe_at <= now {
            self.probe_pause = (2 * self.probe_pause).clamp(parameters.probe_min, parameters.probe_max);
            self.probe_at = now + self.probe_pause;
        }
    }

    /// It delivered of `blob`.
    pub(super) fn on_delivered(&mut self, blob: &Digest) {
        self.in_vain = 0;
        self.unfulfilled.remove(blob);
    }

    /// It is judged anew.
    pub(super) fn forgive_all(&mut self) {
        self.in_vain = 0;
        self.unfulfilled.clear();
    }

    /// Whether nothing about it is worth remembering at `now`.
    fn is_as_usual(&self, now: Instant) -> bool {
        let waits = self.busy_until.max(self.demoted_until).max(self.probe_at) > now;
        self.unfulfilled.is_empty() && self.in_vain == 0 && !self.distrusted && !waits
    }
}

/// The peers that are connected.
#[derive(Clone, Debug)]
pub(super) struct Peers<I> {
    /// In order of identity.
    ids: Vec<I>,
    /// What differs from the usual.
    remarks: SortedMap<I, Peer>,
    /// The places in `ids` of those that want a blob that this node wants too, in order.
    wanting: SortedMap<Digest, Vec<u16>>,
}

impl<I> Default for Peers<I> {
    fn default() -> Self {
        Self { ids: Vec::new(), remarks: SortedMap::new(), wanting: SortedMap::new() }
    }
}

impl<I: Identity> Peers<I> {
    /// In order of identity.
    pub(super) fn ids(&self) -> impl Iterator<Item = I> + '_ {
        self.ids.iter().copied()
    }

    pub(super) const fn len(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn contains(&self, id: &I) -> bool {
        self.ids.binary_search(id).is_ok()
    }

    /// What is known of a connected peer.
    pub(super) fn get(&self, id: &I) -> Option<&Peer> {
        if self.remarks.is_empty() {
            return self.contains(id).then_some(&AS_USUAL);
        }
        self.remarks.get(id).or_else(|| self.contains(id).then_some(&AS_USUAL))
    }

    /// What is known of a peer of which it is certain that it is connected.
    pub(super) fn of(&self, id: &I) -> &Peer {
        self.remarks.get(id).unwrap_or(&AS_USUAL)
    }

    /// The same, to be changed.
    pub(super) fn get_mut(&mut self, id: &I) -> Option<&mut Peer> {
        let is_known = self.contains(id);
        is_known.then(|| self.remarks.get_or_insert_with(*id, || AS_USUAL.clone()))
    }

    /// What is remembered about a peer, to be changed; most often nothing is.
    pub(super) fn remark_mut(&mut self, id: &I) -> Option<&mut Peer> {
        self.remarks.get_mut(id)
    }

    /// All of them with what is known of each, in order of identity.
    pub(super) fn iter(&self) -> impl Iterator<Item = (I, &Peer)> {
        self.ids.iter().map(|id| (*id, self.remarks.get(id).unwrap_or(&AS_USUAL)))
    }

    /// Those of whom something is worth remembering.
    pub(super) fn remarkable(&self) -> impl Iterator<Item = (I, &Peer)> {
        self.remarks.iter().map(|(id, peer)| (*id, peer))
    }

    /// A peer is connected.
    pub(super) fn add(&mut self, id: I) {
        let Err(place) = self.ids.binary_search(&id) else { return };
        if self.ids.len() == self.ids.capacity() {
            self.ids.reserve_exact(1 + self.ids.len() / 4);
        }
        self.ids.insert(place, id);
        for wanting in self.wanting.values_mut() {
            wanting.iter_mut().filter(|known| usize::from(**known) >= place).for_each(|known| *known += 1);
        }
    }

    /// A peer is gone; whether it was there.
    pub(super) fn remove(&mut self, id: &I) -> bool {
        let Ok(place) = self.ids.binary_search(id) else { return false };
        self.ids.remove(place);
        self.remarks.remove(id);
        for wanting in self.wanting.values_mut() {
            wanting.retain(|known| usize::from(*known) != place);
            wanting.iter_mut().filter(|known| usize::from(**known) > place).for_each(|known| *known -= 1);
        }
        true
    }

    /// Those that want `blob`, in order of identity.
    pub(super) fn wanting(&self, blob: &Digest) -> impl Iterator<Item = I> + '_ {
        self.wanting.get(blob).into_iter().flatten().map(|place| self.ids[usize::from(*place)])
    }

    /// Whether somebody wants `blob`.
    pub(super) fn is_wanted(&self, blob: &Digest) -> bool {
        self.wanting.get(blob).is_some_and(|wanting| !wanting.is_empty())
    }

    /// A peer wants `blob`; whether that is news.
    pub(super) fn note_wants(&mut self, id: &I, blob: Digest) -> bool {
        let place = self.ids.binary_search(id).ok().and_then(|place| u16::try_from(place).ok());
        let Some(place) = place else { return false };
        let wanting = self.wanting.get_or_insert_with(blob, Vec::new);
        let Err(at) = wanting.binary_search(&place) else { return false };
        wanting.insert(at, place);
        true
    }

    /// Nothing needs to be known any more of who wants `blob`.
    pub(super) fn forget_blob(&mut self, blob: &Digest) {
        self.wanting.remove(blob);
        for peer in self.remarks.values_mut() {
            peer.unfulfilled.remove(blob);
        }
    }

    /// Forgets what is not worth remembering any more.
    pub(super) fn tidy(&mut self, now: Instant) {
        self.remarks.retain(|_, peer| !peer.is_as_usual(now));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::name::NodeId;

    #[test]
    fn who_wants_a_blob_stays_right_while_peers_come_and_go() {
        let (blob, id) = (Digest::sha256(b"blob"), |n: u8| NodeId([n; 32]));
        let mut peers = Peers::default();
        for n in [5, 1, 9] {
            peers.add(id(n));
        }
        assert!(peers.note_wants(&id(9), blob) && peers.note_wants(&id(5), blob));
        assert!(!peers.note_wants(&id(9), blob) && !peers.note_wants(&id(7), blob));
        peers.add(id(7));
        peers.add(id(9));
        assert_eq!(peers.wanting(&blob).collect::<Vec<_>>(), [id(5), id(9)]);
        assert!(peers.remove(&id(5)) && !peers.remove(&id(5)));
        assert_eq!(peers.wanting(&blob).collect::<Vec<_>>(), [id(9)]);
        assert_eq!(peers.ids().collect::<Vec<_>>(), [id(1), id(7), id(9)]);
        peers.forget_blob(&blob);
        assert!(!peers.is_wanted(&blob));
    }

    #[test]
    fn what_is_as_usual_again_is_forgotten_and_a_stranger_has_no_remarks() {
        let (blob, now) = (Digest::sha256(b"blob"), Instant::from_micros(1));
        let (id, parameters) = (NodeId([1; 32]), Parameters::default());
        let mut peers = Peers::default();
        assert!(peers.get(&id).is_none() && peers.get_mut(&id).is_none());
        peers.add(id);
        for _ in 0..parameters.unfulfilled_max {
            peers.get_mut(&id).unwrap().count_unfulfilled(blob, true);
        }
        peers.get_mut(&id).unwrap().busy_until = now + Duration::from_secs(1);
        peers.tidy(now);
        assert!(!peers.get(&id).unwrap().is_usable(&parameters, &blob));
        peers.get_mut(&id).unwrap().on_delivered(&blob);
        peers.tidy(now);
        assert_eq!(peers.remarks.len(), 1, "it is busy");
        peers.tidy(now + Duration::from_secs(1));
        assert_eq!((peers.remarks.len(), peers.get(&id).is_some()), (0, true));
    }
}
