//! What is counted when someone asks: pure, of what the watches and the sidecars have told.

use std::collections::{BTreeMap, HashMap};
use std::sync::{PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt as _};
use redoubt_crds::Status;
use redoubt_crds::condition::{Reason, kind};
use redoubt_metrics::Sample;
use redoubt_metrics::operator as list;

use super::{Metrics, kind as kind_of};
use crate::accept::Checked;
use crate::agent::build::POLICY_EPOCH;
use crate::agent::pod_report::is_started;
use crate::index::WatchedAgent;
use crate::pending::Pending;
use crate::stores::{Guard, World};
use crate::stream::hub::Report;

impl Metrics {
    pub(super) fn read(&self) -> Vec<Sample> {
        let leads = self.fence.get().is_some_and(crate::lead::Fence::holds);
        let silence = self.answered.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        let mut samples = vec![
            Sample::new(&list::LEADER, Vec::new(), f64::from(u8::from(leads))),
            Sample::new(&list::API_SILENCE, Vec::new(), silence.as_secs_f64()),
        ];
        let world = self.world.get().and_then(Weak::upgrade);
        samples.extend(self.queues(world.as_deref()));
        if let Some(world) = world {
            samples.extend(agents(&world.agents));
            samples.extend(objects(&world));
            samples.extend(streams(&world));
        }
        samples
    }

    /// What was given for a visit that has not begun, and what has not been given yet.
    fn queues(&self, world: Option<&World>) -> Vec<Sample> {
        let waiting = self.lock();
        let not_given: HashMap<&str, usize> = world.map(waiting_in).unwrap_or_default();
        let depth = |kind: &str| {
            let given = waiting.keys().filter(|(waits, ..)| *waits == kind).count();
            given + not_given.get(kind).copied().unwrap_or_default()
        };
        list::VISITED.iter().map(|kind| sample(&list::QUEUE_DEPTH, vec![kind], depth(kind))).collect()
    }
}

fn waiting_in(world: &World) -> HashMap<&'static str, usize> {
    fn one<K: Resource<DynamicType = ()>>(queue: &Pending<K>) -> (&'static str, usize) {
        (kind_of::<K>(), queue.len())
    }
    let queues = &world.queues;
    HashMap::from([
        one(&queues.agents),
        one(&queues.tools),
        one(&queues.egress_policies),
        one(&queues.bindings),
        one(&queues.vaults),
        one(&queues.classes),
        one(&queues.cluster_tools),
        one(&queues.cluster_policies),
        one(&queues.host_sets),
    ])
}

#[allow(clippy::cast_precision_loss, reason = "metrics are floating-point numbers")]
fn sample(metric: &'static redoubt_metrics::Metric, values: Vec<&'static str>, count: usize) -> Sample {
    Sample::new(metric, values, count as f64)
}

/// Every Agent by each of its conditions.
fn agents(store: &Store<WatchedAgent>) -> Vec<Sample> {
    let mut counts: BTreeMap<[&'static str; 3], usize> = BTreeMap::new();
    for agent in store.state() {
        let conditions = match &agent.0 {
            Ok(agent) => agent.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default(),
            Err(_) => &[],
        };
        for wanted in list::CONDITIONS {
            let found = conditions.iter().find(|condition| condition.type_ == *wanted);
            if found.is_none() && *wanted == kind::POLICY_DRIFT {
                continue;
            }
            let (status, reason) = told(found);
            *counts.entry([wanted, status, reason]).or_default() += 1;
        }
    }
    counts.into_iter().map(|(values, count)| sample(&list::AGENTS, values.to_vec(), count)).collect()
}

/// Status and reason as labels: of the lists, whatever stands in the object.
fn told(condition: Option<&Condition>) -> (&'static str, &'static str) {
    let unknown = Reason::Unknown.as_str();
    let Some(condition) = condition else { return ("Unknown", unknown) };
    let status = list::STATUSES.iter().find(|status| **status == condition.status);
    (status.copied().unwrap_or("Unknown"), Reason::parse(&condition.reason).map_or(unknown, Reason::as_str))
}

fn objects(world: &World) -> Vec<Sample> {
    let mut samples = accepted(&world.cluster_policies);
    samples.extend(accepted(&world.cluster_tools));
    samples.extend(accepted(&world.egress_policies));
    samples.extend(accepted(&world.host_sets));
    samples.extend(accepted(&world.classes));
    samples.extend(accepted(&world.bindings));
    samples.extend(accepted(&world.tools));
    samples.extend(accepted(&world.vaults));
    samples
}

fn accepted<K: Checked>(store: &Store<Guard<K>>) -> Vec<Sample> {
    let mut counts: HashMap<&'static str, usize> = HashMap::new();
    for guard in store.state() {
        let status = guard.0.as_ref().ok().and_then(Checked::status);
        *counts.entry(acceptance(status)).or_default() += 1;
    }
    let count = |status: &str| counts.get(status).copied().unwrap_or_default();
    let kind = kind_of::<K>();
    list::STATUSES.iter().map(|status| sample(&list::OBJECTS, vec![kind, status], count(status))).collect()
}

fn acceptance(status: Option<&Status>) -> &'static str {
    let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
    told(conditions.iter().find(|condition| condition.type_ == kind::ACCEPTED)).0
}

fn streams(world: &World) -> Vec<Sample> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut counts: HashMap<&'static str, usize> = HashMap::new();
    let mut oldest = Duration::ZERO;
    for map in world.config_maps.state() {
        let Some((namespace, agent)) = crate::stream::hub::agent_of(&map) else { continue };
        let Some(pod) = world.pods.get(&ObjectRef::new(&map.name_any()).within(&namespace)) else { continue };
        let report = world.hub.reported(&namespace, &agent);
        if let Some((held, age)) = held(&map, &pod, report.as_ref(), now) {
            *counts.entry(held).or_default() += 1;
            oldest = oldest.max(age);
        }
    }
    let count = |held: &str| counts.get(held).copied().unwrap_or_default();
    let mut samples = vec![sample(&list::POLICY_STREAMS, Vec::new(), world.hub.streaming().len())];
    samples.extend(list::HELD.iter().map(|held| sample(&list::SIDECARS, vec![held], count(held))));
    samples.push(Sample::new(&list::UNACKNOWLEDGED_AGE, Vec::new(), oldest.as_secs_f64()));
    samples
}

/// Which policy the sidecar of a started pod holds, and how old the one in `map` is if it holds an older one. The epoch of
/// a policy is the time at which it was signed.
fn held(
    map: &ConfigMap,
    pod: &Pod,
    report: Option<&Report>,
    now: Duration,
) -> Option<(&'static str, Duration)> {
    if !is_started(pod) || pod.meta().deletion_timestamp.is_some() {
        return None;
    }
    let epoch: u64 = map.annotations().get(POLICY_EPOCH)?.parse().ok()?;
    let age = now.saturating_sub(Duration::from_millis(epoch));
    Some(match report.filter(|report| pod.uid().as_ref() == Some(&report.pod_uid)) {
        None => ("unheard", Duration::ZERO),
        Some(report) if report.epoch >= epoch => ("current", Duration::ZERO),
        Some(report) if report.refused.is_some() => ("refused", age),
        Some(_) => ("behind", age),
    })
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
