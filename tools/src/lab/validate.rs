//! `lab validate`: a matrix of cases run in the lab and in the simulation, and by how much they differ.
//!
//! | module | holds |
//! |---|---|
//! | `cells` | the cases |
//! | `results` | runs in the lab, kept in a file |
//! | `calibration` | what runs of two devices tell the simulation |
//! | `simulation` | cases in the simulation |
//! | `errors` | how far apart both are |
//!
//! Not here: the lab itself; see [`super`].

mod calibration;
mod cells;
mod errors;
mod results;
mod simulation;

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Result, bail};

use super::{Output, Programs, interrupt, measure_once, programs, requirements};
use crate::cargo::Workspace;
use calibration::Calibration;
use cells::Cell;
use errors::{Compared, Errors};
use results::Row;
use simulation::Simulation;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Only cells whose name contains one of these texts, with commas between: `d5-,partition`; those of two devices, which
    /// calibrate the simulation, are always run
    #[arg(long, value_name = "TEXTS", value_delimiter = ',')]
    cells: Vec<String>,
    /// Only the Kth of N parts of these cells, from 1
    #[arg(long, value_name = "K/N")]
    part: Option<Part>,
    /// Runs of each cell; medians are compared
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Keep runs in FILE; what it has already is not run again, and all that it has is compared
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
    /// The form of the result
    #[arg(long, value_name = "FORM", default_value = "text")]
    output: Output,
}

/// A part of the cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    number: usize,
    of: usize,
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        numbers
            .filter(|(number, of)| (1..=*of).contains(number))
            .map(|(number, of)| Self { number, of })
            .ok_or_else(|| "write two numbers, the first from 1 to the second, as 2/12".to_owned())
    }
}

/// Runs what is missing, and compares.
pub(super) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    requirements()?;
    let cells = chosen(args)?;
    let mut rows = results::read(args.results.as_deref())?;
    let programs = programs(workspace, cells[0].scenario()?)?;
    let simulation = Simulation::build(workspace)?;
    interrupt::watch()?;
    let (calibrating, others): (Vec<Cell>, Vec<Cell>) = cells.into_iter().partition(Cell::calibrates);
    measure(&calibrating, args, &programs, None, &mut rows)?;
    let links = Calibration::of_links(&rows)?;
    measure(&others, args, &programs, Some(&links), &mut rows)?;
    let calibration = links.with_extras(&rows, &simulation)?;
    let errors = compare(&rows, &calibration, &simulation)?;
    match args.output {
        Output::Text => print!("{errors}"),
        Output::Json => println!("{}", errors.json()),
    }
    errors.verdict()
}

/// The cells to run: those that calibrate, and of the others those that were chosen.
fn chosen(args: &Args) -> Result<Vec<Cell>> {
    let (calibrating, others): (Vec<Cell>, Vec<Cell>) = cells::all().into_iter().partition(Cell::calibrates);
    let is_named = |cell: &Cell| args.cells.is_empty() || args.cells.iter().any(|text| cell.name().contains(text.as_str()));
    if !calibrating.iter().chain(&others).any(is_named) {
        let names: Vec<String> = others.iter().map(Cell::name).collect();
        bail!("no cell has a name with {}; there are {}", args.cells.join(" or "), names.join(", "));
    }
    let part = args.part.unwrap_or(Part { number: 1, of: 1 });
    let others = others.into_iter().filter(is_named).enumerate().filter(|(index, _)| index % part.of == part.number - 1);
    Ok(calibrating.into_iter().chain(others.map(|(_, cell)| cell)).collect())
}

/// Runs cells in the lab as often as they are not in `rows` yet.
fn measure(cells: &[Cell], args: &Args, programs: &Programs, links: Option<&Calibration>, rows: &mut Vec<Row>) -> Result<()> {
    for cell in cells {
        for run in 0..args.runs {
            if rows.iter().any(|row| row.cell == *cell && row.run == run) {
                continue;
            }
            eprintln!("lab: {}, run {} of {}", cell.name(), run + 1, args.runs);
            let scenario = cell.scenario()?;
            let settings = cell.settings(scenario, run);
            let known = links.map(|links| links.direct(cell));
            let row = Row::of(cell, run, &measure_once(scenario, &settings, programs, known, None)?);
            results::keep(args.results.as_deref(), &row)?;
            rows.push(row);
        }
    }
    Ok(())
}

fn compare<'a>(rows: &[Row], calibration: &'a Calibration, simulation: &Simulation) -> Result<Errors<'a>> {
    let mut compared = Vec::new();
    for cell in cells::all().into_iter().filter(|cell| rows.iter().any(|row| row.cell == *cell)) {
        let foretold = calibration.foretold(simulation.run(&cell, calibration)?);
        compared.extend(Compared::of(&cell, rows, foretold));
    }
    let wrong = rows.iter().flat_map(|row| row.wrong.iter().map(|wrong| format!("{}, run {}: {wrong}", row.cell.name(), row.run + 1)));
    Ok(Errors { calibration, cells: compared, wrong: wrong.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(cells: &[&str], part: Option<Part>) -> Args {
        let cells = cells.iter().map(|text| (*text).to_owned()).collect();
        Args { cells, part, runs: 1, results: None, output: Output::Text }
    }

    #[test]
    fn parts_have_every_cell_once_and_those_that_calibrate_always() {
        let mut others = Vec::new();
        for number in 1..=5 {
            let (calibrating, rest): (Vec<Cell>, Vec<Cell>) =
                chosen(&args(&[], Some(Part { number, of: 5 }))).unwrap().into_iter().partition(Cell::calibrates);
            assert_eq!(calibrating.len(), 6);
            others.extend(rest.iter().map(Cell::name));
        }
        others.sort_unstable();
        others.dedup();
        assert_eq!(others.len(), 42);
        for wrong in ["0/3", "4/3", "1", "a/b"] {
            assert!(wrong.parse::<Part>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn cells_are_chosen_by_parts_of_their_names_and_a_text_without_one_is_refused() {
        assert_eq!(chosen(&args(&["d20-u5-partition"], None)).unwrap().len(), 6 + 1);
        assert_eq!(chosen(&args(&["d2-"], None)).unwrap().len(), 6);
        assert!(chosen(&args(&["d7-"], None)).err().unwrap().to_string().contains("d5-u1-flash-crowd"));
    }
}
