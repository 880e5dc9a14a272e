//! Names of objects that are waiting for a visit: sets, so that they are never larger than the number of objects.
//!
//! What a single change asks for is given at once. What a change of many asks for (a start, a ceiling, a key of the cluster)
//! is given bit by bit, so that one new object among ten thousand that are looked at again does not wait for them all.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{Stream, stream};
use kube::Resource;
use kube::runtime::controller;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::Notify;

/// Most references that are given for the sake of many and not visited yet: a single one waits for no more than these. Visits
/// are debounced, so it is more than what is visited at a time.
const MANY_AT_A_TIME: usize = 32;

/// Namespace and name.
type Key = (Option<String>, String);

/// References of kind `K` that are waiting for a visit.
pub struct Pending<K: Resource<DynamicType = ()> + 'static> {
    waiting: Mutex<Waiting<K>>,
    changed: Notify,
}

struct Waiting<K: Resource<DynamicType = ()>> {
    /// For their own sake.
    single: HashSet<ObjectRef<K>>,
    /// For the sake of many, and not among the single ones.
    many: HashSet<ObjectRef<K>>,
    /// Of the many: given, and not visited yet.
    given: HashSet<Key>,
}

impl<K: Resource<DynamicType = ()> + 'static> Default for Pending<K> {
    fn default() -> Self {
        let waiting = Waiting { single: HashSet::new(), many: HashSet::new(), given: HashSet::new() };
        Self { waiting: Mutex::new(waiting), changed: Notify::new() }
    }
}

impl<K: Resource<DynamicType = ()>> Waiting<K> {
    fn next(&mut self) -> Option<ObjectRef<K>> {
        if let Some(reference) = take_one(&mut self.single) {
            return Some(reference);
        }
        if self.given.len() >= MANY_AT_A_TIME {
            return None;
        }
        let reference = take_one(&mut self.many)?;
        self.given.insert((reference.namespace.clone(), reference.name.clone()));
        Some(reference)
    }
}

fn take_one<K: Resource<DynamicType = ()>>(set: &mut HashSet<ObjectRef<K>>) -> Option<ObjectRef<K>> {
    let reference = set.iter().next().cloned()?;
    set.take(&reference)
}

