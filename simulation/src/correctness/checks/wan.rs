//! Verified, of what comes over the WAN: in a run in which nothing may make a site fetch twice, one copy of each blob and a
//! little; in every run, no device fetches more of a blob than the blob and what it lost of it. While a window of fixed width
//! is untouched, nobody claims or fetches beyond it.
//!
//! Verified, of what is done at a time: fetches over the WAN, requests to peers, requests served; a stored blob is not hashed
//! again sooner than the interval allows.
//!
//! Not verified: fairness between peers, bytes of messages, a window that has moved or whose width adapts.

use std::collections::{BTreeMap, BTreeSet};

use protocol::digest::Digest;
use protocol::geometry::{SPAN_BYTES, UNIT_BYTES};
use protocol::swarm::parameters::Parameters;
use protocol::swarm::{AskId, FetchId, Source};
use protocol::wire::Message;

use crate::correctness::plan::Plan;
use crate::correctness::world::Verdict;

/// More pieces than any blob of a run has: what is said beyond is said of nothing.
const PIECES_MAX: u32 = 128;

/// Percent of a blob that a site may fetch twice although nothing goes wrong: devices that first hear of a blob at the same
/// moment may each fetch a span of it.
const TWICE_PERCENT: u64 = 10;

/// A unit that came over the WAN.
#[derive(Clone, Copy, Debug)]
pub(in crate::correctness) struct Arrived {
    pub(in crate::correctness) blob: Digest,
    pub(in crate::correctness) unit: u32,
    pub(in crate::correctness) bytes: u64,
    /// Bytes of the blob.
    pub(in crate::correctness) size: u64,
    /// Whether every device may fetch the blob for itself, because its hash list lies.
    pub(in crate::correctness) is_lied_about: bool,
}

/// Books of a run.
#[derive(Debug)]
pub(in crate::correctness) struct WanChecks {
    limits: Parameters,
    is_calm: bool,
    by_site: BTreeMap<(usize, Digest), u64>,
    by_device: BTreeMap<(usize, Digest), u64>,
    /// Bytes that devices lost of blobs, or let go.
    lost: BTreeMap<(usize, Digest), u64>,
    /// Bytes that devices lost in crashes, of whatever blob.
    crashed: Vec<u64>,
    fetches: Vec<BTreeMap<FetchId, Source>>,
    serving: Vec<BTreeSet<AskId>>,
    rechecked: Vec<BTreeMap<Digest, u64>>,
    /// Spans of which anybody at a site said or fetched anything.
    touched: BTreeMap<(usize, Digest), BTreeSet<u32>>,
    sites: Vec<usize>,
}

impl WanChecks {
    pub(super) fn new(plan: &Plan) -> Self {
        let devices = plan.devices.len();
        Self {
            limits: plan.parameters.clone(),
            is_calm: plan.is_calm(),
            by_site: BTreeMap::new(),
            by_device: BTreeMap::new(),
            lost: BTreeMap::new(),
            crashed: vec![0; devices],
            fetches: vec![BTreeMap::new(); devices],
            serving: vec![BTreeSet::new(); devices],
            rechecked: vec![BTreeMap::new(); devices],
            touched: BTreeMap::new(),
            sites: plan.devices.iter().map(|device| device.site).collect(),
        }
    }

    pub(super) fn started(&mut self, device: usize) {
        self.fetches[device].clear();
        self.serving[device].clear();
        self.rechecked[device].clear();
    }

    pub(super) fn crashed(&mut self, device: usize, units: u64) {
        self.crashed[device] += units * UNIT_BYTES;
    }

    /// A device lost so many bytes of a blob, let them go, or could not store them.
    pub(in crate::correctness) fn lost(&mut self, device: usize, blob: Digest, bytes: u64) {
        *self.lost.entry((device, blob)).or_default() += bytes;
    }

    /// A device threw a blob away that had rotted: the next time it hashes the blob is another blob's first.
    pub(in crate::correctness) fn rotted(&mut self, device: usize, blob: &Digest) {
        self.rechecked[device].remove(blob);
    }

