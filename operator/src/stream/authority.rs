//! The authority that sidecars know the operator by: made once, kept beside the signing key. The certificates that it
//! signs live in memory only, and not for long.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

/// How long the authority is valid. Sidecars know it by its key, and do not look at this.
const VALID: Duration = Duration::from_secs(20 * 365 * 24 * 3600);
/// How long a certificate of the server is valid.
const LEAF_VALID: Duration = Duration::from_secs(24 * 3600);
/// How long one is used.
const LEAF_USED: Duration = Duration::from_secs(8 * 3600);
/// Clocks of nodes may be behind.
const SKEW: Duration = Duration::from_secs(3600);

/// Why there is no authority or no certificate.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A key or certificate cannot be made or read.
    #[error("the authority of the policy stream cannot be used: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A certificate cannot be used for TLS.
    #[error("the certificate of the policy stream cannot be used: {0}")]
    Tls(#[from] rustls::Error),
}

/// The authority. Its key can neither be printed nor copied.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

fn params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(DnType::CommonName, "Redoubt policy stream");
    params
}

impl Authority {
    /// A new private key (PKCS#8) and its certificate (DER), for [`Authority::load`].
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn generate() -> Result<(Zeroizing<Vec<u8>>, Vec<u8>), AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = params();
        let now = SystemTime::now();
        params.not_before = (now - SKEW).into();
        params.not_after = (now + VALID).into();
        let certificate = params.self_signed(&key)?;
        Ok((Zeroizing::new(key.serialize_der()), certificate.der().to_vec()))
    }

    /// The authority with this key and certificate.
    ///
    /// # Errors
    /// When the key is not one for ECDSA on P-256.
    pub fn load(pkcs8: &[u8], certificate: &[u8]) -> Result<Self, AuthorityError> {
        let key = KeyPair::from_pkcs8_der_and_sign_algo(
            &PrivatePkcs8KeyDer::from(pkcs8.to_vec()),
            &PKCS_ECDSA_P256_SHA256,
        )?;
        Ok(Self {
            issuer: Issuer::new(params(), key),
            certificate: CertificateDer::from(certificate.to_vec()),
        })
    }

    /// Its certificate (DER), which is not secret.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    fn issue(&self, name: &str) -> Result<CertifiedKey, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::new([name.to_owned()])?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let now = SystemTime::now();
        params.not_before = (now - SKEW).into();
        params.not_after = (now + LEAF_VALID).into();
        let leaf = params.signed_by(&key, &self.issuer)?;
        let private = PrivatePkcs8KeyDer::from(key.serialize_der());
        let provider = rustls::crypto::ring::default_provider();
        let signing = provider.key_provider.load_private_key(private.into())?;
        Ok(CertifiedKey::new(vec![leaf.der().clone()], signing))
    }

    /// TLS settings of a server of this name, with a certificate that is made anew in time.
    ///
    /// # Errors
    /// When the first certificate cannot be made.
    pub fn server(self, name: &str) -> Result<ServerConfig, AuthorityError> {
        let first = Arc::new(self.issue(name)?);
        let serving =
            Serving { authority: self, name: name.to_owned(), current: Mutex::new((Instant::now(), first)) };
        let mut config =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()?
                .with_no_client_auth()
                .with_cert_resolver(Arc::new(serving));
        config.alpn_protocols = vec![redoubt_stream::ALPN.to_vec()];
        Ok(config)
    }
}

struct Serving {
    authority: Authority,
    name: String,
    current: Mutex<(Instant, Arc<CertifiedKey>)>,
}

impl std::fmt::Debug for Serving {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "certificates of {}", self.name)
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.0.elapsed() > LEAF_USED {
            match self.authority.issue(&self.name) {
                Ok(next) => *current = (Instant::now(), Arc::new(next)),
                Err(error) => tracing::error!(%error, "no new certificate; the old one stays"),
            }
        }
        Some(Arc::clone(&current.1))
    }
}
