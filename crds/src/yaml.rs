//! The CustomResourceDefinitions as YAML, one document per kind.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSON};
use kube::CustomResourceExt as _;
use serde_json::{Value, json};

use crate::{
    Agent, AgentPolicyRevision, BreakGlass, ClusterAgentPolicy, ClusterTool, EgressPolicy, HostSet,
    IsolationClass, SecretBinding, Tool, VaultConnection,
};

/// What the API server says of an object that the operator has not looked at. Without it, kstatus takes a new object for one
/// that is done.
#[must_use]
pub fn status_before_the_first_visit() -> Value {
    json!({ "observedGeneration": -1 })
}

/// Every definition, in alphabetical order of its kind.
#[must_use]
pub fn definitions() -> Vec<CustomResourceDefinition> {
    let mut all = vec![
        Agent::crd(),
        AgentPolicyRevision::crd(),
        BreakGlass::crd(),
        ClusterAgentPolicy::crd(),
        ClusterTool::crd(),
        EgressPolicy::crd(),
        HostSet::crd(),
        IsolationClass::crd(),
        SecretBinding::crd(),
        Tool::crd(),
        VaultConnection::crd(),
    ];
    // Nobody looks at a record: it has no status.
    for definition in all.iter_mut().filter(|it| it.spec.names.kind != "AgentPolicyRevision") {
        for version in &mut definition.spec.versions {
            let schema = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut());
            let status = schema.and_then(|schema| schema.properties.as_mut()?.get_mut("status"));
            if let Some(status) = status {
                status.default = Some(JSON(status_before_the_first_visit()));
            }
        }
    }
    all
}

/// File name and YAML text of every definition.
///
/// # Errors
/// When a definition cannot be written as YAML, which would be a defect in the types.
pub fn files() -> Result<Vec<(String, String)>, serde_saphyr::ser::Error> {
    definitions()
        .into_iter()
        .map(|definition| {
            let name = format!("{}.yaml", definition.metadata.name.as_deref().unwrap_or_default());
            let text = serde_saphyr::to_string(&definition)?;
            Ok((name, format!("# Printed from the types in crds/src; do not edit.\n{text}")))
        })
        .collect()
}
