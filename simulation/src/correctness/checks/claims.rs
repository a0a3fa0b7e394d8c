//! Verified: a claim that its owner let go, or whose owner is gone, does not stand; one without progress does not stand for
//! longer than the time it lapses in, by what the device itself was told.
//!
//! Not verified: that a claim is not taken over too early, which shows in what comes over the WAN ([`super::wan`]); that the
//! first in line claims, on which all depends only for speed.

use std::collections::BTreeMap;

use protocol::digest::Digest;
use protocol::name::NodeId;
use protocol::wire::Message;

use crate::correctness::plan::Plan;
use crate::correctness::world::Verdict;
use crate::node_ids::index_of;

/// A claim may stand a little longer than it lapses in: machines look at them once a tick.
const SLACK_US: u64 = 1_000_000;

/// A claim, as a device heard of it.
#[derive(Clone, Copy, Debug)]
struct Heard {
    progressed_at: u64,
    bytes: u64,
}

type Key = (usize, Digest, u32);

/// What devices were told of claims: by device, then by owner, blob and span.
#[derive(Debug)]
pub(in crate::correctness) struct ClaimChecks {
    heard: Vec<BTreeMap<Key, Heard>>,
    lapse_us: u64,
}

impl ClaimChecks {
    pub(super) fn new(plan: &Plan) -> Self {
        let lapse = plan.parameters.claim_lapse + plan.parameters.tick;
        let lapse_us = u64::try_from(lapse.as_micros()).unwrap_or(u64::MAX) + SLACK_US;
        Self { heard: vec![BTreeMap::new(); plan.devices.len()], lapse_us }
    }

    pub(super) fn started(&mut self, device: usize) {
        self.heard[device].clear();
    }

    /// A device no longer is connected with another.
    pub(in crate::correctness) fn unlinked(&mut self, device: usize, peer: usize) {
        self.heard[device].retain(|(owner, _, _), _| *owner != peer);
    }

    /// A device heard something.
    pub(in crate::correctness) fn received(&mut self, now: u64, device: usize, from: usize, message: &Message) {
        let heard = &mut self.heard[device];
        match message {
            Message::Claim { blob, span } => {
                heard.entry((from, *blob, *span)).or_insert(Heard { progressed_at: now, bytes: 0 });
            }
            Message::Release { blob, span } => {
                heard.remove(&(from, *blob, *span));
            }
            Message::Dropped { blob } => heard.retain(|(owner, known, _), _| (*owner, known) != (from, blob)),
            Message::Progress { claims } => {
                for told in claims {
                    if let Some(claim) = heard.get_mut(&(from, told.blob, told.span)).filter(|claim| told.bytes > claim.bytes) {
                        *claim = Heard { progressed_at: now, bytes: told.bytes };
                    }
                }
            }
            Message::Have { blob, .. } | Message::Holding { blob, .. } => {
                for (_, claim) in heard.range_mut((from, *blob, 0)..=(from, *blob, u32::MAX)) {
                    claim.progressed_at = now;
                }
            }
            _ => {}
        }
    }

    /// The claims that a device knows after it heard that `from` let one go.
    pub(in crate::correctness) fn released(
        &self,
        (device, from): (usize, usize),
        owner: NodeId,
        (blob, span): (Digest, u32),
        claims: impl Iterator<Item = (Digest, u32, NodeId)>,
    ) -> Verdict {
        let mut claims = claims;
        if claims.any(|claim| claim == (blob, span, owner)) {
            return Err(format!("d{device} keeps d{from}'s claim of span {span} of {blob}, which d{from} let go"));
        }
        Ok(())
    }

    /// The claims that a device knows once it has looked for those that lapsed.
    pub(in crate::correctness) fn lapse(
        &mut self,
        now: u64,
        device: usize,
        claims: impl Iterator<Item = (Digest, u32, NodeId)>,
    ) -> Verdict {
        let heard = &mut self.heard[device];
        let mut standing = BTreeMap::new();
        for (blob, span, owner) in claims {
            let owner = usize::try_from(index_of(&owner)).unwrap_or(usize::MAX);
            let Some(claim) = heard.get(&(owner, blob, span)).filter(|_| owner != device) else { continue };
            if now - claim.progressed_at > self.lapse_us {
                let seconds = (now - claim.progressed_at) / 1_000_000;
                return Err(format!("d{device} keeps d{owner}'s claim of span {span} of {blob}, without progress for {seconds} s"));
            }
            standing.insert((owner, blob, span), *claim);
        }
        *heard = standing;
        Ok(())
    }
}
