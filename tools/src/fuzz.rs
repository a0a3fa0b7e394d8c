//! `cargo tools fuzz`: the fuzz targets of `tests/fuzz` under libFuzzer, one after the other.
//!
//! What it finds stays in `tests/fuzz/artifacts`; inputs that reach further than the corpus in the tree stay in the target
//! folder, where the next run starts from them.
//!
//! Not here: the targets, and their short run in `check`; see `tests/fuzz/src/lib.rs`.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::cargo::{Workspace, line_of, stdout_of, succeed};

/// Run the fuzz targets under libFuzzer (nightly toolchain, cargo-fuzz)
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run this target alone
    #[arg(long, value_name = "TARGET")]
    pub(crate) target: Option<String>,
    /// How long each target runs
    #[arg(long, value_name = "MINUTES", default_value_t = MINUTES, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) minutes: u32,
    /// How the result is written to standard output
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// The forms of the result.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum Output {
    /// A table.
    Text,
    /// One JSON object.
    Json,
}

/// How long a target runs unless something else is asked for.
pub(crate) const MINUTES: u32 = 10;

/// A target that ran fewer times was hardly fuzzed, whatever it did not find.
const EXECUTIONS_MIN: u64 = 1_000_000;

/// One input may take no longer: all are small.
const INPUT_SECONDS_MAX: u32 = 5;

/// A target may use no more memory: parsers hold what they read once or twice.
const MEMORY_MIB_MAX: u32 = 512;

/// How much of a target's output is shown when it ended badly.
const LINES_SHOWN: usize = 40;

const FOLDER: &str = "tests/fuzz";

/// How a target ran.
struct Outcome {
    target: String,
    seconds: f64,
    statistics: Statistics,
    /// The end of what was said, if the run ended before its time.
    fault: Option<String>,
    /// The command that, with a file behind it, runs the target on that file alone.
    repeat: String,
}

/// What libFuzzer says of a run.
#[derive(Debug, Default, PartialEq, Eq)]
struct Statistics {
    executions: u64,
    /// Edges of the control flow that were passed.
    covered: u64,
    /// Edges that there are, most of them in code that no target calls.
    edges: u64,
    /// The file with the input for which something does not hold.
    finding: Option<String>,
}

/// Runs the verb.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let targets = chosen(targets(&workspace.root.join(FOLDER).join("fuzz_targets"))?, args.target.as_deref())?;
    must_be_there(workspace)?;
    eprintln!("fuzz: building");
    succeed(&mut cargo_fuzz(workspace, "build"))?;
    let outcomes: Vec<Outcome> = targets.iter().map(|target| run_target(workspace, target, args.minutes)).collect::<Result<_>>()?;
    match args.output {
        Output::Text => print!("{}", table(&outcomes)),
        Output::Json => println!("{}", object(&outcomes)),
    }
    let faults: Vec<String> = outcomes.iter().filter_map(Outcome::fault).collect();
    if faults.is_empty() { Ok(()) } else { bail!("{}", faults.join("\n")) }
}

/// The targets, by their files, in order.
fn targets(folder: &Path) -> Result<Vec<String>> {
    let cannot = || format!("cannot list {}", folder.display());
    let mut targets = Vec::new();
    for entry in fs::read_dir(folder).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        if let Some(name) = path.file_stem().and_then(|name| name.to_str()).filter(|_| path.extension().is_some_and(|end| end == "rs")) {
            targets.push(name.to_owned());
        }
    }
    targets.sort();
    Ok(targets)
}

fn chosen(targets: Vec<String>, wanted: Option<&str>) -> Result<Vec<String>> {
    let Some(wanted) = wanted else { return Ok(targets) };
    if !targets.iter().any(|target| target == wanted) {
        bail!("there is no fuzz target `{wanted}`; there are {}", targets.join(", "));
    }
    Ok(vec![wanted.to_owned()])
}

fn must_be_there(workspace: &Workspace) -> Result<()> {
    let mut version = workspace.nightly_cargo();
    stdout_of(version.args(["fuzz", "--version"])).map(drop).context(
        "fuzzing takes the nightly toolchain, cargo-fuzz and a C++ compiler; get them with\n    \
         rustup toolchain install nightly --profile minimal\n    \
         cargo install --locked cargo-fuzz\n    \
         apt-get install -y g++\n\
         because",
    )
}

