//! One copy over the WAN: a window of spans at the front, one owner each by rendezvous, claimed before it is fetched; taken
//! over when the claim stalls while others progress. If every claim is slow, the WAN is slow, and nobody fetches twice.
//!
//! Not here: what comes from peers; see [`super::lan`].

use std::time::Duration;

use super::download::{Claim, Download, Stage, Unclaimed};
use super::peer_view::PeerView;
use super::{Fetch, FetchEnd, FetchId, Source, Swarm};
use crate::digest::Digest;
use crate::rendezvous;
use crate::time::Instant;
use crate::wire::Message;

impl<V: PeerView> Swarm<V> {
    /// Claims spans that fall to this node and starts the fetches of its claims that are due.
    pub(super) fn use_wan(&mut self, now: Instant) {
        self.due.wan_at = None;
        if self.downloads.is_empty() {
            return;
        }
        if now < self.wan_allowed_at() {
            self.due.wan_at = Some(self.wan_allowed_at());
            return;
        }
        self.start_due_claims(now);
        self.due.was_behind = self.is_behind();
        if self.due.was_behind {
            return;
        }
        let mut window = self.window.spans(&self.parameters);
        let (mut own, mut under_way) = (0usize, 0usize);
        for (blob, span, _) in self.own_claims() {
            own += 1;
            under_way += usize::from(self.is_half_way(blob, span));
        }
        let most = self.window.spans_of_one(self.peers.len(), &self.parameters);
        let mut room = most.saturating_sub(own - under_way.div_ceil(2));
        window *= 2;
        let mut next = self.blob_after(None);
        while let Some((size, blob)) = next {
            next = self.blob_after(Some((size, blob)));
            if room == 0 || window == 0 {
                return;
            }
            self.claim_in_window(now, blob, &mut window, &mut room);
        }
    }

    /// Before then this node fetches nothing over the WAN.
    pub(super) fn wan_allowed_at(&self) -> Instant {
        self.wan_retry_at.max(self.joined_at + self.parameters.hold_off)
    }

    /// Whether this node lacks much of what its site holds. It owns nothing then: what it fetched would wait on it, and if all
    /// are behind, the LAN is the narrow place.
    fn is_behind(&self) -> bool {
        self.downloads.values().any(|download| {
            let lacking = download.available.len() + download.in_flight.len();
            lacking > self.parameters.pulls_max && lacking as u64 * download.geometry.piece_bytes() > self.parameters.backlog_max
        })
    }

    /// Whether half of a claimed span came already: it counts half then, so that the next requests are on their way before
    /// the ones before end, which they may do all at once.
    fn is_half_way(&self, blob: &Digest, span: u32) -> bool {
        let Some(download) = self.downloads.get(blob) else { return false };
        let Some(claim) = download.claims.get(&span) else { return false };
        let bytes = match claim.stage {
            Stage::Fetching(fetch) => claim.bytes + self.fetches.get(&fetch).map_or(0, |fetch| fetch.bytes),
            Stage::Announced(_) | Stage::Foreign => claim.bytes,
        };
        let whole = download.geometry.bytes_of(download.geometry.units_of(download.geometry.pieces_of_span(span)));
        bytes >= (whole.end - whole.start) / 2
    }

