//! Which stream is whose, what sidecars have said, and what this replica has issued that the API server has not told of
//! yet: a pure index. What it holds is bounded by the number of Agents.
//!
//! A policy is sent as soon as it is signed: a ceiling reaches five thousand pods while their ConfigMaps are still being
//! written. Until the watch tells of the ConfigMap, what was issued stands in place of the one before it.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::ConfigMap;
use redoubt_crds::names;
use redoubt_policy::envelope::ENVELOPE_KEY;
use redoubt_policy::envelope::keyring::ANNOUNCEMENTS_KEY;
use tokio::sync::watch;

use super::identity::Caller;
use crate::lead::Fence;

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

/// How many Agents can be decided on at the same time.
const TURNS: usize = 64;

/// All streams, and the last word of each sidecar.
pub struct Hub {
    inner: Mutex<Inner>,
    turns: [Mutex<()>; TURNS],
}

impl Default for Hub {
    fn default() -> Self {
        Self { inner: Mutex::default(), turns: std::array::from_fn(|_| Mutex::default()) }
    }
}

#[derive(Default)]
struct Inner {
    streams: HashMap<Key, Stream>,
    reports: HashMap<Key, Report>,
    issued: HashMap<Key, Arc<ConfigMap>>,
    last: u64,
}

/// Whoever has it is the only one that decides on the Agent, from reading what is known until the policy is issued. So of
/// two policies the one with the higher epoch is the one that was made of newer knowledge.
pub struct Turn<'a>(#[expect(dead_code, reason = "it is held")] MutexGuard<'a, ()>);

struct Stream {
    number: u64,
    offer: watch::Sender<Option<Arc<ConfigMap>>>,
}

impl Stream {
    /// The newest takes the place of any that was not sent yet. The same again is not sent.
    fn offer(&self, map: Option<Arc<ConfigMap>>) {
        self.offer.send_if_modified(|offered| {
            let same = match (offered.as_deref(), map.as_deref()) {
                (None, None) => true,
                (Some(offered), Some(map)) => is_same(offered, map),
                (None, Some(_)) | (Some(_), None) => false,
            };
            *offered = map;
            !same
        });
    }
}

