//! Names of objects that are waiting for a visit: a set, so that it is never larger than the number of objects.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use futures::{Stream, stream};
use kube::Resource;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::Notify;

/// References of kind `K` that are waiting for a visit.
pub struct Pending<K: Resource<DynamicType = ()> + 'static> {
    references: Mutex<HashSet<ObjectRef<K>>>,
    added: Notify,
}

impl<K: Resource<DynamicType = ()> + 'static> Default for Pending<K> {
    fn default() -> Self {
        Self { references: Mutex::default(), added: Notify::new() }
    }
}

impl<K: Resource<DynamicType = ()> + 'static> Pending<K> {
    /// Adds references; one that is waiting already is not added twice.
    pub fn add(&self, references: impl IntoIterator<Item = ObjectRef<K>>) {
        self.references.lock().unwrap_or_else(PoisonError::into_inner).extend(references);
        self.added.notify_one();
    }

    fn take(&self) -> Vec<ObjectRef<K>> {
        self.references.lock().unwrap_or_else(PoisonError::into_inner).drain().collect()
    }

    /// Every reference as it comes. Only one stream may be read at a time.
    pub fn stream(self: &Arc<Self>) -> impl Stream<Item = ObjectRef<K>> + Send + use<K>
    where
        K: Send + Sync,
    {
        stream::unfold((self.clone(), Vec::new()), |(pending, mut ready)| async move {
            loop {
                if let Some(next) = ready.pop() {
                    return Some((next, (pending, ready)));
                }
                ready = pending.take();
                if ready.is_empty() {
                    pending.added.notified().await;
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    #[tokio::test]
    async fn a_reference_waits_once_and_is_given_once() {
        let pending = Arc::new(Pending::<Pod>::default());
        let reference = |name: &str| ObjectRef::<Pod>::new(name).within("n");
        pending.add([reference("a"), reference("a"), reference("b")]);
        pending.add([reference("a")]);
        let mut stream = std::pin::pin!(pending.stream());
        let mut given = vec![stream.next().await.unwrap().name, stream.next().await.unwrap().name];
        given.sort();
        assert_eq!(given, ["a", "b"]);
        pending.add([reference("c")]);
        assert_eq!(stream.next().await.unwrap().name, "c");
    }
}
