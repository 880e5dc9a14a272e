//! The pod's credentials: leased for one request each, and looked for in everything that passes.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::StatusCode;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use redoubt_policy::wire::{Binding, Inject, PodPolicy, Vault};
use redoubt_policy::{Refusal, VerifiedPolicy};
use redoubt_scan::Needles;
use redoubt_vault::{CredentialStore, NeedleSet, Resolver, Settings, VaultError};
use zeroize::Zeroizing;

use crate::policy::PolicyFeed;
use crate::refuse::Refused;

/// How long the values of a replaced store are still looked for.
const RETIRE: Duration = Duration::from_secs(3600);
/// How long to wait before a changed set of bindings is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// Where credentials come from.
pub(crate) struct Credentials {
    tokens: PathBuf,
    resolver: Arc<Resolver>,
    settings: Settings,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    store: Option<CredentialStore>,
    wanted: Wanted,
    retired: Vec<(Arc<NeedleSet>, Instant)>,
    watchlist: Option<(u64, Arc<Watchlist>)>,
}

/// What a store reads, and from where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Wanted {
    vaults: Vec<Vault>,
    bindings: Vec<Binding>,
}

impl Wanted {
    fn of(policy: &PodPolicy) -> Self {
        // Destinations and consumers do not matter for reading.
        let read = |binding: &Binding| Binding {
            destinations: Vec::new(),
            consumers: Vec::new(),
            ..binding.clone()
        };
        Self { vaults: policy.vaults.clone(), bindings: policy.bindings.iter().map(read).collect() }
    }

    /// Whether `binding` is read here just as `policy` says.
    fn covers(&self, binding: &Binding, policy: &PodPolicy) -> bool {
        let same = |it: &&Binding| {
            (&it.name, &it.vault, &it.mount, &it.path, &it.key)
                == (&binding.name, &binding.vault, &binding.mount, &binding.path, &binding.key)
        };
        let vault = |vaults: &[Vault]| vaults.iter().find(|it| it.name == binding.vault).cloned();
        self.bindings.iter().any(|it| same(&it)) && vault(&self.vaults) == vault(&policy.vaults)
    }
}

/// The values to look for, and whose they are.
pub(crate) struct Watchlist {
    pub(crate) needles: Arc<Needles>,
    /// The same in lower case, as names of headers are.
    names: Needles,
    bindings: Vec<String>,
}

impl Watchlist {
    /// The position of a value that is in the name of a header.
    pub(crate) fn in_name(&self, name: &HeaderName) -> Option<usize> {
        self.names.find(name.as_str().as_bytes())
    }

    /// Name of the binding of the value at this position.
    pub(crate) fn binding(&self, index: usize) -> Option<&str> {
        self.bindings.get(index).map(String::as_str)
    }
}

impl Credentials {
    /// Reads everything that the policy binds.
    ///
    /// # Errors
    /// When a credential cannot be had within the patience of the settings.
    pub(crate) async fn start(
        policy: &VerifiedPolicy,
        tokens: PathBuf,
        resolver: Arc<Resolver>,
        settings: Settings,
    ) -> Result<Self, Refusal> {
        let credentials = Self { tokens, resolver, settings, state: Mutex::default() };
        credentials.load(Wanted::of(policy)).await.map_err(|error| error.refusal())?;
        Ok(credentials)
    }

    /// Reads anew whenever a newer policy binds other secrets.
    pub(crate) async fn follow(self: Arc<Self>, mut feed: PolicyFeed) {
        loop {
            let wanted = Wanted::of(&feed.borrow_and_update());
            let known = self.lock().wanted == wanted;
            let failed = !known
                && match self.load(wanted).await {
                    Ok(()) => false,
                    Err(error) => {
                        let refusal = error.refusal();
                        tracing::error!(
                            reason = refusal.reason,
                            object = refusal.object,
                            field = refusal.field,
                            "credentials of the newer policy: {}",
                            refusal.message
                        );
                        true
                    }
                };
            let changed = tokio::select! {
                changed = feed.changed() => changed,
                () = tokio::time::sleep(RETRY), if failed => Ok(()),
            };
            if changed.is_err() {
                return;
            }
        }
    }

    async fn load(&self, wanted: Wanted) -> Result<(), VaultError> {
        let started = CredentialStore::start(
            &wanted.vaults,
            &wanted.bindings,
            &self.tokens,
            Arc::clone(&self.resolver),
            self.settings,
        );
        let store = started.await?;
        let old = {
            let mut state = self.lock();
            let old = state.store.replace(store);
            if let Some(old) = &old {
                state.retired.push((old.needles(), Instant::now()));
            }
            state.wanted = wanted;
            state.watchlist = None;
            old
        };
        if let Some(old) = old {
            old.shutdown().await;
        }
        Ok(())
    }

