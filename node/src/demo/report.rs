//! What people and programs see of the demo: progress on stderr, the result on stdout.
//!
//! Not here: where the figures come from; see [`super::figures`].

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::telemetry::LogFormat;

const BAR: &str = "{msg:<24} {bar:32} {bytes:>11} of {total_bytes:<11} {prefix}";

/// Lines and bars on stderr; bars only on a terminal.
#[derive(Clone, Copy, Debug)]
pub struct Progress(LogFormat);

impl Progress {
    /// Lines look like log lines if those are for programs.
    pub const fn new(log: LogFormat) -> Self {
        Self(log)
    }

    /// Says how far the demo is.
    pub(super) fn say(self, line: impl Display) {
        match self.0 {
            LogFormat::Text => eprintln!("{line}"),
            LogFormat::Json => tracing::info!(event = "demo_step", "{line}"),
        }
    }

    /// A bar for `total` bytes.
    pub(super) fn bytes(self, what: &str, total: u64) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr()).with_message(what.to_owned());
        match ProgressStyle::with_template(BAR) {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }
    }
}

/// The demo's result.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// How many devices took part.
    pub devices: u64,
    /// The rate of the seed's line to the devices.
    pub wan_mbit: u64,
    /// Files of this machine in version 1.
    pub files: u64,
    /// Bytes of version 1 that were made up because this machine has too few files.
    pub generated_bytes: u64,
    /// The versions, as they were rolled out.
    pub versions: Vec<VersionReport>,
    /// The most memory of each process; empty where the system does not tell.
    pub rss_bytes: BTreeMap<String, u64>,
    /// The largest of them.
    pub rss_bytes_max: Option<u64>,
    /// Where everything was left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<PathBuf>,
}

/// What one rollout moved.
#[derive(Clone, Debug, Serialize)]
pub struct VersionReport {
    /// The version.
    pub version: u64,
    /// What one device needs: index, manifest, configuration and layers of its platform.
    pub content_bytes: u64,
    /// What of that no device held before.
    pub changed_bytes: u64,
    /// All bytes that the seed wrote to sockets of its device listener: payload, metadata, polls, handshakes.
    pub wan_bytes: u64,
    /// Bytes of datagrams that the devices received from each other.
    pub lan_bytes: u64,
    /// `wan_bytes` in parts of `changed_bytes`.
    pub wan_copies: f64,
    /// From the first byte of a blob over the WAN to the last device.
    pub seconds: f64,
    /// From the start of the rollout to the last device.
    pub total_seconds: f64,
    /// Devices whose blob files are all there and hash to their names.
    pub verified: u64,
    /// Where each device's blobs came from.
    pub per_device: Vec<DeviceReport>,
}

/// Where the blobs of one device came from.
#[derive(Clone, Debug, Serialize)]
pub struct DeviceReport {
    /// The device.
    pub device: String,
    /// Bytes of blobs from the seed.
    pub wan_bytes: u64,
    /// Bytes of blobs from other devices.
    pub lan_bytes: u64,
}

impl Report {
    /// Fails if not every device holds every version.
    ///
    /// # Errors
    /// With the version and how many devices hold it.
    pub fn check(&self) -> anyhow::Result<()> {
        for version in &self.versions {
            if version.verified != self.devices {
                let (number, verified) = (version.version, version.verified);
                anyhow::bail!(
                    "version {number} is whole and right on {verified} of {} devices only; use --keep DIR to look into it",
                    self.devices
                );
            }
        }
        Ok(())
    }

    /// The result as a table.
    pub fn text(&self) -> String {
        let mut lines = Vec::new();
        for version in &self.versions {
            let rate_seconds = version.changed_bytes as f64 * 8.0 / (self.wan_mbit as f64 * 1e6);
            lines.extend([
                format!("version {}: {} a device, {} of it new", version.version, size(version.content_bytes), size(version.changed_bytes)),
                format!("  {:<12}{:>14}{:>14}", "device", "from WAN", "from LAN"),
            ]);
            let row = |name: &str, wan, lan| format!("  {name:<12}{:>14}{:>14}", size(wan), size(lan));
            lines.extend(version.per_device.iter().map(|device| row(&device.device, device.wan_bytes, device.lan_bytes)));
            lines.extend([
                row("on the wire", version.wan_bytes, version.lan_bytes),
                format!("  WAN copies  {:>14.3}   (without sharing: {})", version.wan_copies, self.devices),
                format!("  seconds     {:>14.2}   (one copy at {} Mbit/s: {rate_seconds:.2})", version.seconds, self.wan_mbit),
                format!("  verified    {:>14}   devices of {}", version.verified, self.devices),
                String::new(),
            ]);
        }
        if let Some(bytes) = self.rss_bytes_max {
            lines.push(format!("most memory of a process: {}", size(bytes)));
        }
        if let Some(kept) = &self.kept {
            lines.push(format!("everything is kept in {}", kept.display()));
        }
        lines.join("\n")
    }
}

fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}
