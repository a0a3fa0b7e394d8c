//! What peers are told, and what is believed of what they say: hints only, and never more of them than is wanted here.
//!
//! Not here: what follows from it; see [`super::lan`] and [`super::wan`].

use super::download::{Claim, Download, Stage, Unclaimed};
use super::peer_view::PeerView;
use super::{Effect, Fetch, Source, Swarm};
use crate::bits::Bits;
use crate::digest::Digest;
use crate::rendezvous;
use crate::time::Instant;
use crate::wire::limits::CLAIMS_MAX;
use crate::wire::{ClaimProgress, Message, PieceRange, piece_ranges};

impl<V: PeerView> Swarm<V> {
    pub(super) fn on_peer_joined(&mut self, now: Instant, id: V::Id) {
        if self.banned_until(now, id).is_some() {
            self.effects.push_back(Effect::Disconnect { peer: id });
            return;
        }
        self.peers.add(id);
        let wanted: Vec<Digest> = self.downloads.iter().filter(|(_, download)| !download.seed_only).map(|(blob, _)| *blob).collect();
        for blob in wanted {
            self.tell(id, Message::Interest { blob });
        }
    }

    pub(super) fn on_peer_left(&mut self, now: Instant, id: V::Id) {
        if !self.peers.remove(&id) {
            return;
        }
        self.view.forget_peer(id);
        self.interest.forget(&id);
        for ask in self.uploads.forget(id) {
            self.effects.push_back(Effect::RefuseBusy { ask });
        }
        for fetch in self.fetches_from(id) {
            self.cancel_fetch(fetch);
        }
        for download in self.downloads.values_mut() {
            download.answered.remove(&id);
        }
        self.forget_source(now, id);
    }

    /// What a peer claimed is free, and what it holds is to be seen anew.
    pub(super) fn forget_source(&mut self, now: Instant, id: V::Id) {
        let blobs: Vec<Digest> = self.downloads.keys().copied().collect();
        for blob in blobs {
            self.plant_anew(&blob);
            self.survey_site(blob);
            self.drop_claims(now, id, blob);
        }
    }

    fn drop_claims(&mut self, now: Instant, owner: V::Id, blob: Digest) {
        let Some(download) = self.downloads.get_mut(&blob) else { return };
        let dropped = download.claims.extract(|_, claim| claim.owner == owner);
        download.unclaimed.extend(dropped.map(|(span, _)| (span, Unclaimed::new(now))));
    }

    pub(super) fn on_message(&mut self, now: Instant, from: V::Id, message: &Message) {
        if !self.peers.contains(&from) {
            return;
        }
        if !matches!(message, Message::Have { .. } | Message::Progress { .. }) {
            self.look_at_everything();
        }
        match *message {
            Message::Hello { .. } | Message::Peers { .. } => {}
            Message::Interest { blob } => self.answer_interest(from, blob),
            Message::Holding { blob, wanted, ref pieces } => {
                if wanted {
                    self.note_wants(from, blob);
                }
                let wait = self.parameters.answer_wait;
                if let Some(download) = self.downloads.get_mut(&blob).filter(|download| now < download.wanted_at + wait) {
                    download.answered.insert(from, ());
                }
                self.note_pieces(now, from, blob, pieces);
            }
            Message::Have { blob, ref pieces } => self.note_pieces(now, from, blob, pieces),
            Message::Claim { blob, span } => self.note_claim(now, from, blob, span),
            Message::Release { blob, span } => {
                if let Some(download) = self.downloads.get_mut(&blob)
                    && download.claims.get(&span).is_some_and(|claim| claim.owner == from)
                {
                    download.claims.remove(&span);
                    download.unclaimed.insert(span, Unclaimed::new(now));
                }
            }
            Message::Progress { ref claims } => self.note_progress(now, from, claims),
            Message::Refused { blob, unit: _ } => self.on_accused(now, blob),
            Message::Mended { blob } => {
                self.view.forget_blob(from, &blob);
                self.on_mended(now, from);
                self.survey_site(blob);
            }
            Message::Dropped { blob } => {
                self.view.forget_blob(from, &blob);
                self.drop_claims(now, from, blob);
                self.survey_site(blob);
            }
        }
    }

