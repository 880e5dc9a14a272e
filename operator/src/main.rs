//! Reads the command line and runs the operator.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use redoubt_crds::names;
use redoubt_operator::traces::{self, Traces, TracesError};
use redoubt_operator::{Options, check, client, metrics, run};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

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
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return failed(&"another TLS provider is installed already");
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
        Err(error) => return failed(&error),
    };
    // Dropped last, so that the last spans are sent.
    let (traces, no_traces) = match begin_traces(&runtime, &options.identity) {
        Ok(traces) => (traces, None),
        Err(error) => (None, Some(error)),
    };
    let logs = tracing_subscriber::fmt::layer().json().flatten_event(true).with_filter(quiet(filter));
    tracing_subscriber::registry().with(logs).with(traces.as_ref().map(Traces::layer)).init();
    if let Some(error) = no_traces {
        error!(%error, "no traces are sent");
    }
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

fn begin_traces(runtime: &Runtime, identity: &str) -> Result<Option<Traces>, TracesError> {
    let endpoint = traces::endpoint(|name| std::env::var(name).ok())?;
    endpoint.map(|endpoint| Traces::begin(runtime.handle().clone(), &endpoint, identity)).transpose()
}

/// What is traced is not for the log.
fn quiet(filter: EnvFilter) -> EnvFilter {
    match format!("{}=off", traces::TARGET).parse() {
        Ok(off) => filter.add_directive(off),
        Err(_) => filter,
    }
}

/// There is no log yet.
#[allow(clippy::print_stderr, reason = "there is no log yet")]
fn failed(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("the operator cannot run: {error}");
    ExitCode::FAILURE
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
