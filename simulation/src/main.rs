//! `hedgerow-sim`: a fleet in one process.
//!
//! Exit codes: 0 done, 1 a rule did not hold or the run did not end, 2 it was asked for what cannot be run.

mod interrupt;

use std::fs::File;
use std::io::{BufReader, IsTerminal as _, Write as _};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use simulation::correctness::batch::{self, Batch};
use simulation::correctness::{self, SeededBug};
use simulation::fleet::{self, Workers};
use simulation::replay::{self, Replayed};
use simulation::scenario::{Choices, Scenario};
use simulation::{baselines, html, matrix, sweep};

/// Hedgerow's swarm in virtual time: the same decisions as on devices, the same digest from the same seed.
#[derive(Parser, Debug)]
#[command(name = "hedgerow-sim", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Runs a fleet until every device has the blob, and then its rollout, if the scenario has one. Ctrl-C ends it with a
    /// report of the sites that are done.
    #[command(after_long_help = SCENARIO_HELP)]
    Run(Box<RunFlags>),
    /// Runs every combination of settings with several seeds, and gives means with 95 % confidence intervals.
    Sweep(Box<SweepFlags>),
    /// Runs small fleets in which everything goes wrong, one a seed, and checks that what must hold does; exit code 1 if not.
    Check(CheckFlags),
    /// Measures the swarm in the cases that it was made for, and compares with the goals; exit code 1 if one is not reached.
    Matrix(MatrixFlags),
    /// Gives a swarm machine what one on a device heard, as `hedgerow device run --record` noted it, and compares what it wants
    /// done byte for byte; exit code 1 if it differs.
    Replay(ReplayFlags),
}

