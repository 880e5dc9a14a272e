//! When something was seen of objects: by a watch, as anyone would see it.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use kube::api::ApiResource;
use kube::core::DynamicObject;
use kube::runtime::watcher::{Config, Event};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};

use super::Failure;

/// `namespace/name` of the objects of which something holds, and when that was seen first.
#[derive(Clone, Default)]
pub struct Seen(Arc<Mutex<HashMap<String, Instant>>>);

impl Seen {
    /// Watches objects of `resource` until the runtime ends, and notes those for which `holds`.
    #[must_use]
    pub fn watch(
        client: Client,
        resource: &ApiResource,
        config: Config,
        holds: impl Fn(&DynamicObject) -> bool + Send + 'static,
    ) -> Self {
        let seen = Self::default();
        let api: Api<DynamicObject> = Api::all_with(client, resource);
        let into = seen.clone();
        tokio::spawn(async move {
            let mut events = pin!(watcher(api, config).default_backoff());
            while let Some(event) = events.next().await {
                if let Ok(Event::Apply(object) | Event::InitApply(object)) = event
                    && holds(&object)
                {
                    into.lock().entry(key(&object)).or_insert_with(Instant::now);
                }
            }
        });
        seen
    }

    /// When it was seen of the object.
    #[must_use]
    pub fn at(&self, key: &str) -> Option<Instant> {
        self.lock().get(key).copied()
    }

    /// Of how many objects it was seen, and when last.
    #[must_use]
    pub fn all(&self) -> (usize, Option<Instant>) {
        let seen = self.lock();
        (seen.len(), seen.values().max().copied())
    }

    /// Waits until it was seen of `count` objects; gives when that came about.
    ///
    /// # Errors
    /// When it does not within `limit`.
    pub async fn wait(&self, count: usize, limit: Duration) -> Result<Instant, Failure> {
        let deadline = Instant::now() + limit;
        loop {
            match self.all() {
                (seen, Some(last)) if seen >= count => return Ok(last),
                (seen, _) if Instant::now() > deadline => {
                    return Err(format!("{seen} of {count} objects came about within {limit:?}").into());
                }
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `namespace/name`.
#[must_use]
pub fn key(object: &DynamicObject) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

/// Whether a condition of this type is True.
#[must_use]
pub fn condition(object: &DynamicObject, kind: &str) -> bool {
    let conditions = object.data.pointer("/status/conditions").and_then(|all| all.as_array());
    conditions.into_iter().flatten().any(|one| {
        one.get("type").and_then(|t| t.as_str()) == Some(kind)
            && one.get("status").and_then(|s| s.as_str()) == Some("True")
    })
}
