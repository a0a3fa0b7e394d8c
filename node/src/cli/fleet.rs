//! `hedgerow fleet …`: devices of an organisation, over the seed.
//!
//! Not here: this machine as a device; see [`super::device`].

use std::path::PathBuf;

use clap::{Args, Subcommand};
use protocol::digest::Digest;
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
        let Self::Token(token) = self;
        token.run().await
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
        let new = NewToken { secret_sha256: Token::secret_sha256(&secret), lifetime_seconds: self.lifetime_seconds };
        let made: TokenMade = api.post(&format!("/api/v1/orgs/{}/tokens", self.org), &new).await?;
        let token = Token { device_url: trust.device_url, ca_sha256: trust.ca_sha256, root_sha256: Digest::sha256(&root), secret };
        let (text, expires) = (token.encode()?, jiff::Timestamp::from_second(i64::try_from(made.expires.as_unix_seconds())?)?);
        self.output.print(&json!({"token": text, "expires": expires}), || {
            format!("{text}\n\nIt enrols one device, until {expires}:\n  hedgerow device enroll --token TOKEN --data DIR")
        })
    }
}
