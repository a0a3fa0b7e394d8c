//! `hedgerow demo`.
//!
//! Not here: what it does; see [`crate::demo`].

use std::path::PathBuf;

use clap::Args;
use protocol::byte_size;

use super::Output;
use crate::demo::report::Progress;
use crate::demo::{DEVICES_MAX, SIZE_MAX, SIZE_MIN, Settings, run};
use crate::telemetry::LogFormat;

/// `demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// How many devices.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=DEVICES_MAX))]
    devices: u64,
    /// Bytes of version 1 that one device needs, 4 MiB to 64 GiB, for example 500MB or 1G; met within 2 %.
    #[arg(long, value_name = "BYTES", default_value = "64MiB", value_parser = size)]
    size: u64,
    /// The rate of the seed's line to all devices together, in Mbit/s.
    #[arg(long, value_name = "MBIT", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    wan_mbit: u64,
    /// Put all data directories and logs into this new folder, and leave them there.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

fn size(text: &str) -> anyhow::Result<u64> {
    let size = byte_size::parse(text)?;
    anyhow::ensure!((SIZE_MIN..=SIZE_MAX).contains(&size), "the demo takes 4MiB to 64GiB");
    Ok(size)
}

impl Demo {
    /// Carries out the subcommand.
    ///
    /// # Errors
    /// With what failed, why, and what to do.
    pub async fn run(self, log: LogFormat) -> anyhow::Result<()> {
        let settings = Settings { devices: self.devices, size: self.size, wan_mbit: self.wan_mbit, keep: self.keep };
        let report = run(settings, Progress::new(log)).await?;
        self.output.print(&report, || report.text())?;
        report.check()
    }
}
