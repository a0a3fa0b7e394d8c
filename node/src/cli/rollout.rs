//! `hedgerow rollout …`.
//!
//! Not here: what a device does with a version; see [`protocol::agent`].

use std::time::Duration;

use clap::{Args, Subcommand};
use protocol::name::GroupName;
use protocol::rollout::judge::{AbortRule, DEVICES_MIN};
use protocol::rollout::steps::{Share, Steps};
use protocol::rollout::window::Window;
use protocol::rollout::{DeviceState, Plan, Rollout};
use protocol::span::Span;
use serde_json::json;

use super::Output;
use super::operator::{AppPath, Operator, SeedApi};
use super::output::word;
use crate::api::{AbortRollout, NewRollout, RolloutStatus};

/// Between two looks of `status --watch`.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Deliver a version to a group of devices, at once or step by step.
    Start(Start),
    /// Count the devices of an app's newest rollout by state.
    Status(Status),
    /// Let no further device start the version for now; the clock of the steps stops.
    Pause(Change),
    /// Go on after a pause, or begin after --prefetch-only.
    Resume(Change),
    /// Let no further device start the version any more; those that did keep it.
    Abort(Abort),
    /// Roll out the version that the group had before, to all at once.
    Rollback(Change),
    /// List the rollouts of an app, oldest first.
    List(List),
}

/// `rollout start`.
#[derive(Debug, Args)]
pub struct Start {
    /// The app, as ORG/APP.
    app: AppPath,
    /// The version.
    #[arg(long, value_name = "N")]
    version: u64,
    /// The group of devices; `all` is every device that no other group of the app has.
    #[arg(long)]
    group: GroupName,
    /// Which share of the devices may start when: 10%,1h,50%,1d,100% is 10 % at once, 50 % after an hour, all after a day
    /// more. Default: all at once.
    #[arg(long)]
    steps: Option<Steps>,
    /// Abort when more than this share of the devices that ended failed. Default: never.
    #[arg(long, value_name = "SHARE")]
    max_failures: Option<Share>,
    /// How many devices must have ended before the share of failures counts; all of them in a smaller group. [default: 10]
    #[arg(long, value_name = "N", requires = "max_failures")]
    min_devices: Option<u64>,
    /// A device that has not said how it ended so long after its turn came counts as failed, for example 30m. Default: never.
    #[arg(long, value_name = "TIME")]
    silence: Option<Span>,
    /// Start only in this time of day, in UTC, for example 22:00-04:00.
    #[arg(long, value_name = "HH:MM-HH:MM")]
    window: Option<Window>,
    /// Only fetch the version; `rollout resume` starts it.
    #[arg(long)]
    prefetch_only: bool,
    /// How long a device that is cut off may go on to start by the steps. [default: 1d]
    #[arg(long, value_name = "TIME")]
    start_within: Option<Span>,
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
    /// The group; default: that of the newest open rollout, else of the newest.
    #[arg(long)]
    group: Option<GroupName>,
    /// Print it again with each change, until the rollout is done, aborted or rolled back.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    operator: Operator,
    #[command(flatten)]
    output: Output,
}

/// `rollout pause`, `resume` and `rollback`.
#[derive(Debug, Args)]
pub struct Change {
    /// The app, as ORG/APP.
    app: AppPath,
    /// The group; default: the only one with an open rollout, else that of the newest.
    #[arg(long)]
    group: Option<GroupName>,
    #[command(flatten)]
    operator: Operator,
    #[command(flatten)]
    output: Output,
}

/// `rollout abort`.
#[derive(Debug, Args)]
pub struct Abort {
    /// Why, as `rollout status` says it.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    change: Change,
}

/// `rollout list`.
#[derive(Debug, Args)]
pub struct List {
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
            Self::Start(start) => start.run().await,
            Self::Status(status) => status.run().await,
            Self::Pause(change) => change.run("pause", &json!({})).await,
            Self::Resume(change) => change.run("resume", &json!({})).await,
            Self::Abort(abort) => abort.change.run("abort", &AbortRollout { reason: abort.reason }).await,
            Self::Rollback(change) => change.run("rollback", &json!({})).await,
            Self::List(list) => list.run().await,
        }
    }
}

