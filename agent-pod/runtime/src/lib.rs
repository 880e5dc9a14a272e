//! The brain: takes tasks over HTTP, runs a model with the pod's tools until it answers, and streams what it says.
//!
//! It is not trusted. It has no network: its only ways out are the sidecar's socket, for the model, and the hands' socket,
//! for tools. It holds no credential and writes no file; a task lives in memory and ends with its connection.

use std::path::PathBuf;
use std::sync::Arc;

use redoubt_local::Listener;
use redoubt_policy::Refusal;

pub mod chat;
pub mod config;
pub mod failure;
pub mod hands;
pub mod model;
pub mod serve;
pub mod task;
pub mod turn;

/// How to run the brain.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "redoubt-agent", version, about = "The model loop of a Redoubt agent")]
pub struct Args {
    /// Configuration of the agent, as the operator wrote it.
    #[arg(long)]
    pub config: PathBuf,
    /// Socket of the sidecar, for requests to the model.
    #[arg(long)]
    pub egress: PathBuf,
    /// Socket of the hands, for tool calls.
    #[arg(long)]
    pub tools: PathBuf,
    /// Socket to take tasks at.
    #[arg(long)]
    pub listen: PathBuf,
    /// Uid of the sidecar, the only one that may hand in tasks.
    #[arg(long)]
    pub egress_uid: u32,
}

/// Runs until a signal says to stop.
///
/// # Errors
/// When the configuration is unusable or the socket cannot be bound.
pub fn main(args: Args) -> Result<(), Refusal> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| cannot_start(format!("cannot start the runtime: {error}")))?;
    runtime.block_on(serve(args, redoubt_local::listen::stop_signal()))
}

/// Runs until `stop` is ready.
///
/// # Errors
/// As [`main`].
pub async fn serve(args: Args, stop: impl Future<Output = ()>) -> Result<(), Refusal> {
    // The configuration is read again for each task; a broken one should be told now, though.
    config::read(&args.config)?;
    let listener = Listener::bind(&args.listen, &[args.egress_uid])
        .map_err(|error| cannot_start(format!("cannot listen at {}: {error}", args.listen.display())))?;
    tracing::info!(socket = %args.listen.display(), "ready for tasks");
    let brain = Arc::new(serve::Brain::new(&args));
    listener.serve(move |request| serve::answer(brain.clone(), request), stop).await;
    Ok(())
}

fn cannot_start(message: String) -> Refusal {
    Refusal::new(
        "StartFailed",
        "Pod",
        "spec.containers[agent]",
        message,
        "look at the log of the agent container",
    )
}
