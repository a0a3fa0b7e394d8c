//! Whom to serve next: a bounded number at a time, the peer that is served least first, so that no peer can crowd out the
//! others.
//!
//! Not here: what may be served; see [`super::Swarm`].

use std::collections::{BTreeMap, VecDeque};

use super::AskId;
use super::parameters::Parameters;
use crate::name::NodeId;

/// Requests of peers, being served and waiting.
#[derive(Clone, Debug, Default)]
pub(super) struct Uploads {
    serving: BTreeMap<AskId, NodeId>,
    waiting: BTreeMap<NodeId, VecDeque<AskId>>,
}

impl Uploads {
    /// Takes a request; false if the peer has too many waiting already.
    pub(super) fn ask(&mut self, peer: NodeId, ask: AskId, parameters: &Parameters) -> bool {
        let crowded = self.waiting.values().map(VecDeque::len).sum::<usize>() >= parameters.uploads_max;
        let queue = self.waiting.entry(peer).or_default();
        if queue.len() >= if crowded { 1 } else { parameters.queue_per_peer_max } {
            return false;
        }
        queue.push_back(ask);
        true
    }

    /// The next request to serve, if there is room for one.
    pub(super) fn next(&mut self, parameters: &Parameters) -> Option<AskId> {
        if self.serving.len() >= parameters.uploads_max {
            return None;
        }
        let served = |peer: &NodeId| self.serving.values().filter(|served| *served == peer).count();
        let peer = *self.waiting.iter().filter(|(_, queue)| !queue.is_empty()).min_by_key(|(peer, _)| served(peer))?.0;
        let queue = self.waiting.get_mut(&peer)?;
        let ask = queue.pop_front()?;
        if queue.is_empty() {
            self.waiting.remove(&peer);
        }
        self.serving.insert(ask, peer);
        Some(ask)
    }

    /// A request was served, or its stream broke.
    pub(super) fn ended(&mut self, ask: AskId) {
        self.serving.remove(&ask);
        self.waiting.retain(|_, queue| {
            queue.retain(|waiting| *waiting != ask);
            !queue.is_empty()
        });
    }

    /// Nothing of `peer` is served any more: the requests that were waiting.
    pub(super) fn forget(&mut self, peer: NodeId) -> VecDeque<AskId> {
        self.serving.retain(|_, served| *served != peer);
        self.waiting.remove(&peer).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greedy_peer_does_not_crowd_out_a_modest_one() {
        let parameters = Parameters { uploads_max: 2, queue_per_peer_max: 3, ..Parameters::default() };
        let (greedy, modest) = (NodeId([1; 32]), NodeId([2; 32]));
        let mut uploads = Uploads::default();
        assert!((0..2).all(|ask| uploads.ask(greedy, AskId(ask), &parameters)));
        assert!(!uploads.ask(greedy, AskId(3), &parameters), "as many wait as are served, so one a peer may wait");
        assert!(uploads.ask(modest, AskId(9), &parameters));
        assert!(!uploads.ask(modest, AskId(10), &parameters));
        assert_eq!(uploads.next(&parameters), Some(AskId(0)));
        assert_eq!(uploads.next(&parameters), Some(AskId(9)));
        assert_eq!(uploads.next(&parameters), None);
        uploads.ended(AskId(0));
        assert_eq!(uploads.next(&parameters), Some(AskId(1)));
        assert!(uploads.ask(greedy, AskId(2), &parameters));
        assert_eq!(uploads.forget(greedy), [AskId(2)]);
        assert_eq!(uploads.next(&parameters), None);
    }
}