impl Start {
    async fn run(self) -> anyhow::Result<()> {
        let devices_min = self.min_devices.unwrap_or(DEVICES_MIN);
        let plan = Plan {
            steps: self.steps.unwrap_or_default(),
            window: self.window,
            abort: self.max_failures.map(|max_failures| AbortRule::Threshold { max_failures, devices_min }),
            silence: self.silence,
            start_within: self.start_within,
            prefetch_only: self.prefetch_only,
        };
        let new = NewRollout { app: self.app.app, version: self.version, group: self.group, plan };
        let status: RolloutStatus = self.operator.connect()?.post(&format!("/api/v1/orgs/{}/rollouts", self.app.org), &new).await?;
        self.output.print(&status, || describe(&status))
    }
}

impl Status {
    async fn run(self) -> anyhow::Result<()> {
        let api = self.operator.connect()?;
        let mut shown = String::new();
        loop {
            let status = newest(&api, &self.app, self.group.as_ref()).await?;
            let text = serde_json::to_string(&status)?;
            if text != shown {
                self.output.print(&status, || describe(&status))?;
                shown = text;
            }
            if !self.watch || !(status.state.is_open()) {
                return Ok(());
            }
            tokio::time::sleep(WATCH_INTERVAL).await;
        }
    }
}

impl Change {
    async fn run(self, action: &str, body: &impl serde::Serialize) -> anyhow::Result<()> {
        let AppPath { org, app } = &self.app;
        let query = self.group.as_ref().map(|group| format!("?group={group}")).unwrap_or_default();
        let path = format!("/api/v1/orgs/{org}/apps/{app}/rollout/{action}{query}");
        let status: RolloutStatus = self.operator.connect()?.post(&path, body).await?;
        self.output.print(&status, || describe(&status))
    }
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let path = format!("/api/v1/orgs/{}/apps/{}/rollouts", self.app.org, self.app.app);
        let rollouts: Vec<Rollout> = self.operator.connect()?.get(&path).await?;
        let none = || format!("{}/{} has no rollout; start one with `hedgerow rollout start`", self.app.org, self.app.app);
        self.output.print(&json!({"rollouts": rollouts}), || {
            if rollouts.is_empty() { none() } else { rollouts.iter().map(line).collect::<Vec<_>>().join("\n") }
        })
    }
}

async fn newest(api: &SeedApi, app: &AppPath, group: Option<&GroupName>) -> anyhow::Result<RolloutStatus> {
    let query: Vec<(&str, String)> = group.map(|group| ("group", group.to_string())).into_iter().collect();
    api.get_with(&format!("/api/v1/orgs/{}/apps/{}/rollout", app.org, app.app), &query).await
}

fn line(rollout: &Rollout) -> String {
    let reason = rollout.reason.as_ref().map(|reason| format!(": {}", reason.escape_debug())).unwrap_or_default();
    format!("{}  version {:<6}{:<24}{}{reason}", rollout.id, rollout.version, rollout.group, word(&rollout.state))
}

fn describe(status: &RolloutStatus) -> String {
    let devices = DeviceState::ALL.iter().filter_map(|state| {
        let count = status.devices.get(state).copied().unwrap_or(0);
        (count > 0).then(|| format!("  {:<12}{count}", word(state)))
    });
    let failures = status.failures.iter().map(|(reason, count)| format!("  {count} failed: {}", reason.escape_debug()));
    let head = format!("{} version {} to group {}: {}", status.app, status.version, status.group, word(&status.state));
    let steps = format!("  {} of the devices may start (steps {})", status.share, status.plan.steps);
    let steps = (!status.plan.steps.is_at_once() || status.plan.prefetch_only).then_some(steps);
    let reason = status.reason.as_ref().map(|reason| format!("  {}", reason.escape_debug()));
    std::iter::once(head).chain(reason).chain(steps).chain(devices).chain(failures).collect::<Vec<_>>().join("\n")
}
