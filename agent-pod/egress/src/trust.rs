//! Which certificates of destinations are believed: the public ones, or exactly those that the policy names.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use http::StatusCode;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

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
        let config = client(ca_bundle).map_err(|detail| {
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

fn client(ca_bundle: Option<&str>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    match ca_bundle {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let certificate = certificate.map_err(|error| format!("the bundle is not PEM: {error}"))?;
                roots
                    .add(certificate)
                    .map_err(|error| format!("a certificate of the bundle is invalid: {error}"))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err("there is no trust anchor".to_owned());
    }
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The one cryptography provider.
pub(crate) fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
