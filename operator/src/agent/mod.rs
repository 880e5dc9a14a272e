//! One visit to an Agent: [`dereference`] → [`validate`] → [`build`] → [`apply`] → [`status`].
//!
//! There is no finalizer: nothing outside the cluster is held for an Agent yet, so the garbage collector's work on the
//! owner references is all there is to clean up.

pub mod announce;
pub mod apply;
pub mod build;
pub mod children;
pub mod dereference;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod pod_report;
pub mod replace;
pub mod revision;
pub mod ring;
pub mod status;
pub mod validate;

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, Resource as _, ResourceExt as _};
use redoubt_crds::condition::Reason;
use redoubt_crds::{Agent, names};
use redoubt_policy::compile::Problem;
use serde_json::json;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::conditions::news;
use crate::events::Events;
use crate::inbound::InboundKeys;
use crate::index::WatchedAgent;
use crate::lead::Fence;
use crate::metrics::Visited;
use crate::signing::{Keys, Signer};
use crate::stores::World;
use crate::stream::hub::Report;

use announce::{Announcement, announce, line};
use apply::{Applier, ApplyError, PodOutcome};
use children::{Children, Prepared};
use dereference::Observed;
use revision::Records;
use status::Outcome;
use validate::ValidatedAgent;

/// How often an Agent is visited when nothing is heard of it.
const RESYNC: Duration = Duration::from_secs(600);
/// Wait after a visit on stale knowledge.
const SOON: Duration = Duration::from_millis(500);
/// Wait after the API server refused something.
const REFUSED: Duration = Duration::from_secs(30);
/// Wait after the API server could not be asked.
const UNAVAILABLE: Duration = Duration::from_secs(5);

/// What every visit needs.
pub struct Context {
    /// For the API server.
    pub client: Client,
    /// What is known of the cluster.
    pub world: Arc<World>,
    /// The keys that policies are signed with.
    pub keys: Arc<Keys>,
    /// How callers are verified.
    pub inbound: watch::Receiver<Arc<InboundKeys>>,
    /// Whether this replica leads.
    pub fence: Fence,
    /// Writes events.
    pub events: Events,
    /// Who may scrape the metrics of agents' sidecars.
    pub scrapers: Vec<NetworkPolicyPeer>,
    /// For Agents whose failed pod was deleted and whose next one does not exist yet: how many failed in a row. It is lost
    /// with the process, and then the back-off begins anew.
    pub attempts: Mutex<HashMap<ObjectRef<WatchedAgent>, u32>>,
    /// Revisions that were asked for and that no watch has told of yet.
    pub records: Records,
}

