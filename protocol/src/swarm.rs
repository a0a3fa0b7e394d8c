//! The swarm machine: who fetches which bytes from whom, so that each site's WAN carries one copy and nobody is in charge.
//!
//! The rules, each in the room that decides it:
//!
//! | room | rule |
//! |---|---|
//! | [`dialogue`] | what the machine hears, demands and tells |
//! | [`wan`] | a few spans at the front are fetched over the WAN; each has one owner by rendezvous, who claims it before the fetch; a claim that stalls is taken over |
//! | [`tree`] | how a span spreads over the site: one tree a span, which every node computes alike |
//! | [`window`] | how many spans that are |
//! | [`lan`] | what the parent in the tree holds is pulled from it; what does not come that way, from a random holder |
//! | [`talk`] | what peers are told and what is believed of what they say |
//! | [`interest`] | who is to be told later |
//! | [`doubt`] | what follows when a peer does not deliver |
//! | [`ban`] | what follows from a wrong unit |
//! | [`upload`] | whom to serve next |
//! | [`pace`], [`memory`] | how slow a peer may be, and how much may be in flight |
//! | [`peers`], [`peer_view`] | who they are, and what they are known to hold |
//! | [`recording`] | a machine's life as bytes |
//! | [`parameters`] | every number, with its reason |
//!
//! [`Swarm`] is driven as the crate's first page says. Blob bytes never pass through it: [`Effect::Fetch`] makes the driver
//! stream units through a verifier, and only the verifier makes the proof that comes back in [`Input::UnitStored`].
//!
//! Not here: sockets, files, discovery of peers, what a blob is for.

mod ban;
pub mod dialogue;
mod doubt;
mod download;
mod interest;
mod lan;
pub mod memory;
pub mod pace;
pub mod parameters;
pub mod peer_view;
mod peers;
pub mod recording;
mod talk;
mod tree;
mod upload;
mod wan;
mod window;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::bits::Bits;
use crate::digest::Digest;
use crate::geometry::Geometry;
use crate::rendezvous;
use crate::sorted_map::SortedMap;
use crate::time::Instant;
use crate::verify::{UnitProof, VerifiedBlob};
use crate::wire::Message;
use ban::Ban;
pub use dialogue::{AskId, Effect, Event, FetchEnd, FetchId, Input, Source};
use download::Download;
use interest::Interest;
use parameters::Parameters;
use peer_view::PeerView;
use peers::Peers;
use upload::Uploads;
use window::Window;

#[derive(Clone, Debug)]
struct Fetch<I> {
    source: Source<I>,
    /// Shared with the download: a digest takes 65 bytes.
    blob: Arc<Digest>,
    units: Range<u32>,
    bytes: u64,
    started_at: Instant,
    progressed_at: Instant,
    /// Whether the peer delivered anything since it was asked.
    is_served: bool,
}

/// What is to be looked at again, so that an input that changes nothing costs nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Due {
    /// Pieces came that children are to be told of, or trees changed.
    tell: bool,
    /// There may be something to pull.
    pull: bool,
    /// There may be something to claim or to fetch over the WAN.
    wan: bool,
    /// When there may be something to pull without an input.
    pull_at: Option<Instant>,
    /// When a span falls to this node, or its first fetch over the WAN is allowed.
    wan_at: Option<Instant>,
    /// When the first of this node's claims may be fetched.
    claims_at: Option<Instant>,
    /// Whether this node lacked too much to claim anything when that was last looked at.
    was_behind: bool,
}

/// The swarm machine of one node.
#[derive(Debug)]
pub struct Swarm<V: PeerView> {
    me: V::Id,
    parameters: Arc<Parameters>,
    seed: u64,
    draws: u64,
    joined_at: Instant,
    view: V,
    peers: Peers<V::Id>,
    interest: Interest<V::Id>,
    bans: BTreeMap<V::Id, Ban>,
    /// When stored blobs were hashed again because a peer was not content.
    rechecked_at: BTreeMap<Digest, Instant>,
    downloads: SortedMap<Digest, Box<Download<V::Id>>>,
    /// The downloads, small ones first.
    order: SortedMap<(u64, Digest), ()>,
    held: SortedMap<Digest, Geometry>,
    fetches: SortedMap<FetchId, Fetch<V::Id>>,
    next_fetch: u64,
    /// Who delivered a unit last, and when.
    last_delivery: Option<(Instant, V::Id)>,
    uploads: Uploads<V::Id>,
    wan_failures: u32,
    wan_retry_at: Instant,
    wan_progressed_at: Instant,
    /// Since when there was progress without a pause.
    wan_lives_since: Instant,
    window: Window,
    next_tick: Option<Instant>,
    due: Due,
    effects: VecDeque<Effect<V::Id>>,
    events: VecDeque<Event<V::Id>>,
}

