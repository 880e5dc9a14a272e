//! What is checked of each kind, beyond what the definitions' own rules see.

use std::collections::{BTreeMap, BTreeSet};

use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, ResourceExt as _};
use redoubt_crds::condition::Reason;
use redoubt_crds::{
    ClusterAgentPolicy, ClusterTool, EgressPolicy, HostSet, IsolationClass, SecretBinding, Status, Tool,
    VaultConnection,
};
use redoubt_policy::compile::{
    Problem, check_binding, check_binding_within, check_cluster_policy, check_cluster_tool,
    check_egress_policy, check_host_set, check_tool, check_vault, vault_grants,
};
use redoubt_policy::grants::HostSets;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::Checked;
use crate::agent::dereference::readable;
use crate::agent::validate::check_class;
use crate::stores::World;

impl Checked for Tool {
    fn problems(&self, _: &World) -> Vec<Problem> {
        check_tool(self)
    }
    fn status(&self) -> Option<&Status> {
        self.status.as_ref()
    }
    fn api(&self, client: Client) -> Api<Self> {
        Api::namespaced(client, &self.namespace().unwrap_or_default())
    }
}

impl Checked for EgressPolicy {
    fn problems(&self, world: &World) -> Vec<Problem> {
        let object = format!("EgressPolicy/{}", self.name_any());
        let bundles = self.spec.allow.iter().enumerate().filter_map(|(i, allow)| {
            check_bundle(&object, &format!("spec.allow[{i}].caBundle"), allow.ca_bundle.as_deref())
        });
        let sets: Vec<HostSet> = readable(&world.host_sets).collect();
        check_egress_policy(self, HostSets(&sets)).into_iter().chain(bundles).collect()
    }
    fn status(&self) -> Option<&Status> {
        self.status.as_ref()
    }
    fn api(&self, client: Client) -> Api<Self> {
        Api::namespaced(client, &self.namespace().unwrap_or_default())
    }
}

impl Checked for SecretBinding {
    fn problems(&self, world: &World) -> Vec<Problem> {
        let object = format!("SecretBinding/{}", self.name_any());
        let bundles = self.spec.destinations.iter().enumerate().filter_map(|(i, destination)| {
            check_bundle(
                &object,
                &format!("spec.destinations[{i}].caBundle"),
                destination.ca_bundle.as_deref(),
            )
        });
        let mut problems: Vec<Problem> = check_binding(self).into_iter().chain(bundles).collect();
        let connection = world.vaults.get(&ObjectRef::new(&self.spec.vault.connection_name));
        let connection = connection.as_ref().and_then(|guard| guard.0.as_ref().ok());
        let namespace = self.namespace().unwrap_or_default();
        let labels = world
            .namespaces
            .get(&ObjectRef::new(&namespace))
            .and_then(|namespace| namespace.metadata.labels.clone())
            .unwrap_or_default();
        problems.extend(check_grant(self, connection, &labels));
        let policies: Vec<ClusterAgentPolicy> = readable(&world.cluster_policies).collect();
        let sets: Vec<HostSet> = readable(&world.host_sets).collect();
        problems.extend(check_binding_within(self, &policies, &labels, HostSets(&sets)));
        problems
    }
    fn status(&self) -> Option<&Status> {
        self.status.as_ref()
    }
    fn api(&self, client: Client) -> Api<Self> {
        Api::namespaced(client, &self.namespace().unwrap_or_default())
    }
}

impl Checked for VaultConnection {
    fn problems(&self, _: &World) -> Vec<Problem> {
        let object = format!("VaultConnection/{}", self.name_any());
        let bundle = check_bundle(&object, "spec.caBundle", self.spec.ca_bundle.as_deref());
        check_vault(self).into_iter().chain(bundle).collect()
    }
    fn status(&self) -> Option<&Status> {
        self.status.as_ref()
    }
    fn api(&self, client: Client) -> Api<Self> {
        Api::all(client)
    }
}

impl Checked for IsolationClass {
    fn problems(&self, world: &World) -> Vec<Problem> {
        let runtime_classes: BTreeSet<String> =
            world.runtime_classes.state().iter().map(|class| class.name_any()).collect();
        check_class(self, &runtime_classes)
    }
    fn status(&self) -> Option<&Status> {
        self.status.as_ref()
    }
    fn api(&self, client: Client) -> Api<Self> {
        Api::all(client)
    }
}

impl Checked for ClusterTool {
    fn problems(&self, _: &World) -> Vec<Problem> {
        check_cluster_tool(self)
    }
    fn status(&self) -> Option<&Status> {
        self.status.as_ref()
    }
    fn api(&self, client: Client) -> Api<Self> {
        Api::all(client)
    }
}

impl Checked for HostSet {
    fn problems(&self, _: &World) -> Vec<Problem> {
        check_host_set(self)
    }
    fn status(&self) -> Option<&Status> {
        self.status.as_ref()
    }
    fn api(&self, client: Client) -> Api<Self> {
        Api::all(client)
    }
}

impl Checked for ClusterAgentPolicy {
    fn problems(&self, world: &World) -> Vec<Problem> {
        let sets: Vec<HostSet> = readable(&world.host_sets).collect();
        check_cluster_policy(self, HostSets(&sets))
    }
    fn status(&self) -> Option<&Status> {
        self.status.as_ref()
    }
    fn api(&self, client: Client) -> Api<Self> {
        Api::all(client)
    }
}

/// Whether the platform lets a namespace with these labels bind what `binding` names.
fn check_grant(
    binding: &SecretBinding,
    connection: Option<&VaultConnection>,
    labels: &BTreeMap<String, String>,
) -> Option<Problem> {
    let object = format!("SecretBinding/{}", binding.name_any());
    let vault = &binding.spec.vault;
    let name = &vault.connection_name;
    let Some(connection) = connection else {
        return Some(Problem::new(
            Reason::ReferenceNotFound.as_str(),
            object,
            "spec.vault.connectionName",
            format!("VaultConnection/{name} does not exist"),
            "Ask the platform team for the name of a VaultConnection, or for this one to be made.",
        ));
    };
    if vault_grants(connection, labels, &vault.kv2.mount, &vault.kv2.path) {
        return None;
    }
    Some(Problem::new(
        Reason::VaultPathNotGranted.as_str(),
        object,
        "spec.vault.kv2.path",
        format!(
            "VaultConnection/{name} grants namespace {} no path that covers {}/{}",
            binding.namespace().unwrap_or_default(),
            vault.kv2.mount,
            vault.kv2.path
        ),
        format!(
            "Ask the platform team for an entry in spec.grants of VaultConnection/{name}, or use a granted path."
        ),
    ))
}

/// A bundle of trust anchors has at least one certificate, and nothing that is not one.
fn check_bundle(object: &str, field: &str, bundle: Option<&str>) -> Option<Problem> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bundle?.as_bytes()).collect();
    let message = match certificates {
        Ok(certificates) if !certificates.is_empty() => return None,
        Ok(_) => "there is no certificate in it".to_owned(),
        Err(error) => format!("it cannot be read: {error}"),
    };
    Some(Problem::new(
        Reason::Invalid.as_str(),
        object,
        field,
        message,
        "Give certificates in PEM, each between BEGIN CERTIFICATE and END CERTIFICATE.",
    ))
}

#[cfg(test)]
#[path = "checks_tests.rs"]
mod tests;
