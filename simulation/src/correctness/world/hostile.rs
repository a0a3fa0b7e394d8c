//! What hostile devices do. They have certificates, so they are heard; what they say is false and what they send is wrong.
//!
//! Not here: what becomes of it; the machines of the others decide that.

use protocol::digest::Digest;
use protocol::swarm::{FetchEnd, FetchId};
use protocol::wire::codec::Framed;
use protocol::wire::{ClaimProgress, Message, PieceRange};

use super::{Deed, World};
use crate::correctness::content::{Proven, Tag};
use crate::correctness::plan::Role;

/// How often a hostile device does something of its own accord.
const MISCHIEF_US: u64 = 250_000;

/// Messages and requests of a flooder at a time.
const FLOOD: u64 = 4;

impl World {
    /// A hostile device hears something; what others of its kind say is no use to it.
    pub(super) fn hostile_received(&mut self, device: usize, from: usize, message: &Message) {
        if !self.devices[from].is_honest() {
            return;
        }
        let role = self.devices[device].plan.role;
        if let Message::Interest { blob } = message {
            let known = &mut self.devices[device].heard_of;
            if !known.contains(blob) {
                known.push(*blob);
            }
            match role {
                Role::Liar | Role::Withholder => self.say_holding(device, from, *blob),
                Role::Squatter | Role::Flooder => {
                    self.hostile_send(device, from, &Message::Holding { blob: *blob, wanted: true, pieces: Vec::new() });
                    self.hostile_send(device, from, &Message::Interest { blob: *blob });
                }
                Role::Honest => {}
            }
        }
        if let (Role::Liar, Message::Refused { blob, .. }) = (role, message) {
            self.hostile_send(device, from, &Message::Mended { blob: *blob });
            self.say_holding(device, from, *blob);
        }
    }

    fn say_holding(&mut self, device: usize, to: usize, blob: Digest) {
        let end = self.library.geometry(&blob, Proven::ByUnit).pieces();
        let pieces = vec![PieceRange { start: 0, end }];
        self.hostile_send(device, to, &Message::Holding { blob, wanted: false, pieces });
    }

    /// Sends a message, unless the codec of whoever gets it refuses it.
    fn hostile_send(&mut self, device: usize, to: usize, message: &Message) {
        if message.check().is_err() {
            return;
        }
        self.checks.wan.heard(device, message);
        self.send(device, to, message);
    }

    /// A hostile device does something of its own accord.
    pub(super) fn mischief(&mut self, device: usize) {
        let role = self.devices[device].plan.role;
        if !matches!(role, Role::Squatter | Role::Flooder) {
            return;
        }
        self.to(device, MISCHIEF_US, Deed::Mischief);
        let peers: Vec<usize> = self.devices[device].links.keys().copied().collect();
        let blobs = self.devices[device].heard_of.clone();
        if peers.is_empty() || blobs.is_empty() {
            return;
        }
        let blob = self.draws.pick(&blobs);
        if role == Role::Squatter {
            self.squat(device, &peers, blob);
            return;
        }
        for _ in 0..FLOOD {
            let peer = self.draws.pick(&peers);
            let message = self.nonsense(blob);
            self.hostile_send(device, peer, &message);
            self.flood_with_requests(device, peer, blob);
        }
    }

    /// A squatter claims the front of the blob, and says of each claim that it goes on: by a byte, or in leaps.
    fn squat(&mut self, device: usize, peers: &[usize], blob: Digest) {
        let spans = self.library.geometry(&blob, Proven::ByUnit).spans().min(8);
        let pace = [1, 3_000, 200_000][device % 3];
        let bytes = self.now / MISCHIEF_US * pace;
        let claims: Vec<ClaimProgress> = (0..spans).map(|span| ClaimProgress { blob, span, bytes }).collect();
        let span = u32::try_from(self.draws.below(u64::from(spans))).unwrap_or(0);
        let first_piece = self.library.geometry(&blob, Proven::ByUnit).pieces_of_span(span).start;
        for peer in peers {
            self.hostile_send(device, *peer, &Message::Claim { blob, span });
            self.hostile_send(device, *peer, &Message::Progress { claims: claims.clone() });
            if device.is_multiple_of(2) {
                let pieces = vec![PieceRange { start: first_piece, end: first_piece + 1 }];
                self.hostile_send(device, *peer, &Message::Have { blob, pieces });
            }
        }
    }

    /// Well-formed messages that make no sense.
    fn nonsense(&mut self, blob: Digest) -> Message {
        let number = u32::try_from(self.draws.below(200)).unwrap_or(0);
        let stranger = Digest::sha256(&number.to_be_bytes());
        match self.draws.below(9) {
            0 => Message::Have { blob, pieces: vec![PieceRange { start: number, end: u32::MAX }] },
            1 => Message::Have { blob, pieces: vec![PieceRange { start: number, end: number / 2 }] },
            2 => Message::Claim { blob, span: number },
            3 => Message::Release { blob, span: number },
            4 => Message::Progress { claims: vec![ClaimProgress { blob, span: number, bytes: u64::MAX }] },
            5 => Message::Refused { blob, unit: number },
            6 => Message::Dropped { blob },
            7 => Message::Interest { blob: stranger },
            _ => Message::Mended { blob: stranger },
        }
    }

    fn flood_with_requests(&mut self, device: usize, peer: usize, blob: Digest) {
        let Some(link) = self.devices[device].links.get(&peer).copied() else { return };
        let start = u32::try_from(self.draws.below(200)).unwrap_or(0);
        let units = start..start + u32::try_from(self.draws.below(64)).unwrap_or(0);
        let fetch = FetchId(u64::MAX - self.draws.below(1 << 40));
        self.to(peer, self.plan.latency_us, Deed::Asked { by: device, fetch, blob, units, link });
    }

    /// A hostile device is asked for units.
    pub(super) fn hostile_asked(&mut self, device: usize, (by, fetch): (usize, FetchId)) {
        let latency = self.plan.latency_us;
        match self.devices[device].plan.role {
            Role::Liar => self.to(by, latency + self.plan.lan_unit_us, Deed::LanUnit { fetch }),
            Role::Withholder if self.draws.chance(300) => {
                let end = self.draws.pick(&[FetchEnd::Busy, FetchEnd::NotHeld]);
                self.to(by, latency, Deed::FetchRefused { fetch, end });
            }
            Role::Withholder => {}
            Role::Squatter | Role::Flooder | Role::Honest => self.to(by, latency, Deed::FetchRefused { fetch, end: FetchEnd::NotHeld }),
        }
    }

    /// What a liar sends as a unit: now and then the right one, so that it is not found out by the first.
    pub(super) fn hostile_unit(&mut self, device: usize) -> Option<Tag> {
        let right = self.draws.chance(400);
        (self.devices[device].plan.role == Role::Liar).then_some(if right { Tag::Right } else { Tag::Wrong })
    }
}
