//! Step one: reads everything an Agent refers to, from what the watches have told. It judges nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt as _};
use redoubt_crds::condition::Reason;
use redoubt_crds::{
    Agent, AgentPolicyRevision, ClusterAgentPolicy, ClusterTool, EgressPolicy, HostSet, IsolationClass,
    SecretBinding, Tool, ToolKind, VaultConnection, names,
};
use redoubt_policy::compile::Problem;
use redoubt_policy::envelope::ENVELOPE_KEY;

use super::revision::{self, Known};
use crate::inbound::InboundKeys;
use crate::stores::{Guard, World};

/// An Agent and everything it refers to, as far as it exists.
#[derive(Clone, Debug)]
pub struct Dereferenced {
    /// The Agent.
    pub agent: Agent,
    /// The Tools it names.
    pub tools: Vec<Tool>,
    /// The ClusterTools it names.
    pub cluster_tools: Vec<ClusterTool>,
    /// All ClusterAgentPolicies.
    pub cluster_policies: Vec<ClusterAgentPolicy>,
    /// All HostSets that can be read.
    pub host_sets: Vec<HostSet>,
    /// Labels of the Agents of its namespace that were made before it; empty where no quota asks for them.
    pub earlier: Vec<BTreeMap<String, String>>,
    /// The EgressPolicies of its namespace. Those that cannot be read grant nothing and are left out.
    pub egress_policies: Vec<EgressPolicy>,
    /// The SecretBindings it names.
    pub bindings: Vec<SecretBinding>,
    /// The VaultConnections that those name.
    pub vaults: Vec<VaultConnection>,
    /// All IsolationClasses that can be read.
    pub classes: Vec<IsolationClass>,
    /// Objects it refers to that exist and cannot be read.
    pub unreadable: Vec<Problem>,
    /// Names of all RuntimeClasses.
    pub runtime_classes: BTreeSet<String>,
    /// Labels of its namespace.
    pub namespace_labels: BTreeMap<String, String>,
    /// How its callers are verified.
    pub inbound: Arc<InboundKeys>,
    /// The signed policy that was issued last.
    pub envelope: Option<String>,
    /// What there is of its history.
    pub revisions: Vec<Known>,
}

/// The Agent's children as the API server last told.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// ServiceAccount.
    pub service_account: Option<Arc<ServiceAccount>>,
    /// ConfigMap.
    pub config_map: Option<Arc<ConfigMap>>,
    /// NetworkPolicy.
    pub network_policy: Option<Arc<NetworkPolicy>>,
    /// Service.
    pub service: Option<Arc<Service>>,
    /// Pod.
    pub pod: Option<Arc<Pod>>,
    /// The revisions that this very Agent controls.
    pub revisions: Vec<Arc<PartialObjectMeta<AgentPolicyRevision>>>,
}

/// Reads.
#[must_use]
pub fn dereference(world: &World, agent: &Agent, inbound: Arc<InboundKeys>) -> (Dereferenced, Observed) {
    let namespace = agent.namespace().unwrap_or_default();
    let mut unreadable = Vec::new();
    let named = |references: &[redoubt_crds::LocalReference]| -> BTreeSet<String> {
        references.iter().map(|reference| reference.name.clone()).collect()
    };
    let tools_of = |kind: ToolKind| -> BTreeSet<String> {
        let of_kind = agent.spec.tools.iter().filter(|tool| tool.kind == kind);
        of_kind.map(|tool| tool.name.clone()).collect()
    };
    let tools = find(&world.tools, &namespace, &tools_of(ToolKind::Tool), &mut unreadable);
    let cluster_tools = find(&world.cluster_tools, "", &tools_of(ToolKind::ClusterTool), &mut unreadable);
    // One that cannot be read could forbid anything.
    let cluster_policies =
        find(&world.cluster_policies, "", &all_names(&world.cluster_policies), &mut unreadable);
    let bindings: Vec<SecretBinding> =
        find(&world.bindings, &namespace, &named(&agent.spec.secret_bindings), &mut unreadable);
    let connections = bindings.iter().map(|binding| binding.spec.vault.connection_name.clone()).collect();
    let vaults = find(&world.vaults, "", &connections, &mut unreadable);
    if let Some(name) = &agent.spec.isolation_class_name {
        let _: Vec<IsolationClass> =
            find(&world.classes, "", &BTreeSet::from([name.clone()]), &mut unreadable);
    }
    let egress_policies = world.egress_policies.within(&namespace);
    let egress_policies = egress_policies.iter().filter_map(|guard| guard.0.as_ref().ok().cloned()).collect();
    let mut observed = observe(world, &namespace, &names::child(&agent.name_any()));
    observed.revisions = revisions(world, agent);
    let namespace_labels = world
        .namespaces
        .get(&ObjectRef::new(&namespace))
        .and_then(|namespace| namespace.metadata.labels.clone())
        .unwrap_or_default();
    // What was issued and is not written yet is the newest.
    let envelope = world
        .hub
        .issued(&namespace, &agent.name_any())
        .or_else(|| observed.config_map.clone())
        .as_ref()
        .and_then(|map| map.data.as_ref())
        .and_then(|data| data.get(ENVELOPE_KEY).cloned());
    let earlier = if world.has_quotas() { earlier(world, agent) } else { Vec::new() };
    let dereferenced = Dereferenced {
        agent: agent.clone(),
        tools,
        cluster_tools,
        cluster_policies,
        host_sets: readable(&world.host_sets).collect(),
        earlier,
        egress_policies,
        bindings,
        vaults,
        classes: readable(&world.classes).collect(),
        unreadable,
        runtime_classes: world.runtime_classes.state().iter().map(|class| class.name_any()).collect(),
        namespace_labels,
        inbound,
        envelope,
        revisions: observed.revisions.iter().filter_map(|revision| Known::of(revision)).collect(),
    };
    (dereferenced, observed)
}

