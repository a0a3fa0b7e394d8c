//! What a device's swarm is doing, for people and programs on this machine.
//!
//! Not here: how it is shown; see `cli::swarm`.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use protocol::digest::Digest;
use protocol::swarm::Source;
use serde::{Deserialize, Serialize};

use super::Driver;

/// What the swarm is doing at a moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwarmStatus {
    /// Milliseconds since the device started.
    pub uptime_ms: u64,
    /// The connected peers.
    pub peers: Vec<PeerStatus>,
    /// The blobs on their way.
    pub blobs: Vec<BlobStatus>,
}

/// One connected peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its name.
    pub device: String,
    /// Where it takes connections.
    pub address: SocketAddr,
    /// `quic`, or `https` where no UDP comes through.
    pub transport: String,
    /// The connection's round trip in microseconds, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round_trip_us: Option<u64>,
    /// Bytes received from it over this connection: of datagrams, or of blobs over HTTPS.
    pub received_bytes: u64,
    /// Bytes sent to it over this connection.
    pub sent_bytes: u64,
    /// Requests to it that are under way: it serves this device.
    pub asked: usize,
    /// Requests of it that are being served: this device serves it.
    pub serving: usize,
    /// For how many seconds nothing that it says or holds counts, because it sent a wrong unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub banned_seconds: Option<u64>,
}

/// One blob on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobStatus {
    /// The blob.
    pub blob: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Bytes of it that are stored and verified.
    pub stored_bytes: u64,
    /// Pieces that it has.
    pub pieces: u32,
    /// Requests for it under way.
    pub requests: usize,
    /// Bytes by source since the start: `seed`, or a peer's name.
    pub sources: BTreeMap<String, u64>,
}

impl Driver {
    pub(super) fn status(&self) -> SwarmStatus {
        let now = self.clock.now();
        let peers = self.peers.iter().map(|(node, peer)| {
            let (received_bytes, sent_bytes) = peer.link.traffic();
            PeerStatus {
                device: peer.device.to_string(),
                address: peer.listens_on,
                transport: peer.link.transport().to_owned(),
                round_trip_us: peer.link.round_trip().map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
                received_bytes,
                sent_bytes,
                asked: self.fetches.values().filter(|fetch| fetch.source == Source::Peer(*node)).count(),
                serving: self.serving.values().filter(|served| *served == node).count(),
                banned_seconds: self.swarm.banned_until(now, *node).map(|until| until.since(now).as_secs()),
            }
        });
        let blobs = self.swarm.wanted().map(|(blob, size, stored_bytes)| BlobStatus {
            blob,
            size,
            stored_bytes,
            pieces: self.content.get(&blob).map_or(0, |held| held.geometry().pieces()),
            requests: self.fetches.values().filter(|fetch| fetch.blob == blob).count(),
            sources: self.sources_of(&blob),
        });
        SwarmStatus { uptime_ms: now.as_micros() / 1000, peers: peers.collect(), blobs: blobs.collect() }
    }

    /// Bytes of a blob on its way, by the name of who brought them.
    pub(super) fn sources_of(&self, blob: &Digest) -> BTreeMap<String, u64> {
        let mut named = BTreeMap::new();
        for (source, bytes) in self.sources.get(blob).into_iter().flatten() {
            let name = match source {
                Source::Wan => "seed".to_owned(),
                Source::Peer(node) => self.device_name(*node),
            };
            *named.entry(name).or_default() += bytes;
        }
        named
    }
}
