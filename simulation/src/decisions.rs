//! The digest of all decisions: a rolling SHA-256 over every effect of every device, in order, with its time.
//!
//! Not here: how an effect is carried out.

use protocol::digest::Digest;
use protocol::swarm::{Effect, Source};
use protocol::wire::{Message, codec};
use sha2::{Digest as _, Sha256};

use crate::node_ids::ShortId;

const FLUSH_BYTES: usize = 2 << 10;

/// What the devices of a site decided so far.
#[derive(Debug)]
pub(crate) struct DecisionLog {
    hasher: Sha256,
    buffer: Vec<u8>,
}

impl DecisionLog {
    pub(crate) fn new() -> Self {
        Self { hasher: Sha256::new(), buffer: Vec::with_capacity(2 * FLUSH_BYTES) }
    }

    /// Takes an effect of `device`; returns the bytes of the frames that it sends.
    pub(crate) fn record(&mut self, at: u64, device: u32, effect: &Effect<ShortId>) -> u64 {
        let mut frame_bytes = 0;
        match effect {
            Effect::Send { peer, message } => {
                self.head(at, device, 0, u64::from(peer.index()));
                frame_bytes = self.message(message);
            }
            Effect::SendAll { peers, message } => {
                self.head(at, device, 10, peers.len() as u64);
                for peer in peers {
                    self.buffer.extend(peer.index().to_le_bytes());
                }
                frame_bytes = self.message(message) * peers.len() as u64;
            }
            Effect::Fetch { fetch, source, blob: _, units } => {
                self.head(at, device, 1, fetch.0);
                let source = match source {
                    Source::Wan => u32::MAX,
                    Source::Peer(peer) => peer.index(),
                };
                for number in [source, units.start, units.end] {
                    self.buffer.extend(number.to_le_bytes());
                }
            }
            Effect::Cancel { fetch } => self.head(at, device, 2, fetch.0),
            Effect::VerifyBlob { blob } => self.head_of_blob(at, device, 3, blob),
            Effect::DiscardUnits { blob, geometry } => {
                self.head_of_blob(at, device, 4, blob);
                self.buffer.extend(geometry.unit_bytes().to_le_bytes());
            }
            Effect::Recheck { blob } => self.head_of_blob(at, device, 9, blob),
            Effect::Serve { ask } => self.head(at, device, 5, ask.0),
            Effect::RefuseNotHeld { ask } => self.head(at, device, 6, ask.0),
            Effect::RefuseBusy { ask } => self.head(at, device, 7, ask.0),
            Effect::Disconnect { peer } => self.head_of_peer(at, device, 8, *peer),
        }
        self.flush(FLUSH_BYTES);
        frame_bytes
    }

    /// The digest of all that was taken.
    pub(crate) fn finish(mut self) -> [u8; 32] {
        self.flush(0);
        self.hasher.finalize().into()
    }

    fn head(&mut self, at: u64, device: u32, kind: u8, subject: u64) {
        self.buffer.extend(at.to_le_bytes());
        self.buffer.extend(device.to_le_bytes());
        self.buffer.push(kind);
        self.buffer.extend(subject.to_le_bytes());
    }

    fn head_of_peer(&mut self, at: u64, device: u32, kind: u8, peer: ShortId) {
        self.head(at, device, kind, u64::from(peer.index()));
    }

    fn head_of_blob(&mut self, at: u64, device: u32, kind: u8, blob: &Digest) {
        self.head(at, device, kind, 0);
        self.buffer.extend(blob.as_bytes());
    }

    fn message(&mut self, message: &Message) -> u64 {
        let frame = codec::encode(message);
        self.buffer.extend(frame.as_slice());
        frame.len() as u64
    }

    fn flush(&mut self, above: usize) {
        if self.buffer.len() > above {
            self.hasher.update(&self.buffer);
            self.buffer.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::swarm::AskId;

    use super::*;

    fn digest(effects: &[(u64, u32, Effect<ShortId>)]) -> [u8; 32] {
        let mut log = DecisionLog::new();
        for (at, device, effect) in effects {
            log.record(*at, *device, effect);
        }
        log.finish()
    }

    #[test]
    fn time_device_kind_and_order_all_count() {
        let serve = (1, 2, Effect::Serve { ask: AskId(3) });
        let refuse = (1, 2, Effect::RefuseBusy { ask: AskId(3) });
        let later = (2, 2, serve.2.clone());
        let other = (1, 3, serve.2.clone());
        let all = [
            digest(&[]),
            digest(std::slice::from_ref(&serve)),
            digest(std::slice::from_ref(&refuse)),
            digest(&[later]),
            digest(&[other]),
            digest(&[serve.clone(), refuse.clone()]),
            digest(&[refuse, serve]),
        ];
        for (n, one) in all.iter().enumerate() {
            assert!(all[n + 1..].iter().all(|other| other != one), "{n}");
        }
    }
}
