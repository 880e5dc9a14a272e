//! The signed policy: read and verified at start, and again whenever the kubelet replaced the file. Only a higher epoch
//! takes the place of what is in force.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use redoubt_policy::envelope::ENVELOPE_MAX;
use redoubt_policy::wire::AgentIdentity;
use redoubt_policy::{Refusal, VerifyingKey, verify};
use tokio::sync::watch;

use crate::Args;
use crate::catalog::Catalog;

/// How often the file is looked at.
pub const PERIOD: Duration = Duration::from_secs(2);

/// Where the policy is and what it has to satisfy.
#[derive(Clone, Debug)]
pub struct Source {
    path: PathBuf,
    key: VerifyingKey,
    agent: AgentIdentity,
    lowest_epoch: u64,
}

impl Source {
    /// The source that the arguments name.
    #[must_use]
    pub fn new(args: &Args) -> Self {
        Self {
            path: args.policy.clone(),
            key: args.policy_key,
            agent: args.agent(),
            lowest_epoch: args.min_epoch,
        }
    }

    /// The functions of the policy now, and from then on of each newer one.
    ///
    /// # Errors
    /// When there is no acceptable policy at the start.
    pub fn follow(self) -> Result<watch::Receiver<Arc<Catalog>>, Refusal> {
        let mut bytes = self.read()?;
        let mut catalog = self.accept(&bytes, self.lowest_epoch)?;
        tracing::info!(epoch = catalog.epoch(), functions = catalog.len(), "policy in force");
        let (sender, receiver) = watch::channel(Arc::new(catalog.clone()));
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(PERIOD);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            while !sender.is_closed() {
                ticks.tick().await;
                let Ok(found) =
                    self.read().inspect_err(|refusal| tracing::warn!(%refusal, "policy unreadable"))
                else {
                    continue;
                };
                if found == bytes {
                    continue;
                }
                // Whatever it is, it is judged once.
                bytes = found;
                match self.accept(&bytes, catalog.epoch()) {
                    Ok(newer) if newer.epoch() > catalog.epoch() => {
                        tracing::info!(
                            epoch = newer.epoch(),
                            functions = newer.len(),
                            "newer policy in force"
                        );
                        catalog = newer;
                        sender.send_replace(Arc::new(catalog.clone()));
                    }
                    Ok(_) => tracing::warn!("another policy of the same epoch is ignored"),
                    Err(refusal) => tracing::warn!(%refusal, "the new policy is refused, the old one stays"),
                }
            }
        });
        Ok(receiver)
    }

    fn read(&self) -> Result<Vec<u8>, Refusal> {
        use std::io::Read;
        let mut bytes = Vec::new();
        std::fs::File::open(&self.path)
            // One byte more than allowed, so that `verify` sees that it is too long.
            .and_then(|file| file.take(ENVELOPE_MAX as u64 + 1).read_to_end(&mut bytes))
            .map_err(|error| {
                Refusal::new(
                    "PolicyRefused",
                    format!("ConfigMap/{}", redoubt_crds::names::child(&self.agent.name)),
                    format!("data[{}]", redoubt_policy::envelope::ENVELOPE_KEY),
                    format!("cannot read the policy at {}: {error}", self.path.display()),
                    "the operator writes it; look at the Agent's conditions",
                )
            })?;
        Ok(bytes)
    }

    fn accept(&self, bytes: &[u8], lowest: u64) -> Result<Catalog, Refusal> {
        verify(bytes, &self.key, &self.agent, lowest).map(|policy| Catalog::new(&policy))
    }
}
