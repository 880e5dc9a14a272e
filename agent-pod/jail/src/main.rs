//! The binary: parses its arguments and calls the crate.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    redoubt_jail::run::main(redoubt_jail::args::Args::try_parse())
}
