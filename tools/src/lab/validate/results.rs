//! Runs of the lab, kept in a file with an object a line, so that the matrix can be run in parts and goes on after a stop.
//!
//! Not here: what they are compared with; see [`super::errors`].

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::cells::{self, Cell};
use crate::lab::outcome::Outcome;

/// A run of a cell.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) cell: Cell,
    pub(super) run: u32,
    pub(super) figures: BTreeMap<String, f64>,
    /// What no run may have done.
    pub(super) wrong: Vec<String>,
}

impl Row {
    /// A run that was just made.
    pub(super) fn of(cell: &Cell, run: u32, outcome: &Outcome) -> Self {
        let figures = outcome.figures.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        Self { cell: cell.clone(), run, figures, wrong: outcome.wrong.clone() }
    }

    /// A figure; one that is not there is none.
    pub(super) fn figure(&self, name: &str) -> f64 {
        self.figures.get(name).copied().unwrap_or(f64::NAN)
    }

    fn json(&self) -> Value {
        json!({"cell": self.cell.name(), "run": self.run, "figures": self.figures, "wrong": self.wrong})
    }

    /// A run as it was kept, if it is of a cell that still exists.
    fn kept(line: &str) -> Result<Option<Self>> {
        let value: Value = serde_json::from_str(line)?;
        let name = value["cell"].as_str().context("a line without `cell`")?;
        let Some(cell) = cells::all().into_iter().find(|cell| cell.name() == name) else { return Ok(None) };
        let run = u32::try_from(value["run"].as_u64().context("a line without `run`")?)?;
        let figures = serde_json::from_value(value["figures"].clone()).context("a line without `figures`")?;
        let wrong = serde_json::from_value(value["wrong"].clone()).context("a line without `wrong`")?;
        Ok(Some(Self { cell, run, figures, wrong }))
    }
}

/// The runs that `file` has; none if it is not there.
pub(super) fn read(file: Option<&Path>) -> Result<Vec<Row>> {
    let Some(file) = file.filter(|file| file.exists()) else { return Ok(Vec::new()) };
    let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let mut rows = Vec::new();
    for (number, line) in text.lines().enumerate() {
        rows.extend(Row::kept(line).with_context(|| format!("{}:{} is no run of the matrix", file.display(), number + 1))?);
    }
    Ok(rows)
}

/// Adds a run to `file`.
pub(super) fn keep(file: Option<&Path>, row: &Row) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    let opened = File::options().create(true).append(true).open(file);
    opened.and_then(|mut opened| writeln!(opened, "{}", row.json())).with_context(|| format!("writing {}", file.display()))
}

/// The middle one, the lower of two; none of nothing.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_read_again_and_a_line_that_is_no_run_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("runs");
        assert_eq!(read(Some(&file)).unwrap().len(), 0);
        let row = Row { cell: cells::all().remove(7), run: 2, figures: [("seconds".to_owned(), 9.25)].into(), wrong: vec!["x".into()] };
        keep(Some(&file), &row).unwrap();
        keep(Some(&file), &row).unwrap();
        let again = read(Some(&file)).unwrap();
        assert_eq!((again.len(), again[1].run, again[1].cell.clone(), again[1].wrong.len()), (2, 2, row.cell, 1));
        assert!((again[0].figure("seconds") - 9.25).abs() < 1e-9 && again[0].figure("none").is_nan());
        fs::write(&file, "{}\n").unwrap();
        assert!(read(Some(&file)).unwrap_err().to_string().contains("runs:1 is no run"));
    }

    #[test]
    fn the_median_is_one_of_the_values() {
        assert_eq!((median(vec![3.0, 1.0, 2.0]), median(vec![2.0, 1.0]), median(Vec::new())), (Some(2.0), Some(1.0), None));
    }
}
