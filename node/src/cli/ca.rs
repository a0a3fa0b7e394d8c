//! `hedgerow seed ca …`: the certificate authorities of a seed, which must be stopped while they change.
//!
//! Not here: how a rotation works, see [`crate::transport::authorities`]; when the old one may go, see
//! [`protocol::identity::authorities`].

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::{Args, Subcommand};
use protocol::digest::Digest;
use protocol::identity::authorities::may_retire;
use protocol::name::OrgName;
use serde_json::{Value, json};

use super::Output;
use crate::config::seed::FILE_NAME;
use crate::store::embedded::EmbeddedStore;
use crate::store::folders::KEYS;
use crate::store::lock::DataLock;
use crate::store::meta::KeyStore as _;
use crate::transport::authorities::{Authorities, fingerprint, named};
use crate::transport::ca::CertificateAuthority;
use crate::trust::authorities::named_authorities;
use crate::trust::{RepositoryFiles, StoredMetadata};

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the authorities, as fingerprints and as a root names them.
    Show(Place),
    /// Make the next authority; certificates of both are accepted from then on. The seed must be stopped.
    Rotate(Place),
    /// Make the next authority the only one: certificates of the old one are refused from then on. The seed must be stopped.
    Retire(Retire),
}

/// Which seed.
#[derive(Debug, Args)]
pub struct Place {
    /// Where the seed keeps everything.
    #[arg(long, value_name = "DIR", env = "HEDGEROW_DATA")]
    data: PathBuf,
    #[command(flatten)]
    output: Output,
}

/// `seed ca retire`.
#[derive(Debug, Args)]
pub struct Retire {
    #[command(flatten)]
    place: Place,
    /// Retire it although organisations have not named the next authority: all their devices have to enrol anew.
    #[arg(long)]
    abandon_devices: bool,
}

impl Command {
    /// Carries out the subcommand.
    ///
    /// # Errors
    /// With what failed, why, and what to do.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Show(place) => place.show(&Authorities::load(&place.keys()?)?, |_, _| String::new()),
            Self::Rotate(place) => {
                let keys = place.keys()?;
                let _lock = DataLock::acquire(&place.data, "seed ca rotate")?;
                place.show(&Authorities::rotate(&keys)?, |current, next| {
                    format!(
                        "\n\nStart the seed again. Then let the root of each organisation name both:\n  hedgerow trust set ORG --authority {current} \
                         --authority {next}\nDevices learn of the next one with it, and renew their certificates within three days. End with \
                         `hedgerow seed ca retire`."
                    )
                })
            }
            Self::Retire(retire) => retire.run().await,
        }
    }
}

impl Retire {
    async fn run(self) -> anyhow::Result<()> {
        let Self { place, abandon_devices } = self;
        let keys = place.keys()?;
        let _lock = DataLock::acquire(&place.data, "seed ca retire")?;
        let next = Authorities::load(&keys)?.next().map(fingerprint);
        let next = next.context("no rotation is under way; begin one with `hedgerow seed ca rotate`")?;
        let behind = behind(&place.data, &next).await?;
        if !behind.is_empty() && !abandon_devices {
            let behind: Vec<&str> = behind.iter().map(OrgName::as_str).collect();
            bail!(
                "the root of {} does not name the next authority, so all its devices would have to enrol anew; let it name both with \
                 `hedgerow trust set ORG --authority …`, and give devices three days to renew; or say --abandon-devices",
                behind.join(", ")
            );
        }
        place.show(&Authorities::retire(&keys)?, |current, _| {
            format!(
                "\n\nStart the seed again. Then let the root of each organisation name this one alone:\n  hedgerow trust set ORG --authority \
                 {current}"
            )
        })
    }
}

/// The organisations whose devices do not trust the authority `next`.
async fn behind(data: &Path, next: &Digest) -> anyhow::Result<Vec<OrgName>> {
    let data = data.to_owned();
    let store = tokio::task::spawn_blocking(move || EmbeddedStore::open(&data)).await?.context("the store cannot be opened")?;
    let mut behind = Vec::new();
    for org in store.orgs().await? {
        let root = RepositoryFiles::load(&StoredMetadata { store: &store, org: &org }, None).await?.root;
        let named = named_authorities(root.content.as_bytes())?;
        let named = named.map(|named| named.iter().map(|certificate| Digest::sha256(certificate)).collect::<Vec<_>>());
        if !may_retire(named.as_deref(), next) {
            behind.push(org);
        }
    }
    Ok(behind)
}

impl Place {
    /// Where the authorities are.
    fn keys(&self) -> anyhow::Result<PathBuf> {
        let there = self.data.join(FILE_NAME).exists();
        ensure!(there, "there is no seed in {}; run `hedgerow seed init --data {0} --keys DIR --org ORG` first", self.data.display());
        Ok(self.data.join(KEYS))
    }

    fn show(&self, authorities: &Authorities, advice: impl FnOnce(&str, &str) -> String) -> anyhow::Result<()> {
        let of = |authority: &CertificateAuthority| json!({"sha256": fingerprint(authority), "certificate": named(authority)});
        let next = authorities.next().map_or(Value::Null, of);
        self.output.print(&json!({"current": of(authorities.current()), "next": next}), || {
            let (current, next) =
                (fingerprint(authorities.current()).to_string(), authorities.next().map(|next| fingerprint(next).to_string()));
            let line = next.as_ref().map(|next| format!("\nnext     {next}")).unwrap_or_default();
            format!("current  {current}{line}{}", advice(&current, &next.unwrap_or_default()))
        })
    }
}
