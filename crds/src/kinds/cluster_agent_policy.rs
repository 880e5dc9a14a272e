//! ClusterAgentPolicy: what the platform team lets selected agents have at most, and what it forbids them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::{DenyRule, HostSetReference, Protocol, SourceKind, Status};

/// What selected agents may have at most: ceilings, denies, floors and quotas. It grants nothing.
///
/// All policies that select an agent hold at once, in whatever order: lists are intersected, of scalars the most restrictive
/// counts, and what any of them denies is denied.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "platform.redoubt.dev",
    version = "v1alpha1",
    kind = "ClusterAgentPolicy",
    plural = "clusteragentpolicies",
    status = "Status",
    derive = "PartialEq",
    shortname = "cap",
    category = "redoubt-platform",
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Accepted')].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("oldSelf.mode != 'Enforce' || self.mode == 'Enforce'").message(
    "a policy that is enforced is not turned back to Audit; delete it and create another one, which shows who did so"
))]
pub struct ClusterAgentPolicySpec {
    /// Namespaces, by their labels. An empty selector selects all.
    pub namespace_selector: LabelSelector,
    /// Agents in them, by their labels; all unless given. Whoever may label an Agent can step out of such a selector: leave
    /// it out for what nobody may step out of.
    #[serde(default)]
    pub agent_selector: LabelSelector,
    /// Whether it holds, or is only recorded.
    #[serde(default)]
    pub mode: PolicyMode,
    /// What agents may have at most.
    #[serde(default)]
    pub ceilings: Ceilings,
    /// What they may not do, whatever else allows it.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub denies: Vec<DenyRule>,
    /// What they must at least have.
    #[serde(default)]
    pub floors: Floors,
    /// How many there may be.
    #[serde(default)]
    pub quotas: Quotas,
}

/// Whether a policy holds.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum PolicyMode {
    /// It holds.
    #[default]
    Enforce,
    /// It changes nothing. What it would refuse is recorded in the audit log and in the Agent's status.
    Audit,
}

/// What agents may have at most. An absent list is no ceiling; an empty one is nothing.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ceilings {
    /// Requests: each must fit one of the entries.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub egress: Option<Vec<CeilingRule>>,
    /// Private address ranges (CIDR) that grants may name.
    #[serde(default, rename = "privateCIDRs", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 64)))]
    #[x_kube(validation = Rule::new("self.all(c, isCIDR(c))").message("each entry is a CIDR, for example 10.96.0.0/16"))]
    pub private_cidrs: Option<Vec<String>>,
    /// IsolationClasses that may be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 253)))]
    pub isolation_class_names: Option<Vec<String>>,
    /// VaultConnections that may be bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 253)))]
    pub vault_connection_names: Option<Vec<String>>,
    /// Resources of the agent's container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceCeilings>,
    /// Bounds of one task of Redoubt's own agent, which it keeps itself: a hijacked one may not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitCeilings>,
    /// Seconds that a sidecar goes on without hearing from an operator; 3600 where no policy says less.
    #[serde(default, rename = "policyTTLSeconds", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 30, max = 3600))]
    pub policy_ttl_seconds: Option<i32>,
}

/// Requests that a ceiling lets through.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("self.hosts.size() + self.hostSets.size() > 0").message(
    "name at least one host or HostSet; '*' stands for all hosts"
))]
pub struct CeilingRule {
    /// Who may ask: the agent's own process, its Tools, its ClusterTools; all of them unless given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3))]
    pub from_kinds: Vec<SourceKind>,
    /// Host names as in an EgressPolicy; also `**.NAME` for all names below NAME however deep, and `*` for all hosts.
    #[serde(default)]
    #[schemars(length(max = 32), inner(length(min = 1, max = 253)))]
    #[x_kube(validation = Rule::new(crate::grammar::WIDE_HOSTS).message(crate::grammar::WIDE_HOSTS_MESSAGE))]
    pub hosts: Vec<String>,
    /// HostSets whose hosts are meant too.
    #[serde(default)]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub host_sets: Vec<HostSetReference>,
    /// TCP ports; 443 unless given.
    #[serde(default = "super::egress_policy::https_port")]
    #[schemars(length(min = 1, max = 16), inner(range(min = 1, max = 65535)))]
    pub ports: Vec<i32>,
    /// What is spoken with the destination.
    #[serde(default)]
    pub protocol: Protocol,
    /// HTTP methods; all unless given.
    #[serde(default = "super::shared::every_method")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 16)))]
    #[x_kube(validation = Rule::new(crate::grammar::METHODS).message(crate::grammar::METHODS_MESSAGE))]
    pub methods: Vec<String>,
    /// Paths, as in an EgressPolicy; all unless given.
    #[serde(default = "super::shared::every_path")]
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 512)))]
    #[x_kube(validation = Rule::new(crate::grammar::PATHS).message(crate::grammar::PATHS_MESSAGE))]
    pub paths: Vec<String>,
}

/// Resources of the agent's container at most.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResourceCeilings {
    /// Processor, as a quantity of Kubernetes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = Rule::new(crate::grammar::QUANTITY).message(crate::grammar::QUANTITY_MESSAGE))]
    pub cpu: Option<String>,
    /// Memory, as a quantity of Kubernetes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = Rule::new(crate::grammar::QUANTITY).message(crate::grammar::QUANTITY_MESSAGE))]
    pub memory: Option<String>,
}

/// Bounds of one task at most.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LimitCeilings {
    /// How many times the model may be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 256))]
    pub max_turns: Option<i32>,
    /// How long it may take, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86400))]
    pub timeout_seconds: Option<i32>,
}

/// What agents must at least have.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Floors {
    /// True refuses HTTP in the clear.
    #[serde(default, rename = "requireTLS")]
    pub require_tls: bool,
}

/// How many agents there may be.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Quotas {
    /// Agents in each selected namespace that this policy selects; those made first count first, and the others do not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100000))]
    pub agents_per_namespace: Option<i32>,
}
