//! The CustomResourceDefinitions as YAML, one document per kind.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

use crate::{
    Agent, AgentPolicyRevision, BreakGlass, ClusterAgentPolicy, ClusterTool, EgressPolicy, HostSet,
    IsolationClass, SecretBinding, Tool, VaultConnection,
};

/// Every definition, in alphabetical order of its kind.
#[must_use]
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![
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
    ]
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
