//! `hedgerow device swarm`: what this device's swarm is doing, asked of the running device.
//!
//! Not here: what the figures mean; see [`crate::device::swarm::status`].

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use serde::Serialize;

use super::Output;
use crate::control::{Access, Client, access};
use crate::device::swarm::status::{BlobStatus, PeerStatus, SwarmStatus};

/// Between the two looks that rates are made of, and between lines of `--watch`.
const INTERVAL: Duration = Duration::from_secs(1);

/// `device swarm`.
#[derive(Debug, Args)]
pub struct Swarm {
    /// The device's directory.
    #[arg(long, value_name = "DIR", env = "HEDGEROW_DATA")]
    data: PathBuf,
    /// Go on, with a look a second, until interrupted.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    output: Output,
}

/// What is shown: a look, and the rates since the one before.
#[derive(Debug, Serialize)]
struct Shown {
    peers: Vec<ShownPeer>,
    blobs: Vec<BlobStatus>,
}

#[derive(Debug, Serialize)]
struct ShownPeer {
    #[serde(flatten)]
    peer: PeerStatus,
    received_bytes_per_second: u64,
    sent_bytes_per_second: u64,
}

impl Swarm {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = match access(&self.data, "device")? {
            Access::Alone(_) => bail!("no device runs in {}; start it with `hedgerow device run`", self.data.display()),
            Access::Running(held, None) => bail!("{held}, and it has no control socket; is it a device, and has it started?"),
            Access::Running(_, Some(client)) => client,
        };
        let mut before = look(&client).await?;
        loop {
            tokio::time::sleep(INTERVAL).await;
            let now = look(&client).await?;
            let shown = Shown::new(&before, now.clone());
            self.output.print(&shown, || shown.text())?;
            if !self.watch {
                return Ok(());
            }
            before = now;
        }
    }
}

async fn look(client: &Client) -> anyhow::Result<SwarmStatus> {
    client.get("swarm").await
}

impl Shown {
    fn new(before: &SwarmStatus, now: SwarmStatus) -> Self {
        let milliseconds = now.uptime_ms.saturating_sub(before.uptime_ms).max(1);
        let peers = now.peers.into_iter().map(|peer| {
            let known = before.peers.iter().find(|known| known.device == peer.device);
            let rate = |of: fn(&PeerStatus) -> u64| {
                let new = of(&peer).saturating_sub(known.map_or(0, of));
                new.saturating_mul(1000) / milliseconds
            };
            let (received_bytes_per_second, sent_bytes_per_second) = (rate(|peer| peer.received_bytes), rate(|peer| peer.sent_bytes));
            ShownPeer { peer, received_bytes_per_second, sent_bytes_per_second }
        });
        Self { peers: peers.collect(), blobs: now.blobs }
    }

    fn text(&self) -> String {
        let mut lines = vec![format!("{} peers connected, {} blobs on their way", self.peers.len(), self.blobs.len())];
        for ShownPeer { peer, received_bytes_per_second, sent_bytes_per_second } in &self.peers {
            let way = peer.round_trip_us.map_or_else(|| peer.transport.clone(), |us| format!("{}.{} ms", us / 1000, us % 1000 / 100));
            let banned = peer.banned_seconds.map(|seconds| format!(", banned for {seconds} s")).unwrap_or_default();
            lines.push(format!(
                "peer {:<20} {:<22} {:>9}  in {:>12}/s ({} requests)  out {:>12}/s ({} requests){banned}",
                peer.device,
                peer.address.to_string(),
                way,
                size(*received_bytes_per_second),
                peer.asked,
                size(*sent_bytes_per_second),
                peer.serving,
            ));
        }
        for blob in &self.blobs {
            let sources: Vec<String> = blob.sources.iter().map(|(name, bytes)| format!("{name} {}", size(*bytes))).collect();
            let share = blob.stored_bytes.saturating_mul(100) / blob.size.max(1);
            let (stored, whole) = (size(blob.stored_bytes), size(blob.size));
            lines.push(format!(
                "blob {}: {stored} of {whole} ({share} %), {} pieces, {} requests; from {}",
                blob.blob,
                blob.pieces,
                blob.requests,
                if sources.is_empty() { "nobody yet".to_owned() } else { sources.join(", ") },
            ));
        }
        lines.join("\n")
    }
}

/// A number of bytes as people read it.
fn size(bytes: u64) -> String {
    match bytes {
        0..0x400 => format!("{bytes} B"),
        0x400..0x10_0000 => format!("{}.{} KiB", bytes >> 10, ((bytes % (1 << 10)) * 10) >> 10),
        _ => format!("{}.{} MiB", bytes >> 20, ((bytes % (1 << 20)) * 10) >> 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(uptime_ms: u64, received_bytes: u64) -> SwarmStatus {
        let (device, address) = ("two".to_owned(), "10.0.0.2:7446".parse().unwrap());
        let (transport, round_trip_us) = ("quic".to_owned(), Some(1250));
        let (sent_bytes, asked, serving, banned_seconds) = (0, 3, 0, None);
        let peer = PeerStatus { device, address, transport, round_trip_us, received_bytes, sent_bytes, asked, serving, banned_seconds };
        SwarmStatus { uptime_ms, peers: vec![peer], blobs: Vec::new() }
    }

    #[test]
    fn rates_are_what_came_between_two_looks() {
        let shown = Shown::new(&status(1000, 1 << 20), status(1500, 3 << 20));
        assert_eq!(shown.peers[0].received_bytes_per_second, 4 << 20);
        let text = shown.text();
        assert!(text.contains("two") && text.contains("1.2 ms") && text.contains("4.0 MiB/s (3 requests)"), "{text}");
        assert_eq!(
            Shown::new(&SwarmStatus { peers: Vec::new(), ..status(1000, 0) }, status(2000, 5)).peers[0].received_bytes_per_second,
            5
        );
    }
}
