//! `hedgerow trust …`: who may sign what for an organisation, and for how long.
//!
//! | module | holds |
//! |---|---|
//! | `ceremony` | changes: made, written to a file, signed by several people, put in force |
//! | `show` | what is in force, and what expires |
//!
//! Not here: the rules; see [`crate::trust`].

mod ceremony;
mod show;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use protocol::name::{AppName, OrgName};
use serde_json::json;

use super::Output;
use super::operator::Operator;
use crate::trust::{OperatorKeys, passphrase};

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make an organisation's keys on this machine, before the organisation is created or to join those who hold a role.
    Init(Init),
    /// Seal the keys of an organisation that are not sealed with a passphrase yet.
    Seal(Seal),
    /// Show who may sign what, what expires when, and how long a seed that is taken over could hold devices back.
    Show(show::Show),
    /// List what expires soon; fails if there is something, so that a timer can watch it.
    ExpireSoon(show::ExpireSoon),
    /// Replace a key of this machine by a new one, everywhere it may sign; or take the seed's new online key.
    Rotate(ceremony::Rotate),
    /// Let another key sign for a role.
    AddKey(ceremony::AddKey),
    /// Take the right to sign from a key.
    RemoveKey(ceremony::RemoveKey),
    /// Sign a role anew, so that it is valid for longer.
    Renew(ceremony::Renew),
    /// Change what else the root says: the epoch of desired states, and whether grants count.
    Set(ceremony::Set),
    /// Say in words what a proposal changes, and add the signatures of the keys on this machine; needs no network.
    Sign(ceremony::Sign),
    /// Put a proposal in force that enough people have signed.
    Publish(ceremony::Publish),
}

/// An organisation, its keys here, and the seed.
#[derive(Debug, Args)]
pub struct Ceremony {
    /// The organisation.
    org: OrgName,
    /// Where its keys are.
    #[arg(long, value_name = "DIR", env = "HEDGEROW_KEYS")]
    keys: PathBuf,
    #[command(flatten)]
    operator: Operator,
    #[command(flatten)]
    output: Output,
}

/// What signs something: the root, the list of apps, or apps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// The root.
    Root,
    /// The top-level targets, which list the apps.
    Targets,
    /// Every app, or one.
    Apps(Option<AppName>),
    /// What the seed signs: snapshots, timestamps, desired states.
    Online,
}

impl Role {
    /// Whether the role called `name` in the metadata is meant.
    fn covers(&self, name: &str) -> bool {
        match self {
            Self::Root => name == "root",
            Self::Targets => name == "targets",
            Self::Apps(None) => name.starts_with("app-"),
            Self::Apps(Some(app)) => name.strip_prefix("app-") == Some(app.as_str()),
            Self::Online => ["snapshot", "timestamp"].contains(&name),
        }
    }
}

impl std::str::FromStr for Role {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        Ok(match text {
            "root" => Self::Root,
            "targets" => Self::Targets,
            "app" => Self::Apps(None),
            "online" => Self::Online,
            other => match other.strip_prefix("app:") {
                Some(app) => Self::Apps(Some(app.parse()?)),
                None => anyhow::bail!("a role is root, targets, app (every app), app:NAME (one app) or online"),
            },
        })
    }
}

/// `trust init`.
#[derive(Debug, Args)]
pub struct Init {
    /// The organisation.
    org: OrgName,
    /// Where its keys go.
    #[arg(long, value_name = "DIR", env = "HEDGEROW_KEYS")]
    keys: PathBuf,
    /// Make a key of this name alone, to be added to a role with its public half; repeatable. Default: root, targets and app.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    #[command(flatten)]
    output: Output,
}

/// `trust seal`.
#[derive(Debug, Args)]
pub struct Seal {
    /// The organisation.
    org: OrgName,
    /// Where its keys are.
    #[arg(long, value_name = "DIR", env = "HEDGEROW_KEYS")]
    keys: PathBuf,
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
            Self::Init(init) => init.run(),
            Self::Seal(seal) => seal.run(),
            Self::Show(show) => show.run().await,
            Self::ExpireSoon(soon) => soon.run().await,
            Self::Rotate(rotate) => rotate.run().await,
            Self::AddKey(add) => add.run().await,
            Self::RemoveKey(remove) => remove.run().await,
            Self::Renew(renew) => renew.run().await,
            Self::Set(set) => set.run().await,
            Self::Sign(sign) => sign.run(),
            Self::Publish(publish) => publish.run().await,
        }
    }
}

impl Init {
    fn run(self) -> anyhow::Result<()> {
        for name in &self.only {
            let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
            anyhow::ensure!(plain && !name.is_empty(), "a key's name has letters, digits, - and _ alone: {name:?}");
        }
        let passphrase = passphrase::for_new()?;
        let names: Vec<&str> = self.only.iter().map(String::as_str).collect();
        let keys = match names.as_slice() {
            [] => OperatorKeys::generate(&self.keys, &self.org, passphrase.as_deref())?,
            names => OperatorKeys::generate_named(&self.keys, &self.org, names, passphrase.as_deref())?,
        };
        if let Some(warning) = keys.unsealed_warning() {
            tracing::warn!("{warning}");
        }
        self.output.print(&json!({ "org": self.org, "keys": keys.dir() }), || format!("keys of {} in {}", self.org, keys.dir().display()))
    }
}

impl Seal {
    fn run(self) -> anyhow::Result<()> {
        let keys = OperatorKeys::load(&self.keys, &self.org)?;
        let Some(passphrase) = passphrase::for_new()? else {
            anyhow::bail!("no passphrase was given; run this on a terminal, or set {}", passphrase::PASSPHRASE_VARIABLE)
        };
        let sealed = keys.seal(&passphrase)?;
        self.output.print(&json!({ "org": self.org, "sealed": sealed }), || format!("{sealed} keys of {} sealed", self.org))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_written_as_the_help_says() {
        assert_eq!("app:web".parse::<Role>().unwrap(), Role::Apps(Some("web".parse().unwrap())));
        assert_eq!("app".parse::<Role>().unwrap(), Role::Apps(None));
        for wrong in ["", "web", "app:", "app:../x"] {
            assert!(wrong.parse::<Role>().is_err(), "{wrong}");
        }
    }
}
