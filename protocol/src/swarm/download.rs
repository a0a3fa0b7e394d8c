//! One wanted blob: what of it is here, on the site, in flight and claimed.
//!
//! Not here: which peer or span is chosen; see [`super::lan`] and [`super::wan`].

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::parameters::Parameters;
use super::tree::Place;
use super::{FetchId, Source};
use crate::bits::Bits;
use crate::digest::Digest;
use crate::geometry::Geometry;
use crate::name::Identity;
use crate::sorted_map::SortedMap;
use crate::time::Instant;

/// A blob on its way.
#[derive(Clone, Debug)]
pub(super) struct Download<I> {
    pub(super) blob: Arc<Digest>,
    pub(super) geometry: Geometry,
    /// Verified units that are stored here.
    pub(super) units: Bits,
    /// Pieces all of whose units are stored here.
    pub(super) pieces: Bits,
    /// Pieces that this node or a usable peer holds: these need no WAN.
    pub(super) on_site: Bits,
    /// Pieces that a usable peer holds, that are missing here and not in flight, and since when that is known.
    pub(super) available: BTreeMap<u32, Instant>,
    /// Those of them that this node's parent in the span's tree holds.
    pub(super) offered: BTreeSet<u32>,
    /// Who brings each span over the WAN: the root of its tree.
    pub(super) roots: SortedMap<u32, I>,
    /// This node's places in the trees of spans, as far as they were asked for; empty again when who wants the blob changes.
    pub(super) places: SortedMap<u32, Place<I>>,
    /// Whether they were emptied since parents were last looked at.
    pub(super) trees_changed: bool,
    /// Missing pieces on their way, and the fetch that brings each.
    pub(super) in_flight: SortedMap<u32, FetchId>,
    /// Who fetches which span over the WAN.
    pub(super) claims: SortedMap<u32, Claim<I>>,
    /// Spans at the front that are seen without a claim.
    pub(super) unclaimed: SortedMap<u32, Unclaimed>,
    /// Spans before this one are on the site.
    pub(super) first_open_span: u32,
    /// Peers that said what they hold, while others are waited for.
    pub(super) answered: SortedMap<I, ()>,
    /// When the blob was first wanted.
    pub(super) wanted_at: Instant,
    /// Pieces that came since children were told.
    pub(super) unoffered: Vec<u32>,
    /// Pieces not yet announced to all, and when they will be.
    pub(super) unannounced: Bits,
    pub(super) announce_at: Option<Instant>,
    /// No piece is old enough before then to be pulled from another than the parent.
    pub(super) repair_at: Instant,
    /// Only the seed is asked, front to back, because the hash list lied.
    pub(super) seed_only: bool,
    /// Nothing is fetched or checked before then: the disk failed.
    pub(super) paused_until: Instant,
    /// The seed is not asked before then: it does not have the blob.
    pub(super) wan_paused_until: Instant,
    /// All units are here and the whole digest is being checked.
    pub(super) verifying: bool,
    /// Wrong units that the seed sent.
    pub(super) seed_refusals: u32,
    /// Stored bytes by source.
    pub(super) wan_bytes: u64,
    pub(super) lan_bytes: u64,
}

/// A span that nobody claimed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unclaimed {
    pub(super) since: Instant,
    /// When it falls to this node, by its place in the line; none until that is looked up.
    pub(super) due: Option<Instant>,
}

impl Unclaimed {
    pub(super) const fn new(since: Instant) -> Self {
        Self { since, due: None }
    }
}

/// Who fetches a span over the WAN, and how it goes.
#[derive(Clone, Debug)]
pub(super) struct Claim<I> {
    pub(super) owner: I,
    pub(super) since: Instant,
    pub(super) progressed_at: Instant,
    /// When its owner last spoke of it.
    pub(super) told_at: Instant,
    /// Bytes that it brought, as the owner says; of an own one, what its fetches before the one under way brought.
    pub(super) bytes: u64,
    /// Bytes of pieces that the owner says it holds since.
    pub(super) announced: u64,
    /// How often its owner fetched it anew, if that is this node.
    pub(super) restarts: u32,
    pub(super) stage: Stage,
}

impl<I: Identity> Claim<I> {
    /// Whether this node made it.
    pub(super) const fn is_own(&self) -> bool {
        !matches!(self.stage, Stage::Foreign)
    }
}

/// How far a claim is, as this node knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Another node's.
    Foreign,
    /// Own, told to the others; the fetch starts at this moment.
    Announced(Instant),
    /// Own, being fetched.
    Fetching(FetchId),
}

impl<I: Identity> Claim<I> {
    pub(super) const fn new(owner: I, now: Instant, stage: Stage) -> Self {
        Self { owner, since: now, progressed_at: now, told_at: now, bytes: 0, announced: 0, restarts: 0, stage }
    }

    /// Whether another node's claim has stood for too long for what it brought.
    pub(super) fn trickles(&self, now: Instant, parameters: &Parameters) -> bool {
        let earned = Duration::from_secs(self.bytes.max(self.announced) / parameters.claim_rate_min.max(1));
        now.since(self.since) >= parameters.claim_lapse + earned
    }
}