/// The children of this name.
pub(super) fn observe(world: &World, namespace: &str, name: &str) -> Observed {
    Observed {
        service_account: get(&world.service_accounts, namespace, name),
        config_map: get(&world.config_maps, namespace, name),
        network_policy: get(&world.network_policies, namespace, name),
        service: get(&world.services, namespace, name),
        pod: get(&world.pods, namespace, name),
        revisions: Vec::new(),
    }
}

/// The revisions of `agent`, and of no other of its name.
fn revisions(world: &World, agent: &Agent) -> Vec<Arc<PartialObjectMeta<AgentPolicyRevision>>> {
    let of =
        |revision: &PartialObjectMeta<AgentPolicyRevision>| {
            revision.metadata.owner_references.iter().flatten().any(|owner| {
                owner.controller == Some(true) && Some(&owner.uid) == agent.metadata.uid.as_ref()
            })
        };
    let named_alike = revision::prefix(&agent.name_any());
    let near = world.revisions.beginning(&agent.namespace().unwrap_or_default(), &named_alike);
    near.into_iter().filter(|revision| of(revision)).collect()
}

fn get<K>(store: &Store<K>, namespace: &str, name: &str) -> Option<Arc<K>>
where
    K: Resource<DynamicType = ()> + Clone,
{
    store.get(&ObjectRef::new(name).within(namespace))
}

/// Names of all objects, those that cannot be read too.
fn all_names<K: Resource<DynamicType = ()> + Clone>(store: &Store<Guard<K>>) -> BTreeSet<String> {
    store.state().iter().map(|guard| guard.name_any()).collect()
}

/// Labels of the Agents of the same namespace that were made before `agent`: by time, then by name. Those that are being
/// deleted do not count; those that cannot be read do.
fn earlier(world: &World, agent: &Agent) -> Vec<BTreeMap<String, String>> {
    let age = |meta: &ObjectMeta| (meta.creation_timestamp.clone().map(|time| time.0), meta.name.clone());
    let own = age(&agent.metadata);
    let agents = world.agents.within(&agent.namespace().unwrap_or_default());
    let metadata = agents.iter().map(|guard| guard.meta());
    metadata
        .filter(|meta| meta.deletion_timestamp.is_none() && age(meta) < own)
        .map(|meta| meta.labels.clone().unwrap_or_default())
        .collect()
}

/// The objects that can be read.
pub(crate) fn readable<K: Resource<DynamicType = ()> + Clone>(
    store: &Store<Guard<K>>,
) -> impl Iterator<Item = K> {
    store.state().into_iter().filter_map(|guard| guard.0.as_ref().ok().cloned())
}

/// The objects of these names; one that exists and cannot be read becomes a problem.
fn find<K>(
    store: &Store<Guard<K>>,
    namespace: &str,
    wanted: &BTreeSet<String>,
    unreadable: &mut Vec<Problem>,
) -> Vec<K>
where
    K: Resource<DynamicType = ()> + Clone,
{
    let mut found = Vec::new();
    for name in wanted {
        let mut reference = ObjectRef::new(name);
        if !namespace.is_empty() {
            reference = reference.within(namespace);
        }
        let guard = store.get(&reference);
        match guard.as_deref().map(|guard| &guard.0) {
            Some(Ok(object)) => found.push(object.clone()),
            Some(Err(error)) => unreadable.push(Problem::new(
                Reason::Invalid.as_str(),
                format!("{}/{name}", K::kind(&())),
                "",
                format!("the object cannot be read: {error}"),
                "Write it again in the form that `kubectl explain` shows; the API server accepted it under another definition.",
            )),
            None => {}
        }
    }
    found
}
