//! A machine's life as bytes: what it was made with, what it heard and when, what it wanted done. Given the same inputs at the
//! same moments, a machine wants the same; so a recording shows whether what ran on a device is what runs elsewhere, and a
//! fault in the field can be looked at again step by step.
//!
//! A recording is [`MAGIC`] and then entries, each a big-endian `u32` length and an [`Entry`] in postcard encoding; the first
//! is [`Entry::Made`]. It may end anywhere, as a process may.
//!
//! Inputs carry proofs, so only a build that may mint them (feature `simulated`) reads a recording.
//!
//! Not here: files; see the driver that records and the simulation that replays.

use serde::Serialize;

use super::dialogue::{Effect, Event, Input};
use super::parameters::Parameters;
use crate::name::NodeId;
use crate::time::Instant;

/// How a recording begins: what it is, and the version of its format.
pub const MAGIC: &[u8] = b"hedgerow swarm recording 1\n";

/// The longest entry: a wanted blob of 1 TiB of which every second unit is held.
pub const ENTRY_BYTES_MAX: usize = 128 << 20;

/// What a machine was made with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "simulated", derive(serde::Deserialize))]
pub struct Made {
    /// When.
    pub at: Instant,
    /// Whose machine it is.
    pub me: NodeId,
    /// What makes its random choices reproducible.
    pub seed: u64,
    /// Its rules.
    pub parameters: Parameters,
}

/// A step in the life of a machine; whoever writes one has references.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "simulated", derive(serde::Deserialize))]
pub enum Entry<I = Input, E = Effect, N = Event> {
    /// The machine began.
    Made(Box<Made>),
    /// It was handed an input.
    Heard {
        /// When.
        at: Instant,
        /// The input.
        input: I,
    },
    /// It was told that time has passed.
    Woken {
        /// When.
        at: Instant,
    },
    /// It wanted this done.
    Wanted(E),
    /// It had this news.
    Told(N),
    /// It wanted nothing more.
    Idle,
}

/// An entry with its length.
pub fn encode(entry: &Entry<&Input, &Effect, &Event>) -> Vec<u8> {
    #[expect(clippy::expect_used, reason = "entries hold no type that postcard cannot encode, and Vec grows")]
    let mut bytes = postcard::to_extend(entry, vec![0; 4]).expect("an entry always encodes");
    let length = u32::try_from(bytes.len() - 4).unwrap_or(u32::MAX);
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    bytes
}

/// Why bytes are no entry.
#[cfg(feature = "simulated")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these {0} bytes are no entry of a recording")]
pub struct EntryRefused(usize);

/// The entry in `body`, without its length.
///
/// # Errors
/// When it is none.
#[cfg(feature = "simulated")]
pub fn decode(body: &[u8]) -> Result<Entry, EntryRefused> {
    match postcard::take_from_bytes(body) {
        Ok((entry, [])) => Ok(entry),
        _ => Err(EntryRefused(body.len())),
    }
}
