//! The command line: one file a subcommand, each with its arguments and how it is carried out.
//!
//! Results go to stdout (with `--json` one object on one line), logs and progress to stderr. Exit codes: 0, 1 (failed), 2 (usage).
//!
//! Not here: what the commands do; they call `seed`, `device` and `trust`.

pub mod app;
mod ca;
pub mod config;
pub mod demo;
pub mod device;
pub mod fleet;
pub mod key;
mod online_key;
pub mod operator;
pub mod org;
pub mod output;
mod progress;
pub mod repo;
pub mod rollout;
pub mod seed;
pub mod store;
mod swarm;
pub mod trust;

use clap::{Args, Parser, Subcommand, ValueEnum};
use protocol::statement::TrustToken;

use crate::descriptors;
use crate::telemetry::{self, LogFormat};

/// Threads that wait for the disk. Those that do wait for nothing else; with more of them, 32 pushes at once began 500, each
/// with some 30 KiB, because tokio begins one whenever all the others have been woken, though few have come to run.
const BLOCKING_THREADS_MAX: usize = 64;

/// Peer-to-peer edge content distribution: push an image once, sign it, roll it out; each site's WAN carries one copy.
#[derive(Debug, Parser)]
#[command(name = "hedgerow", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    /// How log lines on stderr look.
    #[arg(long, global = true, value_enum, env = "HEDGEROW_LOG_FORMAT", default_value = "text")]
    log: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make or run a seed: registry, signed versions, fleet control.
    #[command(subcommand)]
    Seed(seed::Command),
    /// Enrol or run a device on this machine.
    #[command(subcommand)]
    Device(device::Command),
    /// Organisations of a seed.
    #[command(subcommand)]
    Org(org::Command),
    /// Access keys of an organisation.
    #[command(subcommand)]
    Key(key::Command),
    /// Apps and their signed versions.
    #[command(subcommand)]
    App(app::Command),
    /// Who may sign what for an organisation: keys, thresholds, expiries, proposals that several people sign.
    #[command(subcommand)]
    Trust(trust::Command),
    /// Repositories: who may pull, which tags stay, which expire.
    #[command(subcommand)]
    Repo(repo::Command),
    /// Devices of an organisation.
    #[command(subcommand)]
    Fleet(fleet::Command),
    /// Deliver a version to a group of devices.
    #[command(subcommand)]
    Rollout(rollout::Command),
    /// Blobs and records on this machine: check them, collect garbage.
    #[command(subcommand)]
    Store(store::Command),
    /// Settings in force.
    #[command(subcommand)]
    Config(config::Command),
    /// Show the whole path on this machine: a seed and some devices, two versions, and what crossed the WAN.
    Demo(demo::Demo),
}

/// How a command prints its result.
#[derive(Clone, Copy, Debug, Args)]
pub struct Output {
    /// How the result is printed.
    #[arg(long, value_enum, default_value = "text")]
    output: Format,
    /// The same as --output json: one object on one line.
    #[arg(long)]
    json: bool,
}

/// A form of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object on one line.
    Json,
}

/// Starts this program again without those of our environment variables that are empty, because empty means unset; returns
/// only if there are none, or with why that failed.
///
/// # Errors
/// When the program cannot be started again.
pub fn without_empty_variables() -> std::io::Result<()> {
    use std::os::unix::process::CommandExt as _;
    let ours = |name: &std::ffi::OsString| name.to_str().is_some_and(|name| name.starts_with("HEDGEROW_"));
    let empty: Vec<_> = std::env::vars_os().filter(|(name, value)| value.is_empty() && ours(name)).map(|(name, _)| name).collect();
    if empty.is_empty() {
        return Ok(());
    }
    let mut again = std::process::Command::new(std::env::current_exe()?);
    again.args(std::env::args_os().skip(1));
    for name in empty {
        again.env_remove(name);
    }
    Err(again.exec())
}

/// Carries out a command.
///
/// # Errors
/// With what failed, why, and what to do.
pub fn run(cli: Cli, token: TrustToken) -> anyhow::Result<()> {
    telemetry::start_logging(cli.log);
    descriptors::raise();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().max_blocking_threads(BLOCKING_THREADS_MAX).build()?;
    let outcome = runtime.block_on(async {
        match cli.command {
            Command::Seed(command) => command.run().await,
            Command::Device(command) => command.run(token).await,
            Command::Org(command) => command.run().await,
            Command::Key(command) => command.run().await,
            Command::App(command) => command.run().await,
            Command::Trust(command) => command.run().await,
            Command::Repo(command) => command.run().await,
            Command::Fleet(command) => command.run().await,
            Command::Rollout(command) => command.run().await,
            Command::Store(command) => command.run().await,
            Command::Config(command) => command.run(),
            Command::Demo(demo) => demo.run(cli.log).await,
        }
    });
    runtime.shutdown_background();
    outcome
}
