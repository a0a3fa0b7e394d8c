//! `hedgerow device peers`.
//!
//! Not here: what is told; see [`crate::device::control`].

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use serde_json::json;

use crate::cli::Output;
use crate::control::{Access, Client, access};
use crate::device::control::PeerShown;

/// Between two looks of `--watch`.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// `device peers`.
#[derive(Debug, Args)]
pub struct Peers {
    /// Where the device keeps everything.
    #[arg(long, value_name = "DIR", env = "HEDGEROW_DATA")]
    data: PathBuf,
    /// Print them again whenever one comes or goes, until this is interrupted.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    output: Output,
}

impl Peers {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = match access(&self.data, "device peers")? {
            Access::Running(_, Some(client)) => client,
            Access::Running(held, None) => bail!("{held}; it has no control socket, so it cannot be asked"),
            Access::Alone(_) => bail!("no device runs in {}; start it with `hedgerow device run`", self.data.display()),
        };
        let mut shown = self.show(&client).await?;
        if !self.watch {
            return Ok(());
        }
        loop {
            tokio::time::sleep(WATCH_EVERY).await;
            if addresses(&client.get::<Vec<PeerShown>>("peers").await?) != shown {
                shown = self.show(&client).await?;
            }
        }
    }

    async fn show(&self, client: &Client) -> anyhow::Result<Vec<String>> {
        let peers: Vec<PeerShown> = client.get("peers").await?;
        self.output.print(&json!({"peers": peers}), || {
            if peers.is_empty() { "no peer".to_owned() } else { peers.iter().map(line).collect::<Vec<_>>().join("\n") }
        })?;
        Ok(addresses(&peers))
    }
}

fn addresses(peers: &[PeerShown]) -> Vec<String> {
    peers.iter().map(|peer| format!("{} {}", peer.device, peer.address)).collect()
}

fn line(peer: &PeerShown) -> String {
    let PeerShown { device, address, seconds, rtt_us, received_bytes, sent_bytes, .. } = peer;
    let gossips = peer.gossips.as_ref().map(|program| format!(", gossips ({program})")).unwrap_or_default();
    let (received, sent) = (received_bytes >> 10, sent_bytes >> 10);
    format!("{device} at {address}: {seconds} s, {rtt_us} us away, {received} KiB received, {sent} KiB sent{gossips}")
}
