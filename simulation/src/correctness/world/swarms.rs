//! What the swarm machines want done: every effect is recorded, checked and carried out.
//!
//! Not here: how units come; see [`super::transfers`].

use protocol::digest::Digest;
use protocol::name::NodeId;
use protocol::swarm::{Effect, Event, FetchEnd, FetchId, Input, Source};
use protocol::time::Instant;
use protocol::verify::VerifiedBlob;
use protocol::wire::{Message, codec};

use super::{Deed, Verdict, World};
use crate::correctness::content::Proven;
use crate::correctness::device::OpenFetch;
use crate::correctness::seeded::SeededBug;
use crate::node_ids::index_of;

/// How long hashing a whole blob takes.
const HASHING_US: u64 = 20_000;

/// After so long, a disk that was full is tried again.
const OPEN_AGAIN_US: u64 = 5_000_000;

/// The index of the device with this identity.
pub(super) fn device_of(id: &NodeId) -> usize {
    usize::try_from(index_of(id)).unwrap_or(usize::MAX)
}

impl World {
    /// Hands an input to a device's swarm machine, and does what it wants done.
    pub(super) fn swarm_input(&mut self, device: usize, input: Input) -> Verdict {
        if !self.devices[device].is_honest() {
            return Ok(());
        }
        let now = Instant::from_micros(self.now);
        if let Some(swarm) = &mut self.devices[device].swarm {
            swarm.handle_input(now, input);
        }
        self.carry_out(device)
    }

    pub(super) fn swarm_timer(&mut self, device: usize) -> Verdict {
        let now = Instant::from_micros(self.now);
        if self.devices[device].swarm_timer.is_some_and(|armed| armed <= self.now) {
            self.devices[device].swarm_timer = None;
        }
        let known = &mut self.devices[device];
        if let Some(swarm) = &mut known.swarm {
            if swarm.poll_timeout().is_some_and(|due| due <= now) {
                swarm.handle_timeout(now);
                if !known.wakes.ring(self.now) {
                    return Err(format!("the swarm machine of d{device} is woken without end"));
                }
                if swarm.poll_timeout().is_some_and(|due| due <= now) {
                    return Err(format!("the swarm machine of d{device} wants to be woken again at once: a real one would spin"));
                }
            }
            self.checks.claims.lapse(self.now, device, swarm.claims())?;
        }
        self.carry_out(device)
    }

    fn arm_swarm(&mut self, index: usize) {
        let device = &mut self.devices[index];
        let Some(due) = device.swarm.as_ref().and_then(protocol::swarm::Swarm::poll_timeout) else { return };
        let due = due.as_micros().max(self.now + 1);
        if device.swarm_timer.is_none_or(|armed| due < armed) {
            device.swarm_timer = Some(due);
            self.to(index, due - self.now, Deed::SwarmTimer);
        }
    }

    /// Does what the machine wants done, until it wants no more.
    fn carry_out(&mut self, device: usize) -> Verdict {
        while let Some(effect) = self.devices[device].swarm.as_mut().and_then(protocol::swarm::Swarm::poll_effect) {
            self.record_effect(device, &effect);
            self.carry_out_one(device, effect)?;
        }
        while let Some(event) = self.devices[device].swarm.as_mut().and_then(protocol::swarm::Swarm::poll_event) {
            self.told(device, &event)?;
        }
        self.arm_swarm(device);
        Ok(())
    }

