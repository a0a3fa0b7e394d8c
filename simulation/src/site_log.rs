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
use protocol::swarm::peer_view::PeerView;

use crate::node_ids::ShortId;

const UNKNOWN: u16 = u16::MAX;

/// Pieces of a blob at most: positions are that long.
pub(crate) const PIECES_MAX: u32 = UNKNOWN as u32;

/// What every device of a site made known, in order.
#[derive(Debug)]
pub(crate) struct SiteLog {
    pieces: u32,
    /// For each device and piece, where in the device's log it stands.
    positions: Vec<u16>,
    /// For each device, how long its log is.
    lengths: Vec<u16>,
}

/// What one device knows of what its peers hold.
#[derive(Debug)]
pub(crate) struct SiteView {
    log: Rc<RefCell<SiteLog>>,
    blob: Digest,
    /// How far it has seen the log of each device: every position before this one.
    seen: Vec<u32>,
    /// And these of the [`AHEAD`] positions from there on, one bit each: messages come a little out of the log's order.
    ahead: Vec<u64>,
    /// And these positions of devices beyond: hardly ever any.
    beyond: BTreeSet<(u32, u32)>,
}

impl SiteLog {
    pub(crate) fn new(devices: usize, pieces: u32) -> Self {
        Self { pieces, positions: vec![UNKNOWN; devices * pieces as usize], lengths: vec![0; devices] }
    }

    fn entry(&self, device: usize, piece: u32) -> Option<usize> {
        (piece < self.pieces && device < self.lengths.len()).then(|| device * self.pieces as usize + piece as usize)
    }

    fn position(&self, device: usize, piece: u32) -> Option<u32> {
        Some(self.positions[self.entry(device, piece)?]).filter(|position| *position != UNKNOWN).map(u32::from)
    }

    fn position_or_append(&mut self, device: usize, piece: u32) -> Option<u32> {
        let entry = self.entry(device, piece)?;
        if self.positions[entry] == UNKNOWN {
            self.positions[entry] = self.lengths[device];
            self.lengths[device] += 1;
        }
        Some(u32::from(self.positions[entry]))
    }

    /// The bytes that the log takes, and the views of `devices` devices that see all of it in order.
    pub(crate) fn bytes(&self) -> usize {
        let devices = self.lengths.len();
        size_of_val(self.positions.as_slice())
            + size_of_val(self.lengths.as_slice())
            + devices * devices * (size_of::<u32>() + size_of::<u64>())
    }
}

/// Positions after the first one unseen that are kept as bits.
const AHEAD: u32 = u64::BITS;

impl SiteView {
    pub(crate) fn new(log: Rc<RefCell<SiteLog>>, blob: Digest) -> Self {
        let devices = log.borrow().lengths.len();
        Self { log, blob, seen: vec![0; devices], ahead: vec![0; devices], beyond: BTreeSet::new() }
    }

    fn forget(&mut self, peer: ShortId) {
        let device = peer.index();
        if let Some(seen) = self.seen.get_mut(device as usize) {
            *seen = 0;
            self.ahead[device as usize] = 0;
            self.beyond.retain(|(other, _)| *other != device);
        }
    }

    fn includes(&self, device: u32, position: u32) -> bool {
        match position.checked_sub(self.seen[device as usize]) {
            None => true,
            Some(further @ ..AHEAD) => self.ahead[device as usize] >> further & 1 == 1,
            Some(_) => self.beyond.contains(&(device, position)),
        }
    }

    /// Takes note of a position of a device's log.
    fn note(&mut self, device: u32, position: u32) {
        let Some(further) = position.checked_sub(self.seen[device as usize]) else { return };
        if further >= AHEAD {
            self.beyond.insert((device, position));
            return;
        }
        self.ahead[device as usize] |= 1 << further;
        self.go_ahead(device);
    }

    /// Goes on to the first position unseen, and brings what was beyond near.
    fn go_ahead(&mut self, device: u32) {
        let (seen, ahead) = (&mut self.seen[device as usize], &mut self.ahead[device as usize]);
        loop {
            let known = ahead.trailing_ones();
            *seen += known;
            *ahead = ahead.checked_shr(known).unwrap_or(0);
            if self.beyond.is_empty() {
                return;
            }
            let near: Vec<u32> = self.beyond.range((device, *seen)..(device, seen.saturating_add(AHEAD))).map(|(_, at)| *at).collect();
            for position in &near {
                self.beyond.remove(&(device, *position));
                *ahead |= 1 << (position - *seen);
            }
            if known == 0 && near.is_empty() {
                return;
            }
        }
    }
}

impl PeerView for SiteView {
    type Id = ShortId;

    fn record(&mut self, peer: ShortId, blob: &Digest, pieces: Range<u32>, _count: u32) {
        let device = peer.index();
        if *blob != self.blob || device as usize >= self.seen.len() {
            return;
        }
        for piece in pieces {
            let position = self.log.borrow_mut().position_or_append(device as usize, piece);
            if let Some(position) = position {
                self.note(device, position);
            }
        }
    }

    fn forget_blob(&mut self, peer: ShortId, blob: &Digest) {
        if *blob == self.blob {
            self.forget(peer);
        }
    }

    fn forget_peer(&mut self, peer: ShortId) {
        self.forget(peer);
    }

    fn holds(&self, peer: ShortId, blob: &Digest, piece: u32) -> bool {
        let device = peer.index();
        if *blob != self.blob || device as usize >= self.seen.len() {
            return false;
        }
        self.log.borrow().position(device as usize, piece).is_some_and(|position| self.includes(device, position))
    }
}

#[cfg(test)]
mod tests {
    use protocol::swarm::peer_view::OwnView;

    use super::*;
    use crate::node_ids::node_id;

    #[test]
    fn it_answers_as_a_view_of_its_own_would_in_whatever_order_messages_come() {
        const PIECES: u32 = 200;
        let (blob, other) = (Digest::sha256(b"blob"), Digest::sha256(b"other"));
        let log = Rc::new(RefCell::new(SiteLog::new(4, PIECES)));
        let mut views: Vec<(SiteView, OwnView)> = (0..4).map(|_| (SiteView::new(Rc::clone(&log), blob), OwnView::default())).collect();
        for step in 0..3000u64 {
            let draw = |purpose: u64, below: u64| (protocol::rendezvous::draw(step, purpose) % below) as u32;
            let (view, own) = &mut views[draw(1, 4) as usize];
            let index = draw(2, 4);
            let (peer, node) = (ShortId::new(7, index), node_id(1, 0, index));
            let start = draw(3, u64::from(PIECES));
            let pieces = start..(start + 1 + draw(4, 4)).min(PIECES);
            match draw(5, 40) {
                0 => {
                    view.forget_peer(peer);
                    own.forget_peer(node);
                }
                1 => {
                    view.forget_blob(peer, &blob);
                    own.forget_blob(node, &blob);
                }
                _ => {
                    view.record(peer, &blob, pieces.clone(), PIECES);
                    own.record(node, &blob, pieces, PIECES);
                }
            }
            for piece in 0..PIECES + 1 {
                assert_eq!(view.holds(peer, &blob, piece), own.holds(node, &blob, piece), "step {step}, piece {piece}");
            }
            assert!(!view.holds(peer, &other, 0));
        }
    }
}
