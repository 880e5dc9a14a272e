//! Every credential of the pod.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use redoubt_policy::wire::{Binding, Vault};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::{Client, Timeouts};
use crate::credential::Credential;
use crate::dns::Resolver;
use crate::error::VaultError;
use crate::keeper::{Group, Keeper};
use crate::ledger::{Ledger, NeedleSet};
use crate::pace::LoginBudget;
use crate::session::{Login, Session};
use crate::slot::Slot;

/// How the store behaves. The defaults are meant for all.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How often every secret is read again: the longest time until a rotated value is used. 60 s.
    pub refresh: Duration,
    /// How long a value is served after it was last read, when Vault is away; never past the end of Vault's token. 5 min.
    pub staleness: Duration,
    /// How long a replaced or withdrawn value is still looked for. 1 h.
    pub retire: Duration,
    /// How long a connection to one address may take to be made. 5 s.
    pub connect: Duration,
    /// How long a request may take. 10 s.
    pub request: Duration,
    /// Most logins at one Vault within a minute. 10.
    pub logins_per_minute: u32,
    /// How long the start waits for a Vault that is away or refuses the login. 20 s.
    pub start_patience: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            refresh: Duration::from_secs(60),
            staleness: Duration::from_secs(300),
            retire: Duration::from_secs(3600),
            connect: Duration::from_secs(5),
            request: Duration::from_secs(10),
            logins_per_minute: 10,
            start_patience: Duration::from_secs(20),
        }
    }
}

/// Every credential of the pod, kept fresh in the background until [`CredentialStore::shutdown`] or drop.
pub struct CredentialStore {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    keepers: JoinSet<()>,
}

impl CredentialStore {
    /// Logs in at every Vault that a binding names and reads every credential. The pod's token for the VaultConnection `v`
    /// is the file `token_dir/v/token`.
    ///
    /// # Errors
    /// The first that remains when a Vault that is away or refuses the login was given time; other errors at once.
    pub async fn start(
        vaults: &[Vault],
        bindings: &[Binding],
        token_dir: &Path,
        resolver: Arc<Resolver>,
        settings: Settings,
    ) -> Result<Self, VaultError> {
        for binding in bindings {
            if !vaults.iter().any(|vault| vault.name == binding.vault) {
                let object = format!("VaultConnection/{}", binding.vault);
                return Err(VaultError::ReferenceNotFound { binding: binding.name.clone(), object });
            }
            if !(is_path(&binding.mount) && is_path(&binding.path)) {
                let (mount, path) = (binding.mount.clone(), binding.path.clone());
                return Err(VaultError::PathNotFound { binding: binding.name.clone(), mount, path });
            }
        }
        let shared = Arc::new(Shared::new(bindings, settings.retire));
        let mut firsts = JoinSet::new();
        for vault in vaults {
            let groups = groups(vault, bindings);
            if groups.is_empty() {
                continue;
            }
            let timeouts = Timeouts { connect: settings.connect, request: settings.request };
            let client = Client::new(vault, Arc::clone(&resolver), timeouts)?;
            let login = Login {
                mount: vault.auth_mount.clone(),
                role: vault.role.clone(),
                token_file: token_dir.join(&vault.name).join("token"),
            };
            let session = Session::new(client, login, LoginBudget::new(settings.logins_per_minute));
            let mut keeper = Keeper { session, groups, shared: Arc::clone(&shared), settings };
            firsts.spawn(async move {
                keeper.first().await;
                keeper
            });
        }
        let (stop, stopped) = watch::channel(false);
        let mut keepers = JoinSet::new();
        while let Some(keeper) = firsts.join_next().await {
            if let Ok(keeper) = keeper {
                keepers.spawn(keeper.run(stopped.clone()));
            }
        }
        let store = Self { shared, stop, keepers };
        for binding in bindings {
            if let Err(error) = store.get(&binding.name) {
                store.shutdown().await;
                return Err(error);
            }
        }
        Ok(store)
    }

    /// The credential of a SecretBinding, as Vault gave it at most [`Settings::staleness`] ago.
    ///
    /// # Errors
    /// Why there is none; a caller must refuse the request then.
    pub fn get(&self, binding: &str) -> Result<Arc<Credential>, VaultError> {
        self.shared.get(binding, Instant::now())
    }

