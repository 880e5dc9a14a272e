//! The kinds that Agents refer to: each gets `Accepted` and `Ready`, with what the definitions' rules cannot see.

mod checks;

use std::convert::Infallible;
use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, future};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::{Action, Config, applier};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, Resource, ResourceExt as _};
use redoubt_crds::condition::{Reason, kind};
use redoubt_crds::{Status, names};
use redoubt_policy::compile::Problem;
use serde::de::DeserializeOwned;
use serde_json::json;
use tracing::{info, warn};

use crate::agent::status::rejection;
use crate::conditions::{Truth, Verdict, merge, news};
use crate::events::Events;
use crate::metrics::Visited;
use crate::pending::Pending;
use crate::stores::{Guard, World};

const CONCURRENCY: u16 = 4;
const RETRY: Duration = Duration::from_secs(5);

/// A kind that Agents refer to.
pub trait Checked:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
    /// What is wrong with it: empty if nothing is.
    fn problems(&self, world: &World) -> Vec<Problem>;
    /// Its status.
    fn status(&self) -> Option<&Status>;
    /// Where it is.
    fn api(&self, client: Client) -> Api<Self>;
}

struct Context {
    client: Client,
    world: Arc<World>,
    events: Arc<Events>,
}

/// Visits every object of kind `K`, and then each that waits in `queue`, until `shutdown`.
pub async fn run<K: Checked>(
    client: Client,
    world: Arc<World>,
    events: Arc<Events>,
    store: Store<Guard<K>>,
    queue: Arc<Pending<Guard<K>>>,
    shutdown: impl Future<Output = ()> + Send,
) {
    queue.add_many(store.state().iter().map(|object| ObjectRef::from_obj(object.as_ref())));
    let context = Arc::new(Context { client, world, events });
    let metrics = context.world.metrics.clone();
    let queued = queue.stream().inspect(|reference| metrics.queued(reference));
    let requests = queued.map(Ok::<_, Infallible>).take_until(Box::pin(shutdown));
    let config = Config::default().concurrency(CONCURRENCY).debounce(Duration::from_millis(100));
    applier(
        |object, context| {
            Box::pin(async move {
                let metrics = context.world.metrics.clone();
                metrics.visit(ObjectRef::from_obj(&*object), visit(object, context), visited).await
            })
        },
        |_, error: &kube::Error, _| match error {
            kube::Error::Api(status) if status.is_not_found() => Action::await_change(),
            _ => Action::requeue(RETRY),
        },
        context,
        store,
        Box::pin(requests),
        config,
    )
    .for_each(|outcome| {
        queue.visited(&outcome);
        if let Err(error) = outcome {
            metrics.not_visited(&error);
        }
        future::ready(())
    })
    .await;
}

fn visited(error: &kube::Error) -> Visited {
    match error {
        kube::Error::Api(status) if status.is_not_found() || status.is_conflict() => Visited::Stale,
        _ => Visited::Failed,
    }
}

async fn visit<K: Checked>(guard: Arc<Guard<K>>, context: Arc<Context>) -> Result<Action, kube::Error> {
    let object = match &guard.0 {
        Ok(object) => object,
        Err(error) => {
            let (kind, metadata) = (K::kind(&()), &error.metadata);
            warn!(%kind, namespace = metadata.namespace, name = metadata.name, %error, "cannot be read");
            return Ok(Action::await_change());
        }
    };
    if object.namespace().is_some_and(|namespace| context.world.is_ending(&namespace)) {
        return Ok(Action::await_change());
    }
    let previous = object.status().cloned().unwrap_or_default();
    let next = next(object, &previous, &object.problems(&context.world), Timestamp::now());
    if next == previous {
        return Ok(Action::await_change());
    }
    let patch = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": { "resourceVersion": object.resource_version() },
        "status": &next,
    });
    let params = PatchParams::apply(names::FIELD_MANAGER).force();
    object
        .api(context.client.clone())
        .patch_status(&object.name_any(), &params, &Patch::Apply(&patch))
        .await?;
    for condition in news(&previous.conditions, &next.conditions) {
        let note = format!("{} is {}: {}", condition.type_, condition.status, condition.message);
        info!(kind = %K::kind(&()), namespace = object.namespace(), name = object.name_any(), "{note}");
        if condition.type_ == kind::ACCEPTED && condition.status == Truth::False.as_str() {
            context.events.warning(object, &condition.reason, "UpdateStatus", &note).await;
        }
    }
    Ok(Action::await_change())
}

/// The status that these problems give it.
pub(crate) fn next<K: Checked>(
    object: &K,
    previous: &Status,
    problems: &[Problem],
    now: Timestamp,
) -> Status {
    let accepted = if problems.is_empty() {
        Verdict::yes(Reason::Valid, "the object and all it refers to are valid")
    } else {
        rejection(problems)
    };
    let ready = match accepted.truth {
        Truth::True => Verdict::yes(Reason::Ready, "Agents can use it"),
        _ => accepted.clone(),
    };
    let stalled = (accepted.truth != Truth::True)
        .then(|| (kind::STALLED, Verdict::yes(accepted.reason, accepted.message.clone())));
    let mut verdicts = vec![(kind::ACCEPTED, accepted), (kind::READY, ready)];
    verdicts.extend(stalled);
    let generation = object.meta().generation;
    Status {
        observed_generation: generation,
        conditions: merge(&previous.conditions, &verdicts, generation, now),
    }
}
