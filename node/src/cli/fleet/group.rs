//! `hedgerow fleet group …`.
//!
//! Not here: which group a device is in; see [`protocol::group`].

use clap::{Args, Subcommand};
use protocol::group::Group;
use protocol::name::{GroupName, OrgName};
use protocol::selector::Selector;
use serde_json::json;

use crate::cli::Output;
use crate::cli::operator::{AppPath, Operator};

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a group of the devices whose labels a selector takes, for one app. It begins with what `all` has.
    Create(Create),
    /// List the groups.
    List(List),
    /// Remove a group; its devices go to the next one that takes them, or to `all`.
    Remove(Remove),
}

/// `fleet group create`.
#[derive(Debug, Args)]
pub struct Create {
    /// The group's name.
    name: GroupName,
    /// The app, as ORG/APP. For each app a device is in one group.
    #[arg(long)]
    app: AppPath,
    /// Which devices: terms KEY=VALUE, KEY!=VALUE, KEY or !KEY with commas between them, for example site=north,class!=lab.
    /// All must hold.
    #[arg(long)]
    selector: Selector,
    /// Of the groups that take a device the one with the highest priority has it; two of one app cannot have the same.
    #[arg(long, value_name = "N")]
    priority: u32,
    #[command(flatten)]
    operator: Operator,
    #[command(flatten)]
    output: Output,
}

/// `fleet group list`.
#[derive(Debug, Args)]
pub struct List {
    /// The organisation.
    #[arg(long)]
    org: OrgName,
    #[command(flatten)]
    operator: Operator,
    #[command(flatten)]
    output: Output,
}

/// `fleet group remove`.
#[derive(Debug, Args)]
pub struct Remove {
    /// The group's name.
    name: GroupName,
    /// The app, as ORG/APP.
    #[arg(long)]
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
            Self::Create(create) => create.run().await,
            Self::List(list) => list.run().await,
            Self::Remove(remove) => remove.run().await,
        }
    }
}

impl Create {
    async fn run(self) -> anyhow::Result<()> {
        let AppPath { org, app } = self.app;
        let new = Group { name: self.name, app, selector: self.selector, priority: self.priority };
        let made: Group = self.operator.connect()?.post(&format!("/api/v1/orgs/{org}/groups"), &new).await?;
        self.output.print(&made, || describe(&made))
    }
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let mut groups: Vec<Group> = self.operator.connect()?.get(&format!("/api/v1/orgs/{}/groups", self.org)).await?;
        groups.sort_by(|one, other| (&one.app, other.priority).cmp(&(&other.app, one.priority)));
        self.output.print(&json!({"groups": groups}), || {
            let none = "there is no group but `all`; make one with `hedgerow fleet group create`".to_owned();
            if groups.is_empty() { none } else { groups.iter().map(describe).collect::<Vec<_>>().join("\n") }
        })
    }
}

impl Remove {
    async fn run(self) -> anyhow::Result<()> {
        let AppPath { org, app } = self.app;
        self.operator.connect()?.delete(&format!("/api/v1/orgs/{org}/apps/{app}/groups/{}", self.name)).await?;
        self.output.print(&json!({"removed": self.name, "app": app}), || format!("group {} of {org}/{app} removed", self.name))
    }
}

fn describe(group: &Group) -> String {
    format!("{:<24}{:<24}priority {:<6}{}", group.app, group.name, group.priority, group.selector)
}
