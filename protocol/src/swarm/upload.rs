//! Whom to serve next: a bounded number at a time, and of those that wait the peer that is served least, first by requests
//! being served, then by the bytes it was given, so that no peer can crowd out the others. It is deficit round robin with
//! bytes as the measure: a peer that comes back starts level with the least served that wait, and saves nothing up.
//!
//! Not here: what may be served; see [`super::Swarm`].

use std::collections::VecDeque;

use super::AskId;
use super::parameters::Parameters;
use crate::name::Identity;
use crate::sorted_map::SortedMap;

/// Requests of peers, being served and waiting.
#[derive(Clone, Debug)]
pub(super) struct Uploads<I> {
    serving: SortedMap<AskId, I>,
    waiting: SortedMap<I, Queue>,
    /// Bytes given to each peer that was served since all queues were empty.
    given: SortedMap<I, u64>,
    /// Bytes given to the peer that was served last, before that.
    level: u64,
}

type Queue = VecDeque<(AskId, u64)>;

impl<I> Default for Uploads<I> {
    fn default() -> Self {
        Self { serving: SortedMap::new(), waiting: SortedMap::new(), given: SortedMap::new(), level: 0 }
    }
}

impl<I: Identity> Uploads<I> {
    /// Takes a request for so many bytes; false if the peer has too many waiting already.
    pub(super) fn ask(&mut self, peer: I, ask: AskId, bytes: u64, parameters: &Parameters) -> bool {
        let crowded = self.waiting.values().map(VecDeque::len).sum::<usize>() >= parameters.uploads_max;
        let queue = self.waiting.get_or_insert_with(peer, Queue::new);
        if queue.len() >= if crowded { 1 } else { parameters.queue_per_peer_max } {
            return false;
        }
        if queue.is_empty() {
            let given = self.given.get_or_insert_with(peer, || 0);
            *given = (*given).max(self.level);
        }
        queue.push_back((ask, bytes));
        true
    }

    /// The next request to serve, if there is room for one.
    pub(super) fn next(&mut self, parameters: &Parameters) -> Option<AskId> {
        if self.serving.len() >= parameters.uploads_max {
            return None;
        }
        let served = |peer: &I| self.serving.values().filter(|served| *served == peer).count();
        let given = |peer: &I| self.given.get(peer).copied().unwrap_or(0);
        let peer = *self.waiting.iter().filter(|(_, queue)| !queue.is_empty()).min_by_key(|(peer, _)| (served(peer), given(peer)))?.0;
        let queue = self.waiting.get_mut(&peer)?;
        let (ask, bytes) = queue.pop_front()?;
        if queue.is_empty() {
            self.waiting.remove(&peer);
        }
        self.serving.insert(ask, peer);
        let given = self.given.get_or_insert_with(peer, || 0);
        self.level = *given;
        *given += bytes;
        self.settle();
        Some(ask)
    }

    /// A request was served, or its stream broke.
    pub(super) fn ended(&mut self, ask: AskId) {
        self.serving.remove(&ask);
        self.waiting.retain(|_, queue| {
            queue.retain(|(waiting, _)| *waiting != ask);
            !queue.is_empty()
        });
        self.settle();
    }

    /// Nothing of `peer` is served any more: the requests that were waiting.
    pub(super) fn forget(&mut self, peer: I) -> impl Iterator<Item = AskId> + use<I> {
        self.serving.retain(|_, served| *served != peer);
        self.given.remove(&peer);
        self.waiting.remove(&peer).unwrap_or_default().into_iter().map(|(ask, _)| ask)
    }

    /// Nobody is owed anything once nobody asks.
    fn settle(&mut self) {
        if self.serving.is_empty() && self.waiting.is_empty() {
            self.given.clear();
            self.level = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::name::NodeId;

    #[test]
    fn a_greedy_peer_does_not_crowd_out_a_modest_one() {
        let parameters = Parameters { uploads_max: 2, queue_per_peer_max: 3, ..Parameters::default() };
        let (greedy, modest) = (NodeId([1; 32]), NodeId([2; 32]));
        let mut uploads = Uploads::default();
        assert!((0..2).all(|ask| uploads.ask(greedy, AskId(ask), 1, &parameters)));
        assert!(!uploads.ask(greedy, AskId(3), 1, &parameters), "as many wait as are served, so one a peer may wait");
        assert!(uploads.ask(modest, AskId(9), 1, &parameters));
        assert!(!uploads.ask(modest, AskId(10), 1, &parameters));
        assert_eq!(uploads.next(&parameters), Some(AskId(0)));
        assert_eq!(uploads.next(&parameters), Some(AskId(9)));
        assert_eq!(uploads.next(&parameters), None);
        uploads.ended(AskId(0));
        assert_eq!(uploads.next(&parameters), Some(AskId(1)));
        assert!(uploads.ask(greedy, AskId(2), 1, &parameters));
        assert_eq!(uploads.forget(greedy).collect::<Vec<_>>(), [AskId(2)]);
        assert_eq!(uploads.next(&parameters), None);
    }

    #[test]
    fn peers_that_always_ask_are_given_as_many_bytes_whatever_they_ask_for_and_whoever_they_are() {
        let parameters = Parameters { uploads_max: 1, queue_per_peer_max: 2, ..Parameters::default() };
        let (mut uploads, mut given, mut next) = (Uploads::default(), [0u64; 5], 0);
        let bytes = |peer: usize| [1000, 100, 300, 50, 700][peer];
        let mut asked: BTreeMap<u64, usize> = BTreeMap::new();
        for _ in 0..5000 {
            for peer in 0..5usize {
                let id = NodeId([peer as u8; 32]);
                if uploads.waiting.get(&id).is_none_or(VecDeque::is_empty) && uploads.ask(id, AskId(next), bytes(peer), &parameters) {
                    asked.insert(next, peer);
                    next += 1;
                }
            }
            let served = uploads.next(&parameters).unwrap();
            let peer = asked[&served.0];
            given[peer] += bytes(peer);
            uploads.ended(served);
        }
        let (least, most) = (given.iter().min().unwrap(), given.iter().max().unwrap());
        assert!(most - least <= 2000, "{given:?}");
    }
}