    fn claim_in_window(&mut self, now: Instant, blob: Digest, window: &mut usize, room: &mut usize) {
        let ready =
            |download: &&mut Box<Download<V::Id>>| !download.verifying && download.paused_until.max(download.wan_paused_until) <= now;
        let Some(download) = self.downloads.get_mut(&blob).filter(ready) else { return };
        while download.first_open_span < download.geometry.spans() && !download.is_open(download.first_open_span) {
            download.unclaimed.remove(&download.first_open_span);
            download.first_open_span += 1;
        }
        let (first, spans, answer_by) =
            (download.first_open_span, download.geometry.spans(), download.wanted_at + self.parameters.answer_wait);
        let answered = self.may_start(now, &blob);
        if !answered {
            self.due.wan_at = Some(self.due.wan_at.map_or(answer_by, |at| at.min(answer_by)));
        }
        let mut rivals: Option<Vec<V::Id>> = None;
        for span in first..spans {
            if *room == 0 || *window == 0 {
                return;
            }
            let Some(download) = self.downloads.get_mut(&blob) else { return };
            if !download.is_open(span) {
                continue;
            }
            *window = window.saturating_sub(if self.is_half_way(&blob, span) { 1 } else { 2 });
            let Some(download) = self.downloads.get_mut(&blob) else { return };
            if download.claims.contains_key(&span) || !answered {
                continue;
            }
            let mut unclaimed = *download.unclaimed.get_or_insert_with(span, || Unclaimed::new(now));
            let due = unclaimed.due.unwrap_or_else(|| {
                let rivals = rivals.get_or_insert_with(|| self.rivals(now, &blob));
                let rank = rendezvous::rank(&blob, span, &self.me, rivals.iter());
                unclaimed.since + self.parameters.rank_step.saturating_mul(u32::try_from(rank).unwrap_or(u32::MAX))
            });
            if now >= due {
                let rivals = rivals.get_or_insert_with(|| self.rivals(now, &blob));
                self.claim(now, blob, span, !rivals.is_empty());
                *room -= 1;
            } else {
                unclaimed.due = Some(due);
                if let Some(download) = self.downloads.get_mut(&blob) {
                    download.unclaimed.insert(span, unclaimed);
                }
                self.due.wan_at = Some(self.due.wan_at.map_or(due, |at| at.min(due)));
            }
        }
    }

    /// Who is eligible may have changed: places in line are looked up anew.
    pub(super) fn forget_dues(&mut self) {
        for unclaimed in self.downloads.values_mut().flat_map(|download| download.unclaimed.values_mut()) {
            unclaimed.due = None;
        }
    }

    /// Who answered is of interest only as long as answers are waited for.
    pub(super) fn forget_answers(&mut self, now: Instant) {
        let wait = self.parameters.answer_wait;
        let waited = |download: &&mut Box<Download<V::Id>>| now >= download.wanted_at + wait;
        self.downloads.values_mut().filter(waited).for_each(|download| download.answered.clear());
    }

    /// Whether every peer said what it holds of `blob`, or had time enough to.
    fn may_start(&self, now: Instant, blob: &Digest) -> bool {
        let Some(download) = self.downloads.get(blob) else { return false };
        download.seed_only
            || now >= download.wanted_at + self.parameters.answer_wait
            || self.peers.ids().all(|peer| download.answered.contains_key(&peer))
    }

    /// The other nodes that may own spans of `blob`.
    fn rivals(&self, now: Instant, blob: &Digest) -> Vec<V::Id> {
        if self.downloads.get(blob).is_some_and(|download| download.seed_only) {
            return Vec::new();
        }
        let eligible = |id: &V::Id| self.peers.get(id).is_some_and(|peer| !peer.distrusted && peer.demoted_until <= now);
        self.peers.wanting(blob).filter(eligible).collect()
    }

    fn claim(&mut self, now: Instant, blob: Digest, span: u32, has_rivals: bool) {
        let start = if has_rivals { now + self.parameters.claim_wait } else { now };
        let claim = Claim::new(self.me, now, Stage::Announced(start));
        if let Some(download) = self.downloads.get_mut(&blob) {
            download.unclaimed.remove(&span);
            download.claims.insert(span, claim);
            download.repair_at = Instant::ZERO;
            download.roots.insert(span, self.me);
            download.places.remove(&span);
        }
        if has_rivals {
            self.due.claims_at = Some(self.due.claims_at.map_or(start, |at| at.min(start)));
            self.tell_wanting(&blob, Message::Claim { blob, span });
        } else {
            self.start_claim(now, blob, span);
        }
    }

