//! Connections of which nothing is known yet. Anybody in the network can open them, and hold them without a word.
//!
//! Refusing newcomers when there are too many would let a neighbour keep everybody else out. So the one that has been a
//! stranger the longest makes room: who has something to show shows it at once, and is a stranger no more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The strangers at one port.
#[derive(Clone)]
pub(crate) struct Strangers {
    most: usize,
    held: Arc<Mutex<Held>>,
}

#[derive(Default)]
struct Held {
    next: u64,
    /// In the order in which they came.
    leave: BTreeMap<u64, oneshot::Sender<()>>,
}

/// One of them, until it is dropped or known.
pub(crate) struct Stranger {
    number: u64,
    among: Strangers,
}

impl Strangers {
    /// At most so many at once.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, held: Arc::default() }
    }

    /// Takes a newcomer in. The future is ready when it has to leave, and never if it becomes known before.
    pub(crate) fn admit(&self) -> (Stranger, impl Future<Output = ()> + Send + use<>) {
        let (leave, told) = oneshot::channel();
        let mut held = self.lock();
        let number = held.next;
        held.next += 1;
        held.leave.insert(number, leave);
        if held.leave.len() > self.most
            && let Some((_, oldest)) = held.leave.pop_first()
        {
            let _gone = oldest.send(());
        }
        drop(held);
        let has_to_leave = async {
            if told.await.is_err() {
                std::future::pending().await
            }
        };
        (Stranger { number, among: self.clone() }, has_to_leave)
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stranger {
    /// It does not have to make room any more.
    pub(crate) fn known(&self) {
        self.among.lock().leave.remove(&self.number);
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.known();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn the_oldest_makes_room() {
        let strangers = Strangers::new(2);
        let (_one, one_leaves) = strangers.admit();
        let (two, two_leaves) = strangers.admit();
        let (three, three_leaves) = strangers.admit();
        let (mut one_leaves, mut two_leaves) = (Box::pin(one_leaves), Box::pin(two_leaves));
        assert!(one_leaves.as_mut().now_or_never().is_some());
        assert!(two_leaves.as_mut().now_or_never().is_none());
        // Who is known stays, whoever comes; who is gone takes no room.
        two.known();
        drop(three);
        let (_four, four_leaves) = strangers.admit();
        let (_five, five_leaves) = strangers.admit();
        assert!(two_leaves.as_mut().now_or_never().is_none());
        assert!(four_leaves.now_or_never().is_none() && five_leaves.now_or_never().is_none());
        assert!(three_leaves.now_or_never().is_none());
        assert_eq!(strangers.lock().leave.len(), 2);
    }
}
