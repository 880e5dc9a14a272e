//! The operator's signing key: in one Secret of its own namespace, made once, and replaced where the Secret's annotation
//! [`ROTATE`] asks for it. A key is replaced in one write: the new key, its announcement under the old one, and the note
//! that the request was met. So there is nothing half done to heal, and the old key is gone from the Secret.
//!
//! The Secret itself is made empty by the install manifest, because RBAC cannot limit `create` to a name. It is the only
//! Secret that the operator may touch. Every replica reads it again and again, the one that leads writes it.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use redoubt_crds::names;
use redoubt_policy::envelope::KeyError;
use redoubt_policy::envelope::keyring::{ANNOUNCEMENTS_KEY, announce, appended};
use redoubt_policy::{Keyring, SigningKey, VerifyingKey};
use serde_json::{Map, Value, json};
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;
use tracing::{info, warn};
use zeroize::Zeroizing;

use crate::events::Events;
use crate::stream::authority::{Authority, AuthorityError};

/// Key of the private key in the Secret: PKCS#8, DER.
pub const KEY: &str = "ed25519.pk8";

/// Key of the private key of the policy stream's authority in the Secret: PKCS#8, DER.
pub const AUTHORITY_KEY: &str = "stream-ca.pk8";
/// Key of its certificate: DER.
pub const AUTHORITY_CERTIFICATE: &str = "stream-ca.crt";

/// Annotation of the Secret: any text. When it is another one than in [`ROTATED`], the key is replaced, once.
pub const ROTATE: &str = "redoubt.dev/rotate-key";
/// Annotation of the Secret: the request that was met last.
pub const ROTATED: &str = "redoubt.dev/key-rotated";

/// Longest request, in bytes.
const REQUEST_MAX: usize = 253;
/// How often the Secret is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How long whoever begins to lead waits for the Secret. With a key of the past it would do no harm, and no good.
const SETTLE: Duration = Duration::from_secs(10);

/// The signing key and its public half. It can neither be printed nor copied.
pub struct Signer {
    key: SigningKey,
    public: VerifyingKey,
    announcements: String,
    operator_ca: String,
}

/// Why there is no signing key.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// The Secret cannot be read or written.
    #[error("Secret/{name} in namespace {namespace}: {source}; the install manifest makes it empty and lets the operator get and patch it", name = names::SIGNING_KEY_SECRET)]
    Secret {
        /// Namespace of the operator.
        namespace: String,
        /// What the API server said.
        #[source]
        source: kube::Error,
    },
    /// What the Secret holds is not a key.
    #[error("Secret/{name}, data[{KEY}]: {0}; put the right key back, or take the field out for a new one (every agent pod is then replaced)", name = names::SIGNING_KEY_SECRET)]
    Key(#[from] KeyError),
    /// The request for another key cannot be noted.
    #[error("Secret/{name}, annotation {ROTATE}: it has {0} bytes and may have {REQUEST_MAX}; give a date or a name", name = names::SIGNING_KEY_SECRET)]
    Request(usize),
    /// What the Secret holds is not an authority.
    #[error("Secret/{name}, data[{AUTHORITY_KEY}] and data[{AUTHORITY_CERTIFICATE}]: {0}; put the right ones back, or take both out for new ones (every agent pod is then replaced)", name = names::SIGNING_KEY_SECRET)]
    Authority(#[from] AuthorityError),
}

impl Signer {
    /// The key in PKCS#8.
    ///
    /// # Errors
    /// When it is not an Ed25519 private key.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, KeyError> {
        let key = SigningKey::from_pkcs8(pkcs8)?;
        let public = key.public();
        Ok(Self { key, public, announcements: String::new(), operator_ca: String::new() })
    }

    /// With the certificate (DER) of the policy stream's authority.
    #[must_use]
    pub fn with_operator_ca(mut self, certificate: &[u8]) -> Self {
        self.operator_ca = base64::engine::general_purpose::STANDARD.encode(certificate);
        self
    }

    /// With the announcements that lead to this key: lines, oldest first.
    #[must_use]
    pub fn with_announcements(mut self, announcements: String) -> Self {
        self.announcements = announcements;
        self
    }

    /// The announcements that lead to this key.
    #[must_use]
    pub fn announcements(&self) -> &str {
        &self.announcements
    }

    /// Whether a pod that has `pinned` in its arguments comes to this key by the announcements.
    #[must_use]
    pub fn leads_from(&self, pinned: &str) -> bool {
        let Ok(pinned) = pinned.parse() else { return false };
        if pinned == self.public {
            return true;
        }
        let mut keys = Keyring::new(pinned);
        keys.learn(&self.announcements);
        *keys.newest() == self.public
    }

    /// The certificate by which sidecars know the policy stream: DER in standard base64.
    #[must_use]
    pub fn operator_ca(&self) -> &str {
        &self.operator_ca
    }

    /// The private key.
    #[must_use]
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> &VerifyingKey {
        &self.public
    }
}