impl<K: Resource<DynamicType = ()> + 'static> Pending<K> {
    fn lock(&self) -> MutexGuard<'_, Waiting<K>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds references; one that is waiting already is not added twice.
    pub fn add(&self, references: impl IntoIterator<Item = ObjectRef<K>>) {
        let mut waiting = self.lock();
        for reference in references {
            waiting.many.remove(&reference);
            waiting.single.insert(reference);
        }
        drop(waiting);
        self.changed.notify_one();
    }

    /// Adds a reference: among the many if it is one of those already, so that what comes of a change of many does not
    /// overtake.
    pub fn remind(&self, reference: ObjectRef<K>) {
        let mut waiting = self.lock();
        let key = (reference.namespace.clone(), reference.name.clone());
        if waiting.many.contains(&reference) || waiting.given.contains(&key) {
            waiting.many.insert(reference);
        } else {
            waiting.single.insert(reference);
        }
        drop(waiting);
        self.changed.notify_one();
    }

    /// Adds references that single ones may overtake.
    pub fn add_many(&self, references: impl IntoIterator<Item = ObjectRef<K>>) {
        let mut waiting = self.lock();
        for reference in references {
            if !waiting.single.contains(&reference) {
                waiting.many.insert(reference);
            }
        }
        drop(waiting);
        self.changed.notify_one();
    }

    /// How many are waiting and were not given yet.
    #[must_use]
    pub fn len(&self) -> usize {
        let waiting = self.lock();
        waiting.single.len() + waiting.many.len()
    }

    /// Whether none is waiting.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes down that an object was visited, or is not there any more.
    pub fn visited<A, E, Q>(&self, outcome: &Result<(ObjectRef<K>, A), controller::Error<E, Q>>)
    where
        E: std::error::Error + 'static,
        Q: std::error::Error + 'static,
    {
        let key = match outcome {
            Ok((reference, _)) => (reference.namespace.clone(), reference.name.clone()),
            Err(
                controller::Error::ReconcilerFailed(_, reference)
                | controller::Error::ObjectNotFound(reference),
            ) => (reference.namespace.clone(), reference.name.clone()),
            Err(_) => return,
        };
        if self.lock().given.remove(&key) {
            self.changed.notify_one();
        }
    }

    /// Every reference as it comes. Only one stream may be read at a time; what an earlier one was given is forgotten.
    pub fn stream(self: &Arc<Self>) -> impl Stream<Item = ObjectRef<K>> + Send + use<K>
    where
        K: Send + Sync,
    {
        self.lock().given.clear();
        stream::unfold(self.clone(), |pending| async move {
            loop {
                let next = pending.lock().next();
                if let Some(next) = next {
                    return Some((next, pending));
                }
                pending.changed.notified().await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::{FutureExt as _, StreamExt as _};
    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    type Visit = Result<(ObjectRef<Pod>, ()), controller::Error<std::io::Error, Infallible>>;

    fn reference(name: &str) -> ObjectRef<Pod> {
        ObjectRef::new(name).within("n")
    }

    #[tokio::test]
    async fn a_reference_waits_once_and_is_given_once() {
        let pending = Arc::new(Pending::<Pod>::default());
        pending.add([reference("a"), reference("a"), reference("b")]);
        pending.add_many([reference("a"), reference("c")]);
        pending.remind(reference("c"));
        pending.add([reference("a"), reference("c")]);
        let mut stream = std::pin::pin!(pending.stream());
        let mut given = Vec::new();
        for _ in 0..3 {
            given.push(stream.next().await.unwrap().name);
        }
        given.sort();
        assert_eq!(given, ["a", "b", "c"]);
        assert!(stream.next().now_or_never().is_none() && pending.is_empty());
        pending.add([reference("d")]);
        assert_eq!(stream.next().await.unwrap().name, "d");
    }

    #[tokio::test]
    async fn a_single_one_overtakes_the_many_and_the_many_come_to_their_turn() {
        let pending = Arc::new(Pending::<Pod>::default());
        let names: Vec<String> = (0..MANY_AT_A_TIME + 3).map(|number| format!("many-{number}")).collect();
        pending.add_many(names.iter().map(|name| reference(name)));
        let mut stream = std::pin::pin!(pending.stream());
        let mut given = Vec::new();
        while let Some(next) = stream.next().now_or_never() {
            given.push(next.unwrap());
        }
        assert_eq!(given.len(), MANY_AT_A_TIME, "the others wait until these are visited");
        assert_eq!(pending.len(), 3);

        pending.add([reference("new")]);
        assert_eq!(stream.next().now_or_never().unwrap().unwrap().name, "new");
        let last = pending.lock().many.iter().next().unwrap().clone();
        pending.remind(last);
        pending.remind(given.last().unwrap().clone());
        assert!(stream.next().now_or_never().is_none(), "they have their place among the many");
        assert_eq!(pending.len(), 4);
        let of_single: Visit = Ok((reference("new"), ()));
        pending.visited(&of_single);
        assert!(stream.next().now_or_never().is_none());

        let outcomes: [Visit; 3] = [
            Ok((given.pop().unwrap(), ())),
            Err(controller::Error::ObjectNotFound(Box::new(given.pop().unwrap().erase()))),
            Err(controller::Error::ReconcilerFailed(
                std::io::Error::other("failed"),
                Box::new(given.pop().unwrap().erase()),
            )),
        ];
        for outcome in outcomes {
            pending.visited(&outcome);
            assert!(stream.next().now_or_never().unwrap().unwrap().name.starts_with("many-"));
        }
        assert!(stream.next().now_or_never().is_none());
        assert_eq!(pending.len(), 1);
    }

    #[tokio::test]
    async fn another_stream_begins_anew() {
        let pending = Arc::new(Pending::<Pod>::default());
        pending.add_many((0..=MANY_AT_A_TIME).map(|number| reference(&number.to_string())));
        let first: Vec<_> = pending.stream().take(MANY_AT_A_TIME).collect().await;
        assert_eq!((first.len(), pending.len()), (MANY_AT_A_TIME, 1));
        assert!(std::pin::pin!(pending.stream()).next().now_or_never().is_some());
    }
}
