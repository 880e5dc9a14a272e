//! What the operator counts, and where it can be asked for. The list of all metrics is `redoubt_metrics::operator`.
//!
//! Nothing is told of a single Agent: there are too many, and names are their authors'. Counts of objects are made when
//! someone asks, from what the watches have told.

mod read;
mod scrapers;
mod serve;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use http::{Method, StatusCode};
use kube::Resource;
use kube::runtime::controller;
use kube::runtime::reflector::ObjectRef;
use redoubt_metrics::operator::{self as list, OTHER};
use redoubt_metrics::{Counters, Exposition, Histograms};
use tracing::field::Empty;
use tracing::{Instrument as _, info_span};

use crate::lead::Fence;
use crate::stores::World;
use crate::traces::TARGET;

pub use scrapers::{Scrapers, scrapers};
pub use serve::serve;

/// Port of the metrics.
pub const PORT: u16 = 8082;

/// An object that waits for a visit: kind, namespace and name.
type Waiting = (&'static str, Option<String>, String);

/// How a visit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visited {
    /// All was done that could be.
    Done,
    /// What was known was not up to date; it is repeated at once.
    Stale,
    /// It is repeated later.
    Failed,
}

/// What was counted so far.
pub struct Metrics {
    visits: Counters<2>,
    visit_duration: Histograms<1>,
    queue_wait: Histograms<1>,
    api_writes: Counters<2>,
    api_write_duration: Histograms<1>,
    watch_failures: Counters<1>,
    lease_writes: Counters<1>,
    key_fetches: Counters<1>,
    stream_calls: Counters<1>,
    waiting: Mutex<HashMap<Waiting, Instant>>,
    answered: Mutex<Instant>,
    world: OnceLock<Weak<World>>,
    fence: OnceLock<Fence>,
}

impl Metrics {
    /// Nothing yet, and how it is exposed.
    #[must_use]
    pub fn new() -> (Arc<Self>, Exposition) {
        let mut out = Exposition::default();
        out.info(&list::BUILD, [env!("CARGO_PKG_VERSION")]);
        let metrics = Arc::new(Self {
            visits: out.counters(&list::VISITS),
            visit_duration: out.histograms(&list::VISIT_DURATION),
            queue_wait: out.histograms(&list::QUEUE_WAIT),
            api_writes: out.counters(&list::API_WRITES),
            api_write_duration: out.histograms(&list::API_WRITE_DURATION),
            watch_failures: out.counters(&list::WATCH_FAILURES),
            lease_writes: out.counters(&list::LEASE_WRITES),
            key_fetches: out.counters(&list::KEY_FETCHES),
            stream_calls: out.counters(&list::POLICY_STREAM_CALLS),
            waiting: Mutex::default(),
            answered: Mutex::new(Instant::now()),
            world: OnceLock::new(),
            fence: OnceLock::new(),
        });
        let read = Arc::clone(&metrics);
        out.read(move || read.read());
        let started = SystemTime::now();
        out.read(move || redoubt_metrics::process::read(started));
        (metrics, out)
    }

    /// From now on objects are counted too.
    pub fn know(&self, world: &Arc<World>, fence: &Fence) {
        let _first = self.world.set(Arc::downgrade(world));
        let _first = self.fence.set(fence.clone());
    }

    /// An object is to be visited.
    pub fn queued<K: Resource<DynamicType = ()>>(&self, reference: &ObjectRef<K>) {
        self.lock().entry(key(reference)).or_insert_with(Instant::now);
    }

    /// It came to no visit, or the visit failed, which is counted there.
    pub fn not_visited<E, Q>(&self, error: &controller::Error<E, Q>) {
        if let controller::Error::ObjectNotFound(gone) = error {
            self.lock().remove(&(label(&gone.dyntype.kind), gone.namespace.clone(), gone.name.clone()));
        }
    }

    /// Whoever leads now visits all.
    pub fn forget_queued(&self) {
        self.lock().clear();
    }

    /// The outcome of a visit, which is counted.
    pub async fn visit<K: Resource<DynamicType = ()>, T, E>(
        &self,
        reference: ObjectRef<K>,
        visit: impl Future<Output = Result<T, E>>,
        judge: impl Fn(&E) -> Visited,
    ) -> Result<T, E> {
        let kind = kind::<K>();
        if let Some(since) = self.lock().remove(&key(&reference)) {
            self.queue_wait.observe([kind], since.elapsed());
        }
        let span = info_span!(
            target: TARGET,
            "visit",
            kind,
            namespace = reference.namespace.as_deref(),
            name = reference.name,
            result = Empty
        );
        let begun = Instant::now();
        let outcome = visit.instrument(span.clone()).await;
        self.visit_duration.observe([kind], begun.elapsed());
        let result = match outcome.as_ref().err().map(judge) {
            None | Some(Visited::Done) => "done",
            Some(Visited::Stale) => "stale",
            Some(Visited::Failed) => "failed",
        };
        span.record("result", result);
        self.visits.add([kind, result]);
        outcome
    }

    /// A write to the API server came to this end. `Ok` is the status of an answer; `Err` tells whether the fence kept it back.
    pub fn written(&self, method: &Method, end: Result<StatusCode, bool>, took: Duration) {
        let verb = match *method {
            Method::POST => "create",
            Method::PUT => "update",
            Method::DELETE => "delete",
            _ => "patch",
        };
        let result = match end {
            Ok(status) if status.is_success() => "done",
            Ok(StatusCode::CONFLICT) => "conflict",
            Ok(StatusCode::TOO_MANY_REQUESTS) => "failed",
            Ok(status) if status.is_client_error() => "refused",
            Ok(_) => "failed",
            Err(true) => "fenced",
            Err(false) => "unanswered",
        };
        self.api_writes.add([verb, result]);
        if result != "fenced" {
            self.api_write_duration.observe([verb], took);
        }
    }

    /// A watch failed.
    pub fn watch_failed<K: Resource<DynamicType = ()>>(&self) {
        self.watch_failures.add([kind::<K>()]);
    }

    /// What became of a write of the Lease: one of [`list::LEASE_RESULTS`].
    pub fn lease_written(&self, result: &'static str) {
        self.lease_writes.add([result]);
    }

    /// Whether the keys by which callers are verified were to be had.
    pub fn keys_fetched(&self, done: bool) {
        self.key_fetches.add([if done { "done" } else { "failed" }]);
    }

    /// What became of a sidecar's call: one of [`list::CALL_RESULTS`].
    pub fn called(&self, result: &'static str) {
        self.stream_calls.add([result]);
    }

    /// The API server has answered.
    pub fn answered(&self) {
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Waiting, Instant>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key<K: Resource<DynamicType = ()>>(reference: &ObjectRef<K>) -> Waiting {
    (kind::<K>(), reference.namespace.clone(), reference.name.clone())
}

/// The kind as a label: one of the list, whatever type it is.
fn kind<K: Resource<DynamicType = ()>>() -> &'static str {
    label(&K::kind(&()))
}

fn label(kind: &str) -> &'static str {
    list::WATCHED.iter().find(|known| **known == kind).copied().unwrap_or(OTHER)
}
