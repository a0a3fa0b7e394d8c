//! `cargo tools bench`: measures Hedgerow beside what others use for the same work, on the same machine.
//!
//! | module | holds |
//! |---|---|
//! | [`registry`] | the seed's registry against `docker-registry` and nginx |
//! | [`polls`] | what polls of devices cost a seed |
//! | [`verification`] | what a changed state costs a device |
//! | `client` | an HTTP/1.1 client that costs little |
//! | `load` | pushes, pulls and requests in parallel, and how long they took |
//! | `process` | a server under test: its end, memory and processor time |
//! | `records` | TLS records whose content nobody wants |
//! | `servers` | how each server is set up and started |
//! | `figures` | medians, comparisons, and whether goals hold |
//!
//! It is no test: a goal that does not hold is a result, and only what could not be measured is an error.

mod client;
mod figures;
mod load;
mod polls;
mod process;
mod records;
mod registry;
mod servers;
mod verification;

use anyhow::Result;
use clap::Subcommand;

use crate::cargo::{Workspace, succeed};

/// Measure Hedgerow beside others on this machine
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    Registry(registry::Args),
    Polls(polls::Args),
    Verification(verification::Args),
}

/// Runs the verb; an unoptimised build of this tool starts an optimised one for it, because its client would be what is
/// measured.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    if cfg!(debug_assertions) {
        let again = ["run", "--quiet", "--release", "--package", "tools", "--"];
        return succeed(workspace.cargo().args(again).args(std::env::args_os().skip(1)));
    }
    match &args.bench {
        Bench::Registry(args) => registry::run(workspace, args),
        Bench::Polls(args) => polls::run(workspace, args),
        Bench::Verification(args) => verification::run(workspace, args),
    }
}
