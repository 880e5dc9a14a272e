//! Lets people in to agents' pods for a while, as BreakGlasses say, and ends the pods afterwards.
//!
//! The guard of agents' pods cannot tell the time and reads one ConfigMap. So the order is: the kubelet is told when to end
//! the pod; then the person is put on the list; then the status says so. At the end the person is taken off the list first,
//! then the pod is deleted, and then the entry goes. Whatever is cut short is taken up again from the list, and what never
//! is taken up again the kubelet ends.

mod decide;
mod entry;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, Resource as _, ResourceExt as _};
use redoubt_crds::condition::{Reason, kind};
use redoubt_crds::{BreakGlass, BreakGlassStatus, names};
use serde_json::{Value, json};
use tracing::{info, warn};

use crate::conditions::{Verdict, merge, news};
use crate::events::Events;
use crate::stores::World;
use decide::{OPEN_MAX, Opening, State, decide, expires, is_over};
use entry::Entry;

/// How often the list is compared with what it should be, while there is anything to compare.
const RESYNC: Duration = Duration::from_secs(60);
/// Wait after something could not be done.
const RETRY: Duration = Duration::from_secs(2);
/// Changes within this time make one visit.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// Keeps the list until `shutdown`.
pub async fn run(
    client: Client,
    world: Arc<World>,
    events: Arc<Events>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let mut shutdown = pin!(shutdown);
    let keeper =
        Keeper { list: Api::namespaced(client.clone(), names::OPERATOR_NAMESPACE), client, world, events };
    // Another replica may have left something on the list.
    let mut listed = true;
    loop {
        let grants = keeper.grants();
        let wait = if listed || !grants.iter().all(is_over) {
            match keeper.visit(&grants).await {
                Ok(left) => {
                    listed = left;
                    next(&grants, Timestamp::now())
                }
                Err(error) => {
                    warn!(%error, "the list of open grants is not as it should be; it is tried again");
                    RETRY
                }
            }
        } else {
            Duration::MAX
        };
        tokio::select! {
            () = &mut shutdown => return,
            () = keeper.world.glass.notified() => tokio::time::sleep(DEBOUNCE).await,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// How long nothing happens by itself.
fn next(grants: &[BreakGlass], now: Timestamp) -> Duration {
    let left = |grant: &BreakGlass| Duration::try_from(expires(grant)?.duration_since(now)).ok();
    let ends = grants.iter().filter(|grant| !is_over(grant)).filter_map(left);
    ends.min().map_or(RESYNC, |left| left.saturating_add(DEBOUNCE).min(RESYNC))
}

struct Keeper {
    client: Client,
    list: Api<ConfigMap>,
    world: Arc<World>,
    events: Arc<Events>,
}

impl Keeper {
    fn grants(&self) -> Vec<BreakGlass> {
        self.world.break_glasses.state().iter().filter_map(|guard| guard.0.as_ref().ok().cloned()).collect()
    }

    /// Brings everything to what the grants say now. Tells whether anything is left on the list.
    async fn visit(&self, grants: &[BreakGlass]) -> Result<bool, kube::Error> {
        let map = self.list().await?;
        let written: BTreeMap<String, String> = map.data.clone().unwrap_or_default();
        let entries: BTreeMap<String, Entry> =
            written.iter().filter_map(|(name, text)| Some((name.clone(), Entry::parse(text)?))).collect();
        let find = |namespace: &str, name: &str| {
            let pod = self.world.pods.get(&ObjectRef::<Pod>::new(name).within(namespace))?;
            Some(pod.as_ref().clone())
        };
        let states = decide(grants, &entries, find, Timestamp::now());

        let mut failed = None;
        let mut wanted = BTreeMap::new();
        for (grant, state) in &states {
            let State::Open(opening) = state else { continue };
            let (name, text) = (grant.name_any(), opening.entry.to_string());
            if let Err(error) = self.tell_kubelet(opening).await {
                failed = Some(error);
                // Who is in stays in: the kubelet was told then.
                if written.get(&name) != Some(&text) {
                    continue;
                }
            }
            wanted.insert(name, text);
        }
        let ends: BTreeMap<&String, &Entry> =
            entries.iter().filter(|(name, _)| !wanted.contains_key(*name)).collect();
        wanted.extend(ends.iter().map(|(name, entry)| ((*name).clone(), entry.closed().to_string())));
        let map = self.write(map, &written, &wanted).await?;

        let mut left = wanted.clone();
        for (name, entry) in &ends {
            match self.end(name, entry).await {
                Ok(()) => drop(left.remove(*name)),
                Err(error) => failed = Some(error),
            }
        }
        for (grant, state) in &states {
            let name = grant.name_any();
            if matches!(state, State::Open(_)) && !wanted.contains_key(&name) {
                continue;
            }
            if let Err(error) = self.tell(grant, state).await {
                failed = Some(error);
                // As long as the status does not tell which pod was open, the list has to.
                left.extend(wanted.get_key_value(&name).map(|(name, text)| (name.clone(), text.clone())));
            }
        }
        self.write(map, &wanted, &left).await?;
        match failed {
            Some(error) => Err(error),
            None => Ok(!left.is_empty()),
        }
    }

    /// The list as it is now. It is made if it is not there: without it, nobody is told why they are refused.
    async fn list(&self) -> Result<ConfigMap, kube::Error> {
        if let Some(map) = self.list.get_opt(names::OPEN_GRANTS).await? {
            return Ok(map);
        }
        let mut map = ConfigMap::default();
        map.metadata.name = Some(names::OPEN_GRANTS.to_owned());
        let params = PostParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), dry_run: false };
        self.list.create(&params, &map).await
    }

    /// Makes the list `wanted`, unless it has changed since it was read.
    async fn write(
        &self,
        map: ConfigMap,
        written: &BTreeMap<String, String>,
        wanted: &BTreeMap<String, String>,
    ) -> Result<ConfigMap, kube::Error> {
        if written == wanted {
            return Ok(map);
        }
        let gone = written.keys().filter(|name| !wanted.contains_key(*name));
        let mut data: serde_json::Map<String, Value> =
            wanted.iter().map(|(name, text)| (name.clone(), text.clone().into())).collect();
        data.extend(gone.map(|name| (name.clone(), Value::Null)));
        let patch = json!({ "metadata": { "resourceVersion": map.resource_version() }, "data": data });
        self.list.patch(names::OPEN_GRANTS, &params(), &Patch::Merge(&patch)).await
    }

    /// Has the kubelet end the pod in time. Without that nobody is let in.
    async fn tell_kubelet(&self, opening: &Opening) -> Result<(), kube::Error> {
        let Some(seconds) = opening.deadline else { return Ok(()) };
        let entry = &opening.entry;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &entry.namespace);
        let patch = json!({ "metadata": { "uid": entry.uid }, "spec": { "activeDeadlineSeconds": seconds } });
        pods.patch(&entry.pod, &params(), &Patch::Merge(&patch)).await?;
        info!(namespace = entry.namespace, pod = entry.pod, seconds, "the pod ends so long after its start");
        Ok(())
    }

    /// Ends the pod that someone was let in to.
    async fn end(&self, name: &str, entry: &Entry) -> Result<(), kube::Error> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &entry.namespace);
        let only_this = Preconditions { uid: Some(entry.uid.clone()), resource_version: None };
        let params = DeleteParams::background().preconditions(only_this);
        match pods.delete(&entry.pod, &params).await {
            Ok(_) => {}
            // Gone, or another one of its name.
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
            Err(error) => return Err(error),
        }
        let (namespace, pod) = (&entry.namespace, &entry.pod);
        info!(grant = name, namespace, pod, "the pod that someone was let in to is ended");
        let agent = pod.strip_prefix(names::CHILD_PREFIX).unwrap_or_default();
        let note = format!("BreakGlass/{name} is over; Pod/{pod} is replaced, since a person was inside");
        self.tell_agent(namespace, agent, "BreakGlassClosed", &note).await;
        Ok(())
    }

    async fn tell_agent(&self, namespace: &str, agent: &str, reason: &str, note: &str) {
        if let Some(agent) = self.world.agents.get(&ObjectRef::new(agent).within(namespace)) {
            self.events.warning(agent.as_ref(), reason, "BreakGlass", note).await;
        }
    }

    /// Writes the status if it changed, and events for what is new in it.
    async fn tell(&self, grant: &BreakGlass, state: &State) -> Result<(), kube::Error> {
        let previous = grant.status.clone().unwrap_or_default();
        let next = status(grant, &previous, state, Timestamp::now());
        if next == previous || is_over(grant) {
            return Ok(());
        }
        let api: Api<BreakGlass> = Api::all(self.client.clone());
        let patch = json!({
            "apiVersion": BreakGlass::api_version(&()),
            "kind": BreakGlass::kind(&()),
            "metadata": { "resourceVersion": grant.resource_version() },
            "status": &next,
        });
        match api.patch_status(&grant.name_any(), &params().force(), &Patch::Apply(&patch)).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        }
        for condition in news(&previous.conditions, &next.conditions) {
            info!(grant = grant.name_any(), reason = condition.reason, "{}", condition.message);
            self.events.warning(grant, &condition.reason, "UpdateStatus", &condition.message).await;
            if matches!(state, State::Open(_)) {
                let note = format!("BreakGlass/{}: {}", grant.name_any(), condition.message);
                let agent = &grant.spec.agent;
                self.tell_agent(&agent.namespace, &agent.name, "BreakGlassOpened", &note).await;
            }
        }
        Ok(())
    }
}

