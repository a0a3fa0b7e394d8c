//! The identities of simulated devices: as long as real ones where fleets are small, short where a million devices keep them
//! in their maps.
//!
//! Not here: keys and certificates; nothing is signed in a simulation.

use std::num::NonZeroU32;

use protocol::name::{Identity, NodeId};
use protocol::rendezvous;
use sha2::{Digest as _, Sha256};

const INDEX_BYTES: usize = 4;

/// The identity of the device with `index` at `site`: pseudo-random, but for its last four bytes, which are the index, so
/// that whoever meets an identity finds the device without a map.
pub(crate) fn node_id(seed: u64, site: u32, index: u32) -> NodeId {
    let mut hasher = Sha256::new();
    hasher.update(b"hedgerow-sim device");
    hasher.update(seed.to_be_bytes());
    hasher.update(site.to_be_bytes());
    hasher.update(index.to_be_bytes());
    let mut id: [u8; 32] = hasher.finalize().into();
    id[32 - INDEX_BYTES..].copy_from_slice(&index.to_be_bytes());
    NodeId(id)
}

/// The index that [`node_id`] put into an identity.
pub(crate) fn index_of(id: &NodeId) -> u32 {
    id.0[32 - INDEX_BYTES..].iter().fold(0, |index, byte| index << 8 | u32::from(*byte))
}

/// What tells the devices of a site apart to their machines: drawn, but for its lower half, which is the index, so that the
/// order of identities has nothing to do with who is slow, late or a liar. One more than that is kept, so that no identity takes
/// no more room than one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ShortId(NonZeroU32);

/// Devices at a site whose indices fit.
pub(crate) const DEVICES_PER_SITE_MAX: u32 = u16::MAX as u32;
const SHORT_INDEX_BITS: u32 = 16;

impl ShortId {
    /// The identity of the device with `index`, for which `drawn` was drawn.
    #[expect(clippy::cast_possible_truncation, reason = "any bits of what was drawn do")]
    pub(crate) const fn new(drawn: u64, index: u32) -> Self {
        Self(NonZeroU32::MIN.saturating_add(((drawn as u32) << SHORT_INDEX_BITS) | (index % DEVICES_PER_SITE_MAX)))
    }

    /// The index that it was made of.
    pub(crate) const fn index(self) -> u32 {
        self.bits() % (1 << SHORT_INDEX_BITS)
    }

    const fn bits(self) -> u32 {
        self.0.get() - 1
    }
}

impl Identity for ShortId {
    fn lot(&self) -> u64 {
        rendezvous::draw(0, u64::from(self.bits()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_identity_leads_back_to_its_device_and_is_not_in_the_order_of_indices() {
        let id = |index| ShortId::new(rendezvous::draw(1, u64::from(index)), index);
        assert!((0..1000).all(|index| id(index).index() == index));
        let turns = (1..1000).filter(|index| id(*index) < id(index - 1)).count();
        assert!((400..600).contains(&turns), "{turns}");
    }

    #[test]
    fn an_identity_leads_back_to_its_device() {
        for index in [0, 1, 255, 256, 70_000, u32::MAX] {
            assert_eq!(index_of(&node_id(7, 3, index)), index);
        }
        assert_ne!(node_id(7, 3, 1), node_id(8, 3, 1));
        assert_ne!(node_id(7, 3, 1), node_id(7, 4, 1));
    }
}
