//! The brain. It parses its arguments and runs.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    redoubt_local::log::start();
    match redoubt_agent::main(redoubt_agent::Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(refusal) => {
            redoubt_local::fatal::report(&refusal);
            ExitCode::FAILURE
        }
    }
}