fn params() -> PatchParams {
    PatchParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..Default::default() }
}

fn status(
    grant: &BreakGlass,
    previous: &BreakGlassStatus,
    state: &State,
    now: Timestamp,
) -> BreakGlassStatus {
    let agent = &grant.spec.agent;
    let pod = format!("{}/{}", agent.namespace, names::child(&agent.name));
    let expires = expires(grant);
    let until = expires.map(|expires| expires.to_string()).unwrap_or_default();
    let verdict = match state {
        State::Waiting => Verdict::no(
            Reason::PodNotRunning,
            format!("the pod {pod} does not run; it is opened when it does, if that is before {until}"),
        ),
        State::Crowded => Verdict::no(
            Reason::TooManyOpen,
            format!("{OPEN_MAX} are open already; delete some that are not needed any more"),
        ),
        State::Open(opening) => Verdict::yes(
            Reason::Open,
            format!(
                "{} is let in to the container agent of the pod {pod} until {}, on the word of {}: {}",
                grant.spec.user,
                if opening.ends_earlier {
                    "the pod ends, which an earlier BreakGlass has set before ".to_owned() + &until
                } else {
                    until
                },
                grant.spec.granted_by,
                grant.spec.reason
            ),
        ),
        State::Over(reason @ Reason::PodEnded) => Verdict::no(
            *reason,
            format!("the pod {pod} that was open has ended; make another BreakGlass for its successor"),
        ),
        State::Over(reason) => Verdict::no(*reason, format!("it ended at {until}")),
    };
    let opened = match state {
        State::Open(opening) => Some(opening.entry.uid.clone()),
        _ => None,
    };
    let generation = grant.metadata.generation;
    BreakGlassStatus {
        observed_generation: generation,
        expires_at: expires.map(Time),
        pod_uid: previous.pod_uid.clone().or(opened),
        conditions: merge(&previous.conditions, &[(kind::ACTIVE, verdict)], generation, now),
    }
}
