//! Reads the command line and runs the operator.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use redoubt_crds::names;
use redoubt_operator::{Options, check, client, metrics, run};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};
use tracing_subscriber::EnvFilter;

/// Makes and keeps the pods of Redoubt's Agents.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The operator's own namespace, where its signing key and its Lease are.
    #[arg(long, default_value = names::OPERATOR_NAMESPACE)]
    namespace: String,
    /// What this replica is called in the Lease: the name of its pod.
    #[arg(long, default_value = "operator")]
    identity: String,
    /// Where to serve /healthz and /readyz, in plain HTTP.
    #[arg(long, default_value = "0.0.0.0:8080")]
    health: SocketAddr,
    /// Where to serve the policy stream to sidecars, in gRPC over TLS.
    #[arg(long, default_value = "0.0.0.0:8444")]
    stream: SocketAddr,
    /// Where to serve /metrics, in plain HTTP.
    #[arg(long, default_value_t = SocketAddr::from(([0, 0, 0, 0], metrics::PORT)))]
    metrics: SocketAddr,
    /// Who may scrape the metrics of agents' sidecars: a JSON list of a NetworkPolicy's peers. An empty one turns them off.
    #[arg(long, default_value = "[]", value_parser = metrics::scrapers)]
    agent_scrapers: metrics::Scrapers,
    /// What to log: error, warn, info, debug, or a tracing filter.
    #[arg(long, default_value = "info,kube=warn,tower=warn,hyper=warn")]
    log: String,
    /// Instead of running: try whether every kind is served and the operator's account may do what it must.
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_new(&arguments.log).unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter).init();
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        error!("another TLS provider is installed already");
        return ExitCode::FAILURE;
    }
    let options = Options {
        namespace: arguments.namespace,
        identity: arguments.identity,
        health: arguments.health,
        stream: arguments.stream,
        metrics: arguments.metrics,
        agent_scrapers: arguments.agent_scrapers.0,
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(%error, "no async runtime");
            return ExitCode::FAILURE;
        }
    };
    let done = if arguments.check {
        runtime.block_on(checked(&options.namespace))
    } else {
        runtime.block_on(start(options))
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!(%error, "the operator cannot run");
            ExitCode::FAILURE
        }
    }
}

async fn checked(namespace: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let client = client::connect().await?;
    let mut failed = 0;
    for tried in check::check(&client.unfenced, namespace).await {
        match tried.failure {
            None => info!("{}: ok", tried.what),
            Some(problem) => {
                failed += 1;
                error!(error = %problem, "{}: failed; is the chart installed whole, with its definitions?", tried.what);
            }
        }
    }
    if failed > 0 { Err(format!("{failed} of the checks failed").into()) } else { Ok(()) }
}

async fn start(options: Options) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let connection = client::connect().await?;
    run(connection, options, shutdown).await?;
    Ok(())
}