fn cargo_fuzz(workspace: &Workspace, verb: &str) -> Command {
    let mut command = workspace.nightly_cargo();
    command.args(["fuzz", verb, "--fuzz-dir", FOLDER, "--target-dir"]).arg(workspace.target.join("fuzz"));
    command
}

/// The command for one target. What is new goes to the first of the two folders.
fn run_command(workspace: &Workspace, target: &str, found: &Path, minutes: u32) -> Command {
    let mut command = cargo_fuzz(workspace, "run");
    command.arg(target).arg(found).arg(format!("{FOLDER}/corpus/{target}")).arg("--");
    command.arg(format!("-max_total_time={}", u64::from(minutes) * 60)).arg("-print_final_stats=1");
    command.arg(format!("-timeout={INPUT_SECONDS_MAX}")).arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"));
    command
}

fn run_target(workspace: &Workspace, target: &str, minutes: u32) -> Result<Outcome> {
    let found = workspace.target.join("fuzz/corpus").join(target);
    fs::create_dir_all(&found).with_context(|| format!("cannot make {}; is there room, and is it yours to write?", found.display()))?;
    let log = workspace.target.join("fuzz").join(format!("{target}.log"));
    let cannot = || format!("cannot write {}", log.display());
    let file = File::create(&log).with_context(cannot)?;
    let mut command = run_command(workspace, target, &found, minutes);
    command.stdout(file.try_clone().with_context(cannot)?).stderr(file);
    eprintln!("fuzz: {target} for {minutes} min, log in {}", log.display());
    let start = Instant::now();
    let status = command.status().context("cannot start `rustup`")?;
    let seconds = start.elapsed().as_secs_f64();
    let said = String::from_utf8_lossy(&fs::read(&log).with_context(|| format!("cannot read {}", log.display()))?).into_owned();
    let fault = (!status.success()).then(|| last_lines(&said));
    let repeat = line_of(cargo_fuzz(workspace, "run").arg(target));
    Ok(Outcome { target: target.to_owned(), seconds, statistics: Statistics::read(&said), fault, repeat })
}

fn last_lines(said: &str) -> String {
    let lines: Vec<&str> = said.lines().collect();
    lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n")
}

impl Statistics {
    /// Reads what libFuzzer wrote.
    fn read(said: &str) -> Self {
        let mut statistics = Self::default();
        for line in said.lines() {
            let after = |mark: &str| line.split_once(mark).map(|(_, rest)| rest);
            let number = |mark: &str| after(mark).and_then(|rest| rest.split_whitespace().next()?.parse().ok());
            if let Some(covered) = number(" cov: ") {
                statistics.covered = covered;
            } else if let Some(edges) = after(" modules ").and_then(|rest| rest.trim().strip_prefix('(')?.split(' ').next()?.parse().ok()) {
                statistics.edges = edges;
            } else if let Some(executions) = number("stat::number_of_executed_units:") {
                statistics.executions = executions;
            } else if let Some(path) = after("Test unit written to ") {
                statistics.finding = Some(path.trim().to_owned());
            }
        }
        statistics
    }
}

impl Outcome {
    /// What is wrong with the run, and what to do next.
    fn fault(&self) -> Option<String> {
        let target = &self.target;
        match (&self.statistics.finding, &self.fault) {
            (Some(file), said) => Some(format!(
                "{}\n`{target}` does not hold for an input; mend the parser, keep the input in {FOLDER}/corpus/{target}, and repeat with\n    \
                 {} {file}",
                said.as_deref().unwrap_or_default(),
                self.repeat
            )),
            (None, Some(said)) => Some(format!("{said}\n`{target}` ended early; its last lines above say why")),
            (None, None) if self.statistics.executions < EXECUTIONS_MIN => Some(format!(
                "`{target}` ran {} times, fewer than {EXECUTIONS_MIN}; give it more --minutes, or make it faster",
                self.statistics.executions
            )),
            (None, None) => None,
        }
    }
}

fn table(outcomes: &[Outcome]) -> String {
    let mut text = format!("{:<20}{:>12}{:>10}{:>10}{:>10}  finding\n", "target", "executions", "covered", "edges", "seconds");
    for outcome in outcomes {
        let Statistics { executions, covered, edges, finding } = &outcome.statistics;
        let finding = finding.as_deref().unwrap_or("none");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:<20}{executions:>12}{covered:>10}{edges:>10}{:>10.0}  {finding}", outcome.target, outcome.seconds);
    }
    text
}

