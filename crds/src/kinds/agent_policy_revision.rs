//! AgentPolicyRevision: what an Agent was, and what it might do, at one point of its history.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::agent::AgentSpec;
use super::shared::Status;

/// One point of an Agent's history, written by the operator and never changed. Its name holds the digest of its content.
///
/// Going back to it restores the workload. What the agent may do then is what present policies allow.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "redoubt.dev",
    version = "v1alpha1",
    kind = "AgentPolicyRevision",
    plural = "agentpolicyrevisions",
    namespaced,
    status = "Status",
    derive = "PartialEq",
    shortname = "apr",
    category = "redoubt",
    printcolumn(name = "Agent", type_ = "string", json_path = ".spec.agent.name"),
    printcolumn(name = "Revision", type_ = "integer", json_path = ".spec.revision"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("self == oldSelf").message("a revision is never changed"))]
pub struct AgentPolicyRevisionSpec {
    /// Whose revision it is.
    pub agent: RevisedAgent,
    /// Its number: one more than that of the revision before.
    #[schemars(range(min = 1))]
    pub revision: i64,
    /// SHA-256 of workload and policy, in hex.
    #[schemars(length(min = 64, max = 64))]
    pub digest: String,
    /// The Agent's spec.
    pub workload: AgentSpec,
    /// What it might do then. It restores no permission.
    pub policy: RevisedPolicy,
}

/// An Agent, and no other of its name.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RevisedAgent {
    /// Name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// `metadata.uid`.
    #[schemars(length(min = 1, max = 64))]
    pub uid: String,
}

/// The policy of a revision, told plainly.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RevisedPolicy {
    /// SHA-256 of the policy's content without its epoch, in hex.
    #[schemars(length(min = 64, max = 64))]
    pub digest: String,
    /// What the agent might do, as in the Agent's `status.policy.effective`.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub effective: Vec<RevisedRule>,
}

/// One line of it.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RevisedRule {
    /// Who asked: `Agent`, or `Tool/NAME`.
    #[schemars(length(max = 512))]
    pub from: String,
    /// Methods and URL pattern.
    #[schemars(length(max = 2048))]
    pub request: String,
    /// Object and field that granted it.
    #[schemars(length(max = 1024))]
    pub decided_by: String,
}
