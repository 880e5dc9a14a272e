//! Callers' tokens: service-account tokens of the cluster (RFC 7519), verified offline against the keys that the signed
//! policy carries.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use redoubt_policy::wire::Inbound;
use serde::Deserialize;

/// Longest token, in bytes.
const TOKEN_MAX: usize = 16 * 1024;
/// Seconds by which the clocks of API server and node may differ.
const LEEWAY: u64 = 10;
/// What begins the user name of a service account.
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// Why a caller is not let in. The texts say nothing about the token itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("the token cannot be read")]
    Malformed,
    #[error("the token is signed with an algorithm other than RS256 and ES256")]
    Algorithm,
    #[error("the token is signed with a key that the cluster does not publish")]
    UnknownKey,
    #[error("the token is not valid: signature, issuer, audience or time do not fit")]
    Invalid,
    #[error("the token is not one of a service account")]
    NotServiceAccount,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
}

/// The user name in a token that the cluster issued for this agent: `system:serviceaccount:NAMESPACE:NAME`.
///
/// # Errors
/// When anything about the token does not fit.
pub(crate) fn verify(token: &str, inbound: &Inbound) -> Result<String, TokenError> {
    if token.len() > TOKEN_MAX {
        return Err(TokenError::Malformed);
    }
    // An algorithm that the library does not know, `none` among them, is an error of the header.
    let header = decode_header(token).map_err(|_| TokenError::Malformed)?;
    if !matches!(header.alg, Algorithm::RS256 | Algorithm::ES256) {
        return Err(TokenError::Algorithm);
    }
    let keys: JwkSet = serde_json::from_value(inbound.jwks.clone()).map_err(|_| TokenError::UnknownKey)?;
    let id = header.kid.ok_or(TokenError::UnknownKey)?;
    let jwk = keys.find(&id).filter(|jwk| fits(jwk, header.alg)).ok_or(TokenError::UnknownKey)?;
    let key = DecodingKey::from_jwk(jwk).map_err(|_| TokenError::UnknownKey)?;
    let mut rules = Validation::new(header.alg);
    rules.algorithms = vec![header.alg];
    rules.leeway = LEEWAY;
    rules.validate_nbf = true;
    rules.set_issuer(&[&inbound.issuer]);
    rules.set_audience(&[&inbound.audience]);
    rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    let subject = decode::<Claims>(token, &key, &rules).map_err(|_| TokenError::Invalid)?.claims.sub;
    let rest = subject.strip_prefix(SERVICE_ACCOUNT).ok_or(TokenError::NotServiceAccount)?;
    let plain = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b))
    };
    match rest.split_once(':') {
        Some((namespace, name)) if plain(namespace) && plain(name) => Ok(subject),
        _ => Err(TokenError::NotServiceAccount),
    }
}

/// Whether the key is one for this algorithm.
fn fits(jwk: &Jwk, algorithm: Algorithm) -> bool {
    let named = jwk.common.key_algorithm.is_none_or(|it| it.to_string() == format!("{algorithm:?}"));
    let kind = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => algorithm == Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) => {
            algorithm == Algorithm::ES256 && key.curve == EllipticCurve::P256
        }
        _ => false,
    };
    named && kind
}

#[cfg(test)]
mod tests;
