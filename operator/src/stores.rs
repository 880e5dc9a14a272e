//! What the API server has told: a store per kind, each kept by a watch, and the queues that the watches feed.

use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;

use futures::future::join_all;
use futures::{FutureExt as _, StreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Container, Namespace, Pod, PodSpec, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::{Config, Event};
use kube::runtime::{WatchStreamExt as _, reflector, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use redoubt_crds::{
    AgentPolicyRevision, BreakGlass, ClusterAgentPolicy, ClusterTool, EgressPolicy, HostSet, IsolationClass,
    SecretBinding, Tool, VaultConnection, names,
};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tracing::warn;

use crate::agent::ring;
use crate::index::{self, Change, WatchedAgent};
use crate::metrics::Metrics;
use crate::named::Named;
use crate::pending::Pending;
use crate::stream::hub::{self, Hub};

/// An object of ours as it is watched: one that cannot be read does not stop the watch.
pub type Guard<K> = DeserializeGuard<K>;

/// A change that touches more Agents than these lets others overtake them.
const FEW: usize = 64;

/// Everything that is known of the cluster.
pub struct World {
    /// Agents.
    pub agents: Named<WatchedAgent>,
    /// Tools.
    pub tools: Store<Guard<Tool>>,
    /// EgressPolicies.
    pub egress_policies: Named<Guard<EgressPolicy>>,
    /// SecretBindings.
    pub bindings: Store<Guard<SecretBinding>>,
    /// VaultConnections.
    pub vaults: Store<Guard<VaultConnection>>,
    /// IsolationClasses.
    pub classes: Store<Guard<IsolationClass>>,
    /// ClusterTools.
    pub cluster_tools: Store<Guard<ClusterTool>>,
    /// ClusterAgentPolicies.
    pub cluster_policies: Store<Guard<ClusterAgentPolicy>>,
    /// HostSets.
    pub host_sets: Store<Guard<HostSet>>,
    /// BreakGlasses.
    pub break_glasses: Store<Guard<BreakGlass>>,
    /// RuntimeClasses, by their metadata.
    pub runtime_classes: Store<PartialObjectMeta<RuntimeClass>>,
    /// Namespaces, by their metadata.
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
    /// Pods with the label of an Agent's children, and so for the kinds below.
    pub pods: Store<Pod>,
    /// ServiceAccounts of Agents.
    pub service_accounts: Store<ServiceAccount>,
    /// ConfigMaps of Agents.
    pub config_maps: Store<ConfigMap>,
    /// All NetworkPolicies: whole if they are of Agents, else no more than is needed. By their namespace, those are found that
    /// may select another Agent's pod than their own.
    pub network_policies: Named<NetworkPolicy>,
    /// Services of Agents.
    pub services: Store<Service>,
    /// AgentPolicyRevisions, by their metadata: each holds a whole Agent, and there are ten of each.
    pub revisions: Named<PartialObjectMeta<AgentPolicyRevision>>,
    /// Which objects are waiting for a visit.
    pub queues: Queues,
    /// The policy streams.
    pub hub: Arc<Hub>,
    /// What was counted so far.
    pub metrics: Arc<Metrics>,
    /// Told when a BreakGlass or an agent's pod has changed.
    pub glass: Notify,
}

/// Which objects are waiting for a visit.
#[derive(Default)]
pub struct Queues {
    /// Agents.
    pub agents: Arc<Pending<WatchedAgent>>,
    /// Agents whose policy may have changed: it is sent before anything is written.
    pub policies: Arc<Pending<WatchedAgent>>,
    /// Tools.
    pub tools: Arc<Pending<Guard<Tool>>>,
    /// EgressPolicies.
    pub egress_policies: Arc<Pending<Guard<EgressPolicy>>>,
    /// SecretBindings.
    pub bindings: Arc<Pending<Guard<SecretBinding>>>,
    /// VaultConnections.
    pub vaults: Arc<Pending<Guard<VaultConnection>>>,
    /// IsolationClasses.
    pub classes: Arc<Pending<Guard<IsolationClass>>>,
    /// ClusterTools.
    pub cluster_tools: Arc<Pending<Guard<ClusterTool>>>,
    /// ClusterAgentPolicies.
    pub cluster_policies: Arc<Pending<Guard<ClusterAgentPolicy>>>,
    /// HostSets.
    pub host_sets: Arc<Pending<Guard<HostSet>>>,
}

/// What a watch has to say: one object came, changed or went, or the whole list was read anew.
enum Touched<'a, K> {
    One(&'a K),
    All,
}

/// Starts a watch of every kind. The watches end with the runtime.
#[must_use]
pub fn watch(client: &Client, metrics: Arc<Metrics>) -> Arc<World> {
    let (agents, agents_in) = reflector::store();
    let (tools, tools_in) = reflector::store();
    let (egress_policies, egress_policies_in) = reflector::store();
    let (bindings, bindings_in) = reflector::store();
    let (vaults, vaults_in) = reflector::store();
    let (classes, classes_in) = reflector::store();
    let (cluster_tools, cluster_tools_in) = reflector::store();
    let (cluster_policies, cluster_policies_in) = reflector::store();
    let (host_sets, host_sets_in) = reflector::store();
    let (break_glasses, break_glasses_in) = reflector::store();
    let (runtime_classes, runtime_classes_in) = reflector::store();
    let (namespaces, namespaces_in) = reflector::store();
    let (pods, pods_in) = reflector::store();
    let (service_accounts, service_accounts_in) = reflector::store();
    let (config_maps, config_maps_in) = reflector::store();
    let (network_policies, network_policies_in) = reflector::store();
    let (services, services_in) = reflector::store();
    let (revisions, revisions_in) = reflector::store();
    let world = Arc::new(World {
        agents: Named::new(agents, |_| true),
        tools,
        egress_policies: Named::new(egress_policies, |_| true),
        bindings,
        vaults,
        classes,
        cluster_tools,
        cluster_policies,
        host_sets,
        break_glasses,
        runtime_classes,
        namespaces,
        pods,
        service_accounts,
        config_maps,
        network_policies: Named::new(network_policies, ring::reaches_others),
        services,
        revisions: Named::new(revisions, |_| true),
        queues: Queues::default(),
        hub: Arc::default(),
        metrics,
        glass: Notify::new(),
    });

    let all = Config::default;
    let w = &world;
    follow(w, client, all(), agents_in, |world, touched| {
        find_again(&world.agents, &touched);
        own_kind(&world.queues.agents, &world.agents, &touched);
        if let Touched::One(agent) = touched {
            if !is_settled(&world.agents, &touched, |agent| agent.status.as_ref()?.observed_generation) {
                world.queues.policies.add([ObjectRef::from_obj(agent)]);
            }
            // Its place under a quota is free for another.
            let goes = agent.meta().deletion_timestamp.is_some() || is_gone(&world.agents, agent);
            if goes && world.has_quotas() {
                world.touch(Change::Namespace(agent.namespace().unwrap_or_default()));
            }
        }
    });
    follow(w, client, all(), cluster_tools_in, |world, touched| {
        own_kind(&world.queues.cluster_tools, &world.cluster_tools, &touched);
        world.touch(match touched {
            Touched::One(tool) => Change::ClusterTool(tool.name_any()),
            Touched::All => Change::Everything,
        });
    });
    follow(w, client, all(), cluster_policies_in, |world, touched| {
        own_kind(&world.queues.cluster_policies, &world.cluster_policies, &touched);
        if is_settled(&world.cluster_policies, &touched, |policy| policy.status.as_ref()?.observed_generation)
        {
            return;
        }
        world.queues.bindings.add_many(references(&world.bindings));
        world.touch(Change::Everything);
    });
    follow(w, client, all(), host_sets_in, |world, touched| {
        own_kind(&world.queues.host_sets, &world.host_sets, &touched);
        if is_settled(&world.host_sets, &touched, |set| set.status.as_ref()?.observed_generation) {
            return;
        }
        world.queues.egress_policies.add_many(references(&world.egress_policies));
        world.queues.cluster_policies.add_many(references(&world.cluster_policies));
        world.touch(Change::Everything);
    });
    follow(w, client, all(), tools_in, |world, touched| {
        own_kind(&world.queues.tools, &world.tools, &touched);
        world.touch(match touched {
            Touched::One(tool) => Change::Tool(tool.namespace().unwrap_or_default(), tool.name_any()),
            Touched::All => Change::Everything,
        });
    });
    follow(w, client, all(), egress_policies_in, |world, touched| {
        find_again(&world.egress_policies, &touched);
        own_kind(&world.queues.egress_policies, &world.egress_policies, &touched);
        world.touch(match touched {
            Touched::One(policy) => Change::EgressPolicy(policy.namespace().unwrap_or_default()),
            Touched::All => Change::Everything,
        });
    });
    follow(w, client, all(), bindings_in, |world, touched| {
        own_kind(&world.queues.bindings, &world.bindings, &touched);
        world.touch(match touched {
            Touched::One(b) => Change::SecretBinding(b.namespace().unwrap_or_default(), b.name_any()),
            Touched::All => Change::Everything,
        });
    });
    follow(w, client, all(), vaults_in, |world, touched| {
        own_kind(&world.queues.vaults, &world.vaults, &touched);
        world.queues.bindings.add_many(references(&world.bindings));
        world.touch(Change::VaultConnection);
    });
    follow(w, client, all(), classes_in, |world, touched| {
        own_kind(&world.queues.classes, &world.classes, &touched);
        world.touch(match touched {
            Touched::One(class) => Change::IsolationClass(class.name_any()),
            Touched::All => Change::Everything,
        });
    });
    follow(w, client, all(), runtime_classes_in, |world, _| {
        world.queues.classes.add_many(references(&world.classes));
        world.touch(Change::Everything);
    });
    follow(w, client, all(), namespaces_in, |world, touched| {
        world.queues.bindings.add_many(references(&world.bindings));
        world.touch(match touched {
            Touched::One(namespace) => Change::Namespace(namespace.name_any()),
            Touched::All => Change::Everything,
        });
    });
    let children = || Config::default().labels(names::AGENT_LABEL);
    follow_trimmed(w, client, children(), pods_in, trim_pod, |world, touched| {
        child(world, touched);
        world.glass.notify_one();
    });
    follow(w, client, all(), break_glasses_in, |world, _| world.glass.notify_one());
    follow(w, client, children(), service_accounts_in, child);
    follow(w, client, children(), config_maps_in, config_map);
    follow_trimmed(w, client, all(), network_policies_in, ring::trim, |world, touched| {
        find_again(&world.network_policies, &touched);
        match touched {
            Touched::One(policy) if !ring::is_own(policy) => {
                world.touch(Change::NetworkPolicy(policy.namespace().unwrap_or_default()));
            }
            touched => child(world, touched),
        }
    });
    follow(w, client, children(), services_in, child);
    follow(w, client, children(), revisions_in, |world, touched| {
        find_again(&world.revisions, &touched);
        child(world, touched);
    });
    world
}

impl World {
    /// Puts the Agents that `change` touches into their queue.
    pub fn touch(&self, change: Change) {
        let agents = match change.namespace() {
            Some(namespace) => self.agents.within(namespace),
            None => self.agents.state(),
        };
        let touched = index::touched(&change, agents.iter().map(AsRef::as_ref));
        self.queues.policies.add(touched.iter().cloned());
        if touched.len() > FEW {
            self.queues.agents.add_many(touched);
        } else {
            self.queues.agents.add(touched);
        }
    }

    /// What this replica has issued does not count any more unless it is written.
    pub fn withdraw(&self) {
        self.hub.withdraw(|agent| self.config_map_of(agent));
    }

    /// The ConfigMap of the Agent of this namespace and name.
    fn config_map_of(&self, (namespace, agent): &(String, String)) -> Option<Arc<ConfigMap>> {
        self.config_maps.get(&ObjectRef::new(&names::child(agent)).within(namespace))
    }

    /// Whether some ClusterAgentPolicy limits how many Agents there may be.
    #[must_use]
    pub fn has_quotas(&self) -> bool {
        let limits = |policy: &ClusterAgentPolicy| policy.spec.quotas.agents_per_namespace.is_some();
        self.cluster_policies.state().iter().any(|policy| policy.0.as_ref().is_ok_and(limits))
    }

    /// Whether the namespace is being deleted. Nothing can be made there any more, and all that is there goes.
    #[must_use]
    pub fn is_ending(&self, namespace: &str) -> bool {
        let namespace = self.namespaces.get(&ObjectRef::new(namespace));
        namespace.is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some())
    }

    /// Waits until every kind has been listed once. Before that nothing may be decided: what is not known looks missing.
    ///
    /// # Errors
    /// When a watch has ended.
    pub async fn ready(&self) -> Result<(), reflector::store::WriterDropped> {
        let waits = [
            self.agents.wait_until_ready().boxed(),
            self.tools.wait_until_ready().boxed(),
            self.egress_policies.wait_until_ready().boxed(),
            self.bindings.wait_until_ready().boxed(),
            self.vaults.wait_until_ready().boxed(),
            self.classes.wait_until_ready().boxed(),
            self.cluster_tools.wait_until_ready().boxed(),
            self.cluster_policies.wait_until_ready().boxed(),
            self.host_sets.wait_until_ready().boxed(),
            self.break_glasses.wait_until_ready().boxed(),
            self.runtime_classes.wait_until_ready().boxed(),
            self.namespaces.wait_until_ready().boxed(),
            self.pods.wait_until_ready().boxed(),
            self.service_accounts.wait_until_ready().boxed(),
            self.config_maps.wait_until_ready().boxed(),
            self.network_policies.wait_until_ready().boxed(),
            self.services.wait_until_ready().boxed(),
            self.revisions.wait_until_ready().boxed(),
        ];
        join_all(waits).await.into_iter().collect()
    }
}

fn references<K: Resource<DynamicType = ()> + Clone>(store: &Store<K>) -> Vec<ObjectRef<K>> {
    store.state().iter().map(|object| ObjectRef::from_obj(object.as_ref())).collect()
}

/// Whether the watch has told that the object is gone. The store is brought up to date first.
fn is_gone<K: Resource<DynamicType = ()> + Clone>(store: &Store<K>, object: &K) -> bool {
    store.get(&ObjectRef::from_obj(object)).is_none()
}

/// Whether the event tells nothing new of the object's spec: it is there, and its status speaks of this very generation. So
/// the operator's own status does not set everything in motion again.
fn is_settled<K: Resource<DynamicType = ()> + Clone>(
    store: &Store<Guard<K>>,
    touched: &Touched<'_, Guard<K>>,
    observed: fn(&K) -> Option<i64>,
) -> bool {
    let Touched::One(guard) = touched else { return false };
    let Ok(object) = &guard.0 else { return false };
    let generation = object.meta().generation;
    generation.is_some() && observed(object) == generation && !is_gone(store, guard)
}

fn own_kind<K: Resource<DynamicType = ()> + Clone>(
    queue: &Pending<K>,
    store: &Store<K>,
    touched: &Touched<'_, K>,
) {
    match touched {
        Touched::One(object) => queue.add([ObjectRef::from_obj(*object)]),
        Touched::All => queue.add_many(references(store)),
    }
}

fn find_again<K: Resource<DynamicType = ()> + Clone>(named: &Named<K>, touched: &Touched<'_, K>) {
    match touched {
        Touched::One(object) => named.changed(object),
        Touched::All => named.read_anew(),
    }
}

fn child<K: Resource>(world: &World, touched: Touched<'_, K>) {
    match touched {
        Touched::One(object) => world.queues.agents.add(index::owner(object)),
        Touched::All => world.touch(Change::Everything),
    }
}

/// A ConfigMap is a child, and what the Agent's stream is sent.
fn config_map(world: &World, touched: Touched<'_, ConfigMap>) {
    let agents = match &touched {
        Touched::One(map) => hub::agent_of(map).into_iter().collect(),
        Touched::All => world.hub.streaming(),
    };
    for agent in agents {
        world.hub.changed(&agent, || world.config_map_of(&agent));
    }
    child(world, touched);
}

/// Leaves of a pod what tells how it fares and whether someone has changed it. What it was built of is known by a digest.
fn trim_pod(pod: &mut Pod) {
    pod.metadata.managed_fields = None;
    let Some(spec) = pod.spec.take() else { return };
    let kept = |container: Container| Container {
        name: container.name,
        image: container.image,
        ..Default::default()
    };
    pod.spec = Some(PodSpec {
        containers: spec.containers.into_iter().map(kept).collect(),
        init_containers: spec.init_containers.map(|all| all.into_iter().map(kept).collect()),
        // That there is one is all that counts, and it is not to be.
        ephemeral_containers: spec.ephemeral_containers,
        node_name: spec.node_name,
        runtime_class_name: spec.runtime_class_name,
        active_deadline_seconds: spec.active_deadline_seconds,
        ..Default::default()
    });
}

/// Keeps `writer`'s store by a watch and says what it touched.
fn follow<K>(
    world: &Arc<World>,
    client: &Client,
    config: Config,
    writer: Writer<K>,
    touched: fn(&World, Touched<'_, K>),
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let trim = |object: &mut K| object.meta_mut().managed_fields = None;
    follow_trimmed(world, client, config, writer, trim, touched);
}

/// The same, with what is left out of every object before it is kept.
fn follow_trimmed<K>(
    world: &Arc<World>,
    client: &Client,
    config: Config,
    writer: Writer<K>,
    trim: fn(&mut K),
    touched: fn(&World, Touched<'_, K>),
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let api: Api<K> = Api::all(client.clone());
    let world = world.clone();
    tokio::spawn(async move {
        let mut events = pin!(watcher(api, config).default_backoff().modify(trim).reflect(writer));
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Apply(object) | Event::Delete(object)) => touched(&world, Touched::One(&object)),
                Ok(Event::InitDone) => touched(&world, Touched::All),
                Ok(Event::Init | Event::InitApply(_)) => {}
                Err(error) => {
                    world.metrics.watch_failed::<K>();
                    warn!(kind = %K::kind(&()), %error, "watch failed; it is tried again");
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_a_pod_is_kept_what_others_can_change_and_how_it_fares() {
        let container =
            |name: &str| json!({ "name": name, "image": "i", "env": [{"name": "A", "value": "b"}] });
        let kept = |name: &str| json!({ "name": name, "image": "i" });
        let spec = |container: &dyn Fn(&str) -> serde_json::Value| {
            json!({
                "containers": [container("agent")],
                "initContainers": [container("egress")],
                "ephemeralContainers": [{ "name": "debug", "image": "d" }],
                "nodeName": "node", "runtimeClassName": "kata", "activeDeadlineSeconds": 60,
            })
        };
        let metadata =
            json!({ "name": "p", "labels": {"a": "b"}, "annotations": {"redoubt.dev/pod-hash": "1"} });
        let status = json!({ "phase": "Running", "containerStatuses": [] });
        let mut whole = json!({ "metadata": metadata, "spec": spec(&container), "status": status });
        whole["metadata"]["managedFields"] = json!([{ "manager": "m" }]);
        whole["spec"]["volumes"] = json!([{ "name": "v" }]);
        whole["spec"]["serviceAccountName"] = json!("s");
        let mut pod: Pod = serde_json::from_value(whole).unwrap();
        trim_pod(&mut pod);
        let expected = json!({ "metadata": metadata, "spec": spec(&kept), "status": status });
        assert_eq!(pod, serde_json::from_value::<Pod>(expected).unwrap());
    }
}
