//! The one binary of Hedgerow.

use std::process::ExitCode;

use clap::Parser as _;
use node::cli::{self, Cli};
use protocol::statement::TrustToken;

fn main() -> ExitCode {
    let Some(token) = TrustToken::take() else { return ExitCode::FAILURE };
    match cli::run(Cli::parse_from(cli::arguments()), token) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hedgerow: {error:#}");
            ExitCode::FAILURE
        }
    }
}
