//! Arguments, parsed into what the rest works with before anything is opened.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Parser;
use redoubt_policy::wire::AgentIdentity;
use redoubt_policy::{Keyring, VerifyingKey};
use rustls_pki_types::{CertificateDer, ServerName};

use crate::operator::OperatorSource;
use crate::peer::Uids;
use crate::policy::PolicySource;

/// The egress sidecar: the only way out of an agent's pod.
#[derive(Parser)]
#[command(name = "redoubt-egress", version)]
pub struct Args {
    /// File with the signed policy. Announcements of newer keys are in `keys.dsse.jsonl` beside it.
    #[arg(long)]
    policy: PathBuf,
    /// Ed25519 public key (32 bytes in standard base64) that must have signed it, or announced the key that did.
    #[arg(long)]
    policy_key: VerifyingKey,
    /// Namespace of the Agent that it must be for.
    #[arg(long)]
    agent_namespace: String,
    /// Name of that Agent.
    #[arg(long)]
    agent_name: String,
    /// `metadata.uid` of that Agent.
    #[arg(long)]
    agent_uid: String,
    /// Lowest epoch that is accepted.
    #[arg(long)]
    min_epoch: u64,
    /// Host and port of the operator's policy stream.
    #[arg(long)]
    operator: String,
    /// Certificate (DER in standard base64) of the authority that must have signed the operator's.
    #[arg(long)]
    operator_ca: String,
    /// File with the token that the operator is shown.
    #[arg(long)]
    operator_token: PathBuf,
    /// Unix socket for the pod's own processes.
    #[arg(long)]
    socket: PathBuf,
    /// Address for the agent's callers (TLS).
    #[arg(long)]
    inbound: SocketAddr,
    /// Address for the kubelet's probes (plain HTTP).
    #[arg(long)]
    health: SocketAddr,
    /// Address for scraping metrics (plain HTTP), for everyone but this pod. Off unless given.
    #[arg(long)]
    metrics: Option<SocketAddr>,
    /// Unix socket that the agent answers its callers on.
    #[arg(long)]
    agent_socket: PathBuf,
    /// Directory with one directory per VaultConnection, and in it the projected `token`.
    #[arg(long)]
    vault_tokens: PathBuf,
    /// User id of the tools' container.
    #[arg(long)]
    tools_uid: u32,
    /// User id of the agent's container.
    #[arg(long)]
    agent_process_uid: u32,
    /// Address of an HTTP proxy for any other client in the pod, which counts as the agent. Off unless given.
    #[arg(long)]
    proxy: Option<SocketAddr>,
    /// Seconds to wait for a connection and its TLS handshake.
    #[arg(long, default_value_t = 10)]
    connect_timeout: u64,
    /// Seconds to wait for the head of a response after the request was sent.
    #[arg(long, default_value_t = 300)]
    response_timeout: u64,
    /// Seconds that a body, a tunnel or a kept connection may be silent.
    #[arg(long, default_value_t = 300)]
    idle_timeout: u64,
    /// Seconds that requests get to finish after SIGTERM.
    #[arg(long, default_value_t = 20)]
    drain_timeout: u64,
    /// Seconds to wait for Vault at start.
    #[arg(long, default_value_t = 20)]
    vault_patience: u64,
    /// Connections that agent, tools, the proxy and callers may each have.
    #[arg(long, default_value_t = 256)]
    max_connections: usize,
}

/// The arguments in their final types.
pub struct Config {
    pub(crate) policy: PolicySource,
    pub(crate) operator: OperatorSource,
    pub(crate) socket: PathBuf,
    pub(crate) inbound: SocketAddr,
    pub(crate) health: SocketAddr,
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) proxy: Option<SocketAddr>,
    pub(crate) agent_socket: PathBuf,
    pub(crate) vault_tokens: PathBuf,
    pub(crate) uids: Uids,
    pub(crate) limits: Limits,
}

/// Bounds of time and number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) connect: Duration,
    pub(crate) response: Duration,
    pub(crate) idle: Duration,
    pub(crate) drain: Duration,
    pub(crate) vault: Duration,
    pub(crate) connections: usize,
}

/// Arguments that are each valid and do not fit together.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Agent and tools could not be told apart.
    #[error("--tools-uid and --agent-process-uid are both {0}: the agent could pose as a tool")]
    SameUid(u32),
    /// There would be no way to the operator.
    #[error("--operator {0:?} is not a host and a port")]
    Operator(String),
    /// Nobody could prove to be the operator.
    #[error("--operator-ca is not a certificate in standard base64 of DER")]
    OperatorCa,
    /// Everything in the network would be the agent.
    #[error("--proxy {0} is not a loopback address: the proxy is for the pod's own processes")]
    ProxyNotLocal(SocketAddr),
    /// A zero would wait for ever or not at all.
    #[error("{0} must be at least 1")]
    Zero(&'static str),
}

impl TryFrom<Args> for Config {
    type Error = ConfigError;

    fn try_from(args: Args) -> Result<Self, ConfigError> {
        if args.tools_uid == args.agent_process_uid {
            return Err(ConfigError::SameUid(args.tools_uid));
        }
        if let Some(proxy) = args.proxy.filter(|proxy| !proxy.ip().is_loopback()) {
            return Err(ConfigError::ProxyNotLocal(proxy));
        }
        let operator = operator(args.operator, &args.operator_ca, args.operator_token)?;
        let seconds = |name, value: u64| match value {
            0 => Err(ConfigError::Zero(name)),
            _ => Ok(Duration::from_secs(value)),
        };
        if args.max_connections == 0 {
            return Err(ConfigError::Zero("--max-connections"));
        }
        Ok(Self {
            policy: PolicySource {
                path: args.policy,
                keys: Mutex::new(Keyring::new(args.policy_key)),
                agent: AgentIdentity {
                    namespace: args.agent_namespace,
                    name: args.agent_name,
                    uid: args.agent_uid,
                },
                min_epoch: args.min_epoch,
            },
            operator,
            socket: args.socket,
            inbound: args.inbound,
            health: args.health,
            metrics: args.metrics,
            proxy: args.proxy,
            agent_socket: args.agent_socket,
            vault_tokens: args.vault_tokens,
            uids: Uids { agent: args.agent_process_uid, tools: args.tools_uid },
            limits: Limits {
                connect: seconds("--connect-timeout", args.connect_timeout)?,
                response: seconds("--response-timeout", args.response_timeout)?,
                idle: seconds("--idle-timeout", args.idle_timeout)?,
                drain: seconds("--drain-timeout", args.drain_timeout)?,
                vault: seconds("--vault-patience", args.vault_patience)?,
                connections: args.max_connections,
            },
        })
    }
}

fn operator(authority: String, ca: &str, token: PathBuf) -> Result<OperatorSource, ConfigError> {
    let name = authority
        .rsplit_once(':')
        .filter(|(_, port)| port.parse::<u16>().is_ok())
        .and_then(|(host, _)| ServerName::try_from(host.to_owned()).ok());
    let Some(name) = name else { return Err(ConfigError::Operator(authority)) };
    let ca = STANDARD.decode(ca).map(CertificateDer::from).map_err(|_| ConfigError::OperatorCa)?;
    rustls::RootCertStore::empty().add(ca.clone()).map_err(|_| ConfigError::OperatorCa)?;
    Ok(OperatorSource { authority, name, ca, token })
}
