//! VaultConnection: a Vault server, how agents log in, and which paths each namespace may bind.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::shared::Status;

/// A HashiCorp Vault server, how agents log in to it, and which paths each namespace may bind.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "platform.redoubt.dev",
    version = "v1alpha1",
    kind = "VaultConnection",
    status = "Status",
    derive = "PartialEq",
    shortname = "vc",
    category = "redoubt-platform",
    printcolumn(name = "Address", type_ = "string", json_path = ".spec.address"),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Accepted')].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VaultConnectionSpec {
    /// Address of the server, for example `https://vault.example.com:8200`. TLS is required.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new(crate::grammar::VAULT_ADDRESS).message(crate::grammar::VAULT_ADDRESS_MESSAGE))]
    pub address: String,
    /// Trust anchors (PEM) for the server, in place of the public ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65536))]
    pub ca_bundle: Option<String>,
    /// How agents log in.
    pub auth: VaultAuth,
    /// Which paths may be bound from where. What no entry grants cannot be bound.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub grants: Vec<VaultGrant>,
}

/// How agents log in.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VaultAuth {
    /// Vault's Kubernetes auth method, with the pod's own projected token.
    pub kubernetes: KubernetesAuth,
}

/// Vault's Kubernetes auth method.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KubernetesAuth {
    /// Where the method is mounted.
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = Rule::new(crate::grammar::VAULT_PATH).message(crate::grammar::VAULT_PATH_MESSAGE))]
    pub mount: String,
    /// Vault role of the agents. It should bind accounts named `redoubt-agent-*` only.
    #[schemars(length(min = 1, max = 256), regex(pattern = "^[A-Za-z0-9._-]+$"))]
    pub role: String,
    /// Audience of the pod's token.
    #[schemars(length(min = 1, max = 256))]
    pub audience: String,
}

/// Paths that the selected namespaces may bind.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VaultGrant {
    /// Namespaces, by their labels. An empty selector selects all.
    pub namespace_selector: LabelSelector,
    /// What they may bind.
    #[schemars(length(min = 1, max = 32))]
    pub paths: Vec<VaultPath>,
}

/// A prefix of secrets in an engine.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VaultPath {
    /// Where the engine is mounted.
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = Rule::new(crate::grammar::VAULT_PATH).message(crate::grammar::VAULT_PATH_MESSAGE))]
    pub mount: String,
    /// The secret with this path and all below it, on whole segments.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new(crate::grammar::VAULT_PATH).message(crate::grammar::VAULT_PATH_MESSAGE))]
    pub prefix: String,
}
