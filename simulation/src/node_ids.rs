//! The identities of simulated devices.
//!
//! Not here: keys and certificates; nothing is signed in a simulation.

use protocol::name::NodeId;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_leads_back_to_its_device() {
        for index in [0, 1, 255, 256, 70_000, u32::MAX] {
            assert_eq!(index_of(&node_id(7, 3, index)), index);
        }
        assert_ne!(node_id(7, 3, 1), node_id(8, 3, 1));
        assert_ne!(node_id(7, 3, 1), node_id(7, 4, 1));
    }
}
