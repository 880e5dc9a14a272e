//! BreakGlass: one person is let in to one agent's pod, for a while.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Lets one person run commands in one agent's pod, in the container `agent`, for at most an hour. Afterwards the pod is
/// replaced.
///
/// It counts from the moment at which it is made, and is never changed: delete it to end it early.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "platform.redoubt.dev",
    version = "v1alpha1",
    kind = "BreakGlass",
    plural = "breakglasses",
    status = "BreakGlassStatus",
    derive = "PartialEq",
    shortname = "bg",
    category = "redoubt-platform",
    printcolumn(name = "User", type_ = "string", json_path = ".spec.user"),
    printcolumn(name = "Namespace", type_ = "string", json_path = ".spec.agent.namespace"),
    printcolumn(name = "Agent", type_ = "string", json_path = ".spec.agent.name"),
    printcolumn(
        name = "Active",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Active')].reason"
    ),
    printcolumn(name = "Expires", type_ = "string", json_path = ".status.expiresAt"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("self == oldSelf").message(
    "a BreakGlass is never changed; delete it and make another one"
))]
#[x_kube(validation = Rule::new("self.user != self.grantedBy").message(
    "nobody lets themselves in: someone else than spec.user has to make the BreakGlass"
))]
pub struct BreakGlassSpec {
    /// Who is let in: the user name exactly as the API server knows it. It gives no rights: the user needs `create` on
    /// `pods/exec` in the namespace as well.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self != 'system:anonymous' && self.matches('^[^\\\\pC]*$')").message(
        "spec.user must be one known person: not system:anonymous, and without control characters"
    ))]
    pub user: String,
    /// Who lets them in: the user name of whoever makes this object.
    #[schemars(length(min = 1, max = 253))]
    pub granted_by: String,
    /// Why, for the record.
    #[schemars(length(min = 10, max = 1024))]
    #[x_kube(validation = Rule::new("self.matches('[^\\\\pZ\\\\pC]{3}')").message(
        "spec.reason must say in words why, for whoever reads the record"
    ))]
    pub reason: String,
    /// The agent whose pod it is.
    pub agent: GlassAgent,
    /// For how long, in seconds, counted from the moment at which this object is made.
    #[schemars(range(min = 30, max = 3600))]
    pub duration_seconds: i32,
}

/// The agent whose pod someone is let in to.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GlassAgent {
    /// Namespace of the Agent.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')").message(
        "spec.agent.namespace must be the name of a namespace"
    ))]
    pub namespace: String,
    /// Name of the Agent.
    #[schemars(length(min = 1, max = 45))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')").message(
        "spec.agent.name must be the name of an Agent, without the redoubt-agent- of its pod"
    ))]
    pub name: String,
}

/// What became of it.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct BreakGlassStatus {
    /// Generation of this object that the conditions speak of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When it ends at the latest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// UID of the one pod that it has opened.
    #[serde(rename = "podUID", skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
    /// Conditions, as Kubernetes API conventions define them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "super::shared::conditions")]
    pub conditions: Vec<Condition>,
}
