//! Requests, and the units that come of them: each is checked, stored, and only then told to the machine.
//!
//! Not here: who asks whom for what; the machines decide that.

use std::ops::Range;

use protocol::digest::Digest;
use protocol::swarm::{AskId, FetchEnd, FetchId, Input};
use protocol::verify::UnitProof;

use super::{Deed, Verdict, World};
use crate::correctness::checks::wan::Arrived;
use crate::correctness::content::Tag;
use crate::correctness::device::OpenAsk;
use crate::correctness::seeded::SeededBug;

/// Of a thousand requests over the WAN, so many fail where the plan says so.
const WAN_FAILED_PERMILLE: u64 = 60;

/// How long a unit that is stored before its check goes unchecked, under the bug of that name.
const CHECKED_LATE_US: u64 = 200_000;

/// The WAN of a site: units come over it one after the other.
#[derive(Clone, Debug)]
pub(in crate::correctness) struct Wan {
    pub(in crate::correctness) is_up: bool,
    /// Blobs do not come any more, though the seed answers.
    pub(in crate::correctness) has_no_blobs: bool,
    free_at: u64,
    /// Requests that wait for the WAN to come back, with the lives of the devices.
    waiting: Vec<(usize, u32, FetchId)>,
}

impl Default for Wan {
    fn default() -> Self {
        Self { is_up: true, has_no_blobs: false, free_at: 0, waiting: Vec::new() }
    }
}

impl World {
    /// A request over the WAN is sent.
    pub(super) fn ask_seed(&mut self, device: usize, fetch: FetchId) {
        let fails = self.plan.kinds.wan_failures && !self.healed && self.draws.chance(WAN_FAILED_PERMILLE);
        let site = self.devices[device].plan.site;
        if fails || self.wans[site].has_no_blobs {
            self.to(device, self.plan.wan_rtt_us, Deed::WanFailed { fetch });
        } else {
            self.next_wan_unit(device, fetch, self.plan.wan_rtt_us);
        }
    }

    fn next_wan_unit(&mut self, device: usize, fetch: FetchId, after: u64) {
        let site = self.devices[device].plan.site;
        let wan = &mut self.wans[site];
        if wan.is_up {
            let at = (self.now + after).max(wan.free_at) + self.plan.wan_unit_us;
            wan.free_at = at;
            self.to(device, at - self.now, Deed::WanUnit { fetch });
        } else {
            wan.waiting.push((device, self.devices[device].life, fetch));
        }
    }

    /// A site's WAN is cut.
    pub(in crate::correctness) fn cut_wan(&mut self, site: usize) {
        self.wans[site].is_up = false;
    }

    /// A site's WAN comes back, and with it what was on its way.
    pub(in crate::correctness) fn mend_wan(&mut self, site: usize) {
        self.wans[site].is_up = true;
        self.wans[site].free_at = self.now;
        for (device, life, fetch) in std::mem::take(&mut self.wans[site].waiting) {
            if self.devices[device].life == life && self.devices[device].fetches.contains_key(&fetch) {
                self.next_wan_unit(device, fetch, 0);
            }
        }
    }

    pub(super) fn wan_unit(&mut self, device: usize, fetch: FetchId) -> Verdict {
        let is_up = self.wans[self.devices[device].plan.site].is_up;
        let Some(open) = self.devices[device].fetches.get_mut(&fetch) else { return Ok(()) };
        if !is_up {
            self.next_wan_unit(device, fetch, 0);
            return Ok(());
        }
        let Some(unit) = open.units.next() else { return Ok(()) };
        let (blob, more) = (open.blob, !open.units.is_empty());
        let unit_bytes =
            self.devices[device].disk.proven(&blob).map(|proven| self.library.geometry(&blob, proven).bytes_of(unit..unit + 1));
        let bytes = unit_bytes.map_or(0, |bytes| bytes.end - bytes.start);
        let (size, is_lied_about) = (self.library.size(&blob), self.library.is_lied_about(&blob));
        self.checks.wan.arrived(device, Arrived { blob, unit, bytes, size, is_lied_about })?;
        self.unit_came(device, fetch, blob, (unit, Tag::Right))?;
        if more {
            self.next_wan_unit(device, fetch, 0);
        }
        Ok(())
    }

    /// A request of a peer arrives.
    pub(super) fn asked(&mut self, device: usize, (by, fetch, link): (usize, FetchId, u32), blob: Digest, units: Range<u32>) -> Verdict {
        if self.devices[device].links.get(&by) != Some(&link) {
            return Ok(());
        }
        let ask = AskId(self.devices[device].next_ask);
        self.devices[device].next_ask += 1;
        if let Some(open) = self.devices[by].fetches.get_mut(&fetch) {
            open.ask = Some(ask);
        } else if self.devices[by].is_honest() {
            // The request was given up on its way: its stream is reset, which a frozen device sees late.
            self.to(device, self.plan.latency_us, Deed::AskEnded { ask });
        }
        if !self.devices[device].is_honest() {
            self.hostile_asked(device, (by, fetch));
            return Ok(());
        }
        self.devices[device].asks.insert(ask, OpenAsk { by, fetch });
        let peer = self.devices[by].id;
        self.swarm_input(device, Input::Asked { peer, ask, blob, units })
    }

    pub(super) fn ask_ended(&mut self, device: usize, ask: AskId) -> Verdict {
        if self.devices[device].asks.remove(&ask).is_none() {
            return Ok(());
        }
        self.checks.wan.ask_over(device, ask);
        self.swarm_input(device, Input::AskEnded { ask })
    }

