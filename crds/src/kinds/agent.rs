//! Agent: what to run and with what. One Agent is one pod.

use std::collections::BTreeMap;

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

    /// The Tools of this namespace and the ClusterTools that the agent may call. No two have the same name.
    #[serde(default)]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub tools: Vec<ToolReference>,

    /// The SecretBindings of this namespace whose credentials are injected for this agent.
    #[serde(default)]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub secret_bindings: Vec<LocalReference>,

    /// Who may call the agent's HTTP channel. Nobody unless listed.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub callers: Vec<Caller>,

    /// Resources of the agent's container.
    #[serde(default)]
    pub resources: AgentResources,

    /// The agent's own folder, `/workspace`. It ends with the pod.
    #[serde(default)]
    pub workspace: Workspace,

    /// Where the pod may run.
    #[serde(default)]
    pub placement: Placement,
}

/// A Tool of the namespace, or a ClusterTool.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ToolReference {
    /// `Tool` or `ClusterTool`.
    #[serde(default)]
    pub kind: ToolKind,
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Kinds of tools.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
)]
pub enum ToolKind {
    /// Of the Agent's namespace.
    #[default]
    Tool,
    /// Of the platform team.
    ClusterTool,
}

impl ToolKind {
    /// The kind's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tool => "Tool",
            Self::ClusterTool => "ClusterTool",
        }
    }
}

/// Resources of the agent's container: what it may use at most. Ceilings of a ClusterAgentPolicy lower them.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentResources {
    /// Processor, as a quantity of Kubernetes.
    #[serde(default = "cpu")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = Rule::new(crate::grammar::QUANTITY).message(crate::grammar::QUANTITY_MESSAGE))]
    pub cpu: String,
    /// Memory, as a quantity of Kubernetes.
    #[serde(default = "memory")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = Rule::new(crate::grammar::QUANTITY).message(crate::grammar::QUANTITY_MESSAGE))]
    pub memory: String,
}

impl Default for AgentResources {
    fn default() -> Self {
        Self { cpu: cpu(), memory: memory() }
    }
}

fn cpu() -> String {
    "1".to_owned()
}

fn memory() -> String {
    "512Mi".to_owned()
}

/// The agent's own folder.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Workspace {
    /// How much it may hold, as a quantity of Kubernetes. A pod that holds more is ended by the kubelet.
    #[serde(default = "workspace_size")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = Rule::new(crate::grammar::QUANTITY).message(crate::grammar::QUANTITY_MESSAGE))]
    pub size_limit: String,
}

impl Default for Workspace {
    fn default() -> Self {
        Self { size_limit: workspace_size() }
    }
}

fn workspace_size() -> String {
    "1Gi".to_owned()
}

/// Where the pod may run, beside what its RuntimeClass says.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Placement {
    /// Labels that the node has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "node_selector")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that do not matter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub tolerations: Vec<Toleration>,
}

/// A taint of nodes that does not keep the pod away, as in a pod's `spec.tolerations`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("!has(self.operator) || self.operator != 'Exists' || !has(self.value)").message(
    "leave value out when operator is Exists"
))]
pub struct Toleration {
    /// Key of the taint.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
    /// `Equal`, the default, or `Exists`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new("self in ['Equal', 'Exists']").message("operator is Equal or Exists"))]
    pub operator: Option<String>,
    /// Value of the taint.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub value: Option<String>,
    /// Effect of the taint; any unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self in ['NoSchedule', 'PreferNoSchedule', 'NoExecute']").message(
        "effect is NoSchedule, PreferNoSchedule or NoExecute"
    ))]
    pub effect: Option<String>,
}

fn node_selector(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object", "maxProperties": 16, "additionalProperties": { "type": "string", "maxLength": 63 },
    })
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
    /// Number of the AgentPolicyRevision that is in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
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
    /// Highest epoch that the pod's sidecar has acknowledged. While it is lower than `epoch`, the pod is on an older policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged_epoch: Option<i64>,
    /// What the agent may do: needed and granted.
    #[serde(default)]
    pub effective: Vec<EffectiveRule>,
    /// What the agent or a tool needs and may not do: nothing grants it, a ceiling leaves it out, or it is denied in part
    /// or as a whole.
    #[serde(default)]
    pub refused: Vec<EffectiveRule>,
    /// What ClusterAgentPolicies in mode `Audit` would refuse.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub would_refuse: Vec<EffectiveRule>,
    /// What is granted and neither the agent nor any of its tools needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unneeded: Vec<EffectiveRule>,
    /// `Kind/NAME` of the EgressPolicies and ClusterAgentPolicies that select the agent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub selected_by: Vec<String>,
}

/// One line of a policy, told plainly.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct EffectiveRule {
    /// Who asks: `Agent`, or `Tool/NAME`.
    pub from: String,
    /// Methods and URL pattern.
    pub request: String,
    /// Object and field that decided: the grantor of an effective rule; of a refused one the ceiling or deny that takes it
    /// away, or the place that lacks a grant.
    pub decided_by: String,
}
