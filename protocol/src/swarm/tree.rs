//! How a span spreads over a site: one binary tree a span, with the node that brings it over the WAN at the root. Each node
//! pulls from its parent, so that no holder is asked by everyone, and from span to span the places turn, so that every node
//! uploads as much as every other. Nobody builds the trees: all compute them from who wants the blob.
//!
//! Not here: what is pulled when a parent does not deliver; see [`super::lan`].

use crate::name::Identity;

/// Children of a node.
const ARITY: usize = 2;

/// A node's place in the tree of a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place<I> {
    /// From whom it pulls; none at the root.
    pub(super) parent: Option<I>,
    /// Who pulls from it, if there are so many.
    pub(super) children: [Option<I>; ARITY],
}

impl<I> Default for Place<I> {
    fn default() -> Self {
        Self { parent: None, children: [None, None] }
    }
}

impl<I: Identity> Place<I> {
    /// The place of `me` among `members`, which are in order of identity, contain both `me` and `root`, and are told apart.
    pub(super) fn of(members: &[I], me: &I, root: &I, span: u32) -> Self {
        let (Ok(mine), Ok(root)) = (members.binary_search(me), members.binary_search(root)) else { return Self::default() };
        let turn = Turn::new(members.len(), root, span);
        let place = turn.place_of(mine);
        let member = |place: usize| members.get(turn.member_at(place)?).copied();
        Self {
            parent: place.checked_sub(1).and_then(|before| member(before / ARITY)),
            children: std::array::from_fn(|nth| member(ARITY * place + 1 + nth)),
        }
    }
}

/// The order of a span: members in order of identity, turned by a step for each span; the root has changed places with the
/// first.
struct Turn {
    count: usize,
    offset: usize,
    /// Where the root would stand.
    root_place: usize,
    root: usize,
}

impl Turn {
    fn new(count: usize, root: usize, span: u32) -> Self {
        let offset = (span as usize % count) * step(count) % count;
        Self { count, offset, root_place: (root + offset) % count, root }
    }

    const fn place_of(&self, member: usize) -> usize {
        match (member + self.offset) % self.count {
            _ if member == self.root => 0,
            0 => self.root_place,
            place => place,
        }
    }

    const fn member_at(&self, place: usize) -> Option<usize> {
        if place >= self.count {
            None
        } else if place == 0 {
            Some(self.root)
        } else {
            let unswapped = if place == self.root_place { 0 } else { place };
            Some((unswapped + self.count - self.offset) % self.count)
        }
    }
}

/// A step without a common factor with `count`, near its golden section: neighbouring spans then have their inner nodes far
/// apart, and over `count` spans every node stands at every place once.
fn step(count: usize) -> usize {
    (count * 618 / 1000..).find(|step| *step > 0 && coprime(*step, count)).unwrap_or(1)
}

const fn coprime(mut one: usize, mut other: usize) -> bool {
    while other != 0 {
        (one, other) = (other, one % other);
    }
    one == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::NodeId;

    fn members(count: u8) -> Vec<NodeId> {
        (0..count).map(|n| NodeId([n; 32])).collect()
    }

    #[test]
    fn every_node_hangs_below_the_root_once_and_parents_agree_with_children() {
        for count in 1..40 {
            let members = members(count);
            for span in 0..50 {
                let root = members[(span as usize * 7) % members.len()];
                let places: Vec<Place<NodeId>> = members.iter().map(|me| Place::of(&members, me, &root, span)).collect();
                for (me, place) in members.iter().zip(&places) {
                    assert_eq!(place.parent.is_none(), *me == root);
                    if let Some(parent) = place.parent {
                        assert!(places[parent.0[0] as usize].children.contains(&Some(*me)), "{count} {span}");
                    }
                    assert!(place.children.iter().flatten().all(|child| places[child.0[0] as usize].parent == Some(*me)));
                }
                assert_eq!(places.iter().map(|place| place.children.iter().flatten().count()).sum::<usize>(), members.len() - 1);
            }
        }
    }

    #[test]
    fn over_as_many_spans_as_nodes_every_node_uploads_as_much() {
        let members = members(15);
        let mut uploads = [0; 15];
        for span in 0..15 {
            let root = members[(15 - Turn::new(15, 0, span).offset) % 15];
            for me in &members {
                uploads[me.0[0] as usize] += Place::of(&members, me, &root, span).children.iter().flatten().count();
            }
        }
        assert_eq!(uploads, [14; 15]);
    }
}
