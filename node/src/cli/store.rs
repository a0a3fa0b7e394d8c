//! `hedgerow store …`: what a node on this machine keeps.
//!
//! Not here: what is garbage or damage; see [`crate::store`].

use std::fmt::Display;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use super::{Output, progress};
use crate::clock::wall_time;
use crate::control::{Access, access};
use crate::seed::audit::verify::verify;
use crate::store::blobs::BlobStore;
use crate::store::check::{Report, check, repair};
use crate::store::embedded::EmbeddedStore;
use crate::store::folders::{AUDIT, JOURNAL};
use crate::store::garbage::{self, Options};
use crate::store::index::Index;
use crate::store::journal::extent::Extent;

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check that everything is there and whole; exits with 1 when something is wrong and was not repaired.
    Check(Check),
    /// Take away what no tag, version or device needs; a running seed does so every six hours by itself.
    Gc(Gc),
}

/// `store check`.
#[derive(Debug, Args)]
pub struct Check {
    /// Where the seed or device keeps everything.
    #[arg(long, value_name = "DIR", env = "HEDGEROW_DATA")]
    data: PathBuf,
    /// Move broken files aside, and make hash lists and the index again. The node must be stopped.
    #[arg(long)]
    repair: bool,
    #[command(flatten)]
    output: Output,
}

/// `store gc`.
#[derive(Debug, Args)]
pub struct Gc {
    /// Where the seed keeps everything.
    #[arg(long, value_name = "DIR", env = "HEDGEROW_DATA")]
    data: PathBuf,
    /// Take nothing; say what would go.
    #[arg(long)]
    dry_run: bool,
    /// Also take what was pushed within the last day and is not tagged. The seed must be stopped; a push that goes on
    /// afterwards is told what to send again.
    #[arg(long)]
    no_lease: bool,
    /// The clock is right, although it went on by more than seven days since the seed last looked at it, or went back:
    /// remove again what is old by it, tags whose time is over too.
    #[arg(long, conflicts_with = "dry_run")]
    accept_clock: bool,
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
            Self::Check(check) => check.run().await,
            Self::Gc(gc) => gc.run().await,
        }
    }
}

impl Check {
    async fn run(self) -> anyhow::Result<()> {
        if !BlobStore::exists(&self.data) {
            bail!("there is neither a seed nor a device in {}; name its data directory with --data", self.data.display());
        }
        let access = access(&self.data, "store check")?;
        let has_records = self.data.join(JOURNAL).exists();
        if !has_records && Index::exists(&self.data) {
            bail!("the journal is missing in {}, and with it all records; restore the data directory from a backup", self.data.display());
        }
        let (held, extent) = match &access {
            Access::Running(held, _) if self.repair => bail!("{held}; --repair needs the node stopped"),
            Access::Running(_, Some(client)) if has_records => {
                let held = client.hold().await?;
                let extent = Some(held.extent.clone());
                (Some(held), extent)
            }
            Access::Running(held, None) if has_records => bail!("{held}; it has no control socket, so stop it first"),
            Access::Alone(_) if has_records => (None, Some(Extent::of_folder(&self.data.join(JOURNAL))?)),
            Access::Alone(_) | Access::Running(..) => (None, None),
        };
        let alone = matches!(access, Access::Alone(_));
        let data = self.data.clone();
        let checked = tokio::task::spawn_blocking(move || {
            let bar = progress::blobs("checking", &data);
            let report = check(&data, extent.as_ref(), alone, &mut |bytes| bar.inc(bytes));
            bar.finish_and_clear();
            report
        });
        let mut report = checked.await??;
        let audit = self.data.join(AUDIT);
        let audited = tokio::task::spawn_blocking(move || verify(&audit)).await?.context("the audit log cannot be read")?;
        let broken = audited.broken.as_ref().map(|(path, broken)| (path.as_path(), broken as &dyn Display));
        report.add_audit(audited.files, broken);
        if let Some(held) = held {
            held.check()?;
        }
        if self.repair {
            repair(&self.data, &mut report).await?;
        }
        drop(access);
        self.output.print(&report, || text(&report))?;
        if report.unrepaired > 0 {
            bail!("{} of {} findings are left; each says what to do", report.unrepaired, report.damaged);
        }
        Ok(())
    }
}

fn text(report: &Report) -> String {
    let mut lines = vec![format!("checked {} files, {}", report.files, progress::size(report.bytes))];
    if let Some(named) = report.named {
        lines.push(format!("records name {named} blobs"));
    }
    if report.audit_files > 0 {
        lines.push(format!("checked {} files of the audit log", report.audit_files));
    }
    if report.orphans > 0 {
        let size = progress::size(report.orphan_bytes);
        lines.push(format!("{} files, {size}, are named by no record; `hedgerow store gc` removes them", report.orphans));
    }
    if report.named.is_some() && !report.index_checked {
        lines.push("the index was not looked at; a seed verifies it when it starts".into());
    }
    for finding in &report.findings {
        let end = if finding.repaired { "repaired".to_owned() } else { format!("next: {}", finding.next) };
        lines.push(format!("{}\n  {end}", finding.found));
    }
    if report.damaged == 0 {
        lines.push("nothing is wrong".into());
    }
    lines.join("\n")
}

impl Gc {
    async fn run(self) -> anyhow::Result<()> {
        if !self.data.join(JOURNAL).exists() {
            bail!("there is no seed in {}; only a seed has garbage to collect", self.data.display());
        }
        let report = match access(&self.data, "store gc")? {
            Access::Running(held, _) if self.no_lease => bail!("{held}; --no-lease needs the seed stopped"),
            Access::Running(_, Some(client)) => client.collect(self.dry_run, self.accept_clock).await?,
            Access::Running(held, None) => bail!("{held}; it has no control socket, so stop it first"),
            Access::Alone(_lock) => {
                let data = self.data.clone();
                let store = tokio::task::spawn_blocking(move || EmbeddedStore::open(&data)).await?.context("the store cannot be opened")?;
                let options = Options { dry_run: self.dry_run, lease: !self.no_lease, accept_clock: self.accept_clock };
                let report = garbage::collect(&store, &BlobStore::open(&self.data)?, options, wall_time()).await;
                tokio::task::spawn_blocking(move || drop(store)).await?;
                report?
            }
        };
        self.output.print(&report, || {
            let verb = if report.dry_run { "would go" } else { "are gone" };
            let mut lines = vec![format!(
                "{} manifests and {} blobs of {} repositories, and {} files with {}, {verb}",
                report.manifests,
                report.blobs,
                report.repositories,
                report.files,
                progress::size(report.bytes)
            )];
            lines.extend(report.left.iter().map(|left| format!("left alone: {left}")));
            lines.join("\n")
        })?;
        match report.clock_doubted {
            Some(doubt) => bail!("nothing was taken: {doubt}"),
            None => Ok(()),
        }
    }
}
