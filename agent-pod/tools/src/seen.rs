//! Which calls were taken already, so that none is executed twice.

use std::collections::{HashSet, VecDeque};

/// Remembers the latest identifiers of calls, and forgets the oldest beyond a bound.
#[derive(Debug)]
pub struct Seen {
    latest: HashSet<String>,
    order: VecDeque<String>,
    bound: usize,
}

impl Seen {
    /// A memory of `bound` identifiers.
    #[must_use]
    pub fn new(bound: usize) -> Self {
        Self { latest: HashSet::new(), order: VecDeque::new(), bound }
    }

    /// Takes an identifier and tells whether it is new.
    pub fn first(&mut self, id: &str) -> bool {
        if !self.latest.insert(id.to_owned()) {
            return false;
        }
        self.order.push_back(id.to_owned());
        if self.order.len() > self.bound
            && let Some(oldest) = self.order.pop_front()
        {
            self.latest.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded() {
        let mut seen = Seen::new(2);
        let taken: Vec<_> = ["a", "a", "b", "a", "c", "b", "a"].iter().map(|id| seen.first(id)).collect();
        // "c" pushes "a" out, so that the last "a" counts as new.
        assert_eq!(taken, [true, false, true, false, true, false, true]);
        assert_eq!((seen.latest.len(), seen.order.len()), (2, 2));
    }
}
