use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{EncodingKey, Header, encode};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

use super::*;

struct Issuer {
    pkcs8: Vec<u8>,
    inbound: Inbound,
}

fn issuer() -> Issuer {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
    let point = pair.public_key().as_ref();
    let (x, y) = point[1..].split_at(32);
    let jwks = json!({"keys": [{
        "kty": "EC", "crv": "P-256", "kid": "one", "alg": "ES256", "use": "sig",
        "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
    }]});
    let inbound = Inbound {
        issuer: "https://cluster.example".to_owned(),
        jwks,
        audience: "redoubt.dev/agents/team/a".to_owned(),
        callers: Vec::new(),
    };
    Issuer { pkcs8: pkcs8.as_ref().to_vec(), inbound }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn claims(changed: &[(&str, Value)]) -> Value {
    let mut claims = json!({
        "iss": "https://cluster.example", "aud": ["redoubt.dev/agents/team/a"],
        "sub": "system:serviceaccount:team:caller", "exp": now() + 600, "nbf": now() - 5,
    });
    for (name, value) in changed {
        claims[*name] = value.clone();
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(*name);
        }
    }
    claims
}

fn check(changed: &[(&str, Value)], expected: Result<&str, TokenError>) {
    let issuer = issuer();
    let header = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::ES256) };
    let token = encode(&header, &claims(changed), &EncodingKey::from_ec_der(&issuer.pkcs8)).unwrap();
    assert_eq!(verify(&token, &issuer.inbound).as_deref().map_err(Clone::clone), expected, "{changed:?}");
}

#[test]
fn claims_that_must_fit() {
    check(&[], Ok("system:serviceaccount:team:caller"));
    check(&[("aud", json!("redoubt.dev/agents/team/a"))], Ok("system:serviceaccount:team:caller"));
    check(&[("aud", json!(["redoubt.dev/agents/team/b"]))], Err(TokenError::Invalid));
    check(&[("aud", Value::Null)], Err(TokenError::Invalid));
    check(&[("iss", json!("https://other.example"))], Err(TokenError::Invalid));
    check(&[("iss", Value::Null)], Err(TokenError::Invalid));
    check(&[("exp", json!(now() - 60))], Err(TokenError::Invalid));
    check(&[("exp", Value::Null)], Err(TokenError::Invalid));
    check(&[("nbf", json!(now() + 60))], Err(TokenError::Invalid));
    check(&[("sub", json!("system:node:n"))], Err(TokenError::NotServiceAccount));
    check(&[("sub", json!("system:serviceaccount:team:a:b"))], Err(TokenError::NotServiceAccount));
    check(&[("sub", json!("system:serviceaccount:team:a\r\nX: y"))], Err(TokenError::NotServiceAccount));
}

#[test]
fn signatures_that_must_fit() {
    let (ours, other) = (issuer(), issuer());
    let token = |kid: Option<&str>, key: &Issuer| {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::ES256) };
        encode(&header, &claims(&[]), &EncodingKey::from_ec_der(&key.pkcs8)).unwrap()
    };
    let check = |token: &str, expected: Result<(), TokenError>| {
        assert_eq!(verify(token, &ours.inbound).map(drop), expected);
    };
    check(&token(Some("one"), &ours), Ok(()));
    check(&token(Some("two"), &ours), Err(TokenError::UnknownKey));
    check(&token(None, &ours), Err(TokenError::UnknownKey));
    check(&token(Some("one"), &other), Err(TokenError::Invalid));
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let unsigned = format!("{}.{}.", part(json!({"alg": "none", "kid": "one"})), part(claims(&[])));
    check(&unsigned, Err(TokenError::Malformed));
    let symmetric = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::HS256) };
    let public = ours.inbound.jwks.to_string();
    let forged = encode(&symmetric, &claims(&[]), &EncodingKey::from_secret(public.as_bytes())).unwrap();
    check(&forged, Err(TokenError::Algorithm));
    let good = token(Some("one"), &ours);
    let confused =
        format!("{}.{}", part(json!({"alg": "RS256", "kid": "one"})), good.split_once('.').unwrap().1);
    check(&confused, Err(TokenError::UnknownKey));
    check("", Err(TokenError::Malformed));
    check("a.b.c", Err(TokenError::Malformed));
    check(&"x".repeat(20_000), Err(TokenError::Malformed));
}
