//! What devices know of what their peers hold, kept once a site: one log of what each device made known, in the order it
//! first became known to anybody, and for each view of a device how far down that log it has seen. A view costs a cursor a
//! peer, not a bit a piece and peer.
//!
//! Not here: who tells whom; the machine decides that. One blob a run.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;
use std::rc::Rc;

use protocol::digest::Digest;
use protocol::name::NodeId;
use protocol::swarm::peer_view::PeerView;

use crate::node_ids::index_of;

const UNKNOWN: u32 = u32::MAX;

/// What every device of a site made known, in order.
#[derive(Debug)]
pub(crate) struct SiteLog {
    pieces: u32,
    /// For each device and piece, where in the device's log it stands.
    positions: Vec<u32>,
    /// For each device, how long its log is.
    lengths: Vec<u32>,
}

/// How far one device has seen the log of another.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// Every position before this one.
    prefix: u32,
    /// And these beyond: only where messages came out of the log's order.
    beyond: BTreeSet<u32>,
}

/// What one device knows of what its peers hold.
#[derive(Debug)]
pub(crate) struct SiteView {
    log: Rc<RefCell<SiteLog>>,
    blob: Digest,
    seen: Vec<Seen>,
}

impl SiteLog {
    pub(crate) fn new(devices: usize, pieces: u32) -> Self {
        Self { pieces, positions: vec![UNKNOWN; devices * pieces as usize], lengths: vec![0; devices] }
    }

    fn entry(&self, device: usize, piece: u32) -> Option<usize> {
        (piece < self.pieces && device < self.lengths.len()).then(|| device * self.pieces as usize + piece as usize)
    }

    fn position(&self, device: usize, piece: u32) -> Option<u32> {
        Some(self.positions[self.entry(device, piece)?]).filter(|position| *position != UNKNOWN)
    }

    fn position_or_append(&mut self, device: usize, piece: u32) -> Option<u32> {
        let entry = self.entry(device, piece)?;
        if self.positions[entry] == UNKNOWN {
            self.positions[entry] = self.lengths[device];
            self.lengths[device] += 1;
        }
        Some(self.positions[entry])
    }

    /// The bytes that the log takes, and the views of `devices` devices that see all of it in order.
    pub(crate) fn bytes(&self) -> usize {
        let devices = self.lengths.len();
        size_of_val(self.positions.as_slice()) + size_of_val(self.lengths.as_slice()) + devices * devices * size_of::<Seen>()
    }
}

impl Seen {
    fn note(&mut self, position: u32) {
        if position > self.prefix {
            self.beyond.insert(position);
        } else if position == self.prefix {
            self.prefix += 1;
            while self.beyond.first() == Some(&self.prefix) {
                self.beyond.pop_first();
                self.prefix += 1;
            }
        }
    }

    fn includes(&self, position: u32) -> bool {
        position < self.prefix || (!self.beyond.is_empty() && self.beyond.contains(&position))
    }
}

impl SiteView {
    pub(crate) fn new(log: Rc<RefCell<SiteLog>>, blob: Digest) -> Self {
        let devices = log.borrow().lengths.len();
        Self { log, blob, seen: vec![Seen::default(); devices] }
    }

    fn forget(&mut self, peer: NodeId) {
        if let Some(seen) = self.seen.get_mut(index_of(&peer) as usize) {
            *seen = Seen::default();
        }
    }
}

impl PeerView for SiteView {
    fn record(&mut self, peer: NodeId, blob: &Digest, pieces: Range<u32>, _count: u32) {
        let device = index_of(&peer) as usize;
        let Some(seen) = self.seen.get_mut(device).filter(|_| *blob == self.blob) else { return };
        let mut log = self.log.borrow_mut();
        for piece in pieces {
            if let Some(position) = log.position_or_append(device, piece) {
                seen.note(position);
            }
        }
    }

    fn forget_blob(&mut self, peer: NodeId, blob: &Digest) {
        if *blob == self.blob {
            self.forget(peer);
        }
    }

    fn forget_peer(&mut self, peer: NodeId) {
        self.forget(peer);
    }

    fn holds(&self, peer: NodeId, blob: &Digest, piece: u32) -> bool {
        let device = index_of(&peer) as usize;
        let Some(seen) = self.seen.get(device).filter(|_| *blob == self.blob) else { return false };
        self.log.borrow().position(device, piece).is_some_and(|position| seen.includes(position))
    }
}

#[cfg(test)]
mod tests {
    use protocol::swarm::peer_view::OwnView;

    use super::*;
    use crate::node_ids::node_id;

    #[test]
    fn it_answers_as_a_view_of_its_own_would_in_whatever_order_messages_come() {
        const PIECES: u32 = 40;
        let (blob, other) = (Digest::sha256(b"blob"), Digest::sha256(b"other"));
        let log = Rc::new(RefCell::new(SiteLog::new(4, PIECES)));
        let mut views: Vec<(SiteView, OwnView)> = (0..4).map(|_| (SiteView::new(Rc::clone(&log), blob), OwnView::default())).collect();
        for step in 0..3000u64 {
            let draw = |purpose: u64, below: u64| (protocol::rendezvous::draw(step, purpose) % below) as u32;
            let (view, own) = &mut views[draw(1, 4) as usize];
            let peer = node_id(1, 0, draw(2, 4));
            let start = draw(3, u64::from(PIECES));
            let pieces = start..(start + 1 + draw(4, 4)).min(PIECES);
            match draw(5, 40) {
                0 => {
                    view.forget_peer(peer);
                    own.forget_peer(peer);
                }
                1 => {
                    view.forget_blob(peer, &blob);
                    own.forget_blob(peer, &blob);
                }
                _ => {
                    view.record(peer, &blob, pieces.clone(), PIECES);
                    own.record(peer, &blob, pieces, PIECES);
                }
            }
            for piece in 0..PIECES + 1 {
                assert_eq!(view.holds(peer, &blob, piece), own.holds(peer, &blob, piece), "step {step}, piece {piece}");
            }
            assert!(!view.holds(peer, &other, 0));
        }
    }
}
