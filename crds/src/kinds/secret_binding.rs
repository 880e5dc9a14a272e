//! SecretBinding: which Vault credential may be injected where, and for whom.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::egress_policy::https_port;
use super::shared::{Source, Status};

/// Which Vault credential may be injected where, and for whom. Its value is only ever in the sidecar's memory.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "redoubt.dev",
    version = "v1alpha1",
    kind = "SecretBinding",
    namespaced,
    status = "Status",
    derive = "PartialEq",
    shortname = "sb",
    category = "redoubt",
    printcolumn(name = "Vault", type_ = "string", json_path = ".spec.vault.connectionName"),
    printcolumn(name = "Path", type_ = "string", json_path = ".spec.vault.kv2.path", priority = 1),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Accepted')].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretBindingSpec {
    /// Where the credential is.
    pub vault: VaultSource,
    /// How it is put into a request.
    pub inject: Injection,
    /// Where it may go. Nowhere else.
    #[schemars(length(min = 1, max = 32))]
    pub destinations: Vec<Destination>,
    /// For whom.
    #[schemars(length(min = 1, max = 32))]
    pub consumers: Vec<Source>,
}

/// A secret in Vault.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VaultSource {
    /// Name of the VaultConnection.
    #[schemars(length(min = 1, max = 253))]
    pub connection_name: String,
    /// A secret of the key-value engine, version 2.
    pub kv2: Kv2Source,
}

/// A key of a secret of Vault's KV version 2 engine.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Kv2Source {
    /// Where the engine is mounted.
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = Rule::new(crate::grammar::VAULT_PATH).message(crate::grammar::VAULT_PATH_MESSAGE))]
    pub mount: String,
    /// Path of the secret as `vault kv get` takes it, without `data/`.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new(crate::grammar::VAULT_PATH).message(crate::grammar::VAULT_PATH_MESSAGE))]
    pub path: String,
    /// Key in the secret.
    #[schemars(length(min = 1, max = 256))]
    pub key: String,
}

/// How a credential is put into a request. Exactly one member is set.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("[has(self.bearer), has(self.header)].exists_one(x, x)").message(
    "set exactly one of bearer, header"
))]
pub struct Injection {
    /// `Authorization: Bearer VALUE` (RFC 6750).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bearer: Option<BearerInjection>,
    /// A header of your choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<HeaderInjection>,
}

/// `Authorization: Bearer VALUE`; it has no options.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BearerInjection {}

/// A header that carries the credential.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeaderInjection {
    /// Name of the header.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"))]
    #[x_kube(validation = Rule::new(crate::grammar::INJECTED_HEADER).message(crate::grammar::INJECTED_HEADER_MESSAGE))]
    pub name: String,
    /// Text before the value, for example `Token `.
    #[serde(default)]
    #[schemars(length(max = 64), regex(pattern = "^[\\x20-\\x7e]*$"))]
    pub prefix: String,
}

/// Where a credential may go; always over TLS.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Destination {
    /// Host names, as in an EgressPolicy.
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 253)))]
    #[x_kube(validation = Rule::new(crate::grammar::HOSTS).message(crate::grammar::HOSTS_MESSAGE))]
    pub hosts: Vec<String>,
    /// TCP ports; 443 unless given.
    #[serde(default = "https_port")]
    #[schemars(length(min = 1, max = 16), inner(range(min = 1, max = 65535)))]
    pub ports: Vec<i32>,
    /// HTTP methods, or `*` for all.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 16)))]
    #[x_kube(validation = Rule::new(crate::grammar::METHODS).message(crate::grammar::METHODS_MESSAGE))]
    pub methods: Vec<String>,
    /// Paths, as in an EgressPolicy.
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 512)))]
    #[x_kube(validation = Rule::new(crate::grammar::PATHS).message(crate::grammar::PATHS_MESSAGE))]
    pub paths: Vec<String>,
    /// Trust anchors (PEM) for these hosts, in place of the public ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65536))]
    pub ca_bundle: Option<String>,
}
