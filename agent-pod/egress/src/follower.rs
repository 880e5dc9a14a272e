//! How the sidecar follows the operator, without anything that serves: for measuring the operator with many of them.

use std::sync::Arc;

use redoubt_policy::Refusal;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::Config;
use crate::control_plane::ControlPlane;
use crate::fresh::{Freshness, boot_clock};
use crate::operator;
use crate::policy::PolicyFeed;

/// Follows the operator's policy stream, as the sidecar does, until it is dropped.
pub struct Follower {
    feed: PolicyFeed,
    _background: JoinSet<()>,
}

impl Follower {
    /// Begins with the mounted policy.
    ///
    /// # Errors
    /// When that cannot be read or does not verify.
    pub async fn start(config: Config) -> Result<Self, Refusal> {
        let policy = config.policy.load(config.policy.min_epoch).await?;
        let (publish, feed) = watch::channel(Arc::new(policy));
        let fresh = Arc::new(Freshness::new(boot_clock()));
        let mut background = JoinSet::new();
        let (policy, publish) = (Arc::new(config.policy), Arc::new(publish));
        let control_plane = Arc::new(ControlPlane::new(config.operator.host(), None));
        background.spawn(operator::follow(config.operator, policy, publish, fresh, control_plane));
        Ok(Self { feed, _background: background })
    }

    /// Waits until a policy is in force whose epoch is at least this one.
    pub async fn reached(&mut self, epoch: u64) {
        // The other half is in the background.
        let _in_force = self.feed.wait_for(|policy| policy.epoch >= epoch).await;
    }
}
