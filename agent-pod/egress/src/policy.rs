//! The policy in force: verified at start, and replaced when a newer one is mounted or comes from the operator.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redoubt_policy::envelope::ENVELOPE_MAX;
use redoubt_policy::envelope::keyring::{ANNOUNCEMENTS_KEY, ANNOUNCEMENTS_LENGTH_MAX};
use redoubt_policy::wire::AgentIdentity;
use redoubt_policy::{Keyring, Refusal, VerifiedPolicy};
use tokio::io::AsyncReadExt as _;
use tokio::sync::watch;

/// Where the policy is and what it must fulfil.
pub(crate) struct PolicySource {
    /// The mounted file. Announcements of keys are beside it.
    pub(crate) path: PathBuf,
    /// Who signs: the key in the arguments, until another one is announced under it.
    pub(crate) keys: Mutex<Keyring>,
    /// For whom.
    pub(crate) agent: AgentIdentity,
    /// The lowest epoch.
    pub(crate) min_epoch: u64,
}

/// The policy in force, and a way to hear of a newer one.
pub(crate) type PolicyFeed = watch::Receiver<Arc<VerifiedPolicy>>;

/// How often the file is looked at.
const INTERVAL: Duration = Duration::from_secs(3);
/// How often both files are read until they are of one moment.
const READS_MAX: usize = 4;

/// What is mounted: a policy, and announcements of the same moment.
struct Mounted {
    envelope: Vec<u8>,
    announcements: String,
}

impl PolicySource {
    /// The policy in the file.
    ///
    /// # Errors
    /// When it cannot be read or does not verify.
    pub(crate) async fn load(&self, lowest: u64) -> Result<VerifiedPolicy, Refusal> {
        let mounted = self.read().await?;
        self.learnt(&mounted.announcements).verify(&mounted.envelope, &self.agent, lowest)
    }

    async fn read(&self) -> Result<Mounted, Refusal> {
        let read = async {
            let beside = self.path.with_file_name(ANNOUNCEMENTS_KEY);
            let mut before = announcements(&beside).await?;
            let mut envelope = read_file(&self.path, ENVELOPE_MAX).await?;
            for _ in 1..READS_MAX {
                let after = announcements(&beside).await?;
                if after == before {
                    break;
                }
                // The kubelet has put both in place meanwhile.
                before = after;
                envelope = read_file(&self.path, ENVELOPE_MAX).await?;
            }
            Ok(Mounted { envelope, announcements: String::from_utf8_lossy(&before).into_owned() })
        };
        read.await.map_err(|error: std::io::Error| {
            Refusal::new(
                "PolicyRefused",
                format!("ConfigMap/{}", redoubt_crds::names::child(&self.agent.name)),
                format!("data[{}]", redoubt_policy::envelope::ENVELOPE_KEY),
                format!("the policy cannot be read from {}: {error}", self.path.display()),
                "Leave the ConfigMap to the operator, which writes it again.",
            )
        })
    }

    /// Whose policies are accepted now that `announcements` were heard.
    fn learnt(&self, announcements: &str) -> MutexGuard<'_, Keyring> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *keys.newest();
        keys.learn(announcements);
        if *keys.newest() != before {
            tracing::info!(key = %keys.newest(), "policies are signed by another key, announced under the one before");
        }
        keys
    }

    /// Brings the policy in `envelope` into force if it is newer than the one that is. One that is older changes nothing,
    /// and the epoch that is in force tells its sender so.
    ///
    /// # Errors
    /// When it does not verify, or has other content and the same epoch.
    pub(crate) fn offer(
        &self,
        envelope: &[u8],
        announcements: &str,
        feed: &watch::Sender<Arc<VerifiedPolicy>>,
    ) -> Result<(), Refusal> {
        // Held until the policy is in force: none that an earlier key signed comes in after a later key is known.
        let keys = self.learnt(announcements);
        let current = Arc::clone(&feed.borrow());
        let offered = match keys.verify(envelope, &self.agent, 0) {
            Ok(offered) => offered,
            // It comes late: from a replica that has not heard yet, or from the mounted copy.
            Err(_) if keys.replaced(envelope, &self.agent).is_some_and(|epoch| epoch <= current.epoch) => {
                return Ok(());
            }
            Err(refusal) => return Err(refusal),
        };
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
            let mounted = self.read().await;
            match mounted.and_then(|mounted| self.offer(&mounted.envelope, &mounted.announcements, &feed)) {
                Ok(()) => last_fault = None,
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

/// The announcements beside the policy. An operator that knows of none writes none.
async fn announcements(path: &Path) -> std::io::Result<Vec<u8>> {
    match read_file(path, ANNOUNCEMENTS_LENGTH_MAX).await {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        read => read,
    }
}

/// The file, no more than one byte longer than `most`.
async fn read_file(path: &Path, most: usize) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    tokio::fs::File::open(path).await?.take(limit).read_to_end(&mut text).await?;
    Ok(text)
}
