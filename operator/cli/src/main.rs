//! The kubectl plugin. It parses its arguments and runs.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    kubectl_redoubt::main(kubectl_redoubt::Cli::parse())
}