#[derive(Args, Debug)]
struct ReplayFlags {
    /// The recording
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Reports in one JSON object on one line
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct CheckFlags {
    /// Seeds to run, from A up to but without B
    #[arg(long, value_name = "A..B", default_value = "0..1000", value_parser = seeds)]
    seeds: std::ops::Range<u64>,
    /// Runs this seed alone
    #[arg(long, value_name = "K", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Prints what happens, with --seed
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Puts a bug in, to see whether it is found, and stops with the first run that fails
    #[arg(long, value_name = "BUG")]
    bug: Option<SeededBug>,
    /// Threads to share the runs over; they change the time it takes and nothing else [default: all cores]
    #[arg(long, value_name = "T")]
    threads: Option<NonZeroUsize>,
    /// Reports in one JSON object on one line
    #[arg(long)]
    json: bool,
}

fn seeds(text: &str) -> Result<std::ops::Range<u64>, String> {
    let range = text.split_once("..").and_then(|(first, end)| Some(first.parse().ok()?..end.parse().ok()?));
    range
        .filter(|range: &std::ops::Range<u64>| !range.is_empty())
        .ok_or_else(|| "write two numbers, the first smaller, as 0..1000".to_owned())
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
A scenario file is TOML. It takes every flag above as a key, with `_` for `-` (but for --threads, --json, --html, --compare,
--set and --scenario); faults stand in a table [faults], rates in [rates], rules in [parameters], kills in [[kill]] tables with
`site`, `device` and `at_ms`. Flags come before --set, and that before the file.

    devices = 40
    sites = 2
    wan_mbit = 20

    [faults]
    churn_percent = 10

    [rates]
    disk_mbit = 80

    [[kill]]
    site = 0
    device = 3
    at_ms = 2500

    [rollout]                  # version 2 comes to devices that run version 1
    steps = \"5%,10m,100%\"      # which share of the devices may start it when
    window = \"22:00-04:00\"     # in which time of day, UTC; the rollout starts at midnight
    abort = \"5%\"               # when more than this share of the devices that ended failed
    silence = \"30m\"            # who has not said how it ended by then has failed
    prefetch = \"2h\"            # so long it is fetched only
    poll_seconds = 300
    start_seconds = 30         # until it is seen whether it is healthy
    fails_percent = 2          # devices on which it is not
    mute_percent = 1           # devices that say nothing any more
    online = \"08:00-20:00\"     # when devices are on the network, by the clock of their site
    time_zones = 24            # over which the sites are spread

Files to begin with are in the source tree under simulation/scenarios. Not modelled: loss of packets, reading
from disks.";

#[derive(Args, Debug)]
struct RunFlags {
    #[command(flatten)]
    choices: Choices,
    #[command(flatten)]
    source: Source,
    /// Threads to share the sites over; they change the time of a run and nothing else [default: all cores]
    #[arg(long, value_name = "T")]
    threads: Option<NonZeroUsize>,
    /// Sites that each thread runs side by side, to see what devices take that are all active; without, each has one after the
    /// other
    #[arg(long, value_name = "S", default_value = "1")]
    abreast: NonZeroUsize,
    /// Compares with other ways to distribute, at up to ten of the sites
    #[arg(long)]
    compare: bool,
    /// Writes a page with plots, which needs nothing else
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Reports in one JSON object on one line
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct Source {
    /// A scenario file
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Sets a key of the scenario, that of a table with a dot: `faults.liars=1`; may be given again
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Args, Debug)]
struct SweepFlags {
    #[command(flatten)]
    choices: Choices,
    /// A scenario file
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// An axis of the grid: a key of the scenario and its values, `wan_mbit=10,20,50`; may be given again
    #[arg(long, value_name = "KEY=VALUE,…", required = true)]
    set: Vec<String>,
    /// Runs of each combination, with as many seeds from the scenario's on
    #[arg(long, value_name = "N", default_value = "5")]
    seeds: u64,
    /// Runs at a time [default: all cores]
    #[arg(long, value_name = "T")]
    threads: Option<NonZeroUsize>,
    /// Reports each combination in one JSON object on one line
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Check(flags) => exit_code(check(&flags)),
        Command::Run(flags) => match Scenario::load(flags.choices.clone(), &flags.source.set, flags.source.scenario.as_deref()) {
            Ok(scenario) => exit_code(run(&scenario, &flags)),
            Err(error) => refused(&error),
        },
        Command::Sweep(flags) => {
            let grid = sweep::grid(&flags.set, flags.seeds);
            let first = grid.and_then(|grid| {
                let first = Scenario::load(flags.choices.clone(), &grid[0], flags.scenario.as_deref());
                first.map(|_| grid)
            });
            match first {
                Ok(grid) => exit_code(run_sweep(&flags, &grid)),
                Err(error) => refused(&error),
            }
        }
        Command::Matrix(flags) => exit_code(measure(&flags)),
        Command::Replay(flags) => exit_code(replay_file(&flags)),
    }
}

fn refused(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::from(2)
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

/// A bar on standard error with the time that is left; nothing where that is no terminal.
fn progress_bar(length: u64, of: &'static str) -> anyhow::Result<ProgressBar> {
    let style = ProgressStyle::with_template(&format!("{{bar:40}} {{pos}} of {{len}} {of}, {{eta}} left"))?;
    Ok(ProgressBar::new(length).with_style(style))
}

fn run(scenario: &Scenario, flags: &RunFlags) -> anyhow::Result<()> {
    let stop = interrupt::stop_on_ctrl_c()?;
    let bar = progress_bar(u64::from(scenario.sites), "sites")?;
    let workers = Workers { threads: flags.threads.unwrap_or_else(all_cores), abreast: flags.abreast };
    let report = fleet::run_until(scenario, workers, &stop, &|done| bar.set_position(u64::from(done)));
    bar.finish_and_clear();
    let mut report = report?;
    report.strategies = if flags.compare { baselines::compare(scenario) } else { Vec::new() };
    if let Some(path) = &flags.html {
        let page = html::page(&report, &scenario.command());
        std::fs::write(path, page).with_context(|| format!("cannot write {}; is the folder there, and yours to write?", path.display()))?;
    }
    let mut out = std::io::stdout().lock();
    if flags.json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
    } else {
        writeln!(out, "{report}")?;
    }
    Ok(())
}

fn run_sweep(flags: &SweepFlags, grid: &[Vec<String>]) -> anyhow::Result<()> {
    let bar = progress_bar(grid.len() as u64 * flags.seeds, "runs")?;
    let threads = flags.threads.unwrap_or_else(all_cores);
    let points = sweep::run(&flags.choices, flags.scenario.as_deref(), grid, flags.seeds, threads, &|| bar.inc(1));
    bar.finish_and_clear();
    let mut out = std::io::stdout().lock();
    if !flags.json {
        writeln!(out, "{}", sweep::Point::HEAD)?;
    }
    for point in points? {
        if flags.json {
            writeln!(out, "{}", serde_json::to_string(&point)?)?;
        } else {
            writeln!(out, "{point}")?;
        }
    }
    Ok(())
}

fn check(flags: &CheckFlags) -> anyhow::Result<()> {
    if let (Some(seed), true) = (flags.seed, flags.trace) {
        let (trace, outcome) = match correctness::run(seed, flags.bug, true) {
            Ok(passed) => (passed.trace, Ok(())),
            Err(mut violation) => (std::mem::take(&mut violation.trace), Err(violation.into())),
        };
        let mut out = std::io::stdout().lock();
        trace.iter().try_for_each(|line| writeln!(out, "{line}"))?;
        return outcome;
    }
    let seeds = flags.seed.map_or(flags.seeds.clone(), |seed| seed..seed + 1);
    let (threads, to_person) = (flags.threads.unwrap_or_else(all_cores), std::io::stderr().is_terminal());
    let count = seeds.end - seeds.start;
    let batch = batch::check(seeds, flags.bug, threads, flags.bug.is_some(), &|done| {
        if to_person {
            eprint!("\r{done} of {count} runs");
        }
    });
    if to_person {
        eprint!("\r\x1b[K");
    }
    for violation in &batch.violations {
        eprintln!("{violation}");
    }
    let mut out = std::io::stdout().lock();
    if flags.json {
        writeln!(out, "{}", serde_json::to_string(&batch)?)?;
    } else {
        let Batch { passed, virtual_hours, events, seconds, digest, .. } = &batch;
        writeln!(out, "{passed} runs held, {virtual_hours} h of virtual time, {events} events in {seconds:.1} s, digest {digest}")?;
    }
    anyhow::ensure!(batch.failed == 0, "{} runs did not hold", batch.failed);
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

fn replay_file(flags: &ReplayFlags) -> anyhow::Result<()> {
    let name = flags.file.display();
    let file = File::open(&flags.file).with_context(|| format!("cannot read the recording {name}"))?;
    let done = replay::replay(BufReader::new(file)).with_context(|| name.to_string())?;
    let mut out = std::io::stdout().lock();
    if flags.json {
        writeln!(out, "{}", serde_json::to_string(&done)?)?;
        return Ok(());
    }
    let Replayed { inputs, timeouts, effects, events, micros, digest, cut } = done;
    let seconds = micros / 1_000_000;
    writeln!(
        out,
        "{inputs} inputs and {timeouts} timeouts in {seconds} s: the same {effects} effects and {events} events, digest {digest}"
    )?;
    if cut {
        writeln!(out, "the recording ends in the middle of an entry, as that of a process that was killed does")?;
    }
    Ok(())
}

fn all_cores() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}
