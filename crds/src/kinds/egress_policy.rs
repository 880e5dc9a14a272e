//! EgressPolicy: what selected agents and their tools are granted.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::shared::{DenyRule, HostSetReference, Protocol, Source, Status};

/// What selected agents and their tools are granted. An agent that no policy selects is granted nothing.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "redoubt.dev",
    version = "v1alpha1",
    kind = "EgressPolicy",
    plural = "egresspolicies",
    namespaced,
    status = "Status",
    derive = "PartialEq",
    shortname = "egp",
    category = "redoubt",
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Accepted')].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EgressPolicySpec {
    /// Which Agents of this namespace it speaks of, by their labels. An empty selector selects all of them.
    pub agent_selector: LabelSelector,
    /// What they are granted. An empty list grants nothing.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub allow: Vec<AllowRule>,
    /// What they are refused, whatever grants it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub deny: Vec<DenyRule>,
}

/// One grant: any of `from` may send any of `methods` to any of `hosts`, `ports` and `paths`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("self.hosts.size() + self.hostSets.size() > 0").message(
    "name at least one host or HostSet"
))]
pub struct AllowRule {
    /// Who may ask.
    #[schemars(length(min = 1, max = 32))]
    pub from: Vec<Source>,
    /// Host names: exact, or with `*` as the whole first label, which stands for exactly one label. An IP address is
    /// matched only by itself.
    #[serde(default)]
    #[schemars(length(max = 32), inner(length(min = 1, max = 253)))]
    #[x_kube(validation = Rule::new(crate::grammar::HOSTS).message(crate::grammar::HOSTS_MESSAGE))]
    pub hosts: Vec<String>,
    /// HostSets of the platform team whose hosts are meant too.
    #[serde(default)]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub host_sets: Vec<HostSetReference>,
    /// TCP ports; 443 unless given.
    #[serde(default = "https_port")]
    #[schemars(length(min = 1, max = 16), inner(range(min = 1, max = 65535)))]
    pub ports: Vec<i32>,
    /// What is spoken with the destination.
    #[serde(default)]
    pub protocol: Protocol,
    /// HTTP methods, or `*` for all.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 16)))]
    #[x_kube(validation = Rule::new(crate::grammar::METHODS).message(crate::grammar::METHODS_MESSAGE))]
    pub methods: Vec<String>,
    /// Paths: literal segments, `*` for exactly one segment, and `/**` at the end for the path itself and all below.
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 512)))]
    #[x_kube(validation = Rule::new(crate::grammar::PATHS).message(crate::grammar::PATHS_MESSAGE))]
    pub paths: Vec<String>,
    /// Private address ranges (CIDR) that the hosts may resolve to. Loopback, link-local and metadata addresses are refused
    /// even so.
    #[serde(default, rename = "privateCIDRs")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 64)))]
    #[x_kube(validation = Rule::new("self.all(c, isCIDR(c))").message("each entry is a CIDR, for example 10.96.0.0/16"))]
    pub private_cidrs: Vec<String>,
    /// Trust anchors (PEM) for these hosts, in place of the public ones. Requests that carry a credential use those of
    /// the SecretBinding's destination instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65536))]
    pub ca_bundle: Option<String>,
}

pub(crate) fn https_port() -> Vec<i32> {
    vec![443]
}
