//! A certificate authority that lives as long as the value: server certificates for the names of doubles.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use crate::serve::{ServeError, tls_from_pem};

/// A certificate could not be made; most often a name is not one.
#[derive(Debug, thiserror::Error)]
#[error("certificate: {0}")]
pub struct CaError(#[from] rcgen::Error);

/// A CA. Its key is never written anywhere.
pub struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A server's certificate and key.
pub struct ServerCert {
    /// The certificate, PEM.
    pub cert_pem: String,
    /// Its key, PKCS#8 PEM.
    pub key_pem: String,
}

impl ServerCert {
    /// TLS with this certificate.
    pub fn acceptor(&self, alpn: &[&str]) -> Result<tokio_rustls::TlsAcceptor, ServeError> {
        tls_from_pem(self.cert_pem.as_bytes(), self.key_pem.as_bytes(), alpn)
    }
}

fn params(names: Vec<String>, title: &str) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, title);
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2049, 12, 31);
    Ok(params)
}

impl Ca {
    /// A CA with a fresh key (ECDSA P-256).
    pub fn new(title: &str) -> Result<Self, CaError> {
        let mut params = params(Vec::new(), title)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate()?)? })
    }

    /// The CA's certificate, PEM: what clients are to trust.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A server certificate for DNS names and IP addresses.
    pub fn server(&self, names: &[&str]) -> Result<ServerCert, CaError> {
        let title = names.first().copied().unwrap_or("server");
        let mut params = params(names.iter().map(|name| (*name).to_owned()).collect(), title)?;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?;
        Ok(ServerCert { cert_pem: cert.pem(), key_pem: key.serialize_pem() })
    }
}
