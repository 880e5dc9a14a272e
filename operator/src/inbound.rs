//! The keys by which agents' callers are verified: what the API server publishes about its service-account tokens
//! (OpenID Connect Discovery, RFC 7517).

use http::Request;
use kube::Client;
use serde_json::Value;

/// Issuer and keys of the cluster's service-account tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundKeys {
    /// `iss` of the tokens.
    pub issuer: String,
    /// A JSON Web Key Set, its keys in the order of their ids.
    pub jwks: Value,
}

/// Why the keys are not known.
#[derive(Debug, thiserror::Error)]
pub enum InboundError {
    /// The request could not be made.
    #[error("GET {path}: {source}")]
    Request {
        /// Path on the API server.
        path: &'static str,
        /// What went wrong.
        #[source]
        source: kube::Error,
    },
    /// The answer has not the expected form.
    #[error("GET {0}: the answer has no {1}")]
    Answer(&'static str, &'static str),
}

const DISCOVERY: &str = "/.well-known/openid-configuration";
const KEYS: &str = "/openid/v1/jwks";

/// Asks the API server.
///
/// # Errors
/// When it cannot be asked or answers in another form.
pub async fn fetch(client: &Client) -> Result<InboundKeys, InboundError> {
    let discovery = get(client, DISCOVERY).await?;
    let keys = get(client, KEYS).await?;
    parse(&discovery, &keys)
}

async fn get(client: &Client, path: &'static str) -> Result<Value, InboundError> {
    let failed = |source| InboundError::Request { path, source };
    let request =
        Request::get(path).body(Vec::new()).map_err(|error| failed(kube::Error::HttpError(error)))?;
    client.request(request).await.map_err(failed)
}

fn parse(discovery: &Value, keys: &Value) -> Result<InboundKeys, InboundError> {
    let issuer = discovery
        .get("issuer")
        .and_then(Value::as_str)
        .filter(|issuer| !issuer.is_empty())
        .ok_or(InboundError::Answer(DISCOVERY, "issuer"))?;
    let mut keys = keys
        .get("keys")
        .and_then(Value::as_array)
        .filter(|keys| !keys.is_empty())
        .ok_or(InboundError::Answer(KEYS, "keys"))?
        .clone();
    // API servers give the same keys in different orders; the policy must not change with that.
    keys.sort_by_key(|key| key.get("kid").and_then(Value::as_str).unwrap_or_default().to_owned());
    Ok(InboundKeys { issuer: issuer.to_owned(), jwks: serde_json::json!({ "keys": keys }) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_ordered_and_must_be_there() {
        let discovery = json!({ "issuer": "https://i" });
        let parsed = parse(&discovery, &json!({ "keys": [{ "kid": "b" }, { "kid": "a" }] })).unwrap();
        assert_eq!(parsed.jwks, json!({ "keys": [{ "kid": "a" }, { "kid": "b" }] }));
        assert!(parse(&discovery, &json!({ "keys": [] })).is_err());
        assert!(parse(&json!({}), &json!({ "keys": [{}] })).is_err());
    }
}
