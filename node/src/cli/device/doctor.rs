//! `hedgerow device doctor`.
//!
//! Not here: the checks; see [`crate::device::doctor`].

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use serde_json::json;

use super::Settings;
use crate::cli::Output;
use crate::config::device::DeviceConfig;
use crate::control::{Access, access};
use crate::device::doctor::{Finding, examine};

/// `device doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Where the device keeps everything.
    #[arg(long, value_name = "DIR", env = "HEDGEROW_DATA")]
    data: PathBuf,
    /// Settings; default: config.toml in --data, if there is one.
    #[arg(long, value_name = "FILE", env = "HEDGEROW_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    output: Output,
}

impl Doctor {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let config = DeviceConfig::load(&self.data, self.config.as_deref(), self.settings.into_file())?;
        let (running, _lock) = match access(&self.data, "device doctor")? {
            Access::Alone(lock) => (None, Some(lock)),
            Access::Running(_, Some(client)) => (Some(client.get("health").await?), None),
            Access::Running(held, None) => bail!("{held}; it has no control socket, so stop it first"),
        };
        let findings = examine(&config, running.as_ref()).await?;
        self.output.print(&json!({"findings": findings}), || findings.iter().map(line).collect::<Vec<_>>().join("\n"))?;
        let wrong = findings.iter().filter(|finding| !finding.ok).count();
        if wrong > 0 {
            bail!("{wrong} of {} checks found something; each says what to do", findings.len());
        }
        Ok(())
    }
}

fn line(finding: &Finding) -> String {
    let mark = if finding.ok { "ok" } else { "!!" };
    let next = finding.next.as_ref().map(|next| format!("\n   {:<10} next: {next}", "")).unwrap_or_default();
    format!("{mark} {:<10} {}{next}", finding.check, finding.found)
}
