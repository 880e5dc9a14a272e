//! `kubectl redoubt`: what a person does with agents that kubectl alone cannot.
//!
//! Each command is a module with its `Args` and a `run`. Everything goes through the API server with the rights of the
//! person's own kubeconfig.

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub mod chat;
pub mod cluster;
pub mod error;
pub mod terminal;

pub use error::Error;

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "kubectl-redoubt",
    bin_name = "kubectl redoubt",
    version,
    about = "Works with Redoubt agents"
)]
pub struct Cli {
    /// Which cluster.
    #[command(flatten)]
    pub cluster: cluster::Args,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Talk to an agent.
    Chat(chat::Args),
}

/// Runs a command and gives its exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
#[must_use]
pub fn main(cli: Cli) -> ExitCode {
    // The only failure is that a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return ended(Err(Error::Terminal(error))),
    };
    let result = runtime.block_on(async {
        match cli.command {
            Command::Chat(args) => chat::run(&cli.cluster, args).await,
        }
    });
    // A read from the terminal may still be waiting for a line that nobody needs.
    runtime.shutdown_background();
    ended(result)
}

fn ended(result: Result<(), Error>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    let mut text = String::from("error");
    let mut next: Option<&dyn std::error::Error> = Some(&error);
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&terminal::printable(&cause.to_string()));
        next = cause.source();
    }
    let _ = writeln!(std::io::stderr(), "{text}");
    if let Some(help) = error.help() {
        let _ = writeln!(std::io::stderr(), "{}", terminal::printable(&help));
    }
    ExitCode::from(error.exit_status())
}
