//! `hedgerow-sim`: a fleet in one process.
//!
//! Exit codes: 0 done, 1 a rule did not hold or the run did not end, 2 it was asked for what cannot be run.

use std::io::{IsTerminal as _, Write as _};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use simulation::scenario::{Choices, Scenario};
use simulation::{fleet, matrix};

/// Hedgerow's swarm in virtual time: the same decisions as on devices, the same digest from the same seed.
#[derive(Parser, Debug)]
#[command(name = "hedgerow-sim", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Runs a fleet until every device has the blob.
    #[command(after_long_help = SCENARIO_HELP)]
    Run(Box<RunFlags>),
    /// Measures the swarm in the cases that it was made for, and compares with the goals; exit code 1 if one is not reached.
    Matrix(MatrixFlags),
}

#[derive(Args, Debug)]
struct MatrixFlags {
    /// Sites of each case: independent samples, of which the median counts
    #[arg(long, value_name = "S", default_value = "5")]
    sites: u32,
    /// Where identities, start times and random choices come from
    #[arg(long, value_name = "K", default_value = "1")]
    seed: u64,
    /// Runs only cases whose name contains this
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Threads to share the sites of a case over [default: all cores]
    #[arg(long, value_name = "T")]
    threads: Option<NonZeroUsize>,
    /// Reports each case in one JSON object on one line
    #[arg(long)]
    json: bool,
}

const SCENARIO_HELP: &str = "\
A scenario file is TOML. It takes every flag above as a key, with `_` for `-` (but for --threads, --json and --scenario);
rules stand in a table [parameters], kills in [[kill]] tables with `site`, `device` and `at_ms`. Flags come before the file.

    devices = 40
    sites = 2
    wan_mbit = 20

    [[kill]]
    site = 0
    device = 3
    at_ms = 2500

    [parameters]
    window_spans = 4

Faults stand in a table [faults]. Not modelled: the seed's own egress, loss, disks, devices that come back.";

#[derive(Args, Debug)]
struct RunFlags {
    #[command(flatten)]
    choices: Choices,
    /// Threads to share the sites over; they change the time of a run and nothing else [default: all cores]
    #[arg(long, value_name = "T")]
    threads: Option<NonZeroUsize>,
    /// A scenario file
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Reports in one JSON object on one line
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let flags = match Cli::parse().command {
        Command::Run(flags) => *flags,
        Command::Matrix(flags) => return exit_code(measure(&flags)),
    };
    let (json, threads) = (flags.json, flags.threads.unwrap_or_else(all_cores));
    let scenario = match scenario(flags) {
        Ok(scenario) => scenario,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::from(2);
        }
    };
    exit_code(run(&scenario, threads, json))
}

fn exit_code(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn scenario(flags: RunFlags) -> anyhow::Result<Scenario> {
    let file = flags.scenario.as_deref().map(Choices::read).transpose()?.unwrap_or_default();
    Scenario::try_from(flags.choices.or(file))
}

fn run(scenario: &Scenario, threads: NonZeroUsize, json: bool) -> anyhow::Result<()> {
    let to_person = std::io::stderr().is_terminal();
    let sites = scenario.sites;
    let report = fleet::run(scenario, threads, &|done| {
        if to_person {
            eprint!("\r{done} of {sites} sites");
        }
    });
    if to_person {
        eprint!("\r\x1b[K");
    }
    let report = report?;
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
    } else {
        writeln!(out, "{report}")?;
    }
    Ok(())
}

fn measure(flags: &MatrixFlags) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if !flags.json {
        writeln!(out, "{}", matrix::Row::HEAD)?;
    }
    let mut missed = 0;
    for cell in matrix::cells().iter().filter(|cell| cell.name.contains(&flags.only)) {
        let row = cell.run(flags.sites.max(1), flags.seed, flags.threads.unwrap_or_else(all_cores))?;
        missed += u32::from(!row.reached);
        if flags.json {
            writeln!(out, "{}", serde_json::to_string(&row)?)?;
        } else {
            writeln!(out, "{row}")?;
        }
        out.flush()?;
    }
    anyhow::ensure!(missed == 0, "{missed} cases did not reach their goal");
    Ok(())
}

fn all_cores() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}