    fn start_due_claims(&mut self, now: Instant) {
        if self.due.claims_at.is_none_or(|at| at > now) {
            return;
        }
        let due: Vec<(Digest, u32)> = self
            .own_claims()
            .filter(|(_, _, claim)| matches!(claim.stage, Stage::Announced(start) if start <= now))
            .map(|(blob, span, _)| (*blob, span))
            .collect();
        self.due.claims_at = self
            .own_claims()
            .filter_map(|(_, _, claim)| match claim.stage {
                Stage::Announced(start) if start > now => Some(start),
                Stage::Announced(_) | Stage::Fetching(_) | Stage::Foreign => None,
            })
            .min();
        for (blob, span) in due {
            self.start_claim(now, blob, span);
        }
    }

    /// Fetches the first missing run of a span that this node claimed, or lets the claim go if nothing is missing.
    fn start_claim(&mut self, now: Instant, blob: Digest, span: u32) {
        let missing = self.downloads.get(&blob).and_then(|download| download.first_missing_run(span));
        let fetch = missing.and_then(|pieces| self.start_fetch(now, Source::Wan, blob, pieces));
        let Some(fetch) = fetch else { return self.release_claim(now, blob, span) };
        if let Some(claim) = self.downloads.get_mut(&blob).and_then(|download| download.claims.get_mut(&span)) {
            claim.stage = Stage::Fetching(fetch);
        }
    }

    /// Fetches what a span still lacks after a fetch that is over.
    fn go_on_with_claim(&mut self, now: Instant, over: &Fetch<V::Id>, span: u32, restarts: u32) {
        if let Some(claim) = self.downloads.get_mut(&over.blob).and_then(|download| download.claims.get_mut(&span)) {
            claim.bytes += over.bytes;
            claim.restarts = restarts;
        }
        self.start_claim(now, *over.blob, span);
    }

    /// Makes own fetches anew that stand still while others go on.
    pub(super) fn restart_stalled(&mut self, now: Instant) {
        let (lives_since, lives_until) = (self.wan_lives_since, self.wan_progressed_at);
        let stalled: Vec<(FetchId, u32, u32)> = self
            .own_claims()
            .filter_map(|(_, span, claim)| {
                let Stage::Fetching(id) = claim.stage else { return None };
                let patience = self.parameters.wan_restart.saturating_mul(1 << claim.restarts.min(8));
                let stands = lives_until.since(self.fetches.get(&id)?.progressed_at.max(lives_since));
                (stands >= patience).then_some((id, span, claim.restarts + 1))
            })
            .collect();
        for (id, span, restarts) in stalled {
            if let Some(fetch) = self.cancel_fetch(id) {
                self.go_on_with_claim(now, &fetch, span, restarts);
            }
        }
    }

    pub(super) fn on_wan_ended(&mut self, now: Instant, fetch: &Fetch<V::Id>, end: FetchEnd) {
        match end {
            FetchEnd::Complete => {
                let Some(span) = self.span_of(fetch) else { return };
                if let Some(download) = self.downloads.get_mut(&fetch.blob) {
                    download.announce_at = download.announce_at.map(|_| Instant::ZERO);
                }
                self.go_on_with_claim(now, fetch, span, 0);
            }
            FetchEnd::Failed | FetchEnd::Busy => {
                self.back_off(now);
                self.give_up_claim(now, fetch);
            }
            FetchEnd::NotHeld => {
                if let Some(download) = self.downloads.get_mut(&fetch.blob) {
                    download.wan_paused_until = now + self.parameters.wan_retry_max;
                }
                self.give_up_claim(now, fetch);
            }
            FetchEnd::StorageFailed => self.give_up_claim(now, fetch),
            FetchEnd::Refused { .. } => {
                self.back_off(now);
                self.give_up_claim(now, fetch);
                let refusals = self.downloads.get_mut(&fetch.blob).map_or(0, |download| {
                    download.seed_refusals += 1;
                    download.seed_refusals
                });
                if refusals >= self.parameters.seed_refusals_max {
                    self.on_blob_mismatched(now, *fetch.blob);
                }
            }
        }
    }

