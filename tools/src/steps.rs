//! Steps that are run one after the other until one fails, and the table of how long each took.
//!
//! Not here: which steps there are; each verb of several steps lists its own.

use std::fmt::Write as _;
use std::time::Instant;

use anyhow::{Context, Result};

/// A part of a verb.
pub(crate) struct Step<'a> {
    pub(crate) name: &'static str,
    /// The command that runs it alone.
    alone: String,
    run: Box<dyn Fn() -> Result<()> + 'a>,
}

/// How far a step came.
struct Row {
    name: &'static str,
    /// `None` when it was not run, because one before it failed.
    seconds: Option<f64>,
    passed: bool,
}

impl<'a> Step<'a> {
    /// A step, the command that does the same by hand, and what it does.
    pub(crate) fn new(name: &'static str, alone: &str, run: impl Fn() -> Result<()> + 'a) -> Self {
        Self { name, alone: alone.to_owned(), run: Box::new(run) }
    }
}

/// Runs the steps in order and fails with the first that does.
pub(crate) fn run_steps(steps: &[Step<'_>]) -> Result<()> {
    let mut rows = Vec::new();
    let mut outcome = Ok(());
    for step in steps {
        if outcome.is_err() {
            rows.push(Row { name: step.name, seconds: None, passed: false });
            continue;
        }
        println!("== {}", step.name);
        let start = Instant::now();
        outcome = (step.run)().with_context(|| {
            format!("the step `{}` failed; mend it, and run it alone with\n        {}\n    because", step.name, step.alone)
        });
        let seconds = start.elapsed().as_secs_f64();
        let verdict = if outcome.is_ok() { "passed" } else { "failed" };
        println!("== {} {verdict} in {seconds:.1} s\n", step.name);
        rows.push(Row { name: step.name, seconds: Some(seconds), passed: outcome.is_ok() });
    }
    print!("{}", table(&rows));
    outcome
}

fn table(rows: &[Row]) -> String {
    let mut text = format!("{:<16}{:>10}\n", "step", "seconds");
    for row in rows {
        let seconds = row.seconds.map_or("not run".to_owned(), |seconds| format!("{seconds:.1}"));
        let mark = if row.seconds.is_some() && !row.passed { "  failed" } else { "" };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:<16}{seconds:>10}{mark}", row.name);
    }
    let total: f64 = rows.iter().filter_map(|row| row.seconds).sum();
    let _ = writeln!(text, "{:<16}{total:>10.1}", "all");
    text
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use anyhow::bail;

    use super::*;

    #[test]
    fn a_failure_names_the_step_and_its_command_and_ends_the_check() {
        let later_runs = Cell::new(0);
        let steps = [
            Step::new("format", "cargo fmt --all --check", || Ok(())),
            Step::new("tidy", "cargo tools tidy", || bail!("no header")),
            Step::new("test", "cargo tools test", || {
                later_runs.set(later_runs.get() + 1);
                Ok(())
            }),
        ];
        let error = format!("{:#}", run_steps(&steps).unwrap_err());
        assert!(error.contains("the step `tidy` failed"), "{error}");
        assert!(error.contains("run it alone with\n        cargo tools tidy\n    because: no header"), "{error}");
        assert_eq!(later_runs.get(), 0);
    }

    #[test]
    fn the_table_has_a_line_for_each_step() {
        let rows = [
            Row { name: "format", seconds: Some(1.26), passed: true },
            Row { name: "clippy", seconds: Some(20.0), passed: false },
            Row { name: "test", seconds: None, passed: false },
        ];
        assert_eq!(
            table(&rows),
            "step               seconds\n\
             format                 1.3\n\
             clippy                20.0  failed\n\
             test               not run\n\
             all                   21.3\n"
        );
    }
}
