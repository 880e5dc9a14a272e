//! The operator's signing key: in one Secret of its own namespace, made once.
//!
//! The Secret itself is made empty by the install manifest, because RBAC cannot limit `create` to a name. It is the only
//! Secret that the operator may touch.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use redoubt_crds::names;
use redoubt_policy::envelope::KeyError;
use redoubt_policy::{SigningKey, VerifyingKey};
use serde_json::json;
use zeroize::Zeroize as _;

/// Key of the private key in the Secret: PKCS#8, DER.
pub const KEY: &str = "ed25519.pk8";

/// The signing key and its public half. It can neither be printed nor copied.
pub struct Signer {
    key: SigningKey,
    public: VerifyingKey,
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
}

impl Signer {
    /// The key in PKCS#8.
    ///
    /// # Errors
    /// When it is not an Ed25519 private key.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, KeyError> {
        let key = SigningKey::from_pkcs8(pkcs8)?;
        let public = key.public();
        Ok(Self { key, public })
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

/// The key in the Secret; made and put there if there is none.
///
/// # Errors
/// When the Secret cannot be read or written, or holds something else.
pub async fn load(client: Client, namespace: &str) -> Result<Signer, SigningError> {
    let api: Api<Secret> = Api::namespaced(client, namespace);
    let failed = |source| SigningError::Secret { namespace: namespace.to_owned(), source };
    loop {
        let secret = api.get(names::SIGNING_KEY_SECRET).await.map_err(failed)?;
        if let Some(ByteString(mut pkcs8)) = secret.data.and_then(|mut data| data.remove(KEY)) {
            let signer = Signer::from_pkcs8(&pkcs8);
            pkcs8.zeroize();
            return Ok(signer?);
        }
        let pkcs8 = SigningKey::generate()?;
        let patch = json!({
            "metadata": { "resourceVersion": secret.metadata.resource_version },
            "data": { KEY: ByteString(pkcs8.to_vec()) },
        });
        let params =
            PatchParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..Default::default() };
        match api.patch(names::SIGNING_KEY_SECRET, &params, &Patch::Merge(&patch)).await {
            Ok(_) => return Ok(Signer::from_pkcs8(&pkcs8)?),
            // Someone else was first: theirs is the key.
            Err(kube::Error::Api(status)) if status.is_conflict() => {}
            Err(error) => return Err(failed(error)),
        }
    }
}