    /// The values that must not leave or come back: those in use and, for [`Settings::retire`], those that were. Cheap;
    /// take it after [`CredentialStore::get`], so that it holds the value that was got.
    #[must_use]
    pub fn needles(&self) -> Arc<NeedleSet> {
        self.shared.read(|state| state.ledger.set())
    }

    /// Changes when [`CredentialStore::needles`] does: its generation.
    #[must_use]
    pub fn generations(&self) -> watch::Receiver<u64> {
        self.shared.generation.subscribe()
    }

    /// Why credentials were not refreshed when that was last tried, also where they are still served.
    #[must_use]
    pub fn troubles(&self) -> Vec<VaultError> {
        self.shared
            .read(|state| state.slots.values().filter_map(|(_, slot)| slot.trouble().cloned()).collect())
    }

    /// Stops, gives every token back to Vault and forgets every value.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        while self.keepers.join_next().await.is_some() {}
    }
}

/// The secrets of one Vault, each read once for all bindings that use it.
fn groups(vault: &Vault, bindings: &[Binding]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for binding in bindings.iter().filter(|binding| binding.vault == vault.name) {
        let entry = (binding.name.clone(), binding.key.clone());
        match groups.iter_mut().find(|it| it.mount == binding.mount && it.path == binding.path) {
            Some(group) => group.bindings.push(entry),
            None => groups.push(Group {
                mount: binding.mount.clone(),
                path: binding.path.clone(),
                bindings: vec![entry],
            }),
        }
    }
    groups
}

/// Whether these are segments that stand in a URL as they are (`redoubt_crds::grammar::VAULT_PATH`).
fn is_path(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    text.split('/').all(|it| !matches!(it, "" | "." | "..") && it.bytes().all(plain))
}

/// What the keepers and the store share.
pub(crate) struct Shared {
    state: RwLock<State>,
    generation: watch::Sender<u64>,
}

struct State {
    /// By binding: the name of its Vault, and the value.
    slots: HashMap<String, (String, Slot)>,
    ledger: Ledger,
}

impl Shared {
    fn new(bindings: &[Binding], retire: Duration) -> Self {
        let slots =
            bindings.iter().map(|it| (it.name.clone(), (it.vault.clone(), Slot::default()))).collect();
        let state = State { slots, ledger: Ledger::new(retire) };
        Self { state: RwLock::new(state), generation: watch::Sender::new(0) }
    }

    /// Writes down what became of a read. The value can be got from the moment that it can be looked for, not before.
    pub(crate) fn record(
        &self,
        binding: &str,
        value: Result<Credential, VaultError>,
        valid_until: Instant,
        now: Instant,
    ) {
        self.write(|State { slots, ledger }| {
            let Some((_, slot)) = slots.get_mut(binding) else { return };
            match value {
                Ok(value) => {
                    let same = slot.held().filter(|held| held.expose() == value.expose()).cloned();
                    slot.accept(same.unwrap_or_else(|| Arc::new(value)), valid_until);
                }
                Err(error) => slot.fail(error),
            }
            ledger.update(binding, slot.held(), now);
        });
    }

    /// Forgets replaced values that were kept long enough.
    pub(crate) fn purge(&self, now: Instant) {
        self.write(|state| state.ledger.purge(now));
    }

    fn get(&self, binding: &str, now: Instant) -> Result<Arc<Credential>, VaultError> {
        self.read(|state| {
            let (vault, slot) = state.slots.get(binding).ok_or_else(|| VaultError::ReferenceNotFound {
                binding: binding.to_owned(),
                object: format!("SecretBinding/{binding}"),
            })?;
            slot.get(now).map_err(|trouble| {
                trouble.unwrap_or_else(|| VaultError::Unavailable {
                    vault: vault.clone(),
                    field: "spec.address",
                    detail: "the credential was not read in time".to_owned(),
                })
            })
        })
    }

    fn read<T>(&self, with: impl FnOnce(&State) -> T) -> T {
        with(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, with: impl FnOnce(&mut State)) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        with(&mut state);
        let generation = state.ledger.set().generation();
        drop(state);
        self.generation.send_if_modified(|known| {
            let changed = *known != generation;
            *known = generation;
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let check = |text: &str, expected: bool| assert_eq!(is_path(text), expected, "{text}");
        check("secret", true);
        check("team-a/app.v1_x/key", true);
        check("...", true);
        for text in
            ["", "/a", "a/", "a//b", "..", "a/../b", "./a", "a?b", "a%2fb", "a b", "a\nb", "a#b", "\u{e4}"]
        {
            check(text, false);
        }
    }
}
