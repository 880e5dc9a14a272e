//! How long ago an operator was last heard. A policy that may have been narrowed meanwhile does not hold for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;
use redoubt_policy::wire::PodPolicy;
use tokio::sync::watch;

use crate::refuse::Refused;

/// Time that only goes forward, also while the machine is suspended; its beginning means nothing.
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// The kernel's clock that counts suspension.
pub(crate) fn boot_clock() -> Clock {
    Arc::new(|| {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or_default())
    })
}

/// When an operator was last heard, beginning with the start.
pub(crate) struct Freshness {
    clock: Clock,
    heard_ms: AtomicU64,
    stale: watch::Sender<bool>,
    streams: AtomicUsize,
}

/// A policy stream that is open, until it is dropped.
pub(crate) struct Open<'a>(&'a AtomicUsize);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Freshness {
    pub(crate) fn new(clock: Clock) -> Self {
        let fresh = Self {
            clock,
            heard_ms: AtomicU64::new(0),
            stale: watch::Sender::new(false),
            streams: AtomicUsize::new(0),
        };
        fresh.hear();
        fresh
    }

    fn now_ms(&self) -> u64 {
        u64::try_from((self.clock)().as_millis()).unwrap_or(u64::MAX)
    }

    /// An operator was heard just now.
    pub(crate) fn hear(&self) {
        self.heard_ms.store(self.now_ms(), Ordering::Release);
        if self.stale.send_replace(false) {
            tracing::info!("an operator is heard again, so the policy holds again");
        }
    }

    /// How long no operator was heard.
    pub(crate) fn silence(&self) -> Duration {
        Duration::from_millis(self.now_ms().saturating_sub(self.heard_ms.load(Ordering::Acquire)))
    }

    /// A policy stream is open.
    pub(crate) fn open(&self) -> Open<'_> {
        self.streams.fetch_add(1, Ordering::Relaxed);
        Open(&self.streams)
    }

    /// How many are.
    pub(crate) fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    fn is_stale(&self, policy: &PodPolicy) -> bool {
        let silence = self.now_ms().saturating_sub(self.heard_ms.load(Ordering::Acquire));
        silence >= policy.policy_ttl_seconds.saturating_mul(1000)
    }

    /// Ends what is under way if the policy has got stale. To be called often.
    pub(crate) fn look(&self, policy: &PodPolicy) {
        if self.is_stale(policy) && !self.stale.send_replace(true) {
            tracing::error!(
                seconds = policy.policy_ttl_seconds,
                "no operator was heard for so long; nothing goes out until one is"
            );
        }
    }

    /// # Errors
    /// When the policy does not hold any more.
    pub(crate) fn check(&self, policy: &PodPolicy) -> Result<(), Refused> {
        if self.is_stale(policy) { Err(stale(policy)) } else { Ok(()) }
    }

    /// Tells when that begins and ends.
    pub(crate) fn watch(&self) -> watch::Receiver<bool> {
        self.stale.subscribe()
    }
}

/// The refusal of all there is.
pub(crate) fn stale(policy: &PodPolicy) -> Refused {
    Refused::by_pod(
        StatusCode::SERVICE_UNAVAILABLE,
        "PolicyStale",
        format!(
            "no operator was heard for {} seconds, so the policy may not hold any more",
            policy.policy_ttl_seconds
        ),
        "It heals by itself when the operator is back: look at Deployment/redoubt-operator and at the way from this pod to Service/redoubt-policy.",
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn a_policy_holds_until_its_time_without_an_operator_is_over() {
        let now = Arc::new(Mutex::new(Duration::from_secs(1_000)));
        let at = |seconds: u64| *now.lock().unwrap() = Duration::from_secs(seconds);
        let clock = Arc::clone(&now);
        let fresh = Freshness::new(Arc::new(move || *clock.lock().unwrap()));
        let policy: PodPolicy = serde_json::from_value(serde_json::json!({
            "agent": {"namespace": "n", "name": "a", "uid": "u"}, "epoch": 1, "rules": [], "policyTTLSeconds": 60,
            "denies": [], "audit": {"ceilings": [], "denies": []},
            "explanation": {"needs": [], "grants": [], "ceilings": [], "selectedBy": []}, "bindings": [], "vaults": [],
            "inbound": {"issuer": "i", "jwks": {}, "audience": "x", "callers": []}, "tools": [],
        }))
        .unwrap();
        let told = fresh.watch();
        let check = |seconds: u64, holds: bool| {
            at(seconds);
            fresh.look(&policy);
            assert_eq!(fresh.check(&policy).is_ok(), holds, "at {seconds}");
            assert_eq!(*told.borrow(), !holds, "at {seconds}");
        };
        check(1_059, true);
        check(1_060, false);
        check(9_999, false);
        fresh.hear();
        check(9_999, true);
        check(10_058, true);
        check(10_059, false);
    }
}
