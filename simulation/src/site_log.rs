//! What devices know of what their peers hold, kept once a site: one log of what each device made known, in the order it
//! first became known to anybody, and for each view of a device how far down that log it has seen. A view costs a cursor a
//! peer, not a bit a piece and peer.
//!
//! Not here: who tells whom; the machine decides that. One blob a run.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use protocol::digest::Digest;
use protocol::swarm::peer_view::PeerView;

use crate::node_ids::ShortId;

/// Pieces of a blob at most: positions have two bytes.
pub(crate) const PIECES_MAX: u32 = u16::MAX as u32;

/// The start of a digest tells the one blob of a run from any other.
type BlobHead = [u8; 8];

/// What every device of a site made known, in order.
#[derive(Debug)]
pub(crate) struct SiteLog {
    pieces: u32,
    blob: BlobHead,
    /// For each device and piece, where in the device's log it stands.
    positions: Positions,
    /// For each device, how long its log is.
    lengths: Vec<u16>,
}

/// A position of a device's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Beyond {
    device: u16,
    position: u16,
}

impl Beyond {
    /// One past the last one stands for it.
    fn new(device: u32, position: u32) -> Self {
        let short = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
        Self { device: short(device), position: short(position) }
    }
}

/// What one device knows of what its peers hold.
#[derive(Debug)]
pub(crate) struct SiteView {
    log: Rc<RefCell<SiteLog>>,
    /// How far it has seen the log of each device: every position before this one.
    seen: Box<[u16]>,
    /// And these of the [`AHEAD`] positions from there on, one bit each: messages come a little out of the log's order.
    ahead: Box<[u64]>,
    /// And these positions of devices beyond, in order: few, so that a list is the fastest set of them.
    beyond: Vec<Beyond>,
}

impl SiteLog {
    pub(crate) fn new(devices: usize, blob: &Digest, pieces: u32) -> Self {
        let positions = Positions::new(devices * pieces as usize, pieces);
        Self { pieces, blob: head(blob), positions, lengths: vec![0; devices] }
    }

    fn is_of(&self, blob: &Digest) -> bool {
        head(blob) == self.blob
    }

    fn entry(&self, device: usize, piece: u32) -> Option<usize> {
        (piece < self.pieces && device < self.lengths.len()).then(|| device * self.pieces as usize + piece as usize)
    }

    fn position(&self, device: usize, piece: u32) -> Option<u32> {
        self.positions.get(self.entry(device, piece)?)
    }

    fn position_or_append(&mut self, device: usize, piece: u32) -> Option<u32> {
        let entry = self.entry(device, piece)?;
        Some(self.positions.get(entry).unwrap_or_else(|| {
            let last = self.lengths[device];
            self.positions.set(entry, last);
            self.lengths[device] += 1;
            u32::from(last)
        }))
    }

    /// The bytes that the log takes, and the views of `devices` devices that see all of it in order.
    pub(crate) fn bytes(&self) -> usize {
        let devices = self.lengths.len();
        self.positions.bytes() + size_of_val(self.lengths.as_slice()) + devices * devices * (size_of::<u16>() + size_of::<u64>())
    }
}

fn head(blob: &Digest) -> BlobHead {
    blob.as_bytes().first_chunk().copied().unwrap_or_default()
}

/// A position for each entry that has one; of few pieces, one byte is enough for it.
#[derive(Debug)]
struct Positions {
    known: Box<[u64]>,
    low: Box<[u8]>,
    high: Box<[u8]>,
}

impl Positions {
    fn new(entries: usize, pieces: u32) -> Self {
        let high = if pieces > 1 << u8::BITS { entries } else { 0 };
        let bytes = |count| vec![0; count].into_boxed_slice();
        Self { known: vec![0; entries.div_ceil(64)].into(), low: bytes(entries), high: bytes(high) }
    }

    fn get(&self, entry: usize) -> Option<u32> {
        let is_known = self.known[entry / 64] >> (entry % 64) & 1 == 1;
        is_known.then(|| u32::from(u16::from_le_bytes([self.low[entry], self.high.get(entry).copied().unwrap_or(0)])))
    }

    fn set(&mut self, entry: usize, position: u16) {
        let [low, high] = position.to_le_bytes();
        self.known[entry / 64] |= 1 << (entry % 64);
        self.low[entry] = low;
        self.high.get_mut(entry).into_iter().for_each(|byte| *byte = high);
    }

    fn bytes(&self) -> usize {
        size_of_val(&*self.known) + self.low.len() + self.high.len()
    }
}

/// Positions after the first one unseen that are kept as bits.
const AHEAD: u32 = u64::BITS;

impl SiteView {
    pub(crate) fn new(log: Rc<RefCell<SiteLog>>) -> Self {
        let devices = log.borrow().lengths.len();
        Self { log, seen: vec![0; devices].into(), ahead: vec![0; devices].into(), beyond: Vec::new() }
    }

