//! Why a credential cannot be had. Each variant is one reason of a condition.

use redoubt_crds::condition::Reason;
use redoubt_policy::Refusal;

use crate::credential::Unusable;

/// Why a credential cannot be had. It names objects, fields and paths, never a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// Vault could not be reached, or answered with a server error.
    #[error("Vault cannot be used: {detail}")]
    Unavailable {
        /// The VaultConnection.
        vault: String,
        /// Its field that has to do with it.
        field: &'static str,
        /// What happened.
        detail: String,
    },
    /// Vault is sealed, or was never initialised.
    #[error("Vault at {address} is sealed")]
    Sealed {
        /// The VaultConnection.
        vault: String,
        /// Its address.
        address: String,
    },
    /// Vault refused the login.
    #[error("Vault refused the login with role {role} at auth/{mount}: {detail}")]
    LoginRefused {
        /// The VaultConnection.
        vault: String,
        /// Where the Kubernetes auth method is mounted.
        mount: String,
        /// The role.
        role: String,
        /// What Vault said.
        detail: String,
    },
    /// Vault refused to read the path with the agent's token.
    #[error("Vault refused to read {path} in {mount}: {detail}")]
    ReadRefused {
        /// The SecretBinding.
        binding: String,
        /// Where the engine is mounted.
        mount: String,
        /// The path.
        path: String,
        /// What Vault said.
        detail: String,
    },
    /// There is no secret at the path, or its latest version is deleted.
    #[error("there is no secret at {path} in {mount}, or its latest version is deleted")]
    PathNotFound {
        /// The SecretBinding.
        binding: String,
        /// Where the engine is mounted.
        mount: String,
        /// The path.
        path: String,
    },
    /// The secret at the path lacks the key.
    #[error("the secret at {path} in {mount} has no key {key}")]
    KeyNotFound {
        /// The SecretBinding.
        binding: String,
        /// Where the engine is mounted.
        mount: String,
        /// The path.
        path: String,
        /// The key.
        key: String,
    },
    /// The value cannot be injected and scanned for.
    #[error("the value of {key} at {path} in {mount} cannot be used: {problem}")]
    CredentialUnusable {
        /// The SecretBinding.
        binding: String,
        /// Where the engine is mounted.
        mount: String,
        /// The path.
        path: String,
        /// The key.
        key: String,
        /// What is wrong with it.
        problem: Unusable,
    },
    /// A binding, or a Vault that a binding names, is not in the policy.
    #[error("the policy has no {object}")]
    ReferenceNotFound {
        /// The SecretBinding that names it.
        binding: String,
        /// What is missing, as `Kind/name`.
        object: String,
    },
}

impl VaultError {
    /// The reason of the condition.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unavailable { .. } => Reason::VaultUnavailable,
            Self::Sealed { .. } => Reason::VaultSealed,
            Self::LoginRefused { .. } => Reason::VaultLoginRefused,
            Self::ReadRefused { .. } => Reason::VaultReadRefused,
            Self::PathNotFound { .. } => Reason::VaultPathNotFound,
            Self::KeyNotFound { .. } => Reason::VaultKeyNotFound,
            Self::CredentialUnusable { .. } => Reason::CredentialUnusable,
            Self::ReferenceNotFound { .. } => Reason::ReferenceNotFound,
        }
    }

    /// Whether Vault said nothing about the credential itself, so that a value read before may still be served.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Sealed { .. })
    }

    /// The refusal, with the object, the field and the way out.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        let connection = |name: &str| format!("VaultConnection/{name}");
        let secret = |name: &str| format!("SecretBinding/{name}");
        let (object, field, help) = match self {
            Self::Unavailable { vault, field: "spec.caBundle", .. } => (
                connection(vault),
                "spec.caBundle",
                "Put the certificate authority that signed Vault's certificate into spec.caBundle, as PEM.".to_owned(),
            ),
            Self::Unavailable { vault, field, .. } => (
                connection(vault),
                *field,
                "Check that Vault runs, that the address is right and that agent pods can reach it; it is tried again by itself."
                    .to_owned(),
            ),
            Self::Sealed { vault, .. } => (
                connection(vault),
                "spec.address",
                "Unseal Vault (vault operator unseal); it is tried again by itself.".to_owned(),
            ),
            Self::LoginRefused { vault, mount, role, .. } => (
                connection(vault),
                "spec.auth.kubernetes",
                format!(
                    "Check the role with `vault read auth/{mount}/role/{role}`: it must bind this agent's service account and \
                     namespace, and its audience must be that of the VaultConnection."
                ),
            ),
            Self::ReadRefused { binding, mount, path, .. } => (
                secret(binding),
                "spec.vault.kv2.path",
                format!("Give the role a Vault policy with `path \"{mount}/data/{path}\" {{ capabilities = [\"read\"] }}`."),
            ),
            Self::PathNotFound { binding, mount, path } => (
                secret(binding),
                "spec.vault.kv2.path",
                format!("Write the secret with `vault kv put -mount={mount} {path} …`, or correct mount and path."),
            ),
            Self::KeyNotFound { binding, mount, path, key } => (
                secret(binding),
                "spec.vault.kv2.key",
                format!("Add the key with `vault kv patch -mount={mount} {path} {key}=…`, or correct the key."),
            ),
            Self::CredentialUnusable { binding, mount, path, key, .. } => (
                secret(binding),
                "spec.vault.kv2.key",
                format!(
                    "Write a value of printable ASCII that is long enough with `vault kv patch -mount={mount} {path} {key}=…`; \
                     mind line breaks at the end of files."
                ),
            ),
            Self::ReferenceNotFound { binding, .. } => (
                secret(binding),
                "spec.vault.connectionName",
                "Name an existing VaultConnection.".to_owned(),
            ),
        };
        Refusal::new(self.reason().as_str(), object, field, self.to_string(), help)
    }
}
