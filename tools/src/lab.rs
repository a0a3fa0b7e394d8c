//! `cargo tools lab`: the shipped binary as a seed and devices on real sockets, in network namespaces of this machine, while
//! links are slow, devices die or lie, and the WAN is cut.
//!
//! | module | holds |
//! |---|---|
//! | `scenario` | what happens in each scenario, and what it must reach |
//! | `trial` | one run of a scenario |
//! | `faults` | what goes wrong meanwhile, and when |
//! | `network`, `namespace`, `relay` | links, rates, counters; what they are made of; the delay between seed and router |
//! | `fleet`, `image`, `process` | seed, devices, what is rolled out, and their processes |
//! | `direct` | what the same links bring without a swarm: the measure of everything else |
//! | `validate` | the same runs in the lab and in the simulation, and by how much they differ |
//! | `outcome`, `report` | what a run came to, over several runs, for people and as JSON |
//! | `interrupt` | being told to stop |
//!
//! It needs root, `ip`, `tc`, `nft` and `curl`. All that it makes carries the process's id, so that labs run side by side, and
//! is gone when it ends; `lab clean` removes what a killed one left.
//!
//! Not here: a fleet without sockets, which `hedgerow-sim` has.

mod direct;
mod faults;
mod fleet;
mod image;
mod interrupt;
mod namespace;
mod network;
mod outcome;
mod process;
mod relay;
mod report;
mod scenario;
mod trial;
mod validate;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Subcommand, ValueEnum};

use crate::cargo::{Workspace, succeed};
use crate::setup;
use crate::shipped::HEDGEROW;
use network::Network;
use scenario::{SCENARIOS, Scenario, Settings};
use trial::Programs;

/// The hostile devices' binary, of the crate `tests`.
const HOSTILE: &str = "hostile-peer";

/// Names a `hedgerow` to take instead of building one.
const BINARY_VARIABLE: &str = "HEDGEROW_BIN";

/// Run seeds and devices in network namespaces, with slow links and faults (as root)
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a scenario and compare it with its goals
    Run(Run),
    /// Run a matrix of cases in the lab and in the simulation, and compare
    Validate(validate::Args),
    /// Show the scenarios
    List,
    /// Remove what killed labs left
    Clean,
    /// Delay what two addresses send each other; the lab runs it between seed and router
    #[command(hide = true)]
    Relay(relay::Args),
    /// Send bytes to whoever connects, or count what comes; the lab measures a LAN with it
    #[command(hide = true)]
    Blast(direct::Blast),
    /// Say when a seed hands out the first byte of a blob
    #[command(hide = true)]
    FirstByte {
        /// Its metrics listener
        metrics: SocketAddr,
    },
}

#[derive(clap::Args)]
struct Run {
    /// The scenario; `lab list` shows them
    scenario: String,
    #[command(flatten)]
    settings: Settings,
    /// How often; figures are medians
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// The form of the result
    #[arg(long, value_name = "FORM", default_value = "text")]
    output: Output,
    /// Leave logs and data directories in DIR
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// The form of a result.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// Runs the verb.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    match &args.verb {
        Verb::Run(args) => run_scenario(workspace, args),
        Verb::Validate(args) => validate::run(workspace, args),
        Verb::List => {
            print!("{}", report::scenarios(SCENARIOS));
            Ok(())
        }
        Verb::Clean => {
            require_root()?;
            namespace::clean()
        }
        Verb::Relay(args) => relay::run(args),
        Verb::Blast(args) => direct::blast(args),
        Verb::FirstByte { metrics } => direct::await_first_byte(*metrics),
    }
}

fn run_scenario(workspace: &Workspace, args: &Run) -> Result<()> {
    let scenario = scenario::named(&args.scenario)?;
    let settings = args.settings.clone().of(scenario);
    let outcomes = measure(workspace, scenario, &settings, args.runs, args.keep.as_ref())?;
    let summary = report::Summary::of(scenario, &settings, &outcomes);
    match args.output {
        Output::Text => print!("{summary}"),
        Output::Json => println!("{}", summary.json()),
    }
    summary.verdict()
}

