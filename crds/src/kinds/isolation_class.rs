//! IsolationClass: what an agent's pod runs in.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::Status;

/// What an agent's pod runs in: a RuntimeClass and the images of the pod's own containers.
///
/// One class may be the default: annotate it `isolationclass.redoubt.dev/is-default-class: "true"`.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "platform.redoubt.dev",
    version = "v1alpha1",
    kind = "IsolationClass",
    plural = "isolationclasses",
    status = "Status",
    derive = "PartialEq",
    shortname = "ic",
    category = "redoubt-platform",
    printcolumn(name = "RuntimeClass", type_ = "string", json_path = ".spec.runtimeClassName"),
    printcolumn(name = "TEE", type_ = "string", json_path = ".spec.tee"),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Accepted')].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IsolationClassSpec {
    /// The RuntimeClass of the pods. If the cluster does not have it, the pods do not start.
    #[schemars(length(min = 1, max = 253))]
    pub runtime_class_name: String,
    /// Trusted execution environment.
    #[serde(default)]
    pub tee: Tee,
    /// Images of the pod's own containers, by digest.
    pub images: Images,
}

/// Trusted execution environment of a pod.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Tee {
    /// None: the node is trusted.
    #[default]
    None,
}

/// Images of the pod's own containers, by digest.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Images {
    /// The sidecar.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new(crate::grammar::IMAGE).message(crate::grammar::IMAGE_MESSAGE))]
    pub egress: String,
    /// The hands.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new(crate::grammar::IMAGE).message(crate::grammar::IMAGE_MESSAGE))]
    pub tools: String,
    /// The brain.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new(crate::grammar::IMAGE).message(crate::grammar::IMAGE_MESSAGE))]
    pub agent: String,
}
