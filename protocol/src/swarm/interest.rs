//! Peers that asked for a blob of which nothing was known here. A device that starts connects to its peers before it knows what
//! is on its disk: what it says then is that it holds nothing, and it must say the truth once it knows, or a peer whose seed is
//! gone would wait for ever beside a device that has it all.
//!
//! Not here: the answer; see [`super::talk`].

use std::collections::BTreeMap;

use crate::digest::Digest;
use crate::name::Identity;

/// Blobs that are remembered for one peer: an honest one has at most 32 wanted at a time, so that only who floods is forgotten.
const BLOBS_PER_PEER_MAX: usize = 64;

/// Who asked for what, and was told that it is not here.
#[derive(Clone, Debug)]
pub(super) struct Interest<I> {
    blobs_by_peer: BTreeMap<I, Vec<Digest>>,
}

impl<I> Default for Interest<I> {
    fn default() -> Self {
        Self { blobs_by_peer: BTreeMap::new() }
    }
}

impl<I: Identity> Interest<I> {
    /// `peer` was told that nothing of `blob` is here; its oldest question is forgotten if there are too many.
    pub(super) fn note(&mut self, peer: I, blob: Digest) {
        let blobs = self.blobs_by_peer.entry(peer).or_default();
        blobs.retain(|known| *known != blob);
        if blobs.len() >= BLOBS_PER_PEER_MAX {
            blobs.remove(0);
        }
        blobs.push(blob);
    }

    /// Something is known of `blob` now: those who asked, in order of identity, each once.
    pub(super) fn take(&mut self, blob: &Digest) -> Vec<I> {
        let mut asked = Vec::new();
        self.blobs_by_peer.retain(|peer, blobs| {
            let before = blobs.len();
            blobs.retain(|known| known != blob);
            if blobs.len() < before {
                asked.push(*peer);
            }
            !blobs.is_empty()
        });
        asked
    }

    /// `peer` is gone.
    pub(super) fn forget(&mut self, peer: &I) {
        self.blobs_by_peer.remove(peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::NodeId;

    #[test]
    fn a_peer_that_asks_for_ever_more_is_remembered_for_its_last_questions_only() {
        let (flooder, other) = (NodeId([1; 32]), NodeId([2; 32]));
        let blob = |n: usize| Digest::sha256(&n.to_be_bytes());
        let mut interest = Interest::default();
        interest.note(other, blob(0));
        for n in 0..1000 {
            interest.note(flooder, blob(n));
            interest.note(flooder, blob(n));
        }
        assert_eq!(interest.blobs_by_peer[&flooder].len(), BLOBS_PER_PEER_MAX);
        assert_eq!(interest.take(&blob(0)), [other]);
        assert_eq!(interest.take(&blob(999)), [flooder]);
        assert_eq!(interest.take(&blob(999)), []);
        interest.forget(&flooder);
        assert!(interest.blobs_by_peer.is_empty());
    }
}
