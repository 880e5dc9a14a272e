//! Which stream is whose, and what sidecars have said: a pure index. What it holds is bounded by the number of Agents.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::ConfigMap;
use redoubt_crds::names;
use tokio::sync::watch;

use super::identity::Caller;

/// Most streams at a time.
pub const STREAMS_MAX: usize = 10_000;

/// An Agent: namespace and name.
type Key = (String, String);

/// What a sidecar said last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// `metadata.uid` of its pod.
    pub pod_uid: String,
    /// Epoch of the policy that it holds.
    pub epoch: u64,
    /// Why it holds no newer one, if it refused one: reason and message.
    pub refused: Option<(String, String)>,
}

/// All streams, and the last word of each sidecar.
#[derive(Default)]
pub struct Hub(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    streams: HashMap<Key, Stream>,
    reports: HashMap<Key, Report>,
    last: u64,
}

struct Stream {
    number: u64,
    offer: watch::Sender<Option<Arc<ConfigMap>>>,
}

/// A place among the streams. It is free again when this is dropped.
pub struct Place {
    hub: Arc<Hub>,
    key: Key,
    number: u64,
}

/// The Agent whose ConfigMap this is.
#[must_use]
pub fn agent_of(map: &ConfigMap) -> Option<(String, String)> {
    let agent = map.metadata.labels.as_ref()?.get(names::AGENT_LABEL)?;
    let is_its_own = map.metadata.name.as_deref() == Some(names::child(agent).as_str());
    is_its_own.then(|| Some((map.metadata.namespace.clone()?, agent.clone())))?
}

impl Hub {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stream for `caller`, which ends any other of the same Agent. `present` reads the Agent's ConfigMap as it is now.
    /// Nothing if there are too many.
    pub fn open(
        self: &Arc<Self>,
        caller: &Caller,
        present: impl FnOnce() -> Option<Arc<ConfigMap>>,
    ) -> Option<(Place, watch::Receiver<Option<Arc<ConfigMap>>>)> {
        let key = (caller.namespace.clone(), caller.agent.clone());
        let mut inner = self.lock();
        if inner.streams.len() >= STREAMS_MAX && !inner.streams.contains_key(&key) {
            return None;
        }
        inner.last += 1;
        let number = inner.last;
        // Read under the lock, so that no older one can come after a newer one.
        let (offer, offers) = watch::channel(present());
        inner.streams.insert(key.clone(), Stream { number, offer });
        Some((Place { hub: Arc::clone(self), key, number }, offers))
    }

    /// The ConfigMap of an Agent has changed; `present` reads it as it is now.
    pub fn changed(&self, agent: &Key, present: impl FnOnce() -> Option<Arc<ConfigMap>>) {
        let mut inner = self.lock();
        let present = present();
        if present.is_none() {
            inner.reports.remove(agent);
        }
        if let Some(stream) = inner.streams.get(agent) {
            stream.offer.send_if_modified(|offered| {
                let version = |map: &Option<Arc<ConfigMap>>| {
                    map.as_ref().and_then(|map| map.metadata.resource_version.clone())
                };
                let newer = version(offered) != version(&present);
                *offered = present;
                newer
            });
        }
    }

    /// Every Agent that has a stream.
    #[must_use]
    pub fn streaming(&self) -> Vec<Key> {
        self.lock().streams.keys().cloned().collect()
    }

    /// Takes down what a sidecar said. Whether it is news.
    pub fn report(&self, caller: &Caller, report: Report) -> bool {
        let key = (caller.namespace.clone(), caller.agent.clone());
        let mut inner = self.lock();
        inner.reports.insert(key, report.clone()).as_ref() != Some(&report)
    }

    /// What the sidecar of an Agent said last.
    #[must_use]
    pub fn reported(&self, namespace: &str, agent: &str) -> Option<Report> {
        self.lock().reports.get(&(namespace.to_owned(), agent.to_owned())).cloned()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.hub.lock();
        if inner.streams.get(&self.key).is_some_and(|stream| stream.number == self.number) {
            inner.streams.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(agent: &str, version: &str) -> Arc<ConfigMap> {
        Arc::new(
            serde_json::from_value(json!({ "metadata": {
                "name": format!("redoubt-agent-{agent}"), "namespace": "team", "resourceVersion": version,
                "labels": { "redoubt.dev/agent": agent } } }))
            .unwrap(),
        )
    }

    fn pod(agent: &str, uid: &str) -> Caller {
        Caller { namespace: "team".into(), agent: agent.into(), pod_uid: uid.into() }
    }

    fn key(agent: &str) -> Key {
        ("team".into(), agent.into())
    }

    #[test]
    fn each_stream_gets_its_own_agents_policy_and_only_the_newest() {
        let hub = Arc::new(Hub::default());
        let (_a, mut a) = hub.open(&pod("a", "1"), || Some(map("a", "1"))).unwrap();
        let (_b, mut b) = hub.open(&pod("b", "2"), || None).unwrap();
        assert_eq!(*a.borrow_and_update(), Some(map("a", "1")));
        for version in ["2", "3"] {
            hub.changed(&key("a"), || Some(map("a", version)));
        }
        assert!(a.has_changed().unwrap() && !b.has_changed().unwrap());
        assert_eq!(*a.borrow_and_update(), Some(map("a", "3")));
        // The same again is no news.
        hub.changed(&key("a"), || Some(map("a", "3")));
        assert!(!a.has_changed().unwrap());
        hub.changed(&key("b"), || Some(map("b", "9")));
        assert_eq!(*b.borrow_and_update(), Some(map("b", "9")));
        hub.changed(&key("nobody"), || Some(map("nobody", "1")));
    }

    #[test]
    fn a_newer_stream_ends_the_older_and_only_its_own_place_is_given_back() {
        let hub = Arc::new(Hub::default());
        let (older, first) = hub.open(&pod("a", "1"), || None).unwrap();
        let (newer, second) = hub.open(&pod("a", "2"), || None).unwrap();
        assert!(first.has_changed().is_err(), "the older one has ended");
        drop(older);
        assert_eq!(hub.streaming(), [key("a")]);
        assert!(second.has_changed().is_ok());
        drop(newer);
        assert!(hub.streaming().is_empty());
    }

    #[test]
    fn reports_are_news_once_and_go_with_the_agent() {
        let hub = Hub::default();
        let report = Report { pod_uid: "1".into(), epoch: 7, refused: None };
        assert!(hub.report(&pod("a", "1"), report.clone()));
        assert!(!hub.report(&pod("a", "1"), report.clone()));
        assert_eq!(hub.reported("team", "a"), Some(report));
        assert_eq!(hub.reported("other", "a"), None);
        hub.changed(&key("a"), || None);
        assert_eq!(hub.reported("team", "a"), None);
    }

    #[test]
    fn whose_a_config_map_is() {
        assert_eq!(agent_of(&map("a", "1")), Some(key("a")));
        let mut foreign = ConfigMap::clone(&map("a", "1"));
        foreign.metadata.name = Some("redoubt-agent-b".into());
        assert_eq!(agent_of(&foreign), None);
    }
}