/// What the Secret says.
struct Held {
    version: Option<String>,
    signing: Option<Zeroizing<Vec<u8>>>,
    announcements: String,
    authority: Option<(Zeroizing<Vec<u8>>, Vec<u8>)>,
    asked: Option<String>,
    met: Option<String>,
}

impl Held {
    fn of(secret: Secret) -> Self {
        let mut data = secret.data.unwrap_or_default();
        let mut take = |key: &str| data.remove(key).map(|ByteString(bytes)| bytes);
        let authority = take(AUTHORITY_KEY).map(Zeroizing::new).zip(take(AUTHORITY_CERTIFICATE));
        let mut annotations = secret.metadata.annotations.unwrap_or_default();
        Self {
            version: secret.metadata.resource_version,
            signing: take(KEY).map(Zeroizing::new),
            announcements: take(ANNOUNCEMENTS_KEY)
                .map(|lines| String::from_utf8_lossy(&lines).into_owned())
                .unwrap_or_default(),
            authority,
            asked: annotations.remove(ROTATE).filter(|asked| !asked.is_empty()),
            met: annotations.remove(ROTATED),
        }
    }

    /// The change that makes what is missing. A new signing key is announced by nobody, and no request is open under it.
    fn missing(&self) -> Result<Option<Value>, SigningError> {
        let mut data = Map::new();
        if self.signing.is_none() {
            data.insert(KEY.to_owned(), json!(ByteString(SigningKey::generate()?.to_vec())));
            data.insert(ANNOUNCEMENTS_KEY.to_owned(), Value::Null);
        }
        if self.authority.is_none() {
            let (pkcs8, certificate) = Authority::generate()?;
            data.insert(AUTHORITY_KEY.to_owned(), json!(ByteString(pkcs8.to_vec())));
            data.insert(AUTHORITY_CERTIFICATE.to_owned(), json!(ByteString(certificate)));
        }
        Ok((!data.is_empty()).then(|| self.change(data, self.signing.is_none())))
    }

    /// The change that replaces the key, if that is asked for.
    fn rotation(&self) -> Result<Option<Value>, SigningError> {
        let (Some(pkcs8), Some(asked)) = (&self.signing, &self.asked) else { return Ok(None) };
        if self.met.as_ref() == Some(asked) {
            return Ok(None);
        }
        if asked.len() > REQUEST_MAX {
            return Err(SigningError::Request(asked.len()));
        }
        let current = SigningKey::from_pkcs8(pkcs8)?;
        let next = SigningKey::generate()?;
        let announcement = announce(&SigningKey::from_pkcs8(&next)?.public(), &current)?;
        let announcements = appended(&self.announcements, &announcement);
        let mut data = Map::new();
        data.insert(KEY.to_owned(), json!(ByteString(next.to_vec())));
        data.insert(ANNOUNCEMENTS_KEY.to_owned(), json!(ByteString(announcements.into_bytes())));
        Ok(Some(self.change(data, true)))
    }

    /// A change of this version of the Secret and no other.
    fn change(&self, data: Map<String, Value>, met: bool) -> Value {
        let mut metadata = json!({ "resourceVersion": self.version });
        let asked = self.asked.as_ref().filter(|asked| met && asked.len() <= REQUEST_MAX);
        if let (Some(asked), Some(metadata)) = (asked, metadata.as_object_mut()) {
            metadata.insert("annotations".to_owned(), json!({ ROTATED: asked }));
        }
        json!({ "metadata": metadata, "data": data })
    }

    /// The signing key, if there is one.
    fn signer(&self) -> Result<Option<Signer>, KeyError> {
        let Some(pkcs8) = &self.signing else { return Ok(None) };
        Ok(Some(Signer::from_pkcs8(pkcs8)?.with_announcements(self.announcements.clone())))
    }
}

async fn read(api: &Api<Secret>, namespace: &str) -> Result<Held, SigningError> {
    let failed = |source| SigningError::Secret { namespace: namespace.to_owned(), source };
    Ok(Held::of(api.get(names::SIGNING_KEY_SECRET).await.map_err(failed)?))
}

