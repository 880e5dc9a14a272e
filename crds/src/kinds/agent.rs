//! Agent: what to run and with what. One Agent is one pod.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::{LocalReference, ServiceAccountReference, conditions};

/// What to run and with what. One Agent is one pod.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "redoubt.dev",
    version = "v1alpha1",
    kind = "Agent",
    namespaced,
    status = "AgentStatus",
    derive = "PartialEq",
    shortname = "ag",
    category = "redoubt",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Runtime", type_ = "string", json_path = ".status.runtimeClassName"),
    printcolumn(name = "Model", type_ = "string", json_path = ".spec.runtime.model.name", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 45 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("an Agent's name is a DNS label of at most 45 characters, so that its children's names fit")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentSpec {
    /// The IsolationClass to run in; the cluster's default class unless given. There is no silent fall-back.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub isolation_class_name: Option<String>,

    /// True ends the pod and keeps everything else.
    #[serde(default)]
    pub suspend: bool,

    /// Redoubt's own agent: a model loop with tool calling.
    pub runtime: AgentRuntime,

    /// The Tools of this namespace that the agent may call.
    #[serde(default)]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub tools: Vec<LocalReference>,

    /// The SecretBindings of this namespace whose credentials are injected for this agent.
    #[serde(default)]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub secret_bindings: Vec<LocalReference>,

    /// Who may call the agent's HTTP channel. Nobody unless listed.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub callers: Vec<Caller>,
}

/// Redoubt's own agent.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentRuntime {
    /// The model behind the agent.
    pub model: Model,
    /// The system prompt.
    #[serde(default)]
    #[schemars(length(max = 65536))]
    pub instructions: String,
    /// Bounds of one task.
    #[serde(default)]
    pub limits: Limits,
}

/// A model behind an OpenAI-compatible API.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Model {
    /// Base URL of the API, for example `https://api.openai.com/v1`. The agent needs POST to `/chat/completions` under it.
    #[serde(rename = "baseURL")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new(crate::grammar::BASE_URL).message(crate::grammar::BASE_URL_MESSAGE))]
    pub base_url: String,
    /// The model's name as the API knows it.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
}

/// Bounds of one task.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    /// How many times the model may be asked in one task.
    #[serde(default = "max_turns")]
    #[schemars(range(min = 1, max = 256))]
    pub max_turns: i32,
    /// How long one task may take, in seconds.
    #[serde(default = "timeout_seconds")]
    #[schemars(range(min = 1, max = 86400))]
    pub timeout_seconds: i32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_turns: max_turns(), timeout_seconds: timeout_seconds() }
    }
}

fn max_turns() -> i32 {
    16
}

fn timeout_seconds() -> i32 {
    600
}

/// Someone who may call the agent.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Caller {
    /// A service account. It shows a token whose audience is `redoubt.dev/agents/NAMESPACE/AGENT`.
    pub service_account: ServiceAccountReference,
}

/// What the operator has seen of an Agent.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// Generation of this object that the status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions, as Kubernetes API conventions define them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// Name of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_name: Option<String>,
    /// RuntimeClass that the pod runs under.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime_class_name: Option<String>,
    /// The policy in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyStatus>,
}

/// The policy that was compiled for an agent.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStatus {
    /// Epoch of the signed policy: milliseconds since the Unix epoch when its content last changed, never lower than before.
    pub epoch: i64,
    /// SHA-256 of the policy's content without its epoch, in hex.
    pub digest: String,
    /// What the agent may do: needed and granted.
    #[serde(default)]
    pub effective: Vec<EffectiveRule>,
    /// What the agent or a tool needs and nothing grants.
    #[serde(default)]
    pub refused: Vec<EffectiveRule>,
}

/// One line of a policy, told plainly.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct EffectiveRule {
    /// Who asks: `Agent`, or `Tool/NAME`.
    pub from: String,
    /// Methods and URL pattern.
    pub request: String,
    /// Object and field that decided: the grantor of an effective rule, the place that lacks a grant of a refused one.
    pub decided_by: String,
}
