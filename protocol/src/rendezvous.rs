//! Highest-random-weight (rendezvous) order: who is first in line for a span, agreed without a word being exchanged.
//!
//! Not here: who is eligible; see [`crate::swarm`].

use crate::digest::Digest;
use crate::name::Identity;

/// The weight of `node` for item `index` of `blob`; the eligible node with the highest weight owns it.
///
/// Integer mixing only (the finaliser of SplitMix64, Steele, Lea and Flood 2014), so that every platform agrees.
pub fn weight(blob: &Digest, index: u32, node: &impl Identity) -> u64 {
    let blob = leading_word(blob.as_bytes());
    mix(mix(blob ^ u64::from(index).wrapping_mul(0x9e37_79b9_7f4a_7c15)) ^ node.lot())
}

/// How many of `others` come before `node` for item `index` of `blob`; equal weights fall to the smaller identity.
pub fn rank<'a, I: Identity + 'a>(blob: &Digest, index: u32, node: &I, others: impl Iterator<Item = &'a I>) -> usize {
    let own = weight(blob, index, node);
    others
        .filter(|other| {
            let theirs = weight(blob, index, *other);
            theirs > own || (theirs == own && *other < node)
        })
        .count()
}

/// A reproducible random number for the `counter`th decision of a node seeded with `seed`.
pub fn draw(seed: u64, counter: u64) -> u64 {
    mix(seed ^ mix(counter))
}

fn leading_word(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).fold(0, |word, &byte| word << 8 | u64::from(byte))
}

const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::NodeId;

    #[test]
    fn every_index_has_one_order_and_the_load_is_even() {
        let nodes: Vec<NodeId> = (0..8).map(|n| NodeId(Digest::sha256(&[n]).as_bytes().try_into().unwrap())).collect();
        let blob = Digest::sha256(b"blob");
        let mut owned = [0u32; 8];
        for index in 0..4000 {
            let mut ranks: Vec<usize> =
                nodes.iter().map(|node| rank(&blob, index, node, nodes.iter().filter(|other| *other != node))).collect();
            owned[ranks.iter().position(|&rank| rank == 0).unwrap()] += 1;
            ranks.sort_unstable();
            assert_eq!(ranks, [0, 1, 2, 3, 4, 5, 6, 7]);
        }
        assert!(owned.iter().all(|&count| (400..600).contains(&count)), "{owned:?}");
    }
}