impl<V: PeerView> Swarm<V> {
    /// The machine of node `me`, which joins its site at `now`; `seed` makes its random choices reproducible.
    pub fn new(now: Instant, me: V::Id, seed: u64, parameters: impl Into<Arc<Parameters>>, view: V) -> Self {
        Self {
            me,
            window: Window::new(now),
            parameters: parameters.into(),
            seed,
            draws: 0,
            joined_at: now,
            view,
            peers: Peers::default(),
            interest: Interest::default(),
            bans: BTreeMap::new(),
            rechecked_at: BTreeMap::new(),
            downloads: SortedMap::new(),
            order: SortedMap::new(),
            held: SortedMap::new(),
            fetches: SortedMap::new(),
            next_fetch: 0,
            last_delivery: None,
            uploads: Uploads::default(),
            wan_failures: 0,
            wan_retry_at: Instant::ZERO,
            wan_progressed_at: Instant::ZERO,
            wan_lives_since: Instant::ZERO,
            next_tick: None,
            due: Due::default(),
            effects: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Takes note of what happened outside.
    pub fn handle_input(&mut self, now: Instant, input: Input<V::Id>) {
        match &input {
            Input::Received { peer, message } => return self.handle_message(now, *peer, message),
            Input::Asked { .. } | Input::AskEnded { .. } | Input::UnitStored { .. } | Input::Progressed { .. } => {}
            _ => self.look_at_everything(),
        }
        match input {
            Input::PeerJoined { peer } => self.on_peer_joined(now, peer),
            Input::PeerLeft { peer } => self.on_peer_left(now, peer),
            Input::Received { peer, message } => self.on_message(now, peer, &message),
            Input::Wanted { blob, geometry, held } => self.on_wanted(now, blob, geometry, held),
            Input::Held { blob, geometry } => {
                self.remove_download(blob.blob());
                self.held.insert(blob.blob(), geometry);
                self.answer_earlier_interest(blob.blob());
            }
            Input::Dropped { blob } => self.on_dropped(blob),
            Input::Rotten { blob } => self.on_rotten(blob),
            Input::UnitStored { fetch, proof } => self.on_unit_stored(now, fetch, proof),
            Input::Progressed { fetch, bytes } => self.on_progressed(now, fetch, bytes),
            Input::FetchEnded { fetch, end } => self.on_fetch_ended(now, fetch, end),
            Input::BlobVerified { blob } => self.on_blob_verified(blob),
            Input::VerifyFailed { blob } => self.pause(now, blob),
            Input::BlobMismatched { blob } => self.on_blob_mismatched(now, blob),
            Input::Asked { peer, ask, blob, units } => self.on_asked(peer, ask, blob, units),
            Input::AskEnded { ask } => self.uploads.ended(ask),
        }
        self.advance(now);
    }

    /// Takes note of a control message: the same as [`Input::Received`], for a driver that hands one message to many machines.
    pub fn handle_message(&mut self, now: Instant, peer: V::Id, message: &Message) {
        self.on_message(now, peer, message);
        self.advance(now);
    }

    /// Takes note that time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.next_tick.is_some_and(|tick| tick <= now) {
            self.look_at_everything();
            self.forget_dues();
            self.forget_answers(now);
            self.peers.tidy(now);
            self.next_tick = Some(now + self.parameters.tick);
            self.window.handle_timeout(now, &self.parameters);
            self.give_up_stalled_fetches(now);
            self.restart_stalled(now);
            self.probe(now);
            self.check_again(now);
            self.end_bans(now);
            self.lapse_stalled_claims(now);
            self.tell_progress();
        }
        self.advance(now);
    }

    /// The next thing the driver must do.
    pub fn poll_effect(&mut self) -> Option<Effect<V::Id>> {
        let effect = self.effects.pop_front();
        if effect.is_none() && self.effects.capacity() > 0 {
            self.effects = VecDeque::new();
        }
        effect
    }

    /// The next news for the owner.
    pub fn poll_event(&mut self) -> Option<Event<V::Id>> {
        let event = self.events.pop_front();
        if event.is_none() && self.events.capacity() > 0 {
            self.events = VecDeque::new();
        }
        event
    }

