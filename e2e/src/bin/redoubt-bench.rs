//! The benchmark of the operator at scale; `e2e/bench/run` brings up what it needs.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use kube::config::{KubeConfigOptions, Kubeconfig};
use redoubt_e2e::bench::{Bench, Failure, Options};

/// Measures the operator on a cluster with simulated nodes.
#[derive(Parser)]
struct Arguments {
    /// The administrator's kubeconfig.
    #[arg(long)]
    kubeconfig: PathBuf,
    /// Where to write the figures as JSON.
    #[arg(long)]
    json: PathBuf,
    #[command(flatten)]
    options: Options,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(table) => {
            #[allow(clippy::print_stdout, reason = "the table is what this program is for")]
            {
                print!("{table}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            #[allow(clippy::print_stderr, reason = "a command's error")]
            {
                eprintln!("error: {error}");
            }
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<String, Failure> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| "another TLS provider is installed")?;
    let kubeconfig = Kubeconfig::read_from(&arguments.kubeconfig).map_err(|error| error.to_string())?;
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await;
    let config = config.map_err(|error| error.to_string())?;
    let report = Bench::new(config, arguments.options)?.run().await?;
    std::fs::write(&arguments.json, serde_json::to_vec_pretty(&report)?)?;
    Ok(report.table())
}