/// The changed Secret; nothing if someone else has changed it meanwhile.
async fn write(api: &Api<Secret>, namespace: &str, change: &Value) -> Result<Option<Secret>, SigningError> {
    let params = PatchParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..Default::default() };
    match api.patch(names::SIGNING_KEY_SECRET, &params, &Patch::Merge(change)).await {
        Ok(secret) => Ok(Some(secret)),
        Err(kube::Error::Api(status)) if status.is_conflict() => Ok(None),
        Err(source) => Err(SigningError::Secret { namespace: namespace.to_owned(), source }),
    }
}

/// The keys in the Secret; made and put there if there are none.
///
/// # Errors
/// When the Secret cannot be read or written, or holds something else.
pub async fn load(client: Client, namespace: &str) -> Result<(Signer, Authority), SigningError> {
    let api: Api<Secret> = Api::namespaced(client, namespace);
    loop {
        let held = read(&api, namespace).await?;
        if let Some(change) = held.missing()? {
            // What is there then is read again; if someone else was first, theirs are the keys.
            write(&api, namespace, &change).await?;
            continue;
        }
        if let (Some(signer), Some((authority, certificate))) = (held.signer()?, &held.authority) {
            let authority = Authority::load(authority, certificate)?;
            return Ok((signer.with_operator_ca(certificate), authority));
        }
    }
}

/// The keys of this process, kept as the Secret has them.
pub struct Keys {
    api: Api<Secret>,
    namespace: String,
    events: Events,
    signer: watch::Sender<Arc<Signer>>,
    /// One look at a time, so that an older one does not come after a newer one.
    turn: Mutex<()>,
}

impl Keys {
    /// Begins with `signer`. Writes pass the fence of `client`.
    #[must_use]
    pub fn new(client: &Client, namespace: &str, signer: Signer) -> Self {
        Self {
            api: Api::namespaced(client.clone(), namespace),
            namespace: namespace.to_owned(),
            events: Events::new(client.clone()),
            signer: watch::Sender::new(Arc::new(signer)),
            turn: Mutex::default(),
        }
    }

    /// The key that signs now.
    #[must_use]
    pub fn signer(&self) -> Arc<Signer> {
        Arc::clone(&self.signer.borrow())
    }

    /// Reads the Secret. If this replica leads, the key is replaced where that is asked for, and made where there is none.
    /// Whether the key is another one than before.
    ///
    /// # Errors
    /// When the Secret cannot be read or written, or holds something else; the known key stays.
    pub async fn look(&self, leads: bool) -> Result<bool, SigningError> {
        let _turn = self.turn.lock().await;
        loop {
            let held = read(&self.api, &self.namespace).await?;
            let change = if leads { self.wanted(&held)? } else { None };
            let Some(change) = change else {
                return Ok(held.signer()?.is_some_and(|signer| self.take(signer)));
            };
            // Read again, whoever wrote it.
            if let Some(secret) = write(&self.api, &self.namespace, &change).await? {
                let note = "the key that policies are signed with was replaced, as asked";
                self.events.normal(&secret, "KeyRotated", "Rotate", note).await;
            }
        }
    }

    fn wanted(&self, held: &Held) -> Result<Option<Value>, SigningError> {
        if held.signing.is_none() {
            return held.missing();
        }
        held.rotation().or_else(|error| match error {
            // A wrong request keeps nobody from the key that is there.
            SigningError::Request(_) => {
                warn!(%error, "the signing key is not replaced");
                Ok(None)
            }
            error => Err(error),
        })
    }

    /// The authority stays the one that this process serves with.
    fn take(&self, signer: Signer) -> bool {
        self.signer.send_if_modified(|known| {
            if known.public == signer.public && known.announcements == signer.announcements {
                return false;
            }
            info!(policy_key = %signer.public, before = %known.public, "policies are signed with another key");
            *known = Arc::new(Signer { operator_ca: known.operator_ca.clone(), ..signer });
            true
        })
    }

    /// Before the first visit of one who begins to lead: another may have replaced the key meanwhile.
    pub async fn settle(&self) {
        match timeout(SETTLE, self.look(true)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => warn!(%error, "the signing key cannot be looked up; the known one stays"),
            Err(_) => warn!("the signing key cannot be looked up in time; the known one stays"),
        }
    }

    /// Looks again and again, and says `changed` when the key is another one.
    pub async fn keep(self: Arc<Self>, leading: watch::Receiver<bool>, changed: impl Fn()) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let leads = *leading.borrow();
            match timeout(3 * LOOK_EVERY, self.look(leads)).await {
                Ok(Ok(true)) => changed(),
                Ok(Ok(false)) => {}
                Ok(Err(error)) => warn!(%error, "the signing key cannot be looked up; the known one stays"),
                Err(_) => warn!("the signing key cannot be looked up in time; the known one stays"),
            }
        }
    }
}

#[cfg(test)]
#[path = "signing_tests.rs"]
mod tests;
