//! The hands: execute the functions of the agent's Tools, under a uid of their own.
//!
//! Which functions there are comes from the signed policy alone. The brain names a function and its arguments; method, host
//! and path are the Tool's, and the sidecar adds the credential. Every call is reported to the sidecar, refused ones too.

use std::path::PathBuf;
use std::sync::Arc;

use redoubt_local::Listener;
use redoubt_policy::wire::AgentIdentity;
use redoubt_policy::{Refusal, VerifyingKey};

pub mod call;
pub mod catalog;
pub mod execute;
pub mod policy;
pub mod schema;
pub mod seen;
pub mod serve;

/// How to run the hands.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "redoubt-tools", version, about = "Executes the tools of a Redoubt agent")]
pub struct Args {
    /// The signed policy. Announcements of newer keys are in `keys.dsse.jsonl` beside it.
    #[arg(long)]
    pub policy: PathBuf,
    /// Key that signed it, or announced the key that did: standard base64 of an Ed25519 public key.
    #[arg(long)]
    pub policy_key: VerifyingKey,
    /// Namespace of the Agent.
    #[arg(long)]
    pub agent_namespace: String,
    /// Name of the Agent.
    #[arg(long)]
    pub agent_name: String,
    /// `metadata.uid` of the Agent.
    #[arg(long)]
    pub agent_uid: String,
    /// Lowest epoch of a policy that is accepted.
    #[arg(long)]
    pub min_epoch: u64,
    /// Socket of the sidecar.
    #[arg(long)]
    pub egress: PathBuf,
    /// Socket to take calls at.
    #[arg(long)]
    pub listen: PathBuf,
    /// Uid of the brain, the only one that may call.
    #[arg(long)]
    pub agent_process_uid: u32,
    /// How long a call may take, in seconds, from its arrival to the last byte of the response.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=80))]
    pub call_timeout_seconds: u64,
}

impl Args {
    /// The agent that the policy has to be for.
    #[must_use]
    pub fn agent(&self) -> AgentIdentity {
        AgentIdentity {
            namespace: self.agent_namespace.clone(),
            name: self.agent_name.clone(),
            uid: self.agent_uid.clone(),
        }
    }
}

/// Runs until a signal says to stop.
///
/// # Errors
/// When the policy is refused or the socket cannot be bound.
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
    let catalog = policy::Source::new(&args).follow()?;
    let listener = Listener::bind(&args.listen, &[args.agent_process_uid])
        .map_err(|error| cannot_start(format!("cannot listen at {}: {error}", args.listen.display())))?;
    tracing::info!(socket = %args.listen.display(), "ready for calls");
    let hands = Arc::new(serve::Hands::new(&args, catalog));
    listener.serve(move |request| serve::answer(hands.clone(), request), stop).await;
    Ok(())
}

fn cannot_start(message: String) -> Refusal {
    let help = "look at the log of the tools container";
    Refusal::new("StartFailed", "Pod", "spec.initContainers[tools]", message, help)
}
