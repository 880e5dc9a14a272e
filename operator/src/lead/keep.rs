//! Gets the Lease, renews it, and gives it back.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::OptionFuture;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::watcher::{Config, Event};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use redoubt_crds::names;
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::lease::{Record, Seen, Step, decide};
use super::{FENCE, Fence, LENGTH, Moment, RENEW, RETRY};
use crate::metrics::Metrics;

/// Longest wait for the answer to one request.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// The same when the process is about to end.
const RELEASE_MAX: Duration = Duration::from_millis(400);

/// Keeps the Lease, if it can be had.
pub struct Keeper {
    api: Api<Lease>,
    me: String,
    fence: Fence,
    leading: watch::Sender<bool>,
    metrics: Arc<Metrics>,
}

impl Keeper {
    /// For the Lease in `namespace`. `client` is one without a fence; `me` is the name of this process and of no other,
    /// neither before nor after it.
    #[must_use]
    pub fn new(client: Client, namespace: &str, me: String, fence: Fence, metrics: Arc<Metrics>) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            me,
            fence,
            leading: watch::Sender::new(false),
            metrics,
        }
    }

    /// Whether this process leads, as it changes.
    #[must_use]
    pub fn leading(&self) -> watch::Receiver<bool> {
        self.leading.subscribe()
    }

    /// Keeps the Lease until `stop`, and then gives it back. After that nothing can be written any more.
    pub async fn run(self, stop: impl Future) {
        let only = Config::default().fields(&format!("metadata.name={}", names::LEASE));
        let mut events = pin!(watcher(self.api.clone(), only).default_backoff());
        let mut stop = pin!(stop);
        let mut seen = Seen::default();
        let mut listed = None;
        let mut not_before = Moment::default();
        loop {
            let leading = self.tell(&seen);
            let step = decide(&self.me, &seen, leading, Moment::now(), not_before);
            let Step::Wait(until) = step else {
                not_before = Moment::now().after(RETRY);
                let attempt = tokio::time::timeout(ANSWER_MAX, self.attempt(step, &seen));
                let answer = tokio::select! {
                    _ = &mut stop => break,
                    answer = attempt => answer,
                };
                match answer {
                    Ok(Ok((now_seen, renewed))) => {
                        self.metrics.lease_written(if renewed.is_some() { "done" } else { "lost" });
                        seen = now_seen;
                        not_before = renewed.map_or(not_before, |sent| sent.after(RENEW));
                    }
                    Ok(Err(error)) => {
                        self.metrics.lease_written("failed");
                        warn!(%error, ?step, "the Lease was not written; it is tried again");
                    }
                    Err(_) => {
                        self.metrics.lease_written("failed");
                        warn!(?step, "the API server did not answer about the Lease; it is tried again")
                    }
                }
                continue;
            };
            tokio::select! {
                _ = &mut stop => break,
                event = events.next() => match event {
                    Some(Ok(event)) => seen = learn(seen, &mut listed, event),
                    Some(Err(error)) => debug!(%error, "the watch of the Lease failed; it is tried again"),
                    None => break,
                },
                Some(()) = OptionFuture::from(until.map(Moment::come)) => {}
                () = self.fence.lapsed(), if leading => {}
            }
        }
        self.fence.close();
        self.leading.send_replace(false);
        self.release(seen).await;
    }

    /// Closes the fence if the Lease is another's, and tells whether this process leads.
    fn tell(&self, seen: &Seen) -> bool {
        if matches!(seen, Seen::There(record) if record.holder.as_deref() != Some(&self.me)) {
            self.fence.close();
        }
        let leading = self.fence.holds();
        if self.leading.send_if_modified(|told| std::mem::replace(told, leading) != leading) {
            info!(me = self.me, leading, holder = seen.holder().unwrap_or_default(), "the lead");
        }
        leading
    }

    /// Writes the Lease. What was confirmed opens the fence, counted from before it was sent; the second value is then
    /// that time.
    async fn attempt(&self, step: Step, seen: &Seen) -> kube::Result<(Seen, Option<Moment>)> {
        let sent = Moment::now();
        let written = match (step, seen) {
            (Step::Take | Step::Renew, Seen::There(record)) => {
                self.patch(&record.version, self.spec(step, record)).await
            }
            _ => {
                let mut lease: Lease =
                    serde_json::from_value(json!({ "spec": self.spec(Step::Take, &Record::default()) }))
                        .map_err(kube::Error::SerdeError)?;
                lease.metadata.name = Some(names::LEASE.to_owned());
                let field_manager = Some(names::FIELD_MANAGER.to_owned());
                self.api.create(&PostParams { field_manager, dry_run: false }, &lease).await
            }
        };
        match written {
            Ok(lease) => {
                self.fence.open_until(sent.after(FENCE));
                Ok((Seen::as_read(&lease, Moment::now()), Some(sent)))
            }
            Err(kube::Error::Api(status))
                if status.is_conflict() || status.is_already_exists() || status.is_not_found() =>
            {
                Ok((self.read().await?, None))
            }
            Err(error) => Err(error),
        }
    }

    async fn read(&self) -> kube::Result<Seen> {
        let lease = self.api.get_opt(names::LEASE).await?;
        let now = Moment::now();
        Ok(lease.map_or(Seen::Absent(now), |lease| Seen::as_read(&lease, now)))
    }

    async fn patch(&self, version: &str, spec: Value) -> kube::Result<Lease> {
        let patch = json!({ "metadata": { "resourceVersion": version }, "spec": spec });
        let params =
            PatchParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..Default::default() };
        self.api.patch(names::LEASE, &params, &Patch::Merge(&patch)).await
    }

    fn spec(&self, step: Step, record: &Record) -> Value {
        let now = MicroTime(Timestamp::now());
        let mut spec = json!({
            "holderIdentity": self.me,
            "leaseDurationSeconds": LENGTH.as_secs(),
            "renewTime": now,
        });
        if let (Step::Take, Some(spec)) = (step, spec.as_object_mut()) {
            spec.insert("acquireTime".to_owned(), json!(now));
            spec.insert("leaseTransitions".to_owned(), json!(record.transitions.saturating_add(1)));
        }
        spec
    }

    /// Lets the others know at once that they need not wait.
    async fn release(&self, mut seen: Seen) {
        for _ in 0..2 {
            let Seen::There(record) = &seen else { return };
            if record.holder.as_deref() != Some(&self.me) {
                return;
            }
            let nobody = json!({ "holderIdentity": null, "renewTime": null });
            match tokio::time::timeout(RELEASE_MAX, self.patch(&record.version, nobody)).await {
                Ok(Ok(_)) => {
                    info!(me = self.me, "the Lease is given back");
                    return;
                }
                // A renewal was under way.
                Ok(Err(kube::Error::Api(status))) if status.is_conflict() => {
                    match tokio::time::timeout(RELEASE_MAX, self.read()).await {
                        Ok(Ok(read)) => seen = read,
                        _ => return,
                    }
                }
                Ok(Err(error)) => return warn!(%error, "the Lease is not given back; it runs out by itself"),
                Err(_) => return warn!("no answer when giving the Lease back; it runs out by itself"),
            }
        }
    }
}

/// `listed` says, between the beginning and the end of a list, whether the Lease was in it.
fn learn(seen: Seen, listed: &mut Option<bool>, event: Event<Lease>) -> Seen {
    let now = Moment::now();
    match event {
        Event::Init => {
            *listed = Some(false);
            seen
        }
        Event::InitApply(lease) | Event::Apply(lease) if lease.name_any() == names::LEASE => {
            *listed = listed.map(|_| true);
            seen.with(&lease, now)
        }
        Event::InitDone if listed.take() == Some(false) => seen.gone(now),
        Event::Delete(lease) if lease.name_any() == names::LEASE => seen.gone(now),
        Event::InitApply(_) | Event::Apply(_) | Event::InitDone | Event::Delete(_) => seen,
    }
}
