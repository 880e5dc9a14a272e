//! What headers and query parameters are taken out, and which look like a credential.

use http::HeaderMap;
use http::header::{self, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

/// Headers that speak of one connection (RFC 9110 section 7.6.1), and those that a proxy answers itself.
const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Headers that clients carry credentials in.
const CREDENTIAL_HEADERS: [&str; 22] = [
    "api-key",
    "apikey",
    "authorization",
    "cookie",
    "cookie2",
    "ocp-apim-subscription-key",
    "private-token",
    "job-token",
    "proxy-authorization",
    "subscription-key",
    "token",
    "x-access-token",
    "x-amz-security-token",
    "x-api-key",
    "x-api-token",
    "x-apikey",
    "x-auth-key",
    "x-auth-token",
    "x-authorization",
    "x-functions-key",
    "x-goog-api-key",
    "x-vault-token",
];

/// Endings of the names of such headers.
const CREDENTIAL_ENDINGS: [&str; 5] =
    ["-api-key", "-access-token", "-auth-token", "-authorization", "-secret"];

/// Query parameters that clients carry credentials in.
const CREDENTIAL_PARAMETERS: [&str; 23] = [
    "access-token",
    "access_key",
    "access_token",
    "accesstoken",
    "api-key",
    "api_key",
    "api_token",
    "apikey",
    "auth",
    "auth_token",
    "authorization",
    "client_secret",
    "key",
    "password",
    "private_token",
    "secret",
    "sig",
    "signature",
    "subscription-key",
    "token",
    "x-amz-credential",
    "x-amz-signature",
    "x-goog-signature",
];

/// Headers by which some servers take another method than the one that was judged.
const METHOD_OVERRIDES: [&str; 3] = ["x-http-method", "x-http-method-override", "x-method-override"];

/// Headers by which some servers take another host or path than the one that was judged.
const TARGET_OVERRIDES: [&str; 8] = [
    "forwarded",
    "x-forwarded-host",
    "x-forwarded-prefix",
    "x-host",
    "x-http-host-override",
    "x-original-host",
    "x-original-url",
    "x-rewrite-url",
];

/// What begins the names of headers between Redoubt's own parts.
const OWN: &str = "redoubt-";

/// Takes out what must not go on: headers of one connection, those that `Connection` lists, and Redoubt's own.
pub(crate) fn strip(headers: &mut HeaderMap) {
    let listed: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let own = headers.keys().filter(|name| name.as_str().starts_with(OWN)).cloned().collect::<Vec<_>>();
    for name in listed.into_iter().chain(own) {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// A header's name as the most lenient server reads it: CGI and what follows it (WSGI, Rack) make one of `-` and `_`.
fn as_read(name: &str) -> String {
    name.replace('_', "-")
}

/// The first header that looks like a credential. `slot` is one that a binding of this host fills.
pub(crate) fn credential(headers: &HeaderMap, is_slot: impl Fn(&str) -> bool) -> Option<&HeaderName> {
    headers.keys().find(|name| {
        let name = as_read(name.as_str());
        let name = name.as_str();
        CREDENTIAL_HEADERS.contains(&name)
            || CREDENTIAL_ENDINGS.iter().any(|ending| name.ends_with(ending))
            || is_slot(name)
    })
}

/// The first query parameter that looks like a credential.
pub(crate) fn credential_parameter(query: &str) -> Option<&'static str> {
    parameters(query).find_map(|name| CREDENTIAL_PARAMETERS.into_iter().find(|it| **it == name))
}

/// What asks for another method than that of the request.
pub(crate) fn method_override(headers: &HeaderMap, query: Option<&str>) -> Option<&'static str> {
    one_of(&METHOD_OVERRIDES, headers).or_else(|| {
        query.and_then(|query| parameters(query).any(|name| name == "_method").then_some("_method"))
    })
}

/// What asks for another host or path than those of the request.
pub(crate) fn target_override(headers: &HeaderMap) -> Option<&'static str> {
    one_of(&TARGET_OVERRIDES, headers)
}

fn one_of(names: &[&'static str], headers: &HeaderMap) -> Option<&'static str> {
    headers.keys().find_map(|own| names.iter().find(|name| **name == as_read(own.as_str())).copied())
}

/// Whether another protocol is asked for.
pub(crate) fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE) || headers.contains_key("http2-settings")
}

/// Names of query parameters, decoded and in lower case.
fn parameters(query: &str) -> impl Iterator<Item = String> + '_ {
    query.split(['&', ';']).map(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        percent_decode_str(name).decode_utf8_lossy().to_ascii_lowercase()
    })
}

/// Asks for an answer that can be looked into: whole and not compressed.
pub(crate) fn make_readable(headers: &mut HeaderMap) {
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.remove(header::RANGE);
    headers.remove(header::IF_RANGE);
    // Differences to an earlier answer (RFC 3229), and letters that are not those of the credential.
    headers.remove("a-im");
    headers.remove(header::ACCEPT_CHARSET);
}

/// Why an answer cannot be looked into, if it cannot.
pub(crate) fn unreadable(status: http::StatusCode, headers: &HeaderMap) -> Option<&'static str> {
    let encoded = headers.get_all(header::CONTENT_ENCODING).iter().any(|value| {
        let value = value.as_bytes().trim_ascii();
        !value.is_empty() && !value.eq_ignore_ascii_case(b"identity")
    });
    if encoded {
        return Some("it is compressed, which was not asked for");
    }
    let part = matches!(status, http::StatusCode::PARTIAL_CONTENT | http::StatusCode::IM_USED)
        || headers.contains_key(header::CONTENT_RANGE);
    part.then_some("it is a part of a resource, which was not asked for")
}

#[cfg(test)]
mod tests;
