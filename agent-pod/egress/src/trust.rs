//! Which certificates of destinations are believed: the public ones, or exactly those that the policy names.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use http::StatusCode;
use rustls::ClientConfig;

use crate::refuse::Refused;

/// Most bundles that are kept parsed.
const CACHE: usize = 64;

/// TLS settings towards destinations, by trust anchors.
#[derive(Default)]
pub(crate) struct Trust(Mutex<HashMap<Option<String>, Arc<ClientConfig>>>);

impl Trust {
    /// Settings that believe `ca_bundle` (PEM), or the public anchors where there is none.
    ///
    /// # Errors
    /// 502 when there is no usable anchor.
    pub(crate) fn config(&self, ca_bundle: Option<&str>) -> Result<Arc<ClientConfig>, Refused> {
        let key = ca_bundle.map(str::to_owned);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = known.get(&key) {
            return Ok(Arc::clone(config));
        }
        let config = redoubt_vault::client_config(ca_bundle).map_err(|detail| {
            Refused::by_pod(
                StatusCode::BAD_GATEWAY,
                "TrustAnchorsUnusable",
                format!("the destination's certificate cannot be checked: {detail}"),
                "Correct the caBundle of the rule or of the SecretBinding's destination.",
            )
        })?;
        if known.len() >= CACHE {
            known.clear();
        }
        known.insert(key, Arc::clone(&config));
        Ok(config)
    }
}

/// The one cryptography provider.
pub(crate) fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
