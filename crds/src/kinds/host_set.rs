//! HostSet: hosts under one name, kept by the platform team.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::shared::Status;

/// Hosts under one name, for grants, ceilings and denies. It grants nothing.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "platform.redoubt.dev",
    version = "v1alpha1",
    kind = "HostSet",
    status = "Status",
    derive = "PartialEq",
    shortname = "hs",
    category = "redoubt-platform",
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Accepted')].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostSetSpec {
    /// Host names: exact, or with `*` as the whole first label, which stands for exactly one label; or IP addresses.
    #[schemars(length(min = 1, max = 128), inner(length(min = 1, max = 253)))]
    #[x_kube(validation = Rule::new(crate::grammar::HOSTS).message(crate::grammar::HOSTS_MESSAGE))]
    pub hosts: Vec<String>,
}