    fn answer_interest(&mut self, from: V::Id, blob: Digest) {
        let (wanted, pieces) = match (self.held.get(&blob), self.downloads.get(&blob)) {
            (Some(geometry), _) => (false, Bits::full(geometry.pieces())),
            (None, Some(download)) => (!download.seed_only, download.pieces.clone()),
            (None, None) => (false, Bits::new(0)),
        };
        if pieces.length() > 0 {
            self.note_wants(from, blob);
            self.tell_claims(from, blob);
        } else {
            self.interest.note(from, blob);
        }
        let mut parts = piece_ranges(&pieces).into_iter();
        self.tell(from, Message::Holding { blob, wanted, pieces: parts.next().unwrap_or_default() });
        for pieces in parts {
            self.tell(from, Message::Have { blob, pieces });
        }
    }

    /// Tells those who asked for a blob before anything of it was known here.
    pub(super) fn answer_earlier_interest(&mut self, blob: Digest) {
        for peer in self.interest.take(&blob) {
            self.answer_interest(peer, blob);
        }
    }

    /// A newcomer must know what is being fetched already before it hears that it may start, or it would fetch it twice.
    fn tell_claims(&mut self, to: V::Id, blob: Digest) {
        let Some(download) = self.downloads.get(&blob) else { return };
        let own: Vec<u32> = download.claims.iter().filter(|(_, claim)| claim.is_own()).map(|(span, _)| *span).collect();
        for span in own {
            self.tell(to, Message::Claim { blob, span });
        }
    }

    fn note_wants(&mut self, from: V::Id, blob: Digest) {
        if !self.downloads.contains_key(&blob) {
            return;
        }
        if self.peers.note_wants(&from, blob) {
            self.plant_anew(&blob);
        }
    }

    fn note_pieces(&mut self, now: Instant, from: V::Id, blob: Digest, pieces: &[PieceRange]) {
        let usable = self.peers.of(&from).is_usable(&self.parameters, &blob);
        let Some(download) = self.downloads.get_mut(&blob).filter(|download| !download.seed_only) else { return };
        let count = download.geometry.pieces();
        let (mut wan_lives, mut is_news, mut closes) = (false, false, false);
        for range in pieces.iter().filter(|range| range.start < count) {
            let range = range.start..range.end.min(count);
            for piece in range.clone() {
                let span = download.geometry.span_of_piece(piece);
                let is_new = !download.on_site.contains(piece);
                if is_new {
                    is_news = true;
                    let bytes = download.geometry.bytes_of(download.geometry.units_of(piece..piece + 1));
                    self.window.note_bytes(bytes.end - bytes.start);
                }
                if usable {
                    download.note_available(piece, now);
                    closes |= is_new && !download.is_open(span);
                }
                if let Some(claim) = download.claims.get_mut(&span).filter(|claim| claim.owner == from)
                    && !self.view.holds(from, &blob, piece)
                {
                    let bytes = download.geometry.bytes_of(download.geometry.units_of(piece..piece + 1));
                    claim.announced += bytes.end - bytes.start;
                    claim.progressed_at = now;
                    wan_lives = true;
                }
            }
            self.view.record(from, &blob, range, count);
        }
        for range in pieces.iter().filter(|range| usable && range.start < count) {
            self.note_offers(blob, range.start..range.end.min(count));
        }
        if wan_lives {
            self.note_wan_progress(now);
        }
        if is_news && usable && self.peers.of(&from).demoted_until > now {
            self.peers.get_mut(&from).into_iter().for_each(|peer| peer.demoted_until = Instant::ZERO);
        }
        if closes && let Some(download) = self.downloads.get_mut(&blob) {
            download.drop_closed_claims();
            self.due.wan = true;
        }
        self.cancel_superseded(now, blob);
    }

