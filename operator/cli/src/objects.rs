//! Objects of our kinds, and what else an Agent's verdict rests on, from files or from a cluster.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt as _};
use redoubt_crds::{Agent, PLATFORM_GROUP, TEAM_GROUP, VERSION};
use redoubt_operator::metrics::Metrics;
use redoubt_operator::named::Named;
use redoubt_operator::stores::{Queues, World};
use redoubt_policy::Problem;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Which object: kind, namespace (empty for a cluster-scoped one) and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Kind.
    pub kind: String,
    /// Namespace, or nothing.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl fmt::Display for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.kind, self.name)?;
        if !self.namespace.is_empty() {
            write!(out, " in namespace {}", self.namespace)?;
        }
        Ok(())
    }
}

/// An object and the file it is from.
#[derive(Clone, Debug)]
pub struct Object {
    /// The object.
    pub value: Value,
    /// Where it was read.
    pub file: Option<String>,
}

/// A problem, with the namespace of its object and the file where that is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Namespace of the object; empty for a cluster-scoped one.
    pub namespace: String,
    /// The file, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// What is wrong.
    #[serde(flatten)]
    pub problem: Problem,
}

/// Objects by their keys: those of our groups, Namespaces and RuntimeClasses.
#[derive(Clone, Debug, Default)]
pub struct Objects(pub BTreeMap<Key, Object>);

impl Objects {
    /// These and those of `other`, whose objects stand in place of equally named ones.
    #[must_use]
    pub fn overlaid(&self, other: &Self) -> Self {
        let mut all = self.0.clone();
        all.extend(other.0.clone());
        Self(all)
    }

    /// The Agents that can be read, by namespace and name.
    #[must_use]
    pub fn agents(&self) -> Vec<Agent> {
        self.of_kind::<Agent>().filter_map(|value| serde_json::from_value(value.clone()).ok()).collect()
    }

    fn of_kind<K: Resource<DynamicType = ()>>(&self) -> impl Iterator<Item = &Value> {
        self.0.iter().filter(|(key, _)| key.kind == K::kind(&())).map(|(_, object)| &object.value)
    }

    /// The same as the operator's watches would tell it, without an Agent's children.
    #[must_use]
    pub fn world(&self) -> World {
        World {
            agents: all(self.guarded()),
            tools: self.guarded(),
            egress_policies: all(self.guarded()),
            bindings: self.guarded(),
            vaults: self.guarded(),
            classes: self.guarded(),
            cluster_tools: self.guarded(),
            cluster_policies: self.guarded(),
            host_sets: self.guarded(),
            break_glasses: store([]),
            runtime_classes: store(self.metadata()),
            namespaces: store(self.metadata()),
            pods: store([]),
            service_accounts: store([]),
            config_maps: store([]),
            network_policies: all(store([])),
            services: store([]),
            hub: Arc::default(),
            metrics: Metrics::new().0,
            glass: Default::default(),
            revisions: all(store([])),
            queues: Queues::default(),
        }
    }

    fn guarded<K>(&self) -> Store<DeserializeGuard<K>>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned + Clone + 'static,
    {
        store(self.of_kind::<K>().filter_map(|value| serde_json::from_value(value.clone()).ok()))
    }

    fn metadata<K: Resource<DynamicType = ()>>(&self) -> impl Iterator<Item = PartialObjectMeta<K>> {
        self.of_kind::<K>().filter_map(|value| serde_json::from_value(value.clone()).ok())
    }

    /// Where the object of a problem of the Agent or object in `namespace` is.
    #[must_use]
    pub fn locate(&self, namespace: &str, problem: Problem) -> Found {
        let (kind, name) = problem.object.split_once('/').unwrap_or_default();
        let namespace = if scope(kind) == Some(Scope::Cluster) { "" } else { namespace };
        let key = Key { kind: kind.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() };
        let file = self.0.get(&key).and_then(|object| object.file.clone());
        Found { namespace: key.namespace, file, problem }
    }
}

fn store<K>(objects: impl IntoIterator<Item = K>) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let (store, mut writer) = reflector::store();
    writer.apply_watcher_event(&Event::Init);
    for object in objects {
        writer.apply_watcher_event(&Event::InitApply(object));
    }
    writer.apply_watcher_event(&Event::InitDone);
    store
}

fn all<K: Resource<DynamicType = ()> + Clone + 'static>(store: Store<K>) -> Named<K> {
    Named::new(store, |_| true)
}

/// Whether the objects of a kind have a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// They have one.
    Namespaced,
    /// They have none.
    Cluster,
}

/// The kinds that are read, with their API version and scope. Revisions are records of the operator's own, and a BreakGlass
/// counts from when it is made, so neither is kept in files.
pub const KINDS: &[(&str, &str, Scope)] = &[
    ("Agent", TEAM_GROUP, Scope::Namespaced),
    ("EgressPolicy", TEAM_GROUP, Scope::Namespaced),
    ("SecretBinding", TEAM_GROUP, Scope::Namespaced),
    ("Tool", TEAM_GROUP, Scope::Namespaced),
    ("ClusterAgentPolicy", PLATFORM_GROUP, Scope::Cluster),
    ("ClusterTool", PLATFORM_GROUP, Scope::Cluster),
    ("HostSet", PLATFORM_GROUP, Scope::Cluster),
    ("IsolationClass", PLATFORM_GROUP, Scope::Cluster),
    ("VaultConnection", PLATFORM_GROUP, Scope::Cluster),
    ("RuntimeClass", "node.k8s.io", Scope::Cluster),
    ("Namespace", "", Scope::Cluster),
];

/// The scope of a kind that is read.
#[must_use]
pub fn scope(kind: &str) -> Option<Scope> {
    KINDS.iter().find(|(known, ..)| *known == kind).map(|(_, _, scope)| *scope)
}

/// Whether an API version is of one of our groups.
#[must_use]
pub fn is_ours(api_version: &str) -> bool {
    let group = api_version.split('/').next().unwrap_or_default();
    group == TEAM_GROUP || group == PLATFORM_GROUP
}

/// The API version of a kind that is read, as we read it.
#[must_use]
pub fn api_version(kind: &str) -> Option<String> {
    let (_, group, _) = KINDS.iter().find(|(known, ..)| *known == kind)?;
    Some(match *group {
        "" => "v1".to_owned(),
        "node.k8s.io" => "node.k8s.io/v1".to_owned(),
        group => format!("{group}/{VERSION}"),
    })
}

/// The name of an Agent within its namespace.
#[must_use]
pub fn name_of(agent: &Agent) -> (String, String) {
    (agent.namespace().unwrap_or_default(), agent.name_any())
}
