//! What a node knows of what its peers hold. A trait, so that a simulation can keep one log a site with a cursor a node.
//!
//! Not here: what follows from it; see [`super::lan`] and [`super::wan`].

use std::collections::BTreeMap;
use std::ops::Range;

use crate::bits::Bits;
use crate::digest::Digest;
use crate::name::{Identity, NodeId};

/// What peers are known to hold.
pub trait PeerView {
    /// What tells nodes apart to machines with this view.
    type Id: Identity;

    /// `peer` holds `pieces` of `blob`, which has `count` pieces.
    fn record(&mut self, peer: Self::Id, blob: &Digest, pieces: Range<u32>, count: u32);

    /// Nothing is known any more of what `peer` holds of `blob`.
    fn forget_blob(&mut self, peer: Self::Id, blob: &Digest);

    /// Nothing is known any more of what `peer` holds.
    fn forget_peer(&mut self, peer: Self::Id);

    /// Whether `peer` is known to hold `piece` of `blob`.
    fn holds(&self, peer: Self::Id, blob: &Digest, piece: u32) -> bool;
}

/// A view of its own for each node: a set of pieces for each peer and blob.
#[derive(Clone, Debug, Default)]
pub struct OwnView {
    pieces_by_peer: BTreeMap<NodeId, BTreeMap<Digest, Bits>>,
}

impl PeerView for OwnView {
    type Id = NodeId;

    fn record(&mut self, peer: NodeId, blob: &Digest, pieces: Range<u32>, count: u32) {
        let blobs = self.pieces_by_peer.entry(peer).or_default();
        blobs.entry(*blob).or_insert_with(|| Bits::new(count)).insert_range(pieces);
    }

    fn forget_blob(&mut self, peer: NodeId, blob: &Digest) {
        if let Some(blobs) = self.pieces_by_peer.get_mut(&peer) {
            blobs.remove(blob);
        }
    }

    fn forget_peer(&mut self, peer: NodeId) {
        self.pieces_by_peer.remove(&peer);
    }

    fn holds(&self, peer: NodeId, blob: &Digest, piece: u32) -> bool {
        self.pieces_by_peer.get(&peer).and_then(|blobs| blobs.get(blob)).is_some_and(|pieces| pieces.contains(piece))
    }
}
