//! `hedgerow seed …`.
//!
//! Not here: how a seed works; see [`crate::seed`].

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::bail;
use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use protocol::name::OrgName;

use super::{Output, progress};
use crate::clock::wall_time;
use crate::config::limits::VARIABLE_PREFIX;
use crate::config::seed::{SeedConfig, SeedFile, SeedFlags};
use crate::control::{Access, Held, access};
use crate::seed::init::{NewSeed, init};
use crate::seed::run::run;
use crate::store::backup::{Copied, Progress, Source, Step, backup, complete, restore};
use crate::store::folders::JOURNAL;
use crate::store::journal::extent::Extent;
use crate::trust::passphrase;

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a new seed and its first organisation.
    Init(Init),
    /// Run a seed until SIGTERM; requests under way may end, then it exits with 0.
    Run(Run),
    /// Copy a seed, running or not, to a folder. Again into the same folder it copies what is new, and the earlier backup stays
    /// until the new one is complete.
    Backup(Backup),
    /// Make a seed's data directory from a backup.
    Restore(Restore),
    /// Look at the certificate authorities, or put a new one in the place of the old without losing a device.
    #[command(subcommand)]
    Ca(super::ca::Command),
    /// Make a new online key, for a seed that was taken over: the old one, which somebody else may have, is set aside.
    NewOnlineKey(super::online_key::NewOnlineKey),
}

/// `seed init`.
#[derive(Debug, Args)]
pub struct Init {
    /// Where the seed keeps everything.
    #[arg(long, value_name = "DIR", env = "HEDGEROW_DATA")]
    data: PathBuf,
    /// Where the operator's root, targets and app keys go; never below --data, or whoever takes the seed can sign versions.
    #[arg(long, value_name = "DIR", env = "HEDGEROW_KEYS")]
    keys: PathBuf,
    /// The first organisation.
    #[arg(long)]
    org: OrgName,
    /// Where registry and API listen; plain HTTP on a loopback address, else TLS. Port 0 chooses one and keeps it.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5000")]
    listen: String,
    /// Where devices connect, always with mutual TLS. Port 0 chooses one and keeps it.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7443")]
    device_listen: String,
    /// A name or address under which the seed is reached; stands in URLs and certificates. Can be repeated.
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
    /// Speak plain HTTP on --listen although others can listen in: keys and images travel in the clear.
    #[arg(long)]
    insecure_http: bool,
    #[command(flatten)]
    tls: Tls,
    #[command(flatten)]
    output: Output,
}

/// Settings of a seed that no device has.
#[derive(Debug, Args)]
pub struct Settings {
    /// Most Mbit/s that are sent to devices, all together.
    #[arg(long, value_name = "MBIT", env = "HEDGEROW_EGRESS_MBIT")]
    egress_mbit: Option<u64>,
    /// Where the access log of registry and API goes: off (the default), stderr or a file, which SIGHUP opens anew.
    #[arg(long, value_name = "off|stderr|FILE", env = "HEDGEROW_ACCESS_LOG")]
    access_log: Option<String>,
    #[command(flatten)]
    tls: Tls,
}

/// Where registry and API have their certificate from, if not from the seed's own CA.
#[derive(Debug, Args)]
pub struct Tls {
    /// The certificate chain of registry and API, PEM, the server's own first; read anew when it changes.
    #[arg(long, value_name = "FILE", env = "HEDGEROW_TLS_CERTIFICATE_FILE")]
    tls_certificate_file: Option<PathBuf>,
    /// The key of --tls-certificate-file, PEM, without a passphrase.
    #[arg(long, value_name = "FILE", env = "HEDGEROW_TLS_KEY_FILE")]
    tls_key_file: Option<PathBuf>,
}

impl Tls {
    /// Both paths as they are from everywhere: a flag is relative to where the command was given.
    fn absolute(self) -> anyhow::Result<(Option<PathBuf>, Option<PathBuf>)> {
        let absolute = |path: Option<PathBuf>| path.map(std::path::absolute).transpose();
        Ok((absolute(self.tls_certificate_file)?, absolute(self.tls_key_file)?))
    }
}

impl Settings {
    /// What overrides the file, with the one setting that devices have too.
    ///
    /// # Errors
    /// When a path cannot be made absolute.
    pub(super) fn flags(self, metrics_listen: Option<String>) -> anyhow::Result<SeedFlags> {
        let Self { egress_mbit, access_log, tls } = self;
        let (tls_certificate_file, tls_key_file) = tls.absolute()?;
        let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        let limits = std::env::vars_os().filter_map(text).filter(|(name, _)| name.starts_with(VARIABLE_PREFIX)).collect();
        Ok(SeedFlags { metrics_listen, egress_mbit, access_log, tls_certificate_file, tls_key_file, limits })
    }
}

/// `seed run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Where the seed keeps everything.
    #[arg(long, value_name = "DIR", env = "HEDGEROW_DATA")]
    data: PathBuf,
    /// Settings; default: seed.toml in --data.
    #[arg(long, value_name = "FILE", env = "HEDGEROW_CONFIG")]
    config: Option<PathBuf>,
    /// Where metrics are offered.
    #[arg(long, value_name = "ADDRESS:PORT", env = "HEDGEROW_METRICS_LISTEN")]
    metrics_listen: Option<String>,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    output: Output,
}

/// `seed backup`.
#[derive(Debug, Args)]
pub struct Backup {
    /// Where the seed keeps everything.
    #[arg(long, value_name = "DIR", env = "HEDGEROW_DATA")]
    data: PathBuf,
    /// The folder of the backup. It holds the seed's keys, so it is private, and should be where the seed is not.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Do not read and hash again what is in the folder already, if its size is right: faster, but blobs that rotted there
    /// are found only by the next backup without this, or by `seed restore`. After an interrupted backup all is read anyway.
    #[arg(long)]
    trust_sizes: bool,
    #[command(flatten)]
    output: Output,
}