    /// Stops own WAN fetches of pieces that by now a peer holds.
    fn cancel_superseded(&mut self, now: Instant, blob: Digest) {
        let superseded: Vec<_> = self.fetches.iter().filter(|(_, fetch)| self.is_superseded(&blob, fetch)).map(|(id, _)| *id).collect();
        for id in superseded {
            if let Some(fetch) = self.cancel_fetch(id) {
                self.give_up_claim(now, &fetch);
            }
        }
    }

    fn is_superseded(&self, blob: &Digest, fetch: &Fetch<V::Id>) -> bool {
        if fetch.source != Source::Wan || *fetch.blob != *blob {
            return false;
        }
        let Some(download) = self.downloads.get(blob) else { return false };
        fetch.units.clone().filter(|unit| !download.units.contains(*unit)).all(|unit| {
            let piece = download.geometry.piece_of_unit(unit);
            download.on_site.contains(piece)
        })
    }

    fn note_claim(&mut self, now: Instant, from: V::Id, blob: Digest, span: u32) {
        let me = self.me;
        let demoted = self.peers.get(&from).is_none_or(|peer| peer.distrusted || peer.demoted_until > now);
        if demoted || self.claims_of(from) >= self.parameters.foreign_claims_max {
            return;
        }
        let Some(download) = self.downloads.get(&blob).filter(|download| span < download.geometry.spans()) else { return };
        let is_taken_over = download.claims.get(&span).is_some_and(|claim| self.stands_still(now, claim));
        let theirs = rendezvous::weight(&blob, span, &from);
        let stands = match download.claims.get(&span) {
            Some(claim) if claim.owner == from => false,
            Some(_) if is_taken_over => true,
            Some(claim) if theirs <= rendezvous::weight(&blob, span, &claim.owner) => false,
            Some(Claim { stage: Stage::Fetching(fetch), .. }) => self.fetches.get(fetch).is_none_or(|fetch| {
                let span = download.geometry.bytes_of(fetch.units.clone());
                fetch.bytes < (span.end - span.start) / 2
            }),
            None | Some(_) => true,
        };
        if !stands {
            return;
        }
        let yielded = download.claims.get(&span).and_then(|claim| match claim.stage {
            Stage::Fetching(fetch) => Some(fetch),
            Stage::Announced(_) | Stage::Foreign => None,
        });
        if let Some(fetch) = yielded {
            self.cancel_fetch(fetch);
        }
        let Some(download) = self.downloads.get_mut(&blob) else { return };
        let foreign = Claim::new(from, now, Stage::Foreign);
        download.roots.insert(span, from);
        download.places.remove(&span);
        let loser = download.claims.insert(span, foreign).map(|claim| claim.owner);
        download.unclaimed.remove(&span);
        download.repair_at = Instant::ZERO;
        let pieces = download.geometry.pieces_of_span(span);
        self.note_offers(blob, pieces);
        if loser == Some(me) {
            self.tell_wanting(&blob, Message::Release { blob, span });
        } else if let Some(loser) = loser.filter(|_| is_taken_over).and_then(|loser| self.peers.get_mut(&loser)) {
            loser.demoted_until = now + self.parameters.demotion;
        }
    }

    fn claims_of(&self, owner: V::Id) -> usize {
        self.downloads.values().flat_map(|download| download.claims.values()).filter(|claim| claim.owner == owner).count()
    }