    /// The next attempt waits longer after each failure, by a random part of the pause, so that a site does not come back
    /// to its seed all at once.
    fn back_off(&mut self, now: Instant) {
        let pause = self.parameters.wan_retry_min.saturating_mul(1 << self.wan_failures.min(16)).min(self.parameters.wan_retry_max);
        self.wan_failures += 1;
        let micros = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX);
        self.wan_retry_at = now + Duration::from_micros(micros / 2 + self.draw() % (micros / 2 + 1));
    }

    /// Lets the claim of an ended fetch go, for others to take.
    pub(super) fn give_up_claim(&mut self, now: Instant, fetch: &Fetch<V::Id>) {
        if let Some(span) = self.span_of(fetch) {
            self.release_claim(now, *fetch.blob, span);
        }
    }

    fn release_claim(&mut self, now: Instant, blob: Digest, span: u32) {
        let me = self.me;
        let Some(download) = self.downloads.get_mut(&blob) else { return };
        if download.claims.get(&span).is_some_and(|claim| claim.owner == me) {
            download.claims.remove(&span);
            if download.is_open(span) {
                download.unclaimed.insert(span, Unclaimed::new(now));
                self.tell_wanting(&blob, Message::Release { blob, span });
            }
        }
    }

    fn span_of(&self, fetch: &Fetch<V::Id>) -> Option<u32> {
        let geometry = self.downloads.get(&fetch.blob)?.geometry;
        Some(geometry.span_of_piece(geometry.piece_of_unit(fetch.units.start)))
    }

    /// Takes note that somebody's fetch over the WAN goes on.
    pub(super) fn note_wan_progress(&mut self, now: Instant) {
        if now.since(self.wan_progressed_at) >= self.parameters.wan_pause {
            self.wan_lives_since = now;
        }
        self.wan_progressed_at = now;
    }

    /// Whether a claim brought nothing for so long that it gives way to any other: its owner, or others before this node, may
    /// have seen it lapse.
    pub(super) fn stands_still(&self, now: Instant, claim: &Claim<V::Id>) -> bool {
        let progressed_at = match claim.stage {
            Stage::Fetching(fetch) => self.fetches.get(&fetch).map_or(now, |fetch| fetch.progressed_at),
            Stage::Announced(_) => now,
            Stage::Foreign => claim.progressed_at,
        };
        now.since(progressed_at) >= self.parameters.claim_stall
    }

    /// Takes note of other nodes' claims that do not progress, so that the next in line can take them over.
    pub(super) fn lapse_stalled_claims(&mut self, now: Instant) {
        let parameters = &self.parameters;
        let (lives_since, lives_until) = (self.wan_lives_since, self.wan_progressed_at);
        let alone = |claim: &Claim<V::Id>| {
            let is_told = now.since(claim.told_at) < parameters.claim_stall;
            let stall = if is_told { parameters.claim_stall_told } else { parameters.claim_stall };
            lives_until.since(claim.progressed_at.max(lives_since)) >= stall
        };
        let silent = |claim: &Claim<V::Id>| now.since(claim.progressed_at) >= parameters.claim_lapse;
        let stalled =
            |claim: &Claim<V::Id>| claim.stage == Stage::Foreign && (alone(claim) || silent(claim) || claim.trickles(now, parameters));
        for download in self.downloads.values_mut() {
            download.drop_closed_claims();
            let lapsed: Vec<(u32, V::Id)> =
                download.claims.iter().filter(|(_, claim)| stalled(claim)).map(|(span, claim)| (*span, claim.owner)).collect();
            for (span, owner) in lapsed {
                download.claims.remove(&span);
                download.unclaimed.insert(span, Unclaimed::new(now));
                if let Some(peer) = self.peers.get_mut(&owner) {
                    peer.demoted_until = now + self.parameters.demotion;
                }
            }
        }
    }

    fn own_claims(&self) -> impl Iterator<Item = (&Digest, u32, &Claim<V::Id>)> + '_ {
        self.downloads.iter().flat_map(move |(blob, download)| {
            download.claims.iter().filter(|(_, claim)| claim.is_own()).map(move |(span, claim)| (blob, *span, claim))
        })
    }
}
