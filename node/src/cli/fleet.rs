//! `hedgerow fleet …`: devices of an organisation, over the seed.
//!
//! | module | holds |
//! |---|---|
//! | [`devices`] | `list`, `show`, `label`, `pin`, `unpin` |
//! | [`group`] | `group …` |
//!
//! Not here: this machine as a device; see [`super::device`].

pub mod devices;
pub mod group;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use protocol::digest::Digest;
use protocol::label::Label;
use protocol::name::OrgName;
use serde_json::json;

use super::Output;
use super::operator::Operator;
use crate::api::{NewToken, SeedTrust, TokenMade};
use crate::device::enroll::Token;
use crate::trust::OperatorKeys;

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a one-time token that enrols one device.
    Token(NewTokenArgs),
    /// List devices, with their labels and what they run.
    List(devices::List),
    /// Show all that is known of a device.
    Show(devices::Show),
    /// Give a device labels (KEY=VALUE) or take them away (KEY-).
    Label(devices::LabelArgs),
    /// Give a device a version of an app, whatever its group gets.
    Pin(devices::Pin),
    /// Let a device follow its group again.
    Unpin(devices::Unpin),
    /// Groups of devices.
    #[command(subcommand)]
    Group(group::Command),
}

/// `fleet token`.
#[derive(Debug, Args)]
pub struct NewTokenArgs {
    /// The organisation.
    #[arg(long)]
    org: OrgName,
    /// Where the organisation's keys are: the token carries the hash of its root, so that no seed can give a device another.
    #[arg(long, value_name = "DIR", env = "HEDGEROW_KEYS")]
    keys: PathBuf,
    /// How long the token can be used, in seconds.
    #[arg(long, value_name = "N", default_value_t = 86_400)]
    lifetime_seconds: u64,
    /// A label of the device that enrols with it. Can be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<Label>,
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
            Self::Token(token) => token.run().await,
            Self::List(list) => list.run().await,
            Self::Show(show) => show.run().await,
            Self::Label(label) => label.run().await,
            Self::Pin(pin) => pin.run().await,
            Self::Unpin(unpin) => unpin.run().await,
            Self::Group(command) => command.run().await,
        }
    }
}

impl NewTokenArgs {
    async fn run(self) -> anyhow::Result<()> {
        let api = self.operator.connect()?;
        let root = OperatorKeys::load(&self.keys, &self.org)?.trusted_root()?;
        let trust: SeedTrust = api.get("/api/v1/trust").await?;
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)?;
        let secret = hex::encode(secret);
        let labels = self.labels.into_iter().map(|label| (label.key, label.value)).collect();
        let new = NewToken { secret_sha256: Token::secret_sha256(&secret), lifetime_seconds: self.lifetime_seconds, labels };
        let made: TokenMade = api.post(&format!("/api/v1/orgs/{}/tokens", self.org), &new).await?;
        let token = Token { device_url: trust.device_url, ca_sha256: trust.ca_sha256, root_sha256: Digest::sha256(&root), secret };
        let (text, expires) = (token.encode()?, jiff::Timestamp::from_second(i64::try_from(made.expires.as_unix_seconds())?)?);
        self.output.print(&json!({"token": text, "expires": expires}), || {
            format!("{text}\n\nIt enrols one device, until {expires}:\n  hedgerow device enroll --token TOKEN --data DIR")
        })
    }
}
