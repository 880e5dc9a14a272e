//! A store whose objects are found by namespace, or by how their names begin, without going through all of them.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::{Arc, PoisonError, RwLock};

use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt as _};

/// A store with the names of its objects in order.
///
/// The names follow the store: between the two, an object that has just come is not found by its namespace yet. Whoever
/// acts on what is found is called again for that object.
pub struct Named<K: Resource<DynamicType = ()> + 'static> {
    store: Store<K>,
    /// Namespace and name.
    names: Arc<RwLock<BTreeSet<(String, String)>>>,
    /// Which objects are found.
    wanted: fn(&K) -> bool,
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Clone for Named<K> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), names: self.names.clone(), wanted: self.wanted }
    }
}

impl<K: Resource<DynamicType = ()> + 'static> Deref for Named<K> {
    type Target = Store<K>;
    fn deref(&self) -> &Store<K> {
        &self.store
    }
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Named<K> {
    /// `store`, of whose objects only those that are `wanted` are found.
    #[must_use]
    pub fn new(store: Store<K>, wanted: fn(&K) -> bool) -> Self {
        let named = Self { store, names: Arc::default(), wanted };
        named.read_anew();
        named
    }

    /// Takes down that an object has come, changed or gone. The store is brought up to date first.
    pub fn changed(&self, object: &K) {
        let key = (object.namespace().unwrap_or_default(), object.name_any());
        let is_there = self.store.get(&ObjectRef::from_obj(object)).is_some_and(|now| (self.wanted)(&now));
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        if is_there {
            names.insert(key);
        } else {
            names.remove(&key);
        }
    }

    /// Takes down that the whole store was read anew.
    pub fn read_anew(&self) {
        let objects = self.store.state();
        let wanted = objects.iter().filter(|object| (self.wanted)(object));
        let all = wanted.map(|object| (object.namespace().unwrap_or_default(), object.name_any())).collect();
        *self.names.write().unwrap_or_else(PoisonError::into_inner) = all;
    }

    /// The objects of `namespace` whose names begin with `prefix`, by name.
    #[must_use]
    pub fn beginning(&self, namespace: &str, prefix: &str) -> Vec<Arc<K>> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        let from = names.range((namespace.to_owned(), prefix.to_owned())..);
        from.take_while(|(of, name)| of == namespace && name.starts_with(prefix))
            .filter_map(|(_, name)| self.store.get(&ObjectRef::new(name).within(namespace)))
            .collect()
    }

    /// The objects of `namespace`, by name.
    #[must_use]
    pub fn within(&self, namespace: &str) -> Vec<Arc<K>> {
        self.beginning(namespace, "")
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::runtime::reflector;
    use kube::runtime::watcher::Event;
    use serde_json::json;

    use super::*;

    fn map(namespace: &str, name: &str, hidden: bool) -> ConfigMap {
        let metadata = json!({"namespace": namespace, "name": name});
        serde_json::from_value(json!({"metadata": metadata, "immutable": hidden})).unwrap()
    }

    #[test]
    fn objects_are_found_as_they_come_and_go() {
        let (store, mut writer) = reflector::store::<ConfigMap>();
        let named = Named::new(store, |map| map.immutable != Some(true));
        let names = |namespace: &str, prefix: &str| -> Vec<String> {
            named.beginning(namespace, prefix).iter().map(|map| map.name_any()).collect()
        };
        let mut tell = |event: Event<ConfigMap>| {
            writer.apply_watcher_event(&event);
            match &event {
                Event::Apply(object) | Event::Delete(object) => named.changed(object),
                Event::InitDone => named.read_anew(),
                Event::Init | Event::InitApply(_) => {}
            }
        };
        tell(Event::Init);
        for (namespace, name) in [("a", "x-1"), ("a", "x-2"), ("a", "y"), ("b", "x-1"), ("aa", "x-9")] {
            tell(Event::InitApply(map(namespace, name, false)));
        }
        tell(Event::InitApply(map("a", "x-hidden", true)));
        tell(Event::InitDone);
        assert_eq!(names("a", ""), ["x-1", "x-2", "y"]);
        assert_eq!(names("a", "x-"), ["x-1", "x-2"]);
        assert_eq!(names("aa", ""), ["x-9"]);
        assert!(names("c", "").is_empty() && names("a", "z").is_empty());

        tell(Event::Apply(map("a", "x-3", false)));
        tell(Event::Delete(map("a", "x-1", false)));
        tell(Event::Apply(map("a", "x-2", true)));
        tell(Event::Apply(map("a", "x-hidden", false)));
        assert_eq!(names("a", "x-"), ["x-3", "x-hidden"]);

        tell(Event::Init);
        tell(Event::InitApply(map("b", "only", false)));
        tell(Event::InitDone);
        assert!(names("a", "").is_empty());
        assert_eq!(names("b", ""), ["only"]);
    }
}
