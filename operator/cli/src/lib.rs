//! `kubectl redoubt`: what a person does with agents that kubectl alone cannot.
//!
//! Each command is a module with its `Args` and a `run`. Everything goes through the API server with the rights of the
//! person's own kubeconfig.

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub mod chat;
pub mod check;
pub mod cluster;
pub mod decision;
pub mod diff;
pub mod doctor;
pub mod error;
pub mod explain;
pub mod files;
pub mod judge;
pub mod logs;
pub mod objects;
pub mod output;
pub mod permission;
pub mod rollback;
pub mod schema;
pub mod snapshot;
pub mod terminal;
pub mod trial;
pub mod unused;
pub mod why;

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
    /// Check files without a cluster
    Check(check::Args),
    /// Compare what the Agents of two directories may do
    Diff(diff::Args),
    /// Look whether a cluster has what Redoubt rests on
    Doctor(doctor::Args),
    /// Tell what an Agent may do, or what decides about one request
    Explain(explain::Args),
    /// Tell what an agent asked for and what became of it
    Logs(logs::Args),
    /// Give an Agent an earlier workload back; no permission comes back with it
    Rollback(rollback::Args),
    /// Write what the platform has on a cluster to a file, for the others
    Snapshot(snapshot::Args),
    /// Tell what an agent's sidecar decides about one request, by the policy that its pod holds; nothing is sent
    Test(trial::Args),
    /// Tell what an agent may do and has not done, as far as its sidecar's log goes back
    Unused(unused::Args),
    /// Tell what keeps an Agent from being Ready
    Why(why::Args),
}

/// Runs a command and gives its exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted. Of a command that judges: 0
/// nothing found, 1 something found, 2 it could not judge.
#[must_use]
pub fn main(cli: Cli) -> ExitCode {
    // The only failure is that a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&Error::Terminal(error), output::FOUND),
    };
    let judges = !matches!(cli.command, Command::Chat(_) | Command::Logs(_));
    let result = runtime.block_on(async {
        match cli.command {
            Command::Chat(args) => chat::run(&cli.cluster, args).await.map(|()| output::FINE),
            Command::Check(args) => check::run(&cli.cluster, &args),
            Command::Diff(args) => diff::run(&cli.cluster, &args).await,
            Command::Doctor(args) => doctor::run(&cli.cluster, &args).await,
            Command::Explain(args) => explain::run(&cli.cluster, &args).await,
            Command::Logs(args) => logs::run(&cli.cluster, &args).await.map(|()| output::FINE),
            Command::Rollback(args) => rollback::run(&cli.cluster, &args).await,
            Command::Test(args) => trial::run(&cli.cluster, &args).await,
            Command::Unused(args) => unused::run(&cli.cluster, &args).await,
            Command::Why(args) => why::run(&cli.cluster, &args).await,
            Command::Snapshot(args) => snapshot::run(&cli.cluster, &args).await.map(|()| output::FINE),
        }
    });
    // A read from the terminal may still be waiting for a line that nobody needs.
    runtime.shutdown_background();
    match result {
        Ok(status) => ExitCode::from(status),
        Err(error) if judges => failed(&error, output::NOT_JUDGED),
        Err(error) => failed(&error, error.exit_status()),
    }
}

fn failed(error: &Error, status: u8) -> ExitCode {
    let mut text = String::from("error");
    let mut next: Option<&dyn std::error::Error> = Some(error);
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&terminal::printable(&cause.to_string()));
        next = cause.source();
    }
    let _ = writeln!(std::io::stderr(), "{text}");
    if let Some(help) = error.help() {
        let _ = writeln!(std::io::stderr(), "{}", terminal::printable(&help));
    }
    ExitCode::from(status)
}
