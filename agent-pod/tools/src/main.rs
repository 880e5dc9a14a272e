//! The hands. It parses its arguments and runs.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    redoubt_local::log::start();
    match redoubt_tools::main(redoubt_tools::Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(refusal) => {
            redoubt_local::fatal::report(&refusal);
            ExitCode::FAILURE
        }
    }
}
