//! `hedgerow fleet tokens …`: enrolment tokens that are still good.
//!
//! Not here: making them; see [`super::NewTokenArgs`].

use clap::{Args, Subcommand};
use protocol::name::OrgName;
use serde_json::json;

use crate::api::TokenListed;
use crate::cli::Output;
use crate::cli::operator::Operator;

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the tokens that can still enrol a device; their secrets are with whoever made them.
    List(List),
    /// Take a token back: no device enrols with it any more. Devices that did stay.
    Revoke(Revoke),
}

/// `fleet tokens list`.
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

/// `fleet tokens revoke`.
#[derive(Debug, Args)]
pub struct Revoke {
    /// What the token is called, as `fleet tokens list` shows it.
    id: String,
    /// The organisation.
    #[arg(long)]
    org: OrgName,
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
            Self::List(list) => list.run().await,
            Self::Revoke(revoke) => revoke.run().await,
        }
    }
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let tokens: Vec<TokenListed> = self.operator.connect()?.get(&path(&self.org)).await?;
        let mut lines = vec![format!("{:<16} {:<22} {:>6}  FOR", "TOKEN", "EXPIRES", "USES")];
        for token in &tokens {
            let expires = jiff::Timestamp::from_second(i64::try_from(token.expires.as_unix_seconds())?)?;
            let device = token.device.as_ref().map_or_else(|| "any device".to_owned(), ToString::to_string);
            lines.push(format!("{:<16} {:<22} {:>6}  {device}", token.id, expires.to_string(), token.uses_left));
        }
        self.output.print(&json!({ "tokens": tokens }), || lines.join("\n"))
    }
}

impl Revoke {
    async fn run(self) -> anyhow::Result<()> {
        self.operator.connect()?.delete(&format!("{}/{}", path(&self.org), self.id)).await?;
        self.output.print(&json!({ "revoked": self.id }), || format!("no device enrols with token {} any more", self.id))
    }
}

fn path(org: &OrgName) -> String {
    format!("/api/v1/orgs/{org}/tokens")
}
