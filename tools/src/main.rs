//! `cargo tools <verb>`: sets up, checks, tests and measures the workspace it is called in.
//!
//! It is not part of the product: nothing here is needed at run time. It depends on no other crate of the
//! workspace, so that it still runs, and says what is wrong, when one of them does not compile.

mod bench;
mod cargo;
mod check;
mod faults;
mod finding;
#[cfg(test)]
mod fixture;
mod fuzz;
mod lab;
mod layering;
mod lints;
mod setup;
mod shipped;
mod short_simulation;
mod soak;
mod steps;
mod test;
mod tidy;
mod tokens;
mod tuf_suite;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use cargo::Workspace;

/// Set up, check, test and measure Hedgerow.
#[derive(Parser)]
#[command(name = "cargo tools", bin_name = "cargo tools")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Setup(setup::Args),
    Test(test::Args),
    Check(check::Args),
    Layering(layering::Args),
    Tidy(tidy::Args),
    Bench(bench::Args),
    Lab(lab::Args),
    Fuzz(fuzz::Args),
    Soak(soak::Args),
}

fn main() -> ExitCode {
    match run(Arguments::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Each message says what to do next; where in this tool it was written helps nobody.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<()> {
    let workspace = Workspace::find(Path::new("."))?;
    match verb {
        Verb::Setup(args) => setup::run(&args),
        Verb::Test(args) => test::run(&workspace, &args),
        Verb::Check(args) => check::run(&workspace, &args),
        Verb::Layering(args) => layering::run(&workspace, &args),
        Verb::Tidy(args) => tidy::run(&workspace, &args),
        Verb::Bench(args) => bench::run(&workspace, &args),
        Verb::Lab(args) => lab::run(&workspace, &args),
        Verb::Fuzz(args) => fuzz::run(&workspace, &args),
        Verb::Soak(args) => soak::run(&workspace, &args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_follows_two_dashes_is_a_filter() {
        let Verb::Test(args) = Arguments::parse_from(["tools", "test", "--skip-missing", "--", "rollout", "-j1"]).verb else {
            panic!("not the verb `test`");
        };
        assert!(args.skip_missing);
        assert_eq!(args.filters, ["rollout", "-j1"]);
    }
}
