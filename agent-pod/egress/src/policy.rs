//! The policy in force: verified at start, and replaced when a newer one is mounted or comes from the operator.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use redoubt_policy::envelope::ENVELOPE_MAX;
use redoubt_policy::wire::AgentIdentity;
use redoubt_policy::{Refusal, VerifiedPolicy, VerifyingKey, verify};
use tokio::io::AsyncReadExt as _;
use tokio::sync::watch;

/// Where the policy is and what it must fulfil.
pub(crate) struct PolicySource {
    /// The mounted file.
    pub(crate) path: PathBuf,
    /// Who signs.
    pub(crate) key: VerifyingKey,
    /// For whom.
    pub(crate) agent: AgentIdentity,
    /// The lowest epoch.
    pub(crate) min_epoch: u64,
}

/// The policy in force, and a way to hear of a newer one.
pub(crate) type PolicyFeed = watch::Receiver<Arc<VerifiedPolicy>>;

/// How often the file is looked at.
const INTERVAL: Duration = Duration::from_secs(3);

impl PolicySource {
    /// The policy in the file.
    ///
    /// # Errors
    /// When it cannot be read or does not verify.
    pub(crate) async fn load(&self, lowest: u64) -> Result<VerifiedPolicy, Refusal> {
        let text = self.read().await.map_err(|error| {
            Refusal::new(
                "PolicyRefused",
                format!("ConfigMap/{}", redoubt_crds::names::child(&self.agent.name)),
                format!("data[{}]", redoubt_policy::envelope::ENVELOPE_KEY),
                format!("the policy cannot be read from {}: {error}", self.path.display()),
                "Leave the ConfigMap to the operator, which writes it again.",
            )
        })?;
        verify(&text, &self.key, &self.agent, lowest)
    }

    async fn read(&self) -> std::io::Result<Vec<u8>> {
        let mut text = Vec::new();
        let limit = u64::try_from(ENVELOPE_MAX).unwrap_or(u64::MAX).saturating_add(1);
        tokio::fs::File::open(&self.path).await?.take(limit).read_to_end(&mut text).await?;
        Ok(text)
    }

    /// Brings the policy in `envelope` into force if it is newer than the one that is. One that is older changes nothing,
    /// and the epoch that is in force tells its sender so.
    ///
    /// # Errors
    /// When it does not verify, or has other content and the same epoch.
    pub(crate) fn offer(
        &self,
        envelope: &[u8],
        feed: &watch::Sender<Arc<VerifiedPolicy>>,
    ) -> Result<(), Refusal> {
        let offered = verify(envelope, &self.key, &self.agent, 0)?;
        let current = Arc::clone(&feed.borrow());
        if offered.epoch == current.epoch && offered != *current {
            return Err(Refusal::new(
                "PolicyRefused",
                format!("ConfigMap/{}", redoubt_crds::names::child(&self.agent.name)),
                format!("data[{}]", redoubt_policy::envelope::ENVELOPE_KEY),
                format!("the policy has the epoch {} of the one in force, and other content", current.epoch),
                "Leave the ConfigMap to the operator, which writes it again.",
            ));
        }
        Self::publish(offered, feed);
        Ok(())
    }

    /// Both ways that policies come may do so at the same time: only a higher epoch takes over.
    fn publish(newer: VerifiedPolicy, feed: &watch::Sender<Arc<VerifiedPolicy>>) {
        feed.send_if_modified(|current| {
            if newer.epoch <= current.epoch {
                return false;
            }
            tracing::info!(epoch = newer.epoch, "a newer policy is in force");
            *current = Arc::new(newer);
            true
        });
    }

    /// Looks for newer policies for as long as somebody listens. A bad one is logged once and changes nothing.
    pub(crate) async fn follow(self: Arc<Self>, feed: Arc<watch::Sender<Arc<VerifiedPolicy>>>) {
        let mut last_fault = None;
        while !feed.is_closed() {
            tokio::time::sleep(INTERVAL).await;
            let current = feed.borrow().epoch;
            match self.load(current).await {
                Ok(newer) if newer.epoch > current => {
                    Self::publish(newer, &feed);
                    last_fault = None;
                }
                Ok(same) => {
                    last_fault = None;
                    if same != **feed.borrow() {
                        tracing::warn!(
                            epoch = current,
                            "a policy with other content and the same epoch is ignored"
                        );
                    }
                }
                Err(fault) => {
                    if last_fault.as_ref() != Some(&fault) {
                        tracing::error!(
                            reason = fault.reason,
                            object = fault.object,
                            field = fault.field,
                            "the mounted policy is refused, the last good one stays in force: {}",
                            fault.message
                        );
                    }
                    last_fault = Some(fault);
                }
            }
        }
    }
}