/// Why a visit ended early.
#[derive(Debug, thiserror::Error)]
pub enum VisitError {
    /// A child was not applied.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The status was not written.
    #[error("status: {0}")]
    Status(#[source] kube::Error),
}

/// Visits an Agent.
///
/// # Errors
/// When the API server cannot be asked or knowledge is stale; what it refused is told in the status instead.
pub async fn visit(watched: Arc<WatchedAgent>, context: Arc<Context>) -> Result<Action, VisitError> {
    let agent = match &watched.0 {
        Ok(agent) => agent,
        Err(error) => {
            let metadata = &error.metadata;
            warn!(namespace = metadata.namespace, name = metadata.name, %error, "Agent cannot be read");
            // Fails closed: it is not known what would be wanted of the pod.
            let next = stop(&watched, &context, "it cannot be read").await?;
            forget_conditions(&watched, &context).await?;
            return Ok(next);
        }
    };
    if context.world.is_ending(&agent.namespace().unwrap_or_default()) {
        return Ok(Action::await_change());
    }
    if agent.metadata.deletion_timestamp.is_some() {
        // A finalizer of anyone can hold it for long, and so does deleting it without its children.
        return stop(&watched, &context, "it is being deleted").await;
    }
    let now = Timestamp::now();
    let reference = ObjectRef::from_obj(&*watched);
    let signer = context.keys.signer();
    let Decided { observed, report, built } = decide(&context, agent, &signer, now);
    let applier = Applier {
        client: &context.client,
        events: &context.events,
        signer: &signer,
        agent: &watched,
        attempt: context.attempt(&reference),
        now,
    };

    let (validated, children) = match built {
        Ok(built) => built,
        Err(problems) => {
            // Fails closed: what is not accepted does not run.
            applier.stop(&observed).await?;
            update_status(&context, agent, &Outcome::Rejected(&problems), None, now).await?;
            return Ok(Action::requeue(RESYNC));
        }
    };
    let drift = drift(&context.world, &children, &observed);
    let drift = drift.as_deref();
    context.records.ask(agent, &children.revision, &observed.revisions);
    match applier.apply(children, &observed).await {
        Ok((applied, attempt)) => {
            context.remember(&reference, &applied.pod, attempt);
            let outcome = Outcome::Applied(&applied, validated.policy(), report.as_ref());
            update_status(&context, agent, &outcome, drift, now).await?;
            Ok(Action::requeue(next_visit(&applied.pod, now)))
        }
        Err(error @ (ApplyError::Refused { .. } | ApplyError::Foreign { .. })) => {
            warn!(agent = %reference, %error, "not applied");
            update_status(&context, agent, &Outcome::Failed(error.to_string()), drift, now).await?;
            Ok(Action::requeue(REFUSED))
        }
        Err(error) => Err(error.into()),
    }
}

/// What is known of an Agent, and what is to be done about it.
struct Decided {
    observed: Observed,
    /// What its sidecar said last.
    report: Option<Report>,
    built: Result<(ValidatedAgent, Children<Prepared>), Vec<Problem>>,
}

/// Steps one to three. A policy that is new is sent to the pod at once, while this replica leads.
fn decide(context: &Context, agent: &Agent, signer: &Signer, now: Timestamp) -> Decided {
    let (namespace, name) = (agent.namespace().unwrap_or_default(), agent.name_any());
    let world = &context.world;
    let _turn = world.hub.turn(&namespace, &name);
    let inbound = context.inbound.borrow().clone();
    let (mut read, observed) = dereference::dereference(world, agent, inbound);
    context.records.add(agent, &mut read.revisions);
    let report = world.hub.reported(&namespace, &name);
    let built = validate::validate(read).and_then(|mut validated| {
        // After a restore of etcd, a pod may have a newer policy than anything here tells of.
        validated.held(report.as_ref().map_or(0, |report| report.epoch));
        validated.scraped_by(&context.scrapers);
        let milliseconds = u64::try_from(now.as_millisecond()).unwrap_or_default();
        build::build(&validated, signer, milliseconds)
            .map(|children| (validated, children))
            .map_err(|error| vec![cannot_build(agent, &error)])
    });
    if let Ok((_, children)) = &built {
        let present = observed.config_map.as_deref();
        world.hub.issue(&context.fence, &(namespace, name), &children.config_map, present);
    }
    Decided { observed, report, built }
}

/// Sends the policies of Agents as they change, until `shutdown`: long before all their objects are written.
pub async fn issue(context: Arc<Context>, shutdown: impl Future<Output = ()> + Send) {
    let at_a_time = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let waiting = context.world.queues.policies.stream().take_until(Box::pin(shutdown));
    waiting
        .for_each_concurrent(at_a_time, |reference| {
            let context = context.clone();
            async move {
                // It is all reckoning. One that panics has told so, and the visit will tell again.
                let _ = tokio::task::spawn_blocking(move || issue_one(&context, &reference)).await;
            }
        })
        .await;
}

fn issue_one(context: &Context, reference: &ObjectRef<WatchedAgent>) {
    let namespace = reference.namespace.as_deref().unwrap_or_default();
    if !context.world.hub.is_streaming(namespace, &reference.name) {
        return;
    }
    let Some(watched) = context.world.agents.get(reference) else { return };
    // Whatever may not run is ended by a visit.
    let Ok(agent) = &watched.0 else { return };
    if agent.metadata.deletion_timestamp.is_none() {
        decide(context, agent, &context.keys.signer(), Timestamp::now());
    }
}

/// What makes the ring around the pod wider: the pod as it is wanted, and as it is there.
fn drift(world: &World, children: &Children<Prepared>, observed: &Observed) -> Option<String> {
    let pods = [children.pod.as_deref(), observed.pod.as_deref()];
    let labels: Vec<_> = pods.into_iter().flatten().map(|pod| pod.labels()).collect();
    let own = &children.network_policy;
    let near = world.network_policies.within(&own.namespace().unwrap_or_default());
    ring::widened(own, &labels, near.iter().map(AsRef::as_ref))
}

/// Ends the pod of an Agent that nothing else can be done for.
async fn stop(watched: &WatchedAgent, context: &Context, why: &str) -> Result<Action, VisitError> {
    let namespace = watched.namespace().unwrap_or_default();
    let observed = dereference::observe(&context.world, &namespace, &names::child(&watched.name_any()));
    if observed.pod.is_some() {
        info!(namespace, agent = watched.name_any(), why, "the pod is not to run");
    }
    let (client, events, signer) = (&context.client, &context.events, &context.keys.signer());
    let now = Timestamp::now();
    Applier { client, events, signer, agent: watched, attempt: 0, now }.stop(&observed).await?;
    Ok(Action::requeue(RESYNC))
}

/// Takes the conditions of an Agent away that cannot be read: someone else may have written them, and what they say does
/// not hold. If nothing else was wrong, it can be read again.
async fn forget_conditions(watched: &WatchedAgent, context: &Context) -> Result<(), VisitError> {
    let namespace = watched.namespace().unwrap_or_default();
    // The answer may still be unreadable.
    let api: Api<WatchedAgent> = Api::namespaced(context.client.clone(), &namespace);
    let none = json!({ "status": { "conditions": null } });
    let params = PatchParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..Default::default() };
    match api.patch_status(&watched.name_any(), &params, &Patch::Merge(&none)).await {
        Ok(_) => Ok(()),
        Err(error) => Err(VisitError::Status(error)),
    }
}