fn object(outcomes: &[Outcome]) -> Value {
    let target = |outcome: &Outcome| {
        let Statistics { executions, covered, edges, finding } = &outcome.statistics;
        json!({
            "target": outcome.target, "executions": executions, "covered": covered, "edges": edges, "seconds": outcome.seconds.round(),
            "finding": finding, "passed": outcome.fault().is_none(),
        })
    };
    json!({ "targets": outcomes.iter().map(target).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    const SAID: &str = "\
INFO: Loaded 1 modules   (659 inline 8-bit counters): 659 [0x558f2d0306d0, 0x558f2d030963), \n\
#9\tINITED cov: 93 ft: 143 corp: 8/156b exec/s: 0 rss: 36Mb\n\
#27\tNEW    cov: 103 ft: 176 corp: 16/313b lim: 49 exec/s: 0 rss: 36Mb L: 16/49 MS: 5 ShuffleBytes-\n\
#1347996\tDONE   cov: 147 ft: 407 corp: 175/10970b lim: 2077 exec/s: 31636 rss: 124Mb\n\
Done 1347996 runs in 11 second(s)\n\
stat::number_of_executed_units: 1347996\n";

    #[test]
    fn reads_executions_and_coverage() {
        assert_eq!(Statistics::read(SAID), Statistics { executions: 1_347_996, covered: 147, edges: 659, finding: None });
        assert_eq!(Statistics::read("error: could not compile"), Statistics::default());
    }

    #[test]
    fn a_finding_names_its_file_and_how_to_repeat_it() {
        let said = format!("{SAID}artifact_prefix='a/'; Test unit written to a/path/crash-12\n");
        let fault = outcome(&said, Some("panicked at")).fault().unwrap();
        assert!(fault.contains("repeat with\n    cargo fuzz run path a/path/crash-12"), "{fault}");
        assert!(fault.contains("panicked at"), "{fault}");
    }

    #[test]
    fn a_run_that_ended_early_or_did_little_is_a_fault() {
        assert_eq!(outcome(SAID, None).fault(), None);
        assert!(outcome("killed", Some("killed")).fault().unwrap().contains("ended early"));
        let little = SAID.replace("units: 1347996", "units: 999999");
        assert!(outcome(&little, None).fault().unwrap().contains("ran 999999 times, fewer than 1000000"));
    }

    #[test]
    fn the_result_has_a_line_or_an_object_for_each_target() {
        let outcomes = [outcome(SAID, None)];
        let expected = "target                executions   covered     edges   seconds  finding\n\
                        path                     1347996       147       659        11  none\n";
        assert_eq!(table(&outcomes), expected);
        let expected = json!({ "targets": [{
            "target": "path", "executions": 1_347_996, "covered": 147, "edges": 659, "seconds": 11.0, "finding": null, "passed": true,
        }] });
        assert_eq!(object(&outcomes), expected);
    }

    #[test]
    fn a_target_is_run_from_its_corpus_for_the_time_that_was_asked_for() {
        let workspace = Workspace { root: PathBuf::from("."), target: PathBuf::from("/t"), crates: Vec::new() };
        assert_eq!(
            line_of(&run_command(&workspace, "path", Path::new("/t/fuzz/corpus/path"), 2)),
            "rustup run nightly cargo fuzz run --fuzz-dir tests/fuzz --target-dir /t/fuzz path /t/fuzz/corpus/path tests/fuzz/corpus/path \
             -- -max_total_time=120 -print_final_stats=1 -timeout=5 -rss_limit_mb=512"
        );
    }

    #[test]
    fn an_unknown_target_is_refused_with_the_known_ones() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["range.rs", "path.rs", "notes.md"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let targets = targets(folder.path()).unwrap();
        assert_eq!(chosen(targets.clone(), Some("path")).unwrap(), ["path"]);
        assert_eq!(
            chosen(targets.clone(), Some("nothing")).unwrap_err().to_string(),
            "there is no fuzz target `nothing`; there are path, range"
        );
        assert_eq!(chosen(targets, None).unwrap(), ["path", "range"]);
    }

    fn outcome(said: &str, fault: Option<&str>) -> Outcome {
        Outcome {
            target: "path".into(),
            seconds: 11.2,
            statistics: Statistics::read(said),
            fault: fault.map(str::to_owned),
            repeat: "cargo fuzz run path".into(),
        }
    }
}
