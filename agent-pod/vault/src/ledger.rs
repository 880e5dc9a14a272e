//! Every value that must not leak: those in use, and for a while those that were. Pure: time comes in as an argument.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::credential::Credential;

/// More replaced values of one binding are not kept; the oldest goes.
const MAX_RETIRED: usize = 16;

/// The values to look for, at one time.
pub struct NeedleSet {
    generation: u64,
    entries: Vec<(String, Arc<Credential>)>,
}

impl NeedleSet {
    /// Rises with every change of the set.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The values, in an order that [`NeedleSet::binding`] follows.
    pub fn values(&self) -> impl Iterator<Item = &[u8]> {
        self.entries.iter().map(|(_, credential)| credential.expose())
    }

    /// Name of the SecretBinding that the value at this position belongs to.
    #[must_use]
    pub fn binding(&self, index: usize) -> Option<&str> {
        self.entries.get(index).map(|(binding, _)| binding.as_str())
    }
}

struct Retired {
    binding: String,
    value: Arc<Credential>,
    until: Instant,
}

/// Keeps the set.
pub(crate) struct Ledger {
    current: BTreeMap<String, Arc<Credential>>,
    /// Oldest first.
    retired: Vec<Retired>,
    keep: Duration,
    set: Arc<NeedleSet>,
}

impl Ledger {
    /// Values stay in the set for `keep` after they were replaced or withdrawn.
    pub(crate) fn new(keep: Duration) -> Self {
        let set = Arc::new(NeedleSet { generation: 0, entries: Vec::new() });
        Self { current: BTreeMap::new(), retired: Vec::new(), keep, set }
    }

    /// The set now.
    pub(crate) fn set(&self) -> Arc<NeedleSet> {
        Arc::clone(&self.set)
    }

    /// The binding's value is this one now; none if it was withdrawn.
    pub(crate) fn update(&mut self, binding: &str, value: Option<&Arc<Credential>>, now: Instant) {
        let old = self.current.get(binding);
        let same = match (old, value) {
            (Some(old), Some(new)) => old.expose() == new.expose(),
            (None, None) => true,
            _ => false,
        };
        if same {
            return;
        }
        if let Some(old) = self.current.remove(binding) {
            let until = now.checked_add(self.keep).unwrap_or(now);
            self.retired.push(Retired { binding: binding.to_owned(), value: old, until });
            let of_binding = |it: &Retired| it.binding == binding;
            if self.retired.iter().filter(|it| of_binding(it)).count() > MAX_RETIRED
                && let Some(oldest) = self.retired.iter().position(of_binding)
            {
                self.retired.remove(oldest);
            }
        }
        if let Some(value) = value {
            self.current.insert(binding.to_owned(), Arc::clone(value));
        }
        self.rebuild();
    }

    /// Lets go of what was kept long enough.
    pub(crate) fn purge(&mut self, now: Instant) {
        let before = self.retired.len();
        self.retired.retain(|it| now < it.until);
        if self.retired.len() != before {
            self.rebuild();
        }
    }

    fn rebuild(&mut self) {
        let mut entries: Vec<(String, Arc<Credential>)> =
            self.current.iter().map(|(binding, value)| (binding.clone(), Arc::clone(value))).collect();
        for Retired { binding, value, .. } in &self.retired {
            if !entries.iter().any(|(_, known)| known.expose() == value.expose()) {
                entries.push((binding.clone(), Arc::clone(value)));
            }
        }
        self.set = Arc::new(NeedleSet { generation: self.set.generation + 1, entries });
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    fn value(text: &str) -> Arc<Credential> {
        Arc::new(Credential::new(Zeroizing::new(text.into())).unwrap())
    }

    fn shown(ledger: &Ledger) -> Vec<String> {
        let set = ledger.set();
        let shown = set.values().enumerate();
        shown
            .map(|(index, it)| format!("{}={}", set.binding(index).unwrap(), String::from_utf8_lossy(it)))
            .collect()
    }

    #[test]
    fn replaced_values_stay_for_a_while() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut ledger = Ledger::new(Duration::from_secs(100));
        ledger.update("a", Some(&value("value-one")), at(0));
        ledger.update("b", Some(&value("value-two")), at(0));
        assert_eq!(
            (ledger.set().generation(), shown(&ledger)),
            (2, vec!["a=value-one".into(), "b=value-two".into()])
        );
        ledger.update("a", Some(&value("value-one")), at(1));
        assert_eq!(ledger.set().generation(), 2, "the same value is no change");
        ledger.update("a", Some(&value("value-three")), at(10));
        assert_eq!(shown(&ledger), ["a=value-three", "b=value-two", "a=value-one"]);
        ledger.update("b", None, at(20));
        assert_eq!(shown(&ledger), ["a=value-three", "a=value-one", "b=value-two"]);
        ledger.purge(at(109));
        assert_eq!((ledger.set().generation(), shown(&ledger).len()), (4, 3));
        ledger.purge(at(110));
        assert_eq!(shown(&ledger), ["a=value-three", "b=value-two"]);
        ledger.purge(at(120));
        assert_eq!((ledger.set().generation(), shown(&ledger)), (6, vec!["a=value-three".into()]));
    }

    #[test]
    fn replaced_values_are_bounded() {
        let now = Instant::now();
        let mut ledger = Ledger::new(Duration::from_secs(100));
        for index in 0..100 {
            ledger.update("a", Some(&value(&format!("value-{index:03}"))), now);
        }
        let shown = shown(&ledger);
        assert_eq!(shown.len(), MAX_RETIRED + 1);
        assert_eq!(shown.first().map(String::as_str), Some("a=value-099"));
        assert!(shown.contains(&"a=value-083".to_owned()) && !shown.contains(&"a=value-082".to_owned()));
    }
}
