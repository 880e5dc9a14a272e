//! Where the sidecar's credentials come from: Vault, with a login of the pod's own, into memory that is wiped.
//!
//! [`CredentialStore`] logs in by Vault's Kubernetes auth method with the pod's projected token, reads the bound secrets of
//! the key-value engine (version 2), keeps them fresh and serves them for a bounded time when Vault is away. It speaks
//! six of Vault's endpoints with a client of its own, because a general one keeps values in plain strings.
//!
//! # What stays in memory
//! A [`Credential`] is wiped on drop, and so are the response body it was parsed from, the pod's token, the login request
//! and Vault's token. What cannot be wiped: the buffers of the TLS and HTTP layers that the bytes passed through, and the
//! scratch space of the JSON parser where a value was written with escapes. All of it is in this process only.

mod address;
mod client;
mod credential;
mod dns;
mod error;
mod json;
mod keeper;
mod ledger;
mod pace;
mod session;
mod slot;
mod store;
mod token;
mod trust;

pub use credential::{Credential, MAX_CREDENTIAL_BYTES, MIN_CREDENTIAL_BYTES, Unusable};
pub use dns::{ResolveError, Resolver};
pub use error::VaultError;
pub use ledger::NeedleSet;
pub use store::{CredentialStore, Settings};
pub use trust::client_config;