/// When to come back after a visit that ended early.
pub fn after_error(agent: Arc<WatchedAgent>, error: &VisitError, _: Arc<Context>) -> Action {
    match error {
        VisitError::Apply(ApplyError::Stale(_)) => Action::requeue(SOON),
        VisitError::Status(kube::Error::Api(status)) if status.is_conflict() => Action::requeue(SOON),
        VisitError::Status(kube::Error::Api(status)) if status.is_not_found() => Action::await_change(),
        error => {
            let reference = ObjectRef::from_obj(&*agent);
            warn!(agent = %reference, %error, "visit failed; it is tried again");
            Action::requeue(UNAVAILABLE)
        }
    }
}

/// How a visit that ended early is counted.
#[must_use]
pub fn visited(error: &VisitError) -> Visited {
    match error {
        VisitError::Apply(ApplyError::Stale(_)) => Visited::Stale,
        VisitError::Status(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {
            Visited::Stale
        }
        VisitError::Apply(_) | VisitError::Status(_) => Visited::Failed,
    }
}

fn next_visit(pod: &PodOutcome, now: Timestamp) -> Duration {
    match pod {
        PodOutcome::BackOff(_, _, until) => {
            let wait = Duration::try_from(until.duration_since(now)).unwrap_or_default();
            wait.saturating_add(SOON).min(RESYNC)
        }
        PodOutcome::Absent | PodOutcome::Present(_) | PodOutcome::Ending(_) => RESYNC,
    }
}

fn cannot_build(agent: &Agent, error: &build::BuildError) -> Problem {
    Problem::new(
        Reason::Invalid.as_str(),
        format!("Agent/{}", agent.name_any()),
        "spec",
        error.to_string(),
        "Make what the Agent is granted smaller; if that is not it, this is a defect of the operator.",
    )
}

impl Context {
    fn attempt(&self, reference: &ObjectRef<WatchedAgent>) -> u32 {
        let attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.get(reference).copied().unwrap_or_default()
    }

    /// What was counted is not known any more.
    pub fn forget_attempts(&self) {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.records.forget();
    }

    fn remember(&self, reference: &ObjectRef<WatchedAgent>, pod: &PodOutcome, attempt: Option<u32>) {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        match (attempt, pod) {
            (Some(attempt), _) => {
                attempts.insert(reference.clone(), attempt);
            }
            (None, PodOutcome::Ending(_)) => {}
            (None, _) => {
                attempts.remove(reference);
            }
        }
    }
}

/// Writes the status if it changed, and events for what is new in it.
async fn update_status(
    context: &Context,
    agent: &Agent,
    outcome: &Outcome<'_>,
    drift: Option<&str>,
    now: Timestamp,
) -> Result<(), VisitError> {
    let next = status::next(agent, outcome, drift, now);
    let previous = agent.status.clone().unwrap_or_default();
    if next == previous {
        return Ok(());
    }
    let namespace = agent.namespace().unwrap_or_default();
    let api: Api<Agent> = Api::namespaced(context.client.clone(), &namespace);
    let patch = json!({
        "apiVersion": Agent::api_version(&()),
        "kind": Agent::kind(&()),
        // Times of transitions are only right if the status they come from is the present one.
        "metadata": { "resourceVersion": agent.resource_version() },
        "status": &next,
    });
    let params = PatchParams::apply(names::FIELD_MANAGER).force();
    api.patch_status(&agent.name_any(), &params, &Patch::Apply(&patch)).await.map_err(VisitError::Status)?;
    let news: Vec<&Condition> = news(&previous.conditions, &next.conditions).collect();
    for condition in &news {
        let reason = &condition.reason;
        info!(namespace, agent = agent.name_any(), reason, "{}", line(condition));
    }
    match announce(&news) {
        Some(Announcement { warning: true, reason, note }) => {
            context.events.warning(agent, reason, "UpdateStatus", &note).await;
        }
        Some(Announcement { warning: false, reason, note }) => {
            context.events.normal(agent, reason, "UpdateStatus", &note).await;
        }
        None => {}
    }
    Ok(())
}
