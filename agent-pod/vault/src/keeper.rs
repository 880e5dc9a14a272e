//! Keeps the credentials of one Vault server fresh.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use zeroize::Zeroizing;

use crate::credential::Credential;
use crate::error::VaultError;
use crate::json::Field;
use crate::pace::{chance, delay};
use crate::session::{Secret, Session};
use crate::store::{Settings, Shared};

/// How long a goodbye to Vault may take.
const GOODBYE: Duration = Duration::from_secs(3);

/// A token that lives shorter than this is a mistake in the role, and is not renewed more often for it.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);

/// One secret and the bindings that take a key of it.
pub(crate) struct Group {
    pub(crate) mount: String,
    pub(crate) path: String,
    /// Name of the binding, and the key.
    pub(crate) bindings: Vec<(String, String)>,
}

/// Keeps the credentials of one Vault server fresh.
pub(crate) struct Keeper {
    pub(crate) session: Session,
    pub(crate) groups: Vec<Group>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) settings: Settings,
}

impl Keeper {
    /// The first pass: tries again while Vault is away, for as long as the settings say.
    pub(crate) async fn first(&mut self) {
        let deadline = Instant::now() + self.settings.start_patience;
        let mut failures = 0;
        while let Err(error) = self.pass().await {
            failures += 1;
            let wait = delay(failures, chance());
            let hopeless = !(error.is_outage() || matches!(error, VaultError::LoginRefused { .. }));
            if hopeless || Instant::now() + wait > deadline {
                return;
            }
            tracing::warn!(%error, "no credentials yet; trying again");
            sleep(wait).await;
        }
    }

    /// Reads again and again until told to stop, then gives the token back.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut failures: u32 = 0;
        loop {
            let wait = if failures == 0 { self.pause() } else { delay(failures, chance()) };
            tokio::select! {
                () = sleep(wait) => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
            let outcome = tokio::select! {
                outcome = self.pass() => outcome,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            match outcome {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures = failures.saturating_add(1);
                    tracing::warn!(reason = error.reason().as_str(), %error, failures, "credentials were not refreshed");
                }
            }
        }
        let _late = timeout(GOODBYE, self.session.revoke()).await;
    }

    /// How long to wait after success.
    fn pause(&self) -> Duration {
        let due = self.session.due_in(Instant::now()).unwrap_or(self.settings.refresh);
        self.settings.refresh.min(due.max(SHORTEST_WAIT))
    }

    /// Reads every secret once. The first error of those there were.
    async fn pass(&mut self) -> Result<(), VaultError> {
        let mut first = Ok(());
        for index in 0..self.groups.len() {
            let Some(group) = self.groups.get(index) else { break };
            let secret = match self.session.ensure().await {
                Ok(()) => self.session.read(&group.mount, &group.path).await,
                // An old token may still do; if not, the read says so.
                Err(error) if error.is_outage() && self.session.expires().is_some() => {
                    self.session.read(&group.mount, &group.path).await
                }
                Err(error) => Err(error),
            };
            let now = Instant::now();
            let stale = now + self.settings.staleness;
            let until = self.session.expires().map_or(stale, |expires| expires.min(stale));
            for (binding, value) in values(group, secret) {
                if let Err(error) = &value
                    && first.is_ok()
                {
                    first = Err(error.clone());
                }
                self.shared.record(&binding, value, until, now);
            }
        }
        self.shared.purge(Instant::now());
        first
    }
}

/// What each binding gets out of a secret.
fn values(
    group: &Group,
    secret: Result<Secret, VaultError>,
) -> Vec<(String, Result<Credential, VaultError>)> {
    // A key may be bound twice, so values are copied out; the copy is wiped like the original.
    group
        .bindings
        .iter()
        .map(|(binding, key)| {
            let value = match &secret {
                Ok(secret) => value(group, binding, key, secret),
                Err(error) => Err(error.clone()),
            };
            (binding.clone(), value)
        })
        .collect()
}

fn value(group: &Group, binding: &str, key: &str, secret: &Secret) -> Result<Credential, VaultError> {
    let (binding, mount, path) = (binding.to_owned(), group.mount.clone(), group.path.clone());
    let fields = match secret {
        Secret::Found(fields) => fields,
        Secret::Missing => return Err(VaultError::PathNotFound { binding, mount, path }),
        Secret::Refused(detail) => {
            return Err(VaultError::ReadRefused { binding, mount, path, detail: detail.clone() });
        }
    };
    let key = key.to_owned();
    let usable = match fields.get(&key) {
        None => return Err(VaultError::KeyNotFound { binding, mount, path, key }),
        Some(Field::Other) => Err(crate::credential::Unusable::NotText),
        Some(Field::Text(text)) => Credential::new(Zeroizing::new(text.to_vec())),
    };
    usable.map_err(|problem| VaultError::CredentialUnusable { binding, mount, path, key, problem })
}