    fn forget(&mut self, peer: ShortId) {
        let device = peer.index();
        if let Some(seen) = self.seen.get_mut(device as usize) {
            *seen = 0;
            self.ahead[device as usize] = 0;
            self.beyond.retain(|beyond| u32::from(beyond.device) != device);
        }
    }

    fn includes(&self, device: u32, position: u32) -> bool {
        match position.checked_sub(u32::from(self.seen[device as usize])) {
            None => true,
            Some(further @ ..AHEAD) => self.ahead[device as usize] >> further & 1 == 1,
            Some(_) => self.beyond.binary_search(&Beyond::new(device, position)).is_ok(),
        }
    }

    /// Takes note of a position of a device's log.
    fn note(&mut self, device: u32, position: u32) {
        let Some(further) = position.checked_sub(u32::from(self.seen[device as usize])) else { return };
        if further >= AHEAD {
            let beyond = Beyond::new(device, position);
            if let Err(place) = self.beyond.binary_search(&beyond) {
                self.beyond.insert(place, beyond);
            }
            return;
        }
        self.ahead[device as usize] |= 1 << further;
        self.go_ahead(device);
    }

    /// Goes on to the first position unseen, and brings what was beyond near.
    fn go_ahead(&mut self, device: u32) {
        let (seen, ahead) = (&mut self.seen[device as usize], &mut self.ahead[device as usize]);
        while *ahead & 1 == 1 {
            let known = ahead.trailing_ones();
            // A log is no longer than that.
            *seen = seen.saturating_add(u16::try_from(known).unwrap_or(u16::MAX));
            *ahead = ahead.checked_shr(known).unwrap_or(0);
            let from = u32::from(*seen);
            let place = |position| self.beyond.partition_point(|beyond| *beyond < Beyond::new(device, position));
            for beyond in self.beyond.drain(place(from)..place(from + AHEAD)) {
                *ahead |= 1 << (u32::from(beyond.position) - from);
            }
        }
    }
}

impl PeerView for SiteView {
    type Id = ShortId;

    fn record(&mut self, peer: ShortId, blob: &Digest, pieces: Range<u32>, _count: u32) {
        let device = peer.index();
        let log = Rc::clone(&self.log);
        let mut log = log.borrow_mut();
        if !log.is_of(blob) || device as usize >= self.seen.len() {
            return;
        }
        for position in pieces.filter_map(|piece| log.position_or_append(device as usize, piece)) {
            self.note(device, position);
        }
    }

    fn forget_blob(&mut self, peer: ShortId, blob: &Digest) {
        if self.log.borrow().is_of(blob) {
            self.forget(peer);
        }
    }

    fn forget_peer(&mut self, peer: ShortId) {
        self.forget(peer);
    }

    fn holds(&self, peer: ShortId, blob: &Digest, piece: u32) -> bool {
        let device = peer.index();
        let log = self.log.borrow();
        if !log.is_of(blob) || device as usize >= self.seen.len() {
            return false;
        }
        log.position(device as usize, piece).is_some_and(|position| self.includes(device, position))
    }
}

#[cfg(test)]
mod tests {
    use protocol::swarm::peer_view::OwnView;

    use super::*;
    use crate::node_ids::node_id;

    #[test]
    fn it_answers_as_a_view_of_its_own_would_in_whatever_order_messages_come() {
        for pieces in [200, 256, 300] {
            answers_as_a_view_of_its_own(pieces);
        }
    }

    fn answers_as_a_view_of_its_own(pieces_all: u32) {
        let (blob, other) = (Digest::sha256(b"blob"), Digest::sha256(b"other"));
        let log = Rc::new(RefCell::new(SiteLog::new(4, &blob, pieces_all)));
        let mut views: Vec<(SiteView, OwnView)> = (0..4).map(|_| (SiteView::new(Rc::clone(&log)), OwnView::default())).collect();
        for step in 0..3000u64 {
            let draw = |purpose: u64, below: u64| (protocol::rendezvous::draw(step, purpose) % below) as u32;
            let (view, own) = &mut views[draw(1, 4) as usize];
            let index = draw(2, 4);
            let (peer, node) = (ShortId::new(7, index), node_id(1, 0, index));
            let start = draw(3, u64::from(pieces_all));
            let pieces = start..(start + 1 + draw(4, 4)).min(pieces_all);
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
                    view.record(peer, &blob, pieces.clone(), pieces_all);
                    own.record(node, &blob, pieces, pieces_all);
                }
            }
            for piece in 0..pieces_all + 1 {
                assert_eq!(view.holds(peer, &blob, piece), own.holds(node, &blob, piece), "step {step}, piece {piece}");
            }
            assert!(!view.holds(peer, &other, 0));
        }
    }
}
