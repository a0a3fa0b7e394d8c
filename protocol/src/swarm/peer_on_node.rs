//! What a node remembers about one peer while it is connected.
//!
//! Not here: what the peer holds; see [`super::peer_view`].

use std::collections::BTreeMap;

use super::parameters::Parameters;
use crate::digest::Digest;
use crate::time::Instant;

/// A connected peer.
#[derive(Clone, Debug, Default)]
pub(super) struct Peer {
    /// Requests that the peer did not fulfil, by blob.
    pub(super) unfulfilled: BTreeMap<Digest, u32>,
    /// This node's requests to the peer in flight.
    pub(super) pulls: usize,
    /// When it last delivered a unit.
    pub(super) delivered_at: Option<Instant>,
    /// Until when it is left alone after answering `Busy`.
    pub(super) busy_until: Instant,
    /// It sent a wrong unit: nothing that it says or holds counts.
    pub(super) distrusted: bool,
    /// Until when it owns no spans, because a claim of its was taken over.
    pub(super) demoted_until: Instant,
}

impl Peer {
    /// Whether the peer may be asked for `blob`: not after it failed to deliver what it said it holds, or
    /// sent a wrong unit.
    pub(super) fn is_usable(&self, parameters: &Parameters, blob: &Digest) -> bool {
        !self.distrusted && self.unfulfilled.get(blob).is_none_or(|count| *count < parameters.unfulfilled_max)
    }
}
