//! What the swarm machine hears, what it demands of its driver, and what it tells its owner. `I` is what tells nodes apart to
//! the machine: see [`crate::name::Identity`].
//!
//! Not here: what follows from it; see [`super::Swarm`].

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::bits::Bits;
use crate::digest::Digest;
use crate::geometry::Geometry;
use crate::name::NodeId;
use crate::time::Instant;
use crate::verify::{UnitProof, VerifiedBlob};
use crate::wire::Message;

/// A fetch of this node, unique within its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FetchId(pub u64);

/// A request of a peer, named by the driver, unique within the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AskId(pub u64);

/// Where bytes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Source<I = NodeId> {
    /// The seed, over the WAN.
    Wan,
    /// A peer of this site.
    Peer(I),
}

/// How a fetch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FetchEnd {
    /// All of its units were stored.
    Complete,
    /// The connection failed or the source answered with an error.
    Failed,
    /// The peer does not hold what was asked for.
    NotHeld,
    /// The peer serves as many as it can.
    Busy,
    /// This node could not store what came: its disk failed or is full.
    StorageFailed,
    /// This unit did not match its hash; what came before it was stored.
    Refused {
        /// The unit's index.
        unit: u32,
    },
}

/// What happened outside.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "simulated", derive(Deserialize))]
pub enum Input<I = NodeId> {
    /// A peer of the same organisation and site is connected.
    PeerJoined {
        /// The peer.
        peer: I,
    },
    /// The connection to a peer is gone, and every fetch from it.
    PeerLeft {
        /// The peer.
        peer: I,
    },
    /// A peer sent a control message.
    Received {
        /// The peer.
        peer: I,
        /// The message.
        message: Message,
    },
    /// A blob is wanted here.
    Wanted {
        /// The blob.
        blob: Digest,
        /// How it is cut.
        geometry: Geometry,
        /// Units that are stored and verified already, from an earlier run.
        held: Bits,
    },
    /// A whole blob is stored here, and may be served.
    Held {
        /// Proof of its digest.
        blob: VerifiedBlob,
        /// How it is cut.
        geometry: Geometry,
    },
    /// A blob is neither wanted nor held any more.
    Dropped {
        /// The blob.
        blob: Digest,
    },
    /// A blob, stored or on its way, was hashed again, had rotted, and is gone; it may be wanted anew with what is sound.
    Rotten {
        /// The blob.
        blob: Digest,
    },
    /// A unit was verified and stored.
    UnitStored {
        /// The fetch that brought it.
        fetch: FetchId,
        /// That it was verified.
        proof: UnitProof,
    },
    /// Bytes arrived, though perhaps no whole unit.
    Progressed {
        /// The fetch.
        fetch: FetchId,
        /// Bytes of it received so far.
        bytes: u64,
    },
    /// A fetch is over; not said of one that was cancelled.
    FetchEnded {
        /// The fetch.
        fetch: FetchId,
        /// How it ended.
        end: FetchEnd,
    },
    /// The whole digest of a blob was checked and fits.
    BlobVerified {
        /// The proof.
        blob: VerifiedBlob,
    },
    /// The whole digest of a blob could not be checked, or the blob not be stored: the disk failed or is full.
    VerifyFailed {
        /// The blob.
        blob: Digest,
    },
    /// All units fit the hash list, but the whole does not fit the digest: the list lied.
    BlobMismatched {
        /// The blob.
        blob: Digest,
    },
    /// A peer asks for units.
    Asked {
        /// The peer.
        peer: I,
        /// The driver's name for the request.
        ask: AskId,
        /// The blob.
        blob: Digest,
        /// The units.
        units: Range<u32>,
    },
    /// A request was served, or its stream broke.
    AskEnded {
        /// The request.
        ask: AskId,
    },
}

/// What the driver must do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect<I = NodeId> {
    /// Send a control message.
    Send {
        /// To this peer.
        peer: I,
        /// The message.
        message: Message,
    },
    /// Send one control message to several peers.
    SendAll {
        /// To these peers.
        peers: Vec<I>,
        /// The message.
        message: Message,
    },
    /// Fetch units, verify and store each, and say so for each.
    Fetch {
        /// Its name from now on.
        fetch: FetchId,
        /// From where.
        source: Source<I>,
        /// The blob.
        blob: Digest,
        /// The units, in order.
        units: Range<u32>,
    },
    /// Stop a fetch; its end is not reported.
    Cancel {
        /// The fetch.
        fetch: FetchId,
    },
    /// Check the whole digest of a blob all of whose units are stored.
    VerifyBlob {
        /// The blob.
        blob: Digest,
    },
    /// Hash what is stored of a blob again, because a peer got a wrong unit of it; throw away what has rotted, and say so.
    Recheck {
        /// The blob.
        blob: Digest,
    },
    /// Throw away all stored units of a blob: its hash list lied.
    DiscardUnits {
        /// The blob.
        blob: Digest,
        /// How it is cut from now on.
        geometry: Geometry,
    },
    /// Serve a peer's request.
    Serve {
        /// The request.
        ask: AskId,
    },
    /// Refuse a peer's request: it asked for what is not held.
    RefuseNotHeld {
        /// The request.
        ask: AskId,
    },
    /// Refuse a peer's request for now.
    RefuseBusy {
        /// The request.
        ask: AskId,
    },
    /// Close the connection to a peer.
    Disconnect {
        /// The peer.
        peer: I,
    },
}

/// What the owner may want to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event<I = NodeId> {
    /// A blob is whole and verified.
    BlobComplete {
        /// The blob.
        blob: Digest,
        /// Bytes of it that came over the WAN.
        wan_bytes: u64,
        /// Bytes of it that came from peers.
        lan_bytes: u64,
    },
    /// A source sent a unit that does not match its hash.
    UnitRefused {
        /// The source.
        source: Source<I>,
        /// The blob.
        blob: Digest,
        /// The unit.
        unit: u32,
    },
    /// Nothing that a peer says or holds counts until then.
    PeerBanned {
        /// The peer.
        peer: I,
        /// The end of the ban.
        until: Instant,
    },
    /// A stored blob had rotted on this node's disk.
    StorageFault {
        /// The blob.
        blob: Digest,
    },
    /// A blob's hash list does not describe the blob.
    HashListLied {
        /// The blob.
        blob: Digest,
    },
}
