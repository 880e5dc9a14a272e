//! Connections to destinations, kept for the next request that may use them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::client::conn::http1::SendRequest;
use redoubt_policy::address::VettedAddress;
use redoubt_policy::target::{Source, Target};
use tokio::task::AbortHandle;

use crate::body::RequestBody;

/// Most connections that are kept.
const KEPT: usize = 64;
/// How long one is kept.
const KEPT_FOR: Duration = Duration::from_secs(30);

/// What a request must have in common with the one that a connection was made for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) source: Source,
    pub(crate) target: Target,
    pub(crate) address: VettedAddress,
    pub(crate) ca_bundle: Option<String>,
    /// Of the policy.
    pub(crate) epoch: u64,
}

/// A connection. Dropping it closes it.
pub(crate) struct Connection {
    pub(crate) sender: SendRequest<RequestBody>,
    task: AbortHandle,
    expect_head: Arc<AtomicBool>,
}

impl Connection {
    pub(crate) fn new(
        sender: SendRequest<RequestBody>,
        task: AbortHandle,
        expect_head: Arc<AtomicBool>,
    ) -> Self {
        Self { sender, task, expect_head }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Idle {
    connection: Connection,
    since: Instant,
}

/// The connections that are kept.
#[derive(Clone, Default)]
pub(crate) struct Pool(Arc<Mutex<HashMap<Key, Vec<Idle>>>>);

/// A connection that is in use.
pub(crate) struct Lease {
    pub(crate) connection: Connection,
    pub(crate) key: Key,
    pool: Pool,
}

impl Pool {
    /// A kept connection that can carry a request at once.
    pub(crate) fn take(&self, key: &Key) -> Option<Lease> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.get_mut(key)?;
        let found = std::iter::from_fn(|| kept.pop())
            .find(|it| it.since.elapsed() < KEPT_FOR && it.connection.sender.is_ready())?;
        found.connection.expect_head.store(true, Ordering::Release);
        Some(self.lease(found.connection, key.clone()))
    }

    /// Makes a new connection one that can be given back.
    pub(crate) fn lease(&self, connection: Connection, key: Key) -> Lease {
        Lease { connection, key, pool: self.clone() }
    }

    /// Closes what is older than it may be, and what was made under another epoch.
    pub(crate) fn purge(&self, epoch: u64) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|key, kept| {
            kept.retain(|it| it.since.elapsed() < KEPT_FOR && !it.connection.sender.is_closed());
            key.epoch == epoch && !kept.is_empty()
        });
    }
}

impl Lease {
    /// The exchange is over; the connection may carry another.
    pub(crate) fn give_back(self) {
        let mut idle = self.pool.0.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.values().map(Vec::len).sum::<usize>() < KEPT {
            idle.entry(self.key)
                .or_default()
                .push(Idle { connection: self.connection, since: Instant::now() });
        }
    }
}