    fn record_effect(&mut self, device: usize, effect: &Effect) {
        let words = match effect {
            Effect::Send { peer, message } => (1, [u64::from(index_of(peer)), sum_of(message)]),
            Effect::SendAll { peers, message } => {
                let peers = peers.iter().fold(0, |sum: u64, peer| sum.rotate_left(7) ^ u64::from(index_of(peer)));
                (11, [peers, sum_of(message)])
            }
            Effect::Fetch { fetch, source, units, .. } => {
                let source = if let Source::Peer(peer) = source { u64::from(index_of(peer)) } else { u64::MAX };
                (2, [fetch.0 << 32 ^ source, u64::from(units.start) << 32 | u64::from(units.end)])
            }
            Effect::Cancel { fetch } => (3, [fetch.0, 0]),
            Effect::VerifyBlob { blob } => (4, [first_word(blob), 0]),
            Effect::Recheck { blob } => (5, [first_word(blob), 0]),
            Effect::DiscardUnits { blob, .. } => (6, [first_word(blob), 0]),
            Effect::Serve { ask } => (7, [ask.0, 0]),
            Effect::RefuseNotHeld { ask } => (8, [ask.0, 0]),
            Effect::RefuseBusy { ask } => (9, [ask.0, 0]),
            Effect::Disconnect { peer } => (10, [u64::from(index_of(peer)), 0]),
        };
        self.record(device, words.0, words.1);
    }

    fn carry_out_one(&mut self, device: usize, effect: Effect) -> Verdict {
        match effect {
            Effect::Send { peer, message } => {
                self.checks.wan.says(device, &message)?;
                self.send(device, device_of(&peer), &message);
            }
            Effect::SendAll { peers, message } => {
                if let Message::Claim { span, .. } | Message::Release { span, .. } = message {
                    let verb = if matches!(message, Message::Claim { .. }) { "claims" } else { "lets go" };
                    self.note(|| format!("d{device} {verb} span {span} to {} peers", peers.len()));
                }
                self.checks.wan.says(device, &message)?;
                for peer in peers {
                    self.send(device, device_of(&peer), &message);
                }
            }
            Effect::Fetch { fetch, source, blob, units } => self.fetch(device, (fetch, source), blob, units)?,
            Effect::Cancel { fetch } => self.cancel(device, fetch),
            Effect::VerifyBlob { blob } => self.to(device, HASHING_US, Deed::Verified { blob }),
            Effect::Recheck { blob } => {
                self.checks.wan.rechecks(self.now, device, blob)?;
                self.to(device, HASHING_US, Deed::Rechecked { blob });
            }
            Effect::DiscardUnits { blob, .. } => {
                self.checks.content.discards(device, &self.library, &blob)?;
                self.checks.wan.lost(device, blob, self.library.size(&blob));
                self.devices[device].disk.discard(&blob);
                self.devices[device].wants.insert(blob, Proven::ByWhole);
                self.devices[device].disk.open(&self.library, blob, Proven::ByWhole, true);
            }
            Effect::Serve { ask } => self.serve(device, ask)?,
            Effect::RefuseNotHeld { ask } => self.refuse(device, ask, FetchEnd::NotHeld),
            Effect::RefuseBusy { ask } => self.refuse(device, ask, FetchEnd::Busy),
            Effect::Disconnect { peer } => self.disconnect(device, device_of(&peer))?,
        }
        Ok(())
    }

    fn fetch(&mut self, device: usize, (fetch, source): (FetchId, Source), blob: Digest, units: std::ops::Range<u32>) -> Verdict {
        self.checks.wan.fetches(device, fetch, source, (blob, units.start))?;
        let peer = match source {
            Source::Wan => None,
            Source::Peer(peer) => Some(device_of(&peer)),
        };
        self.devices[device].fetches.insert(fetch, OpenFetch { peer, blob, units: units.clone(), ask: None });
        let Some(peer) = peer else {
            self.note(|| format!("d{device} fetches units {units:?} of {blob} over the WAN"));
            self.ask_seed(device, fetch);
            return Ok(());
        };
        if let Some(link) = self.devices[device].links.get(&peer).copied().filter(|link| self.lan.stands(device, peer, *link)) {
            self.to(peer, self.plan.latency_us, Deed::Asked { by: device, fetch, blob, units, link });
        }
        Ok(())
    }

