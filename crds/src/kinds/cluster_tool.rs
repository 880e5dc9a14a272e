//! ClusterTool: a Tool that the platform team shares with every namespace.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::shared::Status;
use super::tool::{HttpTool, ToolSpec};

/// A callable capability that the platform team shares. It declares need, as a Tool does; it grants nothing.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "platform.redoubt.dev",
    version = "v1alpha1",
    kind = "ClusterTool",
    status = "Status",
    derive = "PartialEq",
    shortname = "ctl",
    category = "redoubt-platform",
    printcolumn(name = "Base URL", type_ = "string", json_path = ".spec.http.baseURL"),
    printcolumn(name = "Accepted", type_ = "string", json_path = ".status.conditions[?(@.type=='Accepted')].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 30 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("a ClusterTool's name is a DNS label of at most 30 characters, so that the model can be told NAME__FUNCTION")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterToolSpec {
    /// Functions that are HTTP requests.
    pub http: HttpTool,
}

impl From<ClusterToolSpec> for ToolSpec {
    fn from(spec: ClusterToolSpec) -> Self {
        Self { http: spec.http }
    }
}