/// `seed restore`.
#[derive(Debug, Args)]
pub struct Restore {
    /// The folder of the backup.
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// The new data directory.
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
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Init(init) => init.run().await,
            Self::Run(run) => run.run().await,
            Self::Backup(backup) => backup.run().await,
            Self::Restore(restore) => restore.run().await,
            Self::Ca(command) => command.run().await,
            Self::NewOnlineKey(new) => new.run(),
        }
    }
}

impl Init {
    async fn run(self) -> anyhow::Result<()> {
        let (tls_certificate_file, tls_key_file) = self.tls.absolute()?;
        let settings = SeedFile {
            hosts: self.hosts,
            insecure_http: self.insecure_http,
            tls_certificate_file,
            tls_key_file,
            ..SeedFile::new(self.listen, self.device_listen)
        };
        let data = self.data.clone();
        let made = init(NewSeed { data: self.data, keys: self.keys, passphrase: passphrase::for_new()?, org: self.org, settings }).await?;
        self.output.print(&made, || {
            let ca = if made.ca_file.is_empty() { String::new() } else { format!("\nCA certificate {}", made.ca_file) };
            format!(
                "organisation  {}\nregistry, API {}\ndevices       {}{ca}\naccess key    {}\n\nThe access key is shown once. Start the seed with:\n  hedgerow seed run --data {}",
                made.org,
                made.url,
                made.device_url,
                made.access_key,
                data.display()
            )
        })
    }
}

impl Run {
    async fn run(self) -> anyhow::Result<()> {
        let flags = self.settings.flags(self.metrics_listen)?;
        let config = SeedConfig::load(&self.data, self.config.as_deref(), flags)?;
        let output = self.output;
        run(config, |ready| {
            let text = || format!("ready: registry and API {}, devices {}, metrics {}", ready.url, ready.device_url, ready.metrics_url);
            if let Err(error) = output.print(ready, text) {
                tracing::warn!(%error, "the ready line was not printed");
            }
        })
        .await
    }
}

impl Backup {
    async fn run(self) -> anyhow::Result<()> {
        let began = wall_time();
        let (held, alone) = match access(&self.data, "seed backup")? {
            Access::Alone(lock) => (None, Some(lock)),
            Access::Running(_, Some(client)) => (Some(client.hold().await?), None),
            Access::Running(held, None) => bail!("{held}; it has no control socket, so stop it first"),
        };
        let extent = match &held {
            Some(held) => held.extent.clone(),
            None => Extent::of_folder(&self.data.join(JOURNAL))?,
        };
        let (data, to, trust_sizes) = (self.data.clone(), self.to.clone(), self.trust_sizes);
        let copying = tokio::task::spawn_blocking(move || {
            let bar = progress::blobs("copying", &data);
            let source = Source { data: &data, extent: &extent, began, trust_sizes };
            let copied = backup(source, &to, &mut |event| show(&bar, event), || held.as_ref().map_or(Ok(()), Held::check));
            bar.finish_and_clear();
            copied
        });
        let copied = copying.await??;
        drop(alone);
        self.output.print(&copied, || {
            let (blobs, size) = (copied.backup.blobs, progress::size(copied.backup.bytes));
            let new = format!("{} of them, {}, are new", copied.copied, progress::size(copied.copied_bytes));
            format!("{} holds {} records and {blobs} blobs, {size}; {new}{}", self.to.display(), copied.backup.records, lost(&copied))
        })?;
        all_there(&copied)
    }
}

impl Restore {
    async fn run(self) -> anyhow::Result<()> {
        let (from, data) = (self.from.clone(), self.data.clone());
        let copying = tokio::task::spawn_blocking(move || {
            let bar = progress::bytes("restoring", complete(&from)?.bytes);
            let copied = restore(&from, &data, &mut |event| show(&bar, event));
            bar.finish_and_clear();
            copied
        });
        let copied = copying.await??;
        self.output.print(&copied, || {
            format!(
                "{} holds {} records and {} blobs, {}{}\n\nMake sure that the old seed never runs again, then start this one with:\n  hedgerow \
                 seed run --data {0}\nDevices that accepted a newer desired state than this backup has refuse older ones. They keep what they \
                 run; new rollouts reach them when the counter has passed theirs, or at once after a new root with a higher epoch.",
                self.data.display(),
                copied.backup.records,
                copied.copied,
                progress::size(copied.copied_bytes),
                lost(&copied)
            )
        })?;
        all_there(&copied)
    }
}

/// Moves a bar on.
fn show(bar: &ProgressBar, event: Progress) {
    match event {
        Progress::Bytes(bytes) => bar.inc(bytes),
        Progress::At(step) => bar.set_message(match step {
            Step::Snapshot => "copying records",
            Step::Blobs => "copying",
            Step::Naming => "finishing",
            Step::Earlier | Step::Unnamed => "clearing away",
        }),
    }
}

/// Fails when blobs are missing, so that whoever started the command by a timer is told.
fn all_there(copied: &Copied) -> anyhow::Result<()> {
    match copied.lost.len() {
        0 => Ok(()),
        missing => bail!("{missing} blobs are missing or broken; the rest is complete: push them again, or bring back their files"),
    }
}

/// What is not there, for people.
fn lost(copied: &Copied) -> String {
    if copied.lost.is_empty() {
        return String::new();
    }
    let lost: Vec<String> = copied.lost.iter().map(|digest| format!("\n  {digest}")).collect();
    format!("\nmissing or broken there, to be pushed again:{}", lost.concat())
}
