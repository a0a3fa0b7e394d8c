//! `hedgerow org …`.
//!
//! Not here: access keys of an organisation; see [`super::key`].

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use ed25519_dalek::VerifyingKey;
use protocol::name::OrgName;
use serde_json::json;

use super::Output;
use super::operator::Operator;
use crate::api::{NewOrg, OrgCreated, OrgListed, SeedTrust};
use crate::clock::wall_time;
use crate::files;
use crate::trust::{KeyError, OperatorKeys, new_repository, passphrase};

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create an organisation; its root, targets and app keys are made here and stay here, unless --managed-keys is given.
    Create(Create),
    /// List the organisations of the seed, or the access key's own if it does not have the scope seed.
    List(List),
}

/// `org create`.
#[derive(Debug, Args)]
pub struct Create {
    /// The organisation's name.
    org: OrgName,
    /// Where its keys go.
    #[arg(long, value_name = "DIR", env = "HEDGEROW_KEYS", required_unless_present = "managed_keys")]
    keys: Option<PathBuf>,
    /// Let the seed make and keep the keys, for trials: whoever takes the seed can then ship code to the organisation's devices.
    #[arg(long)]
    managed_keys: bool,
    #[command(flatten)]
    operator: Operator,
    #[command(flatten)]
    output: Output,
}

/// `org list`.
#[derive(Debug, Args)]
pub struct List {
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
        }
    }
}

impl Create {
    async fn run(self) -> anyhow::Result<()> {
        let api = self.operator.connect()?;
        let Some(dir) = self.keys.filter(|_| !self.managed_keys) else {
            let new = NewOrg { org: self.org, files: Vec::new(), managed_keys: true };
            let created: OrgCreated = api.post("/api/v1/orgs", &new).await?;
            let org = &created.org;
            tracing::warn!(
                "the keys of {org} are on the seed: whoever takes it can ship code to the organisation's devices; for trials only"
            );
            return self.output.print(&created, || {
                format!("organisation {org} created, its keys are on the seed\naccess key {} (shown once)", created.access_key)
            });
        };
        let trust: SeedTrust = api.get("/api/v1/trust").await?;
        let online = hex::decode(&trust.online_key).ok().and_then(|raw| VerifyingKey::try_from(raw.as_slice()).ok());
        let online = online.context("the seed's online key cannot be read")?;
        files::create_private_dir(&dir)?;
        let keys = keys_for(&dir, &self.org)?;
        let metadata = new_repository(&keys, &online, wall_time())?;
        let root = metadata.first().context("a new repository has a root")?.content.clone();
        // Before the seed knows the organisation: without its root its keys would be of no use.
        keys.store_trusted_root(root.as_bytes())?;
        let created: OrgCreated =
            api.post("/api/v1/orgs", &NewOrg { org: self.org.clone(), files: metadata, managed_keys: false }).await.with_context(|| {
                let keys = keys.dir().display();
                format!(
                    "creating organisation {} failed; its new keys are in {keys}: if the seed refused, remove them before trying again; \
                     if the connection broke, the seed may know the organisation: keep them, and try another name",
                    self.org
                )
            })?;
        if let Some(warning) = keys.unsealed_warning() {
            tracing::warn!("{warning}");
        }
        self.output.print(&created, || {
            format!(
                "organisation {} created, keys in {}\naccess key {} (shown once)",
                created.org,
                keys.dir().display(),
                created.access_key
            )
        })
    }
}

/// The keys that `trust init` made for an organisation that was never created, or else new ones.
fn keys_for(dir: &Path, org: &OrgName) -> anyhow::Result<OperatorKeys> {
    match OperatorKeys::load(dir, org) {
        Ok(made) if matches!(made.trusted_root(), Err(KeyError::Missing(_))) => Ok(made),
        _ => Ok(OperatorKeys::generate(dir, org, passphrase::for_new()?.as_deref())?),
    }
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let orgs: Vec<OrgListed> = self.operator.connect()?.get("/api/v1/orgs").await?;
        self.output.print(&json!({ "orgs": orgs }), || {
            let names: Vec<&str> = orgs.iter().map(|listed| listed.org.as_str()).collect();
            names.join("\n")
        })
    }
}