impl<I: Identity> Download<I> {
    pub(super) fn new(now: Instant, blob: Digest, geometry: Geometry, held: Bits, seed_only: bool) -> Self {
        let units = if held.length() == geometry.units() { held } else { Bits::new(geometry.units()) };
        let mut pieces = Bits::new(geometry.pieces());
        for piece in 0..geometry.pieces() {
            if units.contains_all(geometry.units_of(piece..piece + 1)) {
                pieces.insert(piece);
            }
        }
        Self {
            blob: Arc::new(blob),
            geometry,
            on_site: pieces.clone(),
            units,
            pieces,
            available: BTreeMap::new(),
            offered: BTreeSet::new(),
            roots: SortedMap::new(),
            places: SortedMap::new(),
            trees_changed: false,
            in_flight: SortedMap::new(),
            claims: SortedMap::new(),
            unclaimed: SortedMap::new(),
            first_open_span: 0,
            answered: SortedMap::new(),
            wanted_at: now,
            unoffered: Vec::new(),
            unannounced: Bits::new(geometry.pieces()),
            announce_at: None,
            repair_at: Instant::ZERO,
            seed_only,
            paused_until: Instant::ZERO,
            wan_paused_until: Instant::ZERO,
            verifying: false,
            seed_refusals: 0,
            wan_bytes: 0,
            lan_bytes: 0,
        }
    }

    /// Whether the WAN has to bring a part of `span`, as far as this node knows.
    pub(super) fn is_open(&self, span: u32) -> bool {
        !self.on_site.contains_all(self.geometry.pieces_of_span(span))
    }

    /// The first run of pieces of `span` that nobody on the site holds and that is not in flight.
    pub(super) fn first_missing_run(&self, span: u32) -> Option<Range<u32>> {
        let pieces = self.geometry.pieces_of_span(span);
        let missing = |piece: &u32| !self.on_site.contains(*piece) && !self.in_flight.contains_key(piece);
        let start = pieces.clone().find(missing)?;
        let end = (start..pieces.end).find(|piece| !missing(piece)).unwrap_or(pieces.end);
        Some(start..end)
    }

    /// A usable peer holds `piece`, known since `since`.
    pub(super) fn note_available(&mut self, piece: u32, since: Instant) {
        self.on_site.insert(piece);
        if self.lacks(piece) {
            self.available.entry(piece).or_insert(since);
            self.repair_at = if since == Instant::ZERO { since } else { self.repair_at };
        }
    }

    /// This node's parent in the tree of the piece's span holds `piece`.
    pub(super) fn note_offered(&mut self, piece: u32) {
        if self.lacks(piece) {
            self.offered.insert(piece);
        }
    }

    /// Whether `piece` is missing and not on its way.
    pub(super) fn lacks(&self, piece: u32) -> bool {
        !self.pieces.contains(piece) && !self.in_flight.contains_key(&piece)
    }

    /// Takes back the pieces that `fetch` was to bring.
    pub(super) fn take_in_flight(&mut self, fetch: FetchId) -> Vec<u32> {
        self.in_flight.extract(|_, by| *by == fetch).map(|(piece, _)| piece).collect()
    }

    /// Starts over what is known of the site, from what this node holds itself.
    pub(super) fn reset_site(&mut self) {
        self.repair_at = Instant::ZERO;
        self.on_site = self.pieces.clone();
        self.available.clear();
        self.offered.clear();
        self.first_open_span = 0;
    }

    /// Forgets other nodes' claims on spans of which the site holds everything.
    pub(super) fn drop_closed_claims(&mut self) {
        let Self { claims, geometry, on_site, .. } = self;
        claims.retain(|span, claim| claim.stage != Stage::Foreign || !on_site.contains_all(geometry.pieces_of_span(*span)));
    }

    /// Forgets the trees of the spans of `pieces` that are whole here: there is nothing more to tell anybody's children.
    pub(super) fn fell_whole_trees(&mut self, pieces: &[u32]) {
        for piece in pieces {
            let span = self.geometry.span_of_piece(*piece);
            if self.pieces.contains_all(self.geometry.pieces_of_span(span)) {
                self.roots.remove(&span);
                self.places.remove(&span);
            }
        }
    }

    /// Takes a stored unit; the piece, if it is now whole, to be announced at `announce_at` or before.
    pub(super) fn store_unit(&mut self, announce_at: Instant, unit: u32, source: Source<I>) -> Option<u32> {
        if !self.units.insert(unit) {
            return None;
        }
        let bytes = self.geometry.bytes_of(unit..unit + 1);
        match source {
            Source::Wan => self.wan_bytes += bytes.end - bytes.start,
            Source::Peer(_) => self.lan_bytes += bytes.end - bytes.start,
        }
        let piece = self.geometry.piece_of_unit(unit);
        if !self.units.contains_all(self.geometry.units_of(piece..piece + 1)) {
            return None;
        }
        self.pieces.insert(piece);
        self.on_site.insert(piece);
        self.available.remove(&piece);
        self.offered.remove(&piece);
        self.in_flight.remove(&piece);
        self.unoffered.push(piece);
        self.unannounced.insert(piece);
        self.announce_at.get_or_insert(announce_at);
        Some(piece)
    }
}
