//! Tool: a callable capability and what it needs. It grants nothing.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::Status;

/// A callable capability and what it needs. It declares need; it grants nothing.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "redoubt.dev",
    version = "v1alpha1",
    kind = "Tool",
    namespaced,
    status = "Status",
    derive = "PartialEq",
    shortname = "tl",
    category = "redoubt",
    printcolumn(name = "Base URL", type_ = "string", json_path = ".spec.http.baseURL"),
    printcolumn(name = "Accepted", type_ = "string", json_path = ".status.conditions[?(@.type=='Accepted')].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 30 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("a Tool's name is a DNS label of at most 30 characters, so that the model can be told NAME__FUNCTION")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ToolSpec {
    /// Functions that are HTTP requests.
    pub http: HttpTool,
}

/// Functions that are HTTP requests to one server.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpTool {
    /// Scheme, host, port and leading path of every function's URL, for example `https://api.example.com/v1`.
    #[serde(rename = "baseURL")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new(crate::grammar::BASE_URL).message(crate::grammar::BASE_URL_MESSAGE))]
    pub base_url: String,
    /// What the model can call.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub functions: Vec<HttpFunction>,
}

/// What a function does to the world.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It changes nothing.
    Read,
    /// It changes something that can be changed back.
    Write,
    /// It changes something for good.
    Destructive,
}

/// One function: one HTTP request, built from the model's arguments.
///
/// An argument named in `path` as `{name}` fills one path segment; one named in `query` becomes a query parameter; all
/// others become members of a JSON object in the body.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpFunction {
    /// Name of the function; the model sees `TOOL__FUNCTION`.
    #[schemars(length(min = 1, max = 30), regex(pattern = "^[a-z][a-z0-9_]*$"))]
    pub name: String,
    /// What the model is told about the function.
    #[schemars(length(min = 1, max = 1024))]
    pub description: String,
    /// What the function does to the world.
    pub effect: Effect,
    /// HTTP method.
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new("self in ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE']").message(
        "method is one of GET, HEAD, POST, PUT, PATCH, DELETE"
    ))]
    pub method: String,
    /// Path under the base URL; a whole segment may be `{argument}`.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new(crate::grammar::PATH_TEMPLATE).message(crate::grammar::PATH_TEMPLATE_MESSAGE))]
    pub path: String,
    /// Arguments that become query parameters, in this order.
    #[serde(default)]
    #[schemars(length(max = 32), inner(length(min = 1, max = 64)))]
    pub query: Vec<String>,
    /// JSON Schema (2020-12) of the arguments: an object schema. References to other documents are refused.
    #[schemars(schema_with = "json_schema")]
    pub parameters: serde_json::Value,
    /// Most bytes of the response that the model is given; 65536 unless set.
    #[serde(default = "max_response_bytes")]
    #[schemars(range(min = 1, max = 1048576))]
    pub max_response_bytes: i32,
}

fn max_response_bytes() -> i32 {
    65536
}

fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}