/// The scenarios of `check`: small, and judged by what does not depend on how busy the machine is.
pub(crate) fn run_short(workspace: &Workspace, skip_missing: bool) -> Result<()> {
    if skip_missing && let Err(missing) = requirements() {
        println!("lab: skipped: {missing}");
        return Ok(());
    }
    for (name, settings, copies) in scenario::short() {
        let scenario = scenario::named(name)?.in_short(copies);
        let settings = settings.of(&scenario);
        let outcomes = measure(workspace, &scenario, &settings, 1, None)?;
        let summary = report::Summary::of(&scenario, &settings, &outcomes);
        print!("{summary}");
        summary.verdict()?;
    }
    Ok(())
}

/// The commands that run the same scenarios by hand.
pub(crate) fn short_by_hand() -> String {
    scenario::short().map(|(name, settings, _)| format!("cargo tools lab run {name} {}", settings.flags())).join("\n        ")
}

fn measure(
    workspace: &Workspace,
    scenario: &Scenario,
    settings: &Settings,
    runs: u32,
    keep: Option<&PathBuf>,
) -> Result<Vec<outcome::Outcome>> {
    requirements()?;
    let programs = programs(workspace, scenario)?;
    interrupt::watch()?;
    let mut outcomes = Vec::new();
    for run in 0..runs {
        eprintln!("lab: {}, run {} of {runs}", scenario.name, run + 1);
        let settings = Settings { seed: settings.seed.wrapping_add(u64::from(run)), ..settings.clone() };
        let to = keep.map(|keep| keep.join(format!("run-{}", run + 1)));
        outcomes.push(measure_once(scenario, &settings, &programs, None, to.as_deref())?);
    }
    Ok(outcomes)
}

/// One run in a fresh network, with what its links bring if that is known; its files are left at `keep`.
fn measure_once(
    scenario: &Scenario,
    settings: &Settings,
    programs: &Programs,
    known: Option<direct::Direct>,
    keep: Option<&Path>,
) -> Result<outcome::Outcome> {
    let prefix = format!("{}{}-", namespace::PREFIX, std::process::id());
    let work = tempfile::Builder::new().prefix(&prefix).tempdir().context("making a folder for the lab")?;
    let network = Network::build(settings)?;
    let outcome = trial::run(scenario, settings, programs, &network, work.path(), known);
    drop(network);
    if let Some(keep) = keep {
        let folder = keep.parent().unwrap_or(keep);
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        succeed(std::process::Command::new("cp").arg("-a").arg(work.path()).arg(keep))?;
    }
    outcome
}

/// Fails if something that the lab needs is not there.
fn requirements() -> Result<()> {
    require_root()?;
    for tool in ["ip", "tc", "nft", "curl"] {
        if !setup::is_on_path(tool) {
            bail!("the lab needs `{tool}`, which is not on PATH; `cargo tools setup` installs it");
        }
    }
    Ok(())
}

fn programs(workspace: &Workspace, scenario: &Scenario) -> Result<Programs> {
    let hedgerow = match std::env::var_os(BINARY_VARIABLE).filter(|path| !path.is_empty()) {
        Some(path) => path.into(),
        None => HEDGEROW.build(workspace)?,
    };
    if !scenario.hostile.is_empty() {
        succeed(workspace.cargo().args(["build", "--quiet", "--release", "-p", "tests", "--bin", HOSTILE]))?;
    }
    let tools = std::env::current_exe().context("finding this program's own file")?;
    Ok(Programs { hedgerow, hostile: workspace.target.join("release").join(HOSTILE), tools })
}

fn require_root() -> Result<()> {
    if setup::is_root()? {
        return Ok(());
    }
    bail!("the lab makes network namespaces, which only root may; run it as root")
}