    /// Name and value of the header that `binding` puts into a request.
    ///
    /// # Errors
    /// 503 when there is no fresh credential: nothing goes out without it.
    pub(crate) fn lease(
        &self,
        binding: &Binding,
        policy: &PodPolicy,
    ) -> Result<(HeaderName, HeaderValue), Refused> {
        let credential = {
            let state = self.lock();
            let store = state.store.as_ref().filter(|_| state.wanted.covers(binding, policy));
            store.ok_or_else(|| not_read_yet(binding))?.get(&binding.name).map_err(|error| Refused {
                status: StatusCode::SERVICE_UNAVAILABLE,
                refusal: Box::new(error.refusal()),
            })?
        };
        let (name, prefix) = match &binding.inject {
            Inject::Bearer {} => (Ok(AUTHORIZATION), "Bearer "),
            Inject::Header { name, prefix } => (name.parse(), prefix.as_str()),
        };
        let mut text = Zeroizing::new(Vec::with_capacity(prefix.len() + credential.expose().len()));
        text.extend_from_slice(prefix.as_bytes());
        text.extend_from_slice(credential.expose());
        let (Ok(name), Ok(mut value)) = (name, HeaderValue::from_bytes(&text)) else {
            return Err(Refused::by_pod(
                StatusCode::BAD_GATEWAY,
                "CredentialUnusable",
                "the credential cannot be put into this header",
                "Correct spec.inject of the SecretBinding, or the value in Vault.",
            )
            .because_of(format!("SecretBinding/{}", binding.name), "spec.inject"));
        };
        value.set_sensitive(true);
        Ok((name, value))
    }

    /// The values that must not pass.
    ///
    /// # Errors
    /// 503 when they cannot be looked for: nothing passes unseen.
    pub(crate) fn watchlist(&self) -> Result<Arc<Watchlist>, Refused> {
        let mut state = self.lock();
        let before = state.retired.len();
        state.retired.retain(|(_, since)| since.elapsed() < RETIRE);
        let current = state.store.as_ref().map(CredentialStore::needles);
        let generation = current.as_ref().map_or(0, |set| set.generation());
        if before == state.retired.len()
            && let Some((known, watchlist)) = &state.watchlist
            && *known == generation
        {
            return Ok(Arc::clone(watchlist));
        }
        let sets: Vec<_> = current.iter().chain(state.retired.iter().map(|(set, _)| set)).cloned().collect();
        let values = || sets.iter().flat_map(|set| set.values());
        let lower: Vec<_> = values().map(|value| Zeroizing::new(value.to_ascii_lowercase())).collect();
        let built = Needles::new(values())
            .and_then(|needles| Ok((needles, Needles::new(lower.iter().map(|value| value.as_slice()))?)));
        let (needles, names) = built.map_err(|error| {
            Refused::by_pod(
                StatusCode::SERVICE_UNAVAILABLE,
                "ScannerUnavailable",
                format!("the credentials cannot be looked for: {error}"),
                "Shorten the credentials, or bind fewer to one agent.",
            )
        })?;
        let bindings = sets
            .iter()
            .flat_map(|set| {
                (0..set.values().count()).map(|index| set.binding(index).unwrap_or_default().to_owned())
            })
            .collect();
        let watchlist = Arc::new(Watchlist { needles: Arc::new(needles), names, bindings });
        state.watchlist = Some((generation, Arc::clone(&watchlist)));
        Ok(watchlist)
    }

    /// What is missing before everything that `policy` binds is held.
    pub(crate) fn missing(&self, policy: &PodPolicy) -> Vec<Refusal> {
        let state = self.lock();
        let of =
            |binding: &Binding| match state.store.as_ref().filter(|_| state.wanted.covers(binding, policy)) {
                None => Some(*not_read_yet(binding).refusal),
                Some(store) => store.get(&binding.name).err().map(|error| error.refusal()),
            };
        policy.bindings.iter().filter_map(of).collect()
    }

    /// Gives the logins back and forgets everything.
    pub(crate) async fn shutdown(&self) {
        let store = self.lock().store.take();
        if let Some(store) = store {
            store.shutdown().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_read_yet(binding: &Binding) -> Refused {
    Refused::by_pod(
        StatusCode::SERVICE_UNAVAILABLE,
        "CredentialUnavailable",
        "the credential has not been read yet",
        "Try again in a moment; if it stays so, look at the conditions of the SecretBinding.",
    )
    .because_of(format!("SecretBinding/{}", binding.name), "spec.vault")
}
