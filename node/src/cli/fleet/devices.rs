//! `hedgerow fleet list|show|label|pin|unpin`.
//!
//! Not here: groups; see [`super::group`].

use std::collections::BTreeMap;

use clap::Args;
use jiff::Timestamp;
use protocol::label::{LabelChange, Labels};
use protocol::name::{DeviceId, GroupName, OrgName};
use protocol::rollout::AppReport;
use protocol::selector::Selector;
use protocol::time::WallTime;

use crate::api::{DeviceChange, DevicePage, DeviceShown};
use crate::cli::Output;
use crate::cli::operator::{AppPath, Operator};
use crate::cli::output::word;

/// `fleet list`.
#[derive(Debug, Args)]
pub struct List {
    /// The organisation.
    #[arg(long)]
    org: OrgName,
    /// Only devices of this group.
    #[arg(long)]
    group: Option<GroupName>,
    /// Only devices with these labels: a selector as for `fleet group create`.
    #[arg(long = "label", value_name = "SELECTOR")]
    selector: Option<Selector>,
    #[command(flatten)]
    operator: Operator,
    #[command(flatten)]
    output: Output,
}

/// `fleet show`.
#[derive(Debug, Args)]
pub struct Show {
    /// The device.
    device: DeviceId,
    /// The organisation.
    #[arg(long)]
    org: OrgName,
    #[command(flatten)]
    operator: Operator,
    #[command(flatten)]
    output: Output,
}

/// `fleet label`.
#[derive(Debug, Args)]
pub struct LabelArgs {
    /// The device.
    device: DeviceId,
    /// KEY=VALUE sets a label, KEY- takes it away. They win over what the device says of itself.
    #[arg(required = true, value_name = "CHANGE")]
    changes: Vec<LabelChange>,
    /// The organisation.
    #[arg(long)]
    org: OrgName,
    #[command(flatten)]
    operator: Operator,
    #[command(flatten)]
    output: Output,
}

/// `fleet pin`.
#[derive(Debug, Args)]
pub struct Pin {
    /// The device.
    device: DeviceId,
    /// The app, as ORG/APP.
    #[arg(long)]
    app: AppPath,
    /// The version.
    #[arg(long, value_name = "N")]
    version: u64,
    #[command(flatten)]
    operator: Operator,
    #[command(flatten)]
    output: Output,
}

/// `fleet unpin`.
#[derive(Debug, Args)]
pub struct Unpin {
    /// The device.
    device: DeviceId,
    /// The app, as ORG/APP.
    #[arg(long)]
    app: AppPath,
    #[command(flatten)]
    operator: Operator,
    #[command(flatten)]
    output: Output,
}

impl List {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let api = self.operator.connect()?;
        let mut found = DevicePage { devices: Vec::new(), next: None };
        loop {
            let mut query: Vec<(&str, String)> = Vec::new();
            query.extend(self.group.as_ref().map(|group| ("group", group.to_string())));
            query.extend(self.selector.as_ref().map(|selector| ("selector", selector.to_string())));
            query.extend(found.next.take().map(|last| ("last", last.to_string())));
            let page: DevicePage = api.get_with(&format!("/api/v1/orgs/{}/devices", self.org), &query).await?;
            found.devices.extend(page.devices);
            found.next = page.next;
            if found.next.is_none() {
                break;
            }
        }
        self.output.print(&found, || {
            if found.devices.is_empty() { "no device".to_owned() } else { found.devices.iter().map(line).collect::<Vec<_>>().join("\n") }
        })
    }
}

impl Show {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let path = format!("/api/v1/orgs/{}/devices/{}", self.org, self.device);
        let shown: DeviceShown = self.operator.connect()?.get(&path).await?;
        self.output.print(&shown, || describe(&shown))
    }
}

impl LabelArgs {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let mut change = DeviceChange::default();
        for wanted in self.changes {
            match wanted {
                LabelChange::Set(label) => drop(change.set_labels.insert(label.key, label.value)),
                LabelChange::Remove(key) => change.remove_labels.push(key),
            }
        }
        let shown = patch(&self.operator, &self.org, &self.device, &change).await?;
        self.output.print(&shown, || describe(&shown))
    }
}

impl Pin {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let change = DeviceChange { pins: [(self.app.app, Some(self.version))].into(), ..DeviceChange::default() };
        let shown = patch(&self.operator, &self.app.org, &self.device, &change).await?;
        self.output.print(&shown, || describe(&shown))
    }
}

impl Unpin {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let change = DeviceChange { pins: [(self.app.app, None)].into(), ..DeviceChange::default() };
        let shown = patch(&self.operator, &self.app.org, &self.device, &change).await?;
        self.output.print(&shown, || describe(&shown))
    }
}

async fn patch(operator: &Operator, org: &OrgName, device: &DeviceId, change: &DeviceChange) -> anyhow::Result<DeviceShown> {
    operator.connect()?.patch(&format!("/api/v1/orgs/{org}/devices/{device}"), change).await
}

fn labels(labels: &Labels) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",").escape_debug().to_string()
}

fn line(device: &DeviceShown) -> String {
    let app = |(app, report): (&_, &AppReport)| format!("{app} v{} {}", report.version, word(&report.state));
    let apps: Vec<String> = device.apps.iter().map(app).collect();
    let stale = if device.stale { "STALE  " } else { "" };
    format!("{:<24}{:<16}{:<40}{stale}{}", device.device, device.platform, labels(&device.labels), apps.join(", ")).trim_end().to_owned()
}

fn describe(device: &DeviceShown) -> String {
    let moment = |at: WallTime| i64::try_from(at.as_unix_seconds()).ok().and_then(|at| Timestamp::from_second(at).ok());
    let shown = |at: Option<WallTime>| at.and_then(moment).map_or_else(|| "never".to_owned(), |at| at.to_string());
    let list = |pairs: &BTreeMap<_, _>| pairs.iter().map(|(app, of)| format!("{app} {of}")).collect::<Vec<String>>().join(", ");
    let mut lines = vec![
        format!("{} ({})", device.device, device.platform),
        format!("  enrolled    {}", shown(Some(device.enrolled))),
        format!("  reported    {}", shown(device.reported)),
        format!("  labels      {}", labels(&device.labels)),
        format!("  operator's  {}", labels(&device.operator_labels)),
    ];
    if !device.groups.is_empty() {
        lines.push(format!(
            "  groups      {}",
            device.groups.iter().map(|(app, group)| format!("{app} {group}")).collect::<Vec<_>>().join(", ")
        ));
    }
    if !device.pins.is_empty() {
        lines.push(format!("  pinned      {}", list(&device.pins)));
    }
    for (app, report) in &device.apps {
        let running = report.running.map_or_else(|| "nothing".to_owned(), |version| format!("version {version}"));
        let reason = report.reason.as_ref().map(|reason| format!(": {}", reason.escape_debug())).unwrap_or_default();
        lines.push(format!("  {app}: version {} {}, runs {running}{reason}", report.version, word(&report.state)));
    }
    if device.stale {
        lines.push("  stale       for a week it could accept nothing of what its seed said".to_owned());
    }
    for (refused, count) in &device.refused {
        lines.push(format!("  refused {count} documents: {}", refused.escape_debug()));
    }
    lines.join("\n")
}
