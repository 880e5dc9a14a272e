//! The signed policy: read and verified at start, and again whenever the kubelet replaced the file. Only a higher epoch
//! takes the place of what is in force.

use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use redoubt_policy::envelope::ENVELOPE_MAX;
use redoubt_policy::envelope::keyring::{ANNOUNCEMENTS_KEY, ANNOUNCEMENTS_LENGTH_MAX};
use redoubt_policy::wire::AgentIdentity;
use redoubt_policy::{Keyring, Refusal};
use tokio::sync::watch;

use crate::Args;
use crate::catalog::Catalog;

/// How often the file is looked at.
pub const PERIOD: Duration = Duration::from_secs(2);

/// How often both files are read until they are of one moment.
const READS_MAX: usize = 4;

/// What is mounted: a policy, and announcements of the same moment.
#[derive(PartialEq, Eq)]
struct Mounted {
    envelope: Vec<u8>,
    announcements: Vec<u8>,
}

/// Where the policy is and what it has to satisfy.
#[derive(Clone, Debug)]
pub struct Source {
    path: PathBuf,
    /// The key in the arguments, until another one is announced under it.
    keys: Keyring,
    agent: AgentIdentity,
    lowest_epoch: u64,
}

impl Source {
    /// The source that the arguments name.
    #[must_use]
    pub fn new(args: &Args) -> Self {
        Self {
            path: args.policy.clone(),
            keys: Keyring::new(args.policy_key),
            agent: args.agent(),
            lowest_epoch: args.min_epoch,
        }
    }

    /// The functions of the policy now, and from then on of each newer one.
    ///
    /// # Errors
    /// When there is no acceptable policy at the start.
    pub fn follow(mut self) -> Result<watch::Receiver<Arc<Catalog>>, Refusal> {
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

    fn read(&self) -> Result<Mounted, Refusal> {
        self.read_both().map_err(|error| {
            Refusal::new(
                "PolicyRefused",
                format!("ConfigMap/{}", redoubt_crds::names::child(&self.agent.name)),
                format!("data[{}]", redoubt_policy::envelope::ENVELOPE_KEY),
                format!("cannot read the policy at {}: {error}", self.path.display()),
                "the operator writes it; look at the Agent's conditions",
            )
        })
    }

    fn read_both(&self) -> std::io::Result<Mounted> {
        let beside = self.path.with_file_name(ANNOUNCEMENTS_KEY);
        let mut announcements = announcements(&beside)?;
        let mut envelope = read_file(&self.path, ENVELOPE_MAX)?;
        for _ in 1..READS_MAX {
            let after = self::announcements(&beside)?;
            if after == announcements {
                break;
            }
            // The kubelet has put both in place meanwhile.
            announcements = after;
            envelope = read_file(&self.path, ENVELOPE_MAX)?;
        }
        Ok(Mounted { envelope, announcements })
    }

    fn accept(&mut self, mounted: &Mounted, lowest: u64) -> Result<Catalog, Refusal> {
        self.keys.learn(&String::from_utf8_lossy(&mounted.announcements));
        self.keys.verify(&mounted.envelope, &self.agent, lowest).map(|policy| Catalog::new(&policy))
    }
}

/// The announcements beside the policy. An operator that knows of none writes none.
fn announcements(path: &Path) -> std::io::Result<Vec<u8>> {
    match read_file(path, ANNOUNCEMENTS_LENGTH_MAX) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        read => read,
    }
}

/// The file, no more than one byte longer than `most`.
fn read_file(path: &Path, most: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    std::fs::File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}
