//! `hedgerow rollout …`.
//!
//! Not here: what a device does with a version; see [`protocol::agent`].

use clap::{Args, Subcommand};
use protocol::rollout::DeviceState;

use super::Output;
use super::operator::{AppPath, Operator};
use crate::api::{NewRollout, RolloutStatus};

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Deliver a version to a group of devices.
    Start(Start),
    /// Count the devices of an app's newest rollout by state.
    Status(Status),
}

/// `rollout start`.
#[derive(Debug, Args)]
pub struct Start {
    /// The app, as ORG/APP.
    app: AppPath,
    /// The version.
    #[arg(long, value_name = "N")]
    version: u64,
    /// The group of devices; `all` is every device of the organisation.
    #[arg(long)]
    group: String,
    #[command(flatten)]
    operator: Operator,
    #[command(flatten)]
    output: Output,
}

/// `rollout status`.
#[derive(Debug, Args)]
pub struct Status {
    /// The app, as ORG/APP.
    app: AppPath,
    #[command(flatten)]
    operator: Operator,
    #[command(flatten)]
    output: Output,
}

impl Command {
    /// Carries out the subcommand.
    ///
    /// # Errors
    /// With what failed, why, and what to do.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Start(start) => {
                let new = NewRollout { app: start.app.app, version: start.version, group: start.group };
                let status: RolloutStatus =
                    start.operator.connect()?.post(&format!("/api/v1/orgs/{}/rollouts", start.app.org), &new).await?;
                start.output.print(&status, || describe(&status))
            }
            Self::Status(status) => {
                let path = format!("/api/v1/orgs/{}/apps/{}/rollout", status.app.org, status.app.app);
                let found: RolloutStatus = status.operator.connect()?.get(&path).await?;
                status.output.print(&found, || describe(&found))
            }
        }
    }
}

/// A state as JSON spells it, so that people and programs read the same word.
fn name(state: &impl serde::Serialize) -> String {
    serde_json::to_string(state).unwrap_or_default().trim_matches('"').to_owned()
}

fn describe(status: &RolloutStatus) -> String {
    let devices = DeviceState::ALL.iter().filter_map(|state| {
        let count = status.devices.get(state).copied().unwrap_or(0);
        (count > 0).then(|| format!("  {:<12}{count}", name(state)))
    });
    let failures = status.failures.iter().map(|(reason, count)| format!("  {count} failed: {}", reason.escape_debug()));
    let head = format!("{} version {} to group {}: {}", status.app, status.version, status.group, name(&status.state));
    std::iter::once(head).chain(devices).chain(failures).collect::<Vec<_>>().join("\n")
}