    /// When [`Self::handle_timeout`] is to be called, unless an input comes first.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.downloads.is_empty() {
            return None;
        }
        let announcements = self.downloads.values().filter_map(|download| download.announce_at);
        let claims = self.due.claims_at.map(|at| at.max(self.wan_allowed_at()));
        announcements.chain(claims).chain(self.due.wan_at).chain(self.due.pull_at).chain(self.next_tick).min()
    }

    const fn look_at_everything(&mut self) {
        (self.due.tell, self.due.pull, self.due.wan) = (true, true, true);
    }

    /// The peers that are connected.
    pub fn peers(&self) -> impl Iterator<Item = V::Id> + '_ {
        self.peers.ids()
    }

    /// Until when `peer` is banned, if it is at `now`.
    pub fn banned_until(&self, now: Instant, peer: V::Id) -> Option<Instant> {
        self.ban_left(now, &peer).map(|left| now + left)
    }

    /// What is missing: for each wanted blob its bytes and how many of them are stored.
    pub fn wanted(&self) -> impl Iterator<Item = (Digest, u64, u64)> + '_ {
        self.downloads.iter().map(|(blob, download)| {
            let stored = u64::from(download.units.count()) * download.geometry.unit_bytes();
            (*blob, download.geometry.size(), stored.min(download.geometry.size()))
        })
    }

    /// Who fetches which span over the WAN, as far as this node knows: blob, span and node.
    pub fn claims(&self) -> impl Iterator<Item = (Digest, u32, V::Id)> + '_ {
        self.downloads.iter().flat_map(|(blob, download)| download.claims.iter().map(|(span, claim)| (*blob, *span, claim.owner)))
    }

    fn advance(&mut self, now: Instant) {
        if self.downloads.is_empty() {
            self.next_tick = None;
        } else {
            self.next_tick.get_or_insert(now + self.parameters.tick);
        }
        if std::mem::take(&mut self.due.tell) {
            self.offer();
            self.climb_new_trees();
        }
        self.announce(now);
        if std::mem::take(&mut self.due.pull) | take_due(&mut self.due.pull_at, now) {
            self.pull(now);
        }
        let claims_due = self.due.claims_at.is_some_and(|at| at <= now);
        if std::mem::take(&mut self.due.wan) | take_due(&mut self.due.wan_at, now) | claims_due {
            self.use_wan(now);
        }
        while let Some(ask) = self.uploads.next(&self.parameters) {
            self.effects.push_back(Effect::Serve { ask });
        }
    }

    fn on_wanted(&mut self, now: Instant, blob: Digest, geometry: Geometry, held: Bits) {
        if self.downloads.contains_key(&blob) || self.held.contains_key(&blob) {
            return;
        }
        self.start_download(now, blob, geometry, held, false);
    }

    fn start_download(&mut self, now: Instant, blob: Digest, geometry: Geometry, held: Bits, seed_only: bool) {
        let download = Download::new(now, blob, geometry, held, seed_only);
        let (complete, holds_some) = (download.units.is_full(), download.pieces.count() > 0);
        self.order.insert((geometry.size(), blob), ());
        self.downloads.insert(blob, Box::new(download));
        if complete {
            self.check_whole(blob);
        } else if !seed_only {
            self.tell_all(Message::Interest { blob });
            if holds_some {
                self.answer_earlier_interest(blob);
            }
        }
    }

    fn on_dropped(&mut self, blob: Digest) {
        let known = self.held.remove(&blob).is_some() | self.remove_download(blob).is_some();
        if known {
            self.tell_wanting(&blob, Message::Dropped { blob });
            self.forget_peers_of(blob);
        }
    }

    fn on_unit_stored(&mut self, now: Instant, fetch: FetchId, proof: UnitProof) {
        let (blob, unit) = (proof.blob(), proof.unit());
        let Some(known) = self.fetches.get(&fetch).filter(|known| *known.blob == blob) else { return };
        let (source, start) = (known.source, known.units.start);
        let Some(download) = self.downloads.get_mut(&blob) else { return };
        let so_far = download.geometry.bytes_of(start..unit + 1);
        let gathering = self.parameters.have_delay_per_peer.saturating_mul(u32::try_from(self.peers.len()).unwrap_or(u32::MAX));
        let gathering = gathering.min(self.parameters.have_delay_max).max(self.parameters.have_delay);
        if download.store_unit(now + gathering, unit, source).is_some() {
            self.due.tell = true;
        }
        if download.units.is_full() {
            self.check_whole(blob);
        }
        self.note_fetched(now, fetch, so_far.end - so_far.start);
        match source {
            Source::Wan => self.wan_failures = 0,
            Source::Peer(peer) => self.on_delivered(now, peer, blob),
        }
    }

    /// Takes note that a fetch has brought `bytes` by now.
    fn note_fetched(&mut self, now: Instant, fetch: FetchId, bytes: u64) {
        let Some(known) = self.fetches.get_mut(&fetch) else { return };
        known.progressed_at = now;
        let (new, first, delay) = (bytes.saturating_sub(known.bytes), known.bytes == 0, now.since(known.started_at));
        known.bytes = known.bytes.max(bytes);
        if known.source == Source::Wan {
            self.due.wan = true;
            self.note_wan_progress(now);
            self.window.note_bytes(new);
            if first {
                self.window.note_first_byte(delay);
            }
        }
    }

    fn check_whole(&mut self, blob: Digest) {
        if let Some(download) = self.downloads.get_mut(&blob).filter(|download| !download.verifying) {
            download.verifying = true;
            self.effects.push_back(Effect::VerifyBlob { blob });
        }
    }

    /// Leaves a blob alone for a while, because this node's disk failed.
    fn pause(&mut self, now: Instant, blob: Digest) {
        if let Some(download) = self.downloads.get_mut(&blob) {
            download.verifying = false;
            download.paused_until = now + self.parameters.storage_retry;
        }
    }

    /// Checks blobs again whose check failed some time ago.
    fn check_again(&mut self, now: Instant) {
        let due = |download: &Download<V::Id>| download.units.is_full() && !download.verifying && download.paused_until <= now;
        let due: Vec<Digest> = self.downloads.iter().filter(|(_, download)| due(download)).map(|(blob, _)| *blob).collect();
        for blob in due {
            self.check_whole(blob);
        }
    }

    fn on_progressed(&mut self, now: Instant, fetch: FetchId, bytes: u64) {
        if self.fetches.get(&fetch).is_some_and(|known| bytes > known.bytes) {
            self.note_fetched(now, fetch, bytes);
        }
    }

    fn on_fetch_ended(&mut self, now: Instant, id: FetchId, end: FetchEnd) {
        let Some(fetch) = self.take_fetch(id) else { return };
        if let FetchEnd::Refused { unit } = end {
            self.events.push_back(Event::UnitRefused { source: fetch.source, blob: *fetch.blob, unit });
        }
        if end == FetchEnd::StorageFailed {
            self.pause(now, *fetch.blob);
        }
        match fetch.source {
            Source::Wan => self.on_wan_ended(now, &fetch, end),
            Source::Peer(peer) => self.on_pull_ended(now, peer, &fetch, end),
        }
    }

    fn on_blob_verified(&mut self, blob: VerifiedBlob) {
        let digest = blob.blob();
        let Some(mut download) = self.remove_download(digest) else { return };
        let announcements = std::mem::replace(&mut download.unannounced, Bits::new(0));
        if !download.seed_only {
            self.tell_pieces(digest, &announcements);
            self.held.insert(digest, download.geometry);
        }
        self.forget_peers_of(digest);
        let Download { wan_bytes, lan_bytes, .. } = *download;
        self.events.push_back(Event::BlobComplete { blob: digest, wan_bytes, lan_bytes });
    }

    /// Nothing needs to be known any more of what peers hold of a blob.
    fn forget_peers_of(&mut self, blob: Digest) {
        for id in self.peers.ids() {
            self.view.forget_blob(id, &blob);
        }
        self.peers.forget_blob(&blob);
        self.plant_anew(&blob);
    }

    /// The wanted blob after `last` in their order.
    fn blob_after(&self, last: Option<(u64, Digest)>) -> Option<(u64, Digest)> {
        self.order.key_after(last.as_ref()).copied()
    }

    fn on_blob_mismatched(&mut self, now: Instant, blob: Digest) {
        let Some(download) = self.remove_download(blob) else { return };
        let geometry = Geometry::unlisted(download.geometry.size());
        self.events.push_back(Event::HashListLied { blob });
        self.tell_wanting(&blob, Message::Dropped { blob });
        self.forget_peers_of(blob);
        self.effects.push_back(Effect::DiscardUnits { blob, geometry });
        self.start_download(now, blob, geometry, Bits::new(geometry.units()), true);
    }

    fn on_asked(&mut self, peer: V::Id, ask: AskId, blob: Digest, units: Range<u32>) {
        let geometry = match (self.held.get(&blob), self.downloads.get(&blob)) {
            (Some(geometry), _) => Some(*geometry).filter(|geometry| units.end <= geometry.units()),
            (None, Some(download)) => Some(download.geometry).filter(|_| download.units.contains_all(units.clone())),
            (None, None) => None,
        };
        let Some(geometry) = geometry.filter(|_| self.peers.contains(&peer)) else {
            self.effects.push_back(Effect::RefuseNotHeld { ask });
            return;
        };
        let bytes = geometry.bytes_of(units);
        if !self.uploads.ask(peer, ask, bytes.end - bytes.start, &self.parameters) {
            self.effects.push_back(Effect::RefuseBusy { ask });
        }
    }

    fn start_fetch(&mut self, now: Instant, source: Source<V::Id>, blob: Digest, pieces: Range<u32>) -> Option<FetchId> {
        let fetch = FetchId(self.next_fetch);
        let download = self.downloads.get_mut(&blob)?;
        let wanted = download.geometry.units_of(pieces.clone());
        let first_missing = wanted.clone().find(|unit| !download.units.contains(*unit))?;
        self.next_fetch += 1;
        for piece in pieces {
            download.in_flight.insert(piece, fetch);
            download.available.remove(&piece);
            download.offered.remove(&piece);
        }
        let (units, name) = (first_missing..wanted.end, Arc::clone(&download.blob));
        let is_served = self.last_delivery.is_some_and(|(at, peer)| at == now && source == Source::Peer(peer));
        self.fetches
            .insert(fetch, Fetch { source, blob: name, units: units.clone(), bytes: 0, started_at: now, progressed_at: now, is_served });
        self.effects.push_back(Effect::Fetch { fetch, source, blob, units });
        Some(fetch)
    }

    /// Forgets a fetch and gives the pieces that it did not bring back to the choice of sources.
    fn take_fetch(&mut self, id: FetchId) -> Option<Fetch<V::Id>> {
        let fetch = self.fetches.remove(&id)?;
        self.due.pull = true;
        self.due.wan |= self.due.was_behind || fetch.source == Source::Wan;
        if let Some(download) = self.downloads.get_mut(&fetch.blob) {
            let missing = download.take_in_flight(id);
            for piece in missing {
                self.look_for_holders(*fetch.blob, piece);
            }
        }
        Some(fetch)
    }

    fn cancel_fetch(&mut self, id: FetchId) -> Option<Fetch<V::Id>> {
        let fetch = self.take_fetch(id)?;
        self.effects.push_back(Effect::Cancel { fetch: id });
        Some(fetch)
    }

    fn remove_download(&mut self, blob: Digest) -> Option<Box<Download<V::Id>>> {
        let download = self.downloads.remove(&blob)?;
        self.order.remove(&(download.geometry.size(), blob));
        let fetches: Vec<FetchId> = self.fetches.iter().filter(|(_, fetch)| *fetch.blob == blob).map(|(id, _)| *id).collect();
        for fetch in fetches {
            self.cancel_fetch(fetch);
        }
        Some(download)
    }

    fn give_up_stalled_fetches(&mut self, now: Instant) {
        let stalled = |fetch: &Fetch<V::Id>| now.since(fetch.progressed_at) >= self.patience(fetch) || self.crawls(now, fetch);
        let stalled: Vec<FetchId> = self.fetches.iter().filter(|(_, fetch)| stalled(fetch)).map(|(id, _)| *id).collect();
        for id in stalled {
            self.effects.push_back(Effect::Cancel { fetch: id });
            self.on_fetch_ended(now, id, FetchEnd::Failed);
        }
    }

    /// How long a fetch may go without progress. A request that has brought nothing yet may be waiting in the queue of a peer
    /// that delivers otherwise.
    fn patience(&self, fetch: &Fetch<V::Id>) -> Duration {
        match fetch.source {
            Source::Wan => self.parameters.wan_stall,
            Source::Peer(_) if fetch.bytes > 0 => self.parameters.pull_stall,
            Source::Peer(_) if fetch.is_served => self.parameters.queue_wait,
            Source::Peer(_) => self.parameters.first_byte_wait,
        }
    }

    fn draw(&mut self) -> u64 {
        self.draws += 1;
        rendezvous::draw(self.seed, self.draws)
    }

    /// A random index below `count`, which is not zero.
    #[expect(clippy::cast_possible_truncation, reason = "the remainder is below a usize")]
    fn draw_below(&mut self, count: usize) -> usize {
        (self.draw() % count as u64) as usize
    }
}

/// Whether a moment has come, which is forgotten then.
fn take_due(at: &mut Option<Instant>, now: Instant) -> bool {
    at.take_if(|at| *at <= now).is_some()
}

#[cfg(test)]
mod tests;