    /// A unit came over the WAN.
    pub(in crate::correctness) fn arrived(&mut self, device: usize, unit: Arrived) -> Verdict {
        let Arrived { blob, size, bytes, .. } = unit;
        let site = self.sites[device];
        self.touched.entry((site, blob)).or_default().insert(span_of(unit.unit));
        let of_site = self.by_site.entry((site, blob)).or_default();
        *of_site += bytes;
        let of_device = self.by_device.entry((device, blob)).or_default();
        *of_device += bytes;
        let lost = self.lost.get(&(device, blob)).copied().unwrap_or(0) + self.crashed[device];
        if *of_device > size + lost {
            return Err(format!("d{device} fetched {of_device} bytes of {blob} over the WAN, which has {size}, and lost {lost} of it"));
        }
        let most = size + (size * TWICE_PERCENT / 100).max(2 * SPAN_BYTES);
        if self.is_calm && !unit.is_lied_about && *of_site > most {
            return Err(format!("site {site} fetched {of_site} bytes of {blob} over the WAN, which has {size}, though nothing went wrong"));
        }
        Ok(())
    }

    /// A device asks for units.
    pub(in crate::correctness) fn fetches(&mut self, device: usize, fetch: FetchId, source: Source, first: (Digest, u32)) -> Verdict {
        let known = &mut self.fetches[device];
        if known.insert(fetch, source).is_some() {
            return Err(format!("d{device} uses the name of {fetch:?} twice"));
        }
        let wan = known.values().filter(|source| **source == Source::Wan).count();
        let lan = known.len() - wan;
        within(device, "requests to peers", lan, self.limits.pulls_max)?;
        within(device, "fetches over the WAN", wan, 2 * self.limits.window_spans_max.max(self.limits.claims_max))?;
        if source == Source::Wan { self.in_window(device, first.0, span_of(first.1)) } else { Ok(()) }
    }

    /// A fetch ended or was stopped.
    pub(in crate::correctness) fn fetch_over(&mut self, device: usize, fetch: FetchId) {
        self.fetches[device].remove(&fetch);
    }

    /// A device serves a request.
    pub(in crate::correctness) fn serving(&mut self, device: usize, ask: AskId) -> Verdict {
        if !self.serving[device].insert(ask) {
            return Err(format!("d{device} serves {ask:?} twice"));
        }
        within(device, "requests served", self.serving[device].len(), self.limits.uploads_max)
    }

    /// A request is over.
    pub(in crate::correctness) fn ask_over(&mut self, device: usize, ask: AskId) {
        self.serving[device].remove(&ask);
    }

    /// A device hashes a stored blob again.
    pub(in crate::correctness) fn rechecks(&mut self, now: u64, device: usize, blob: Digest) -> Verdict {
        let interval = u64::try_from(self.limits.recheck_interval.as_micros()).unwrap_or(u64::MAX);
        match self.rechecked[device].insert(blob, now) {
            Some(before) if now - before < interval => {
                Err(format!("d{device} hashes {blob} again {} s after the last time", (now - before) / 1_000_000))
            }
            _ => Ok(()),
        }
    }

    /// An honest device says something.
    pub(in crate::correctness) fn says(&mut self, device: usize, message: &Message) -> Verdict {
        if let Message::Claim { blob, span } = message {
            self.in_window(device, *blob, *span)?;
        }
        self.heard(device, message);
        Ok(())
    }

    /// Somebody says something.
    pub(in crate::correctness) fn heard(&mut self, device: usize, message: &Message) {
        let site = self.sites[device];
        match message {
            Message::Have { blob, pieces } | Message::Holding { blob, pieces, .. } => {
                let touched = self.touched.entry((site, *blob)).or_default();
                for pieces in pieces {
                    touched.extend((pieces.start..pieces.end.min(PIECES_MAX)).map(span_of));
                }
            }
            Message::Progress { claims } => {
                for claim in claims.iter().filter(|claim| claim.bytes > 0) {
                    self.touched.entry((site, claim.blob)).or_default().insert(claim.span);
                }
            }
            _ => {}
        }
    }

    /// Whether a device may claim or fetch a span, where only the first few untouched ones are in the window.
    fn in_window(&self, device: usize, blob: Digest, span: u32) -> Verdict {
        if self.limits.window_spans != self.limits.window_spans_max {
            return Ok(());
        }
        let touched = self.touched.get(&(self.sites[device], blob));
        let before = (0..span).filter(|span| touched.is_none_or(|touched| !touched.contains(span))).count();
        if before < self.limits.window_spans {
            return Ok(());
        }
        Err(format!("d{device} takes span {span} of {blob}, beyond a window of {} spans", self.limits.window_spans))
    }
}

/// The span that a unit, or a piece, of a blob is part of: blobs of a run are small, so that a piece is a unit.
fn span_of(unit: u32) -> u32 {
    unit / (SPAN_BYTES / UNIT_BYTES) as u32
}

fn within(device: usize, what: &str, count: usize, limit: usize) -> Verdict {
    if count <= limit { Ok(()) } else { Err(format!("d{device} has {count} {what}, more than {limit}")) }
}
