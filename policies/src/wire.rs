//! What the operator tells a pod: the PodPolicy, signed, and the configuration of the brain, which nothing rests on.
//!
//! An unknown field, an unknown variant or a missing field makes the whole policy unreadable, and a pod without a policy
//! lets nothing out. So that a newer operator does not silence older sidecars, a field that is added is left out while it
//! says what its absence says; a policy that uses it is refused by sidecars that do not know it.

use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::extent::{Ceiling, Deny};
use crate::host::HostPattern;
use crate::method::MethodSet;
use crate::path::PathPattern;
use crate::target::{Scheme, Source};

/// `payloadType` of the DSSE envelope around a [`PodPolicy`].
pub const PAYLOAD_TYPE: &str = "application/vnd.redoubt.podpolicy.v1alpha1+json";

/// Everything one agent's pod may do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodPolicy {
    /// The agent it is for, and no other.
    pub agent: AgentIdentity,
    /// Milliseconds since the Unix epoch when its content last changed. It only rises.
    pub epoch: u64,
    /// What may be requested: needed, granted, and within every ceiling. What no rule allows is refused.
    pub rules: Vec<Rule>,
    /// What is refused whatever rule allows it.
    pub denies: Vec<Deny>,
    /// Ceilings and denies that change nothing: what they would refuse is recorded.
    pub audit: Audit,
    /// What was needed and what was granted, to explain a refusal. Nothing is allowed by it.
    pub explanation: Explanation,
    /// Credentials, where they may go and for whom.
    pub bindings: Vec<Binding>,
    /// The Vault servers that the bindings name.
    pub vaults: Vec<Vault>,
    /// Who may call the agent.
    pub inbound: Inbound,
    /// What the hands can execute.
    pub tools: Vec<Tool>,
    /// Seconds for which it holds after an operator was last heard. Then the sidecar lets nothing out until it hears one.
    #[serde(rename = "policyTTLSeconds", default = "policy_ttl", skip_serializing_if = "is_policy_ttl")]
    pub policy_ttl_seconds: u64,
}

/// [`PodPolicy::policy_ttl_seconds`] where nothing says otherwise.
pub const POLICY_TTL_SECONDS: u64 = 3600;

fn policy_ttl() -> u64 {
    POLICY_TTL_SECONDS
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_policy_ttl(seconds: &u64) -> bool {
    *seconds == POLICY_TTL_SECONDS
}

/// An Agent object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentIdentity {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
}

/// An object and a field in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Origin {
    /// `Kind/name`.
    pub object: String,
    /// Path of the field, for example `spec.allow[0]`.
    pub field: String,
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.object, self.field)
    }
}

/// A set of requests: from one source, to one scheme, host pattern and port, with some methods and paths.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scope {
    /// Who asks.
    pub from: Source,
    /// Scheme.
    pub scheme: Scheme,
    /// Hosts.
    pub host: HostPattern,
    /// TCP port.
    pub port: u16,
    /// Methods.
    pub methods: MethodSet,
    /// Paths.
    pub path: PathPattern,
}

/// A scope that is needed or granted, and by what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Claim {
    /// Which requests.
    pub scope: Scope,
    /// The object and field that needs or grants them.
    pub origin: Origin,
}

/// Requests that are allowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// Which requests.
    pub scope: Scope,
    /// Private ranges that the host may resolve to.
    #[serde(rename = "privateCIDRs")]
    pub private_cidrs: Vec<IpNet>,
    /// The ceiling that left out some of the ranges that the grant names.
    #[serde(rename = "privateCIDRsWithin")]
    pub private_cidrs_within: Option<Origin>,
    /// Trust anchors (PEM) of the destination, in place of the public ones.
    pub ca_bundle: Option<String>,
    /// What needs it.
    pub need: Origin,
    /// What grants it.
    pub grant: Origin,
}

/// What was needed and what was granted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Explanation {
    /// Declared by the agent and its tools.
    pub needs: Vec<Claim>,
    /// Allowed by the EgressPolicies that select the agent.
    pub grants: Vec<Claim>,
    /// What every ceiling lets pass of that, sorted.
    pub ceilings: Vec<Ceiling>,
    /// `Kind/NAME` of the EgressPolicies and ClusterAgentPolicies that select the agent.
    pub selected_by: Vec<String>,
}

/// Ceilings and denies of ClusterAgentPolicies in mode `Audit`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Audit {
    /// What would pass at most.
    pub ceilings: Vec<Ceiling>,
    /// What would be refused.
    pub denies: Vec<Deny>,
}

/// A credential, where it may go and for whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Binding {
    /// Name of the SecretBinding.
    pub name: String,
    /// Name of the Vault, among [`PodPolicy::vaults`].
    pub vault: String,
    /// Where the KV version 2 engine is mounted.
    pub mount: String,
    /// Path of the secret, without `data/`.
    pub path: String,
    /// Key in the secret.
    pub key: String,
    /// How it is put into a request.
    pub inject: Inject,
    /// For whom.
    pub consumers: Vec<Source>,
    /// Where it may go; always over TLS.
    pub destinations: Vec<BoundDestination>,
}

/// How a credential is put into a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Inject {
    /// `Authorization: Bearer VALUE`.
    Bearer {},
    /// `NAME: PREFIXVALUE`.
    Header {
        /// Name of the header, lower-case.
        name: String,
        /// Text before the value.
        prefix: String,
    },
}

/// A place a credential may go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BoundDestination {
    /// Hosts.
    pub host: HostPattern,
    /// TCP port.
    pub port: u16,
    /// Methods.
    pub methods: MethodSet,
    /// Paths.
    pub path: PathPattern,
    /// Trust anchors (PEM), in place of the public ones.
    pub ca_bundle: Option<String>,
    /// Path of the field, for example `spec.destinations[0]`.
    pub field: String,
}

impl BoundDestination {
    /// The requests of `from` that may carry the credential.
    #[must_use]
    pub fn scope(&self, from: Source) -> Scope {
        Scope {
            from,
            scheme: Scheme::Https,
            host: self.host.clone(),
            port: self.port,
            methods: self.methods.clone(),
            path: self.path.clone(),
        }
    }
}

/// A Vault server and how to log in to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Vault {
    /// Name of the VaultConnection.
    pub name: String,
    /// `https://HOST:PORT`.
    pub address: String,
    /// Trust anchors (PEM), in place of the public ones.
    pub ca_bundle: Option<String>,
    /// Where the Kubernetes auth method is mounted.
    pub auth_mount: String,
    /// Role to log in with.
    pub role: String,
}

/// Who may call the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Inbound {
    /// `iss` of the cluster's service-account tokens.
    pub issuer: String,
    /// The cluster's published keys: a JSON Web Key Set (RFC 7517).
    pub jwks: serde_json::Value,
    /// The audience a token must name.
    pub audience: String,
    /// User names of those who may call: `system:serviceaccount:NAMESPACE:NAME`.
    pub callers: Vec<String>,
}

/// A tool as the hands execute it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tool {
    /// Name of the Tool.
    pub name: String,
    /// Its functions.
    pub http: redoubt_crds::HttpTool,
}

/// What the brain is told. It is not signed, because the brain is not trusted with anything that it could be told wrongly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentConfig {
    /// Name of the Agent.
    pub name: String,
    /// Namespace of the Agent.
    pub namespace: String,
    /// The system prompt.
    pub instructions: String,
    /// The model.
    pub model: redoubt_crds::Model,
    /// Bounds of one task.
    pub limits: redoubt_crds::Limits,
}
