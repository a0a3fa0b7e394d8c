//! `hedgerow seed ca …`: the certificate authorities of a seed. A running seed takes a change at its next start.
//!
//! Not here: how a rotation works; see [`crate::transport::authorities`].

use std::path::{Path, PathBuf};

use anyhow::ensure;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Output;
use crate::config::seed::FILE_NAME;
use crate::transport::authorities::{Authorities, fingerprint, named};
use crate::transport::ca::CertificateAuthority;

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the authorities, as fingerprints and as a root names them.
    Show(Place),
    /// Make the next authority; certificates of both are accepted from the seed's next start on.
    Rotate(Place),
    /// Make the next authority the only one: certificates of the old one are refused from the seed's next start on.
    Retire(Place),
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

impl Command {
    /// Carries out the subcommand.
    ///
    /// # Errors
    /// With what failed, why, and what to do.
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Show(place) => place.run(Authorities::load, ""),
            Self::Rotate(place) => place.run(
                Authorities::rotate,
                "\n\nRestart the seed. Then let the organisation's root name both, as `x-hedgerow.authorities`; devices learn of the next one \
                 with it and renew their certificates within three days. End with `hedgerow seed ca retire`.",
            ),
            Self::Retire(place) => place.run(Authorities::retire, "\n\nRestart the seed. Let the root name this one alone."),
        }
    }
}

impl Place {
    fn run(self, change: impl FnOnce(&Path) -> anyhow::Result<Authorities>, advice: &str) -> anyhow::Result<()> {
        let there = self.data.join(FILE_NAME).exists();
        ensure!(there, "there is no seed in {}; run `hedgerow seed init --data {0} --keys DIR --org ORG` first", self.data.display());
        let authorities = change(&self.data.join("keys"))?;
        let of = |authority: &CertificateAuthority| json!({"sha256": fingerprint(authority), "certificate": named(authority)});
        let next = authorities.next().map_or(Value::Null, of);
        self.output.print(&json!({"current": of(authorities.current()), "next": next}), || {
            let next = authorities.next().map(|next| format!("\nnext     {}", fingerprint(next))).unwrap_or_default();
            format!("current  {}{next}{advice}", fingerprint(authorities.current()))
        })
    }
}
