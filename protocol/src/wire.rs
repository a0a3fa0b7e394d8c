//! What peers say to each other over `hedgerow-blob/1`.
//!
//! A connection has one control stream, opened by whoever dialled: frames both ways, each a big-endian `u32` length and
//! one [`Message`] in postcard encoding; the first message each way is [`Message::Hello`]. Bytes flow on further
//! bidirectional streams, one a request: a [`Get`] frame, a [`GetReply`] frame, then, after [`GetReply::Sending`], the
//! bytes of the units and nothing else.
//!
//! Not here: what is done with a message; see [`crate::swarm`].

pub mod codec;
pub mod limits;

use std::net::SocketAddr;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::bits::Bits;
use crate::digest::Digest;

/// The ALPN protocol name (RFC 7301) of these messages.
pub const ALPN: &[u8] = b"hedgerow-blob/1";

/// The version that [`Message::Hello`] carries.
pub const VERSION: u16 = 2;

/// A run of pieces, from `start` up to but without `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PieceRange {
    /// The first piece.
    pub start: u32,
    /// One more than the last.
    pub end: u32,
}

impl From<Range<u32>> for PieceRange {
    fn from(range: Range<u32>) -> Self {
        Self { start: range.start, end: range.end }
    }
}

impl From<PieceRange> for Range<u32> {
    fn from(range: PieceRange) -> Self {
        range.start..range.end
    }
}

/// How far the fetch of a claimed span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimProgress {
    /// The blob.
    pub blob: Digest,
    /// The span.
    pub span: u32,
    /// Bytes received so far.
    pub bytes: u64,
}

/// A control message. All of them are hints: no byte is stored, and no decision about versions made, because a peer said so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// First message each way.
    Hello {
        /// [`VERSION`] of the sender.
        version: u16,
        /// The UDP port on which the sender takes connections.
        port: u16,
    },
    /// Where other peers of this site may be found.
    Peers {
        /// Their swarm addresses.
        addresses: Vec<SocketAddr>,
    },
    /// The sender wants a blob, and asks what the receiver holds of it.
    Interest {
        /// The blob.
        blob: Digest,
    },
    /// The answer to [`Message::Interest`].
    Holding {
        /// The blob.
        blob: Digest,
        /// Whether the sender wants it too.
        wanted: bool,
        /// What it holds; further pieces follow in [`Message::Have`] if the list is at its limit.
        pieces: Vec<PieceRange>,
    },
    /// The sender holds further pieces.
    Have {
        /// The blob.
        blob: Digest,
        /// The pieces.
        pieces: Vec<PieceRange>,
    },
    /// The sender is about to fetch a span over the WAN.
    Claim {
        /// The blob.
        blob: Digest,
        /// The span.
        span: u32,
    },
    /// The sender will not fetch the span after all.
    Release {
        /// The blob.
        blob: Digest,
        /// The span.
        span: u32,
    },
    /// How far the sender's claims are; sent while it has any.
    Progress {
        /// The claims.
        claims: Vec<ClaimProgress>,
    },
    /// The sender no longer holds anything of a blob.
    Dropped {
        /// The blob.
        blob: Digest,
    },
    /// The receiver sent the sender a unit that does not match its hash.
    Refused {
        /// The blob.
        blob: Digest,
        /// The unit.
        unit: u32,
    },
    /// The sender found that its blob had rotted, and threw it away.
    Mended {
        /// The blob.
        blob: Digest,
    },
}

/// A request for units, the first frame of a byte stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Get {
    /// The blob.
    pub blob: Digest,
    /// The first unit.
    pub first_unit: u32,
    /// How many units.
    pub units: u32,
}

/// The answer to a [`Get`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GetReply {
    /// The bytes follow.
    Sending,
    /// The sender does not hold all of the units.
    NotHeld,
    /// The sender serves as many as it can; ask again later or elsewhere.
    Busy,
}

/// The set as messages can carry it: at most [`limits::RANGES_MAX`] ranges in each part.
pub fn piece_ranges(pieces: &Bits) -> Vec<Vec<PieceRange>> {
    let ranges: Vec<PieceRange> = pieces.ranges().map(PieceRange::from).collect();
    ranges.chunks(limits::RANGES_MAX).map(<[_]>::to_vec).collect()
}