    fn cancel(&mut self, device: usize, fetch: FetchId) {
        self.checks.wan.fetch_over(device, fetch);
        let Some(open) = self.devices[device].fetches.remove(&fetch) else { return };
        if let (Some(peer), Some(ask)) = (open.peer, open.ask) {
            self.to(peer, self.plan.latency_us, Deed::AskEnded { ask });
        }
    }

    fn told(&mut self, device: usize, event: &Event) -> Verdict {
        self.note(|| format!("d{device} {event:?}"));
        match event {
            Event::BlobComplete { blob, .. } => self.blob_complete(device, *blob),
            Event::StorageFault { .. } | Event::HashListLied { .. } | Event::UnitRefused { .. } | Event::PeerBanned { .. } => Ok(()),
        }
    }

    /// A wanted blob is opened: whole, or with the units that are there already.
    pub(super) fn open(&mut self, index: usize, blob: Digest) -> Verdict {
        let device = &mut self.devices[index];
        let Some(proven) = device.wants.get(&blob).copied() else { return Ok(()) };
        let geometry = self.library.geometry(&blob, proven);
        match device.disk.is_sound(&blob) {
            Some(true) => {
                let proof = VerifiedBlob::simulated(blob, geometry.size());
                self.swarm_input(index, Input::Held { blob: proof, geometry })?;
                return self.agent_input(index, protocol::agent::Input::BlobStored { blob });
            }
            Some(false) => device.disk.remove(&blob),
            None if device.disk.is_full() => {
                self.to(index, OPEN_AGAIN_US, Deed::OpenAgain { blob });
                return Ok(());
            }
            None => {}
        }
        let again = self.bug != Some(SeededBug::TrustUnitMap);
        let held = self.devices[index].disk.open(&self.library, blob, proven, again);
        self.swarm_input(index, Input::Wanted { blob, geometry, held })
    }

    /// A blob is not wanted any more.
    pub(super) fn drop_blob(&mut self, device: usize, blob: Digest) -> Verdict {
        self.devices[device].wants.remove(&blob);
        if !self.devices[device].disk.has_whole(&blob) {
            self.checks.wan.lost(device, blob, self.library.size(&blob));
            self.devices[device].disk.discard(&blob);
        }
        self.swarm_input(device, Input::Dropped { blob })
    }

    /// The whole digest of a blob was checked.
    pub(super) fn verified(&mut self, device: usize, blob: Digest) -> Verdict {
        let Some(fits) = self.devices[device].disk.check_whole(&blob) else { return Ok(()) };
        if !fits {
            return self.swarm_input(device, Input::BlobMismatched { blob });
        }
        if self.devices[device].disk.is_full() {
            return self.swarm_input(device, Input::VerifyFailed { blob });
        }
        self.devices[device].disk.finish(blob);
        let proof = VerifiedBlob::simulated(blob, self.library.size(&blob));
        self.swarm_input(device, Input::BlobVerified { blob: proof })
    }

    fn blob_complete(&mut self, device: usize, blob: Digest) -> Verdict {
        self.checks.content.completed(device, &self.devices[device].disk, &blob)?;
        self.done_is_possible = true;
        self.agent_input(device, protocol::agent::Input::BlobStored { blob })?;
        self.lose_seed(device);
        Ok(())
    }

    /// A stored blob was hashed again.
    pub(super) fn rechecked(&mut self, device: usize, blob: Digest) -> Verdict {
        if self.devices[device].disk.is_sound(&blob) != Some(false) {
            return Ok(());
        }
        self.devices[device].disk.remove(&blob);
        self.checks.wan.lost(device, blob, self.library.size(&blob));
        self.checks.wan.rotted(device, &blob);
        self.swarm_input(device, Input::Rotten { blob })?;
        self.open(device, blob)
    }
}

fn sum_of(message: &Message) -> u64 {
    codec::encode(message).iter().fold(0, |sum, byte| sum.rotate_left(9) ^ u64::from(*byte))
}

fn first_word(blob: &Digest) -> u64 {
    blob.as_bytes().iter().take(8).fold(0, |word, byte| word << 8 | u64::from(*byte))
}