    fn note_progress(&mut self, now: Instant, from: V::Id, progress: &[ClaimProgress]) {
        let (mut wan_lives, mut is_half_way) = (false, false);
        for told in progress {
            let Some(download) = self.downloads.get_mut(&told.blob) else { continue };
            let span = download.geometry.bytes_of(download.geometry.units_of(download.geometry.pieces_of_span(told.span)));
            let bytes = told.bytes.min(span.end - span.start);
            let Some(claim) = download.claims.get_mut(&told.span).filter(|claim| claim.owner == from) else { continue };
            claim.told_at = now;
            if bytes > claim.bytes {
                let half = (span.end - span.start) / 2;
                is_half_way |= claim.bytes < half && bytes >= half;
                claim.bytes = bytes;
                claim.progressed_at = now;
                wan_lives = true;
            }
        }
        if wan_lives {
            self.note_wan_progress(now);
        }
        self.due.wan |= is_half_way;
    }

    pub(super) fn tell_progress(&mut self) {
        let mut own = Vec::new();
        for (blob, download) in &self.downloads {
            for (span, claim) in &download.claims {
                if let Stage::Fetching(fetch) = claim.stage {
                    let bytes = claim.bytes + self.fetches.get(&fetch).map_or(0, |fetch| fetch.bytes);
                    own.push(ClaimProgress { blob: *blob, span: *span, bytes });
                }
            }
        }
        own.truncate(CLAIMS_MAX);
        let mut listeners: Vec<V::Id> = Vec::new();
        for claims in own.chunk_by(|one, other| one.blob == other.blob) {
            listeners.extend(self.peers.wanting(&claims[0].blob));
        }
        listeners.sort_unstable();
        listeners.dedup();
        self.tell_each(listeners, Message::Progress { claims: own });
    }

    /// Announces new pieces whose gathering time is over.
    pub(super) fn announce(&mut self, now: Instant) {
        let mut due = Vec::new();
        for (blob, download) in &mut self.downloads {
            if download.announce_at.take_if(|at| *at <= now).is_some() {
                let length = download.unannounced.length();
                due.push((*blob, std::mem::replace(&mut download.unannounced, Bits::new(length))));
            }
        }
        for (blob, pieces) in due {
            self.tell_pieces(blob, &pieces);
        }
    }

    /// Tells new pieces to this node's children in the trees of their spans, at once.
    pub(super) fn offer(&mut self) {
        let fresh = |(blob, download): (&Digest, &mut Box<Download<V::Id>>)| {
            (!download.unoffered.is_empty()).then(|| (*blob, std::mem::take(&mut download.unoffered)))
        };
        let fresh: Vec<(Digest, Vec<u32>)> = self.downloads.iter_mut().filter_map(fresh).collect();
        for (blob, pieces) in fresh {
            for piece in &pieces {
                let Some(children) = self.place(&blob, *piece).map(|place| place.children) else { continue };
                let children: Vec<V::Id> = children.into_iter().flatten().collect();
                self.tell_each(children, Message::Have { blob, pieces: vec![PieceRange { start: *piece, end: *piece + 1 }] });
            }
            if let Some(download) = self.downloads.get_mut(&blob) {
                download.fell_whole_trees(&pieces);
            }
        }
    }

    pub(super) fn tell_pieces(&mut self, blob: Digest, pieces: &Bits) {
        for pieces in piece_ranges(pieces) {
            self.tell_wanting(&blob, Message::Have { blob, pieces });
        }
    }

    pub(super) fn tell_wanting(&mut self, blob: &Digest, message: Message) {
        self.tell_each(self.peers.wanting(blob).collect(), message);
    }

    pub(super) fn tell_all(&mut self, message: Message) {
        self.tell_each(self.peers.ids().collect(), message);
    }

    fn tell_each(&mut self, peers: Vec<V::Id>, message: Message) {
        match *peers {
            [] => {}
            [peer] => self.tell(peer, message),
            _ => self.effects.push_back(Effect::SendAll { peers, message }),
        }
    }

    pub(super) fn tell(&mut self, peer: V::Id, message: Message) {
        self.effects.push_back(Effect::Send { peer, message });
    }
}
