//! Certificates of destinations, and tokens of callers.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use rustls::ServerConfig;
use rustls_pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value, json};

/// Signs certificates.
pub(crate) struct TestCa {
    pub(crate) pem: String,
    /// In standard base64.
    pub(crate) der: String,
    issuer: rcgen::Issuer<'static, KeyPair>,
}

impl TestCa {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let der = base64::engine::general_purpose::STANDARD.encode(certificate.der());
        Self { pem: certificate.pem(), der, issuer: rcgen::Issuer::new(params, key) }
    }

    pub(crate) fn server(&self, hosts: &[&str]) -> Arc<ServerConfig> {
        self.server_with(hosts, |_| {})
    }

    pub(crate) fn server_with(
        &self,
        hosts: &[&str],
        change: impl Fn(&mut CertificateParams),
    ) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = hosts.iter().map(|it| (*it).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
            .unwrap();
        Arc::new(config)
    }
}

/// Issues callers' tokens.
pub(crate) struct Issuer {
    pkcs8: Vec<u8>,
    jwks: Value,
}

impl Issuer {
    pub(crate) fn new() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let jwks = json!({"keys": [{
            "kty": "EC", "crv": "P-256", "kid": "one", "alg": "ES256", "use": "sig",
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        }]});
        Self { pkcs8: pkcs8.as_ref().to_vec(), jwks }
    }

    pub(crate) fn inbound(&self) -> Value {
        json!({
            "issuer": "https://cluster.test", "jwks": self.jwks, "audience": "redoubt.dev/agents/team/helper",
            "callers": ["system:serviceaccount:team:caller"],
        })
    }

    pub(crate) fn token(&self, account: &str, audience: &str) -> String {
        let expires = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 600;
        let claims = json!({
            "iss": "https://cluster.test", "aud": [audience], "exp": expires,
            "sub": format!("system:serviceaccount:team:{account}"),
        });
        let header = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::ES256) };
        encode(&header, &claims, &EncodingKey::from_ec_der(&self.pkcs8)).unwrap()
    }
}
