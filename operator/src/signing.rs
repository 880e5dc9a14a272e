//! The operator's signing key: in one Secret of its own namespace, made once.
//!
//! The Secret itself is made empty by the install manifest, because RBAC cannot limit `create` to a name. It is the only
//! Secret that the operator may touch.

use base64::Engine as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use redoubt_crds::names;
use redoubt_policy::envelope::KeyError;
use redoubt_policy::{SigningKey, VerifyingKey};
use serde_json::json;
use zeroize::Zeroize as _;

use crate::stream::authority::{Authority, AuthorityError};

/// Key of the private key in the Secret: PKCS#8, DER.
pub const KEY: &str = "ed25519.pk8";

/// Key of the private key of the policy stream's authority in the Secret: PKCS#8, DER.
pub const AUTHORITY_KEY: &str = "stream-ca.pk8";
/// Key of its certificate: DER.
pub const AUTHORITY_CERTIFICATE: &str = "stream-ca.crt";

/// The signing key and its public half. It can neither be printed nor copied.
pub struct Signer {
    key: SigningKey,
    public: VerifyingKey,
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
        Ok(Self { key, public, operator_ca: String::new() })
    }

    /// With the certificate (DER) of the policy stream's authority.
    #[must_use]
    pub fn with_operator_ca(mut self, certificate: &[u8]) -> Self {
        self.operator_ca = base64::engine::general_purpose::STANDARD.encode(certificate);
        self
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

/// The keys in the Secret; made and put there if there are none.
///
/// # Errors
/// When the Secret cannot be read or written, or holds something else.
pub async fn load(client: Client, namespace: &str) -> Result<(Signer, Authority), SigningError> {
    let api: Api<Secret> = Api::namespaced(client, namespace);
    let failed = |source| SigningError::Secret { namespace: namespace.to_owned(), source };
    loop {
        let secret = api.get(names::SIGNING_KEY_SECRET).await.map_err(failed)?;
        let mut data = secret.data.unwrap_or_default();
        let mut take = |key: &str| data.remove(key).map(|ByteString(bytes)| bytes);
        let signing = take(KEY);
        let authority = take(AUTHORITY_KEY).zip(take(AUTHORITY_CERTIFICATE));
        let mut missing = serde_json::Map::new();
        if signing.is_none() {
            missing.insert(KEY.to_owned(), json!(ByteString(SigningKey::generate()?.to_vec())));
        }
        if authority.is_none() {
            let (pkcs8, certificate) = Authority::generate()?;
            missing.insert(AUTHORITY_KEY.to_owned(), json!(ByteString(pkcs8.to_vec())));
            missing.insert(AUTHORITY_CERTIFICATE.to_owned(), json!(ByteString(certificate)));
        }
        if let (Some(mut pkcs8), Some((mut authority, certificate))) = (signing, authority) {
            let signer = Signer::from_pkcs8(&pkcs8);
            pkcs8.zeroize();
            let loaded = Authority::load(&authority, &certificate);
            authority.zeroize();
            return Ok((signer?.with_operator_ca(&certificate), loaded?));
        }
        let patch = json!({
            "metadata": { "resourceVersion": secret.metadata.resource_version },
            "data": missing,
        });
        let params =
            PatchParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..Default::default() };
        match api.patch(names::SIGNING_KEY_SECRET, &params, &Patch::Merge(&patch)).await {
            // What is there now is read again; if someone else was first, theirs are the keys.
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_conflict() => {}
            Err(error) => return Err(failed(error)),
        }
    }
}
