use super::*;

fn map(lines: &[(&str, &str)]) -> HeaderMap {
    lines
        .iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap()))
        .collect()
}

#[test]
fn headers_of_one_connection_are_dropped() {
    let mut headers = map(&[
        ("connection", "close, X-Gone"),
        ("x-gone", "1"),
        ("x-kept", "1"),
        ("te", "trailers"),
        ("keep-alive", "5"),
        ("transfer-encoding", "chunked"),
        ("redoubt-tool", "x"),
        ("redoubt-refused", "x"),
        ("expect", "100-continue"),
    ]);
    strip(&mut headers);
    assert_eq!(headers, map(&[("x-kept", "1")]));
}

#[test]
fn headers_that_look_like_credentials() {
    let check = |name: &str, expected: bool| {
        let headers = map(&[("accept", "*/*"), (name, "1")]);
        assert_eq!(credential(&headers, |slot| slot == "x-slot").is_some(), expected, "{name}");
    };
    for name in [
        "Authorization",
        "proxy-authorization",
        "x-api-key",
        "X-Goog-Api-Key",
        "cookie",
        "api-key",
        "x-auth-token",
        "x-slot",
        "acme-api-key",
        "x-acme-auth-token",
        "x_api_key",
        "x-auth_token",
        "x_slot",
        "acme_api_key",
    ] {
        check(name, true);
    }
    for name in [
        "accept",
        "content-type",
        "user-agent",
        "idempotency-key",
        "x-request-id",
        "x_request_id",
        "anthropic-version",
    ] {
        check(name, false);
    }
}

#[test]
fn parameters_that_look_like_credentials() {
    let check =
        |query: &str, expected: Option<&str>| assert_eq!(credential_parameter(query), expected, "{query}");
    check("api_key=1", Some("api_key"));
    check("a=1&KEY=2", Some("key"));
    check("a=1&access%5Ftoken=2", Some("access_token"));
    check("a=1;token=2", Some("token"));
    check("q=key&keyword=api_key", None);
    check("", None);
}

#[test]
fn methods_are_not_overridden() {
    let check = |headers: &[(&str, &str)], query, expected| {
        assert_eq!(method_override(&map(headers), query), expected)
    };
    check(&[("X-HTTP-Method-Override", "DELETE")], None, Some("x-http-method-override"));
    check(&[], Some("a=1&_method=DELETE"), Some("_method"));
    check(&[("X_HTTP-Method_Override", "DELETE")], None, Some("x-http-method-override"));
    check(&[("x-method", "1")], Some("method=1"), None);
}

#[test]
fn targets_are_not_overridden() {
    let check = |name, expected| assert_eq!(target_override(&map(&[(name, "/x")])), expected, "{name}");
    check("X-Original-URL", Some("x-original-url"));
    check("X_Rewrite_URL", Some("x-rewrite-url"));
    check("X-Forwarded-Host", Some("x-forwarded-host"));
    check("Forwarded", Some("forwarded"));
    check("X-Forwarded-For", None);
    check("X-Original", None);
}

#[test]
fn answers_that_cannot_be_looked_into() {
    let check = |status: u16, headers: &[(&str, &str)], expected: bool| {
        let status = http::StatusCode::from_u16(status).unwrap();
        assert_eq!(unreadable(status, &map(headers)).is_some(), expected, "{status} {headers:?}");
    };
    check(200, &[], false);
    check(200, &[("content-encoding", "identity")], false);
    check(200, &[("content-encoding", "gzip")], true);
    check(200, &[("content-encoding", "identity"), ("content-encoding", "br")], true);
    check(206, &[], true);
    check(200, &[("content-range", "bytes 0-1/2")], true);
}
