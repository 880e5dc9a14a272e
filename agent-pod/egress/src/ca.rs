//! The certificate authority of this pod: made at start, in memory only, gone with the process. Every leaf has a key of
//! its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::ServerConfig;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use crate::trust::provider;

/// Most leaves that are kept.
const LEAVES: usize = 128;
/// How long a leaf is used.
const LEAF_USED: Duration = Duration::from_secs(24 * 3600);
/// How long a leaf is valid.
const LEAF_VALID: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long the authority is valid: longer than any pod lives.
const VALID: Duration = Duration::from_secs(5 * 365 * 24 * 3600);
/// Clocks of clients may be behind.
const SKEW: Duration = Duration::from_secs(3600);

/// What went wrong while making a certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthorityError {
    #[error("a certificate cannot be made")]
    Certificate(#[from] rcgen::Error),
    #[error("a certificate cannot be used")]
    Tls(#[from] rustls::Error),
}

/// The authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    leaves: Mutex<HashMap<String, (Instant, Arc<ServerConfig>)>>,
}

impl Authority {
    /// A new authority with a new key.
    pub(crate) fn new(common_name: &str) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, common_name);
        let now = SystemTime::now();
        params.not_before = (now - SKEW).into();
        params.not_after = (now + VALID).into();
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            pem: certificate.pem(),
            certificate: certificate.der().clone(),
            issuer: Issuer::new(params, key),
            leaves: Mutex::default(),
        })
    }

    /// The authority's certificate (PEM), which is not secret.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// TLS settings of a server with these names or addresses.
    pub(crate) fn server(
        &self,
        hosts: &[String],
        alpn: &[&[u8]],
    ) -> Result<Arc<ServerConfig>, AuthorityError> {
        let known_as = hosts.join(" ");
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, config)) = leaves.get(&known_as).filter(|(since, _)| since.elapsed() < LEAF_USED) {
            return Ok(Arc::clone(config));
        }
        let config = self.make(hosts, alpn)?;
        if leaves.len() >= LEAVES {
            leaves.clear();
        }
        leaves.insert(known_as, (Instant::now(), Arc::clone(&config)));
        Ok(config)
    }

    fn make(&self, hosts: &[String], alpn: &[&[u8]]) -> Result<Arc<ServerConfig>, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::new(hosts)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let now = SystemTime::now();
        params.not_before = (now - SKEW).into();
        params.not_after = (now + LEAF_VALID).into();
        let leaf = params.signed_by(&key, &self.issuer)?;
        let provider = provider();
        let private = PrivatePkcs8KeyDer::from(key.serialize_der());
        let signing = provider.key_provider.load_private_key(private.into())?;
        let certified = CertifiedKey::new(vec![leaf.der().clone(), self.certificate.clone()], signing);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = alpn.iter().map(|it| it.to_vec()).collect();
        // Early data could be replayed.
        config.max_early_data_size = 0;
        Ok(Arc::new(config))
    }
}