    /// The machine wants a request served.
    pub(super) fn serve(&mut self, device: usize, ask: AskId) -> Verdict {
        self.checks.wan.serving(device, ask)?;
        let Some(OpenAsk { by, fetch }) = self.devices[device].asks.get(&ask).copied() else { return Ok(()) };
        if self.devices[by].is_honest() {
            self.to(by, self.plan.latency_us + self.plan.lan_unit_us, Deed::LanUnit { fetch });
        } else {
            self.to(device, 50 * self.plan.lan_unit_us, Deed::AskEnded { ask });
        }
        Ok(())
    }

    pub(super) fn refuse(&mut self, device: usize, ask: AskId, end: FetchEnd) {
        let Some(OpenAsk { by, fetch }) = self.devices[device].asks.remove(&ask) else { return };
        self.to(by, self.plan.latency_us, Deed::FetchRefused { fetch, end });
    }

    /// The next unit of a request to a peer comes, if the connection and what the peer holds are still there.
    pub(super) fn lan_unit(&mut self, device: usize, fetch: FetchId) -> Verdict {
        let Some(peer) = self.devices[device].fetches.get(&fetch).and_then(|open| open.peer) else { return Ok(()) };
        if self.devices[device].links.get(&peer).is_none_or(|number| !self.lan.stands(device, peer, *number)) {
            return Ok(());
        }
        let Some(open) = self.devices[device].fetches.get_mut(&fetch) else { return Ok(()) };
        let Some(unit) = open.units.next() else { return Ok(()) };
        let (blob, more, ask) = (open.blob, !open.units.is_empty(), open.ask);
        let Some(tag) = self.sent_by(peer, &blob, unit)? else {
            self.after_ask(peer, ask);
            return self.end_fetch(device, fetch, FetchEnd::Failed);
        };
        let serving = self.devices[peer].asks.len().max(1) as u64;
        self.unit_came(device, fetch, blob, (unit, tag))?;
        if more && self.devices[device].fetches.contains_key(&fetch) {
            self.to(device, self.plan.lan_unit_us * serving, Deed::LanUnit { fetch });
        } else if !more {
            self.after_ask(peer, ask);
        }
        Ok(())
    }

    fn after_ask(&mut self, peer: usize, ask: Option<AskId>) {
        if let Some(ask) = ask {
            self.to(peer, self.plan.latency_us, Deed::AskEnded { ask });
        }
    }

    /// What a peer sends as a unit; none if it has not got it.
    fn sent_by(&mut self, peer: usize, blob: &Digest, unit: u32) -> Result<Option<Tag>, String> {
        if !self.devices[peer].is_honest() {
            return Ok(self.hostile_unit(peer));
        }
        let Some(tag) = self.devices[peer].disk.read(blob, unit) else { return Ok(None) };
        if self.devices[peer].slips > 0 {
            self.devices[peer].slips -= 1;
            return Ok(Some(Tag::Wrong));
        }
        self.checks.content.relayed(peer, &self.devices[peer].disk, &self.library, (blob, unit), tag)?;
        Ok(Some(tag))
    }

    /// A unit came: it is checked, stored if it is right, and the machine is told.
    fn unit_came(&mut self, device: usize, fetch: FetchId, blob: Digest, (unit, tag): (u32, Tag)) -> Verdict {
        let Some(proven) = self.devices[device].disk.proven(&blob) else {
            return self.end_fetch(device, fetch, FetchEnd::StorageFailed);
        };
        let fits = tag == self.library.expected(&blob, proven, unit);
        let bytes = self.library.geometry(&blob, proven).bytes_of(unit..unit + 1);
        let bytes = bytes.end - bytes.start;
        match self.bug {
            Some(SeededBug::SkipUnitCheck) => {}
            Some(SeededBug::StoreBeforeCheck) => self.to(device, CHECKED_LATE_US, Deed::CheckedLate { fetch, blob, unit }),
            _ if fits => {}
            _ => {
                self.checks.wan.lost(device, blob, bytes);
                return self.end_fetch(device, fetch, FetchEnd::Refused { unit });
            }
        }
        if !self.devices[device].disk.write(blob, unit, tag) {
            self.checks.wan.lost(device, blob, bytes);
            return self.end_fetch(device, fetch, FetchEnd::StorageFailed);
        }
        self.checks.content.stored(device, &self.library, (&blob, proven), unit, tag)?;
        self.swarm_input(device, Input::UnitStored { fetch, proof: UnitProof::simulated(blob, unit) })?;
        if self.devices[device].fetches.get(&fetch).is_some_and(|open| open.units.is_empty()) {
            return self.end_fetch(device, fetch, FetchEnd::Complete);
        }
        Ok(())
    }

    /// A unit that was stored already is checked: what nobody should do in this order.
    pub(super) fn checked_late(&mut self, device: usize, fetch: FetchId, blob: Digest, unit: u32) -> Verdict {
        let Some(proven) = self.devices[device].disk.proven(&blob) else { return Ok(()) };
        let tag = self.devices[device].disk.read(&blob, unit);
        if tag.is_none_or(|tag| tag == self.library.expected(&blob, proven, unit)) {
            return Ok(());
        }
        self.devices[device].disk.unwrite(&blob, unit);
        self.end_fetch(device, fetch, FetchEnd::Refused { unit })
    }

    /// A fetch ends, and the machine is told; the peer that served it as well.
    pub(super) fn end_fetch(&mut self, device: usize, fetch: FetchId, end: FetchEnd) -> Verdict {
        let Some(open) = self.devices[device].fetches.remove(&fetch) else { return Ok(()) };
        if let (Some(peer), true) = (open.peer, matches!(end, FetchEnd::Refused { .. } | FetchEnd::StorageFailed)) {
            self.after_ask(peer, open.ask);
        }
        self.checks.wan.fetch_over(device, fetch);
        self.swarm_input(device, Input::FetchEnded { fetch, end })
    }
}
