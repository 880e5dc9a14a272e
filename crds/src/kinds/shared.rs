//! Types that several kinds use.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A reference to an object of the same namespace by its name.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LocalReference {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A reference to a HostSet.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostSetReference {
    /// Name of the HostSet.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A service account.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceAccountReference {
    /// Namespace of the account; that of the Agent unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// Name of the account.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Which process of the pod a request comes from.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceKind {
    /// The agent's own process, the brain.
    Agent,
    /// A Tool of the namespace, executed by the hands.
    Tool,
    /// A ClusterTool, executed by the hands.
    ClusterTool,
}

/// Who in the pod a rule speaks of.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("(self.kind != 'Agent') == has(self.name)").message(
    "name the tool when kind is Tool or ClusterTool, and leave name out when kind is Agent"
))]
pub struct Source {
    /// `Agent` for the agent's own process, `Tool` or `ClusterTool` for one of its tools.
    pub kind: SourceKind,
    /// Name of the Tool in this namespace, or of the ClusterTool.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub name: Option<String>,
}

/// What is spoken with the destination.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
)]
pub enum Protocol {
    /// HTTP over TLS, the default.
    #[default]
    HTTPS,
    /// HTTP in the clear. No credential is ever injected into it.
    HTTP,
}

/// Requests that are refused whatever allows them. What is left out is not asked about: a rule of hosts alone denies all that
/// goes to them.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("self.hosts.size() + self.hostSets.size() > 0").message(
    "name at least one host or HostSet; '*' stands for all hosts"
))]
pub struct DenyRule {
    /// Of whom: the agent's own process, its Tools, its ClusterTools; of all of them unless given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3))]
    pub from_kinds: Vec<SourceKind>,
    /// Host names: exact; `*.NAME` for exactly one label in front; `**.NAME` for all names below NAME however deep; `*` for
    /// all hosts. An IP address is matched only by itself and `*`.
    #[serde(default)]
    #[schemars(length(max = 32), inner(length(min = 1, max = 253)))]
    #[x_kube(validation = Rule::new(crate::grammar::WIDE_HOSTS).message(crate::grammar::WIDE_HOSTS_MESSAGE))]
    pub hosts: Vec<String>,
    /// HostSets whose hosts are meant too.
    #[serde(default)]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub host_sets: Vec<HostSetReference>,
    /// TCP ports; all unless given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(range(min = 1, max = 65535)))]
    pub ports: Vec<i32>,
    /// HTTP methods; all unless given.
    #[serde(default = "every_method")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 16)))]
    #[x_kube(validation = Rule::new(crate::grammar::METHODS).message(crate::grammar::METHODS_MESSAGE))]
    pub methods: Vec<String>,
    /// Paths: literal segments, `*` for exactly one segment, and `/**` at the end for the path itself and all below; all
    /// unless given.
    #[serde(default = "every_path")]
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 512)))]
    #[x_kube(validation = Rule::new(crate::grammar::PATHS).message(crate::grammar::PATHS_MESSAGE))]
    pub paths: Vec<String>,
}

pub(crate) fn every_method() -> Vec<String> {
    vec!["*".to_owned()]
}

pub(crate) fn every_path() -> Vec<String> {
    vec!["/**".to_owned()]
}

/// Status of a kind that has nothing to tell but conditions.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Generation of this object that the conditions speak of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions, as Kubernetes API conventions define them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}

/// A list map keyed by `type`, so that two writers of conditions do not overwrite each other.
pub(crate) fn conditions(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let mut schema = generator.subschema_for::<Vec<Condition>>();
    schema.insert("x-kubernetes-list-type".into(), "map".into());
    schema.insert("x-kubernetes-list-map-keys".into(), serde_json::json!(["type"]));
    schema
}