/// Whether two ConfigMaps hold the same policy under the same keys.
fn is_same(one: &ConfigMap, other: &ConfigMap) -> bool {
    fn of<'a>(map: &'a ConfigMap, key: &str) -> Option<&'a String> {
        map.data.as_ref()?.get(key)
    }
    [ENVELOPE_KEY, ANNOUNCEMENTS_KEY].iter().all(|key| of(one, key) == of(other, key))
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
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn to decide on an Agent. Not to be held over anything that waits.
    pub fn turn(&self, namespace: &str, agent: &str) -> Turn<'_> {
        let mut hasher = DefaultHasher::new();
        (namespace, agent).hash(&mut hasher);
        let place = usize::try_from(hasher.finish()).unwrap_or_default() % TURNS;
        let [first, ..] = &self.turns;
        let turn = self.turns.get(place).unwrap_or(first);
        Turn(turn.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends a policy to its Agent's stream before the API server has it, while `fence` lets this replica write. `map` is the
    /// ConfigMap that is going to be written, `present` the one that is known.
    pub fn issue(&self, fence: &Fence, agent: &Key, map: &ConfigMap, present: Option<&ConfigMap>) {
        let mut inner = self.lock();
        if !fence.holds() {
            return;
        }
        if present.is_some_and(|present| is_same(map, present)) {
            inner.issued.remove(agent);
            return;
        }
        let map = Arc::new(map.clone());
        if let Some(stream) = inner.streams.get(agent) {
            stream.offer(Some(Arc::clone(&map)));
        }
        inner.issued.insert(agent.clone(), map);
    }

    /// What was issued for an Agent and is not known to be written.
    #[must_use]
    pub fn issued(&self, namespace: &str, agent: &str) -> Option<Arc<ConfigMap>> {
        self.lock().issued.get(&(namespace.to_owned(), agent.to_owned())).cloned()
    }

    /// From now on another replica may issue: what this one has, and nobody has written, does not count any more. `present`
    /// reads an Agent's ConfigMap.
    pub fn withdraw(&self, present: impl Fn(&Key) -> Option<Arc<ConfigMap>>) {
        let mut inner = self.lock();
        let issued = std::mem::take(&mut inner.issued);
        for agent in issued.keys() {
            if let Some(stream) = inner.streams.get(agent) {
                stream.offer(present(agent));
            }
        }
    }

    /// Whether an Agent has a stream.
    #[must_use]
    pub fn is_streaming(&self, namespace: &str, agent: &str) -> bool {
        self.lock().streams.contains_key(&(namespace.to_owned(), agent.to_owned()))
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
        let issued = inner.issued.get(&key).cloned();
        let (offer, offers) = watch::channel(issued.or_else(present));
        inner.streams.insert(key.clone(), Stream { number, offer });
        Some((Place { hub: Arc::clone(self), key, number }, offers))
    }

    /// The ConfigMap of an Agent has changed; `present` reads it as it is now.
    pub fn changed(&self, agent: &Key, present: impl FnOnce() -> Option<Arc<ConfigMap>>) {
        let mut inner = self.lock();
        let present = present();
        match &present {
            None => {
                inner.reports.remove(agent);
                inner.issued.remove(agent);
            }
            Some(present) => match inner.issued.get(agent) {
                Some(issued) if is_same(issued, present) => {
                    inner.issued.remove(agent);
                }
                // It is of before, and will be written over.
                Some(_) => return,
                None => {}
            },
        }
        if let Some(stream) = inner.streams.get(agent) {
            stream.offer(present);
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
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::lead::Moment;

    fn map(agent: &str, version: &str) -> Arc<ConfigMap> {
        Arc::new(
            serde_json::from_value(json!({ "metadata": {
                "name": format!("redoubt-agent-{agent}"), "namespace": "team", "resourceVersion": version,
                "labels": { "redoubt.dev/agent": agent } }, "data": { "policy.dsse.json": version } }))
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
    fn what_is_issued_goes_before_what_is_written() {
        let hub = Arc::new(Hub::default());
        let (_a, mut a) = hub.open(&pod("a", "1"), || Some(map("a", "1"))).unwrap();
        a.mark_unchanged();
        hub.issue(&leading(), &key("a"), &map("a", "1"), Some(&map("a", "1")));
        assert!(!a.has_changed().unwrap() && hub.issued("team", "a").is_none(), "it is there already");

        hub.issue(&leading(), &key("a"), &map("a", "2"), Some(&map("a", "1")));
        assert_eq!(*a.borrow_and_update(), Some(map("a", "2")));
        hub.issue(&leading(), &key("a"), &map("a", "3"), Some(&map("a", "1")));
        assert_eq!(*a.borrow_and_update(), Some(map("a", "3")));
        // What was issued first is written first.
        hub.changed(&key("a"), || Some(map("a", "2")));
        assert!(!a.has_changed().unwrap());
        assert_eq!(hub.issued("team", "a"), Some(map("a", "3")));
        let (_b, b) = hub.open(&pod("a", "1"), || Some(map("a", "2"))).unwrap();
        assert_eq!(*b.borrow(), Some(map("a", "3")), "a new stream begins with what was issued");
        hub.changed(&key("a"), || Some(map("a", "3")));
        assert!(!b.has_changed().unwrap() && hub.issued("team", "a").is_none());
        // From now on the ConfigMap counts again, whoever wrote it.
        hub.changed(&key("a"), || Some(map("a", "4")));
        assert_eq!(*b.borrow(), Some(map("a", "4")));
    }

    fn leading() -> Fence {
        let fence = Fence::default();
        fence.open_until(Moment::now().after(Duration::from_secs(60)));
        fence
    }

    #[test]
    fn one_that_does_not_lead_issues_nothing() {
        let hub = Arc::new(Hub::default());
        let (_a, mut a) = hub.open(&pod("a", "1"), || Some(map("a", "1"))).unwrap();
        a.mark_unchanged();
        let fence = leading();
        fence.close();
        hub.issue(&fence, &key("a"), &map("a", "2"), Some(&map("a", "1")));
        assert!(!a.has_changed().unwrap() && hub.issued("team", "a").is_none());
        hub.issue(&leading(), &key("a"), &map("a", "2"), Some(&map("a", "1")));
        assert_eq!(*a.borrow_and_update(), Some(map("a", "2")));
    }

    #[test]
    fn what_is_issued_goes_with_the_lead_and_with_the_agent() {
        let hub = Arc::new(Hub::default());
        let (_a, mut a) = hub.open(&pod("a", "1"), || Some(map("a", "1"))).unwrap();
        hub.issue(&leading(), &key("a"), &map("a", "2"), Some(&map("a", "1")));
        hub.issue(&leading(), &key("b"), &map("b", "2"), None);
        a.mark_unchanged();
        hub.withdraw(|agent| Some(map(&agent.1, "1")));
        assert_eq!(*a.borrow_and_update(), Some(map("a", "1")));
        assert!(hub.issued("team", "a").is_none() && hub.issued("team", "b").is_none());

        hub.issue(&leading(), &key("b"), &map("b", "2"), None);
        hub.changed(&key("b"), || None);
        assert!(hub.issued("team", "b").is_none());
    }

    #[test]
    fn whose_a_config_map_is() {
        assert_eq!(agent_of(&map("a", "1")), Some(key("a")));
        let mut foreign = ConfigMap::clone(&map("a", "1"));
        foreign.metadata.name = Some("redoubt-agent-b".into());
        assert_eq!(agent_of(&foreign), None);
    }
}
