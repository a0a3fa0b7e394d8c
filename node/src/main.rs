//! The one binary of Hedgerow.

use std::process::ExitCode;

use clap::Parser as _;
use node::cli::{self, Cli};
use protocol::statement::TrustToken;

fn main() -> ExitCode {
    if let Err(error) = cli::without_empty_variables() {
        eprintln!("hedgerow: this program cannot be started without its empty environment variables: {error}; unset them");
        return ExitCode::FAILURE;
    }
    let Some(token) = TrustToken::take() else { return ExitCode::FAILURE };
    match cli::run(Cli::parse(), token) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hedgerow: {error:#}");
            ExitCode::FAILURE
        }
    }
}
