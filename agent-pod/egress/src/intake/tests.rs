use http::Request;

use super::*;

fn parts(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn check(
    method: &str,
    uri: &str,
    headers: &[(&str, &str)],
    tunnel: Option<&str>,
    expected: Result<&str, &str>,
) {
    let tunnel = tunnel.map(|it| Target::parse(Scheme::Https, it).unwrap());
    let read = read(&parts(method, uri, headers), tunnel.as_ref());
    let shown = read.as_ref().map(|it| format!("{} {}{}", it.method, it.target, it.path_and_query()));
    let shown = shown.as_deref().map_err(|refused| refused.refusal.reason.as_str());
    assert_eq!(shown, expected, "{method} {uri} {headers:?}");
}

#[test]
fn absolute_form() {
    let ok = |uri: &str, expected: &str| check("GET", uri, &[], None, Ok(expected));
    let bad = |uri: &str, expected: &str| check("GET", uri, &[], None, Err(expected));
    ok("https://h.example/a?b=c", "GET https://h.example:443/a?b=c");
    ok("http://H.Example./", "GET http://h.example:80/");
    ok("https://h.example", "GET https://h.example:443/");
    ok("https://h.example/%61", "GET https://h.example:443/a");
    bad("https://allowed@evil.example/", "HostMalformed");
    bad("https://h.example:0/", "HostMalformed");
    bad("https://2852039166/", "HostMalformed");
    bad("https://0251.0376.0251.0376/", "HostMalformed");
    bad("https://127.1/", "HostMalformed");
    bad("ftp://h.example/", "SchemeUnknown");
    bad("/a", "SchemeUnknown");
    bad("https://h.example/allowed/../admin", "PathMalformed");
    bad("https://h.example/%2e%2e/admin", "PathMalformed");
    bad("https://h.example/a%2fb", "PathMalformed");
    bad("https://h.example//admin", "PathMalformed");
    bad("https://h.example/a;b", "PathMalformed");
    bad("https://h.example/a?_method=DELETE", "MethodOverride");
}

#[test]
fn host_header_and_url_agree() {
    let host = |host: &str, expected| check("GET", "https://h.example/a", &[("host", host)], None, expected);
    host("h.example", Ok("GET https://h.example:443/a"));
    host("H.example:443", Ok("GET https://h.example:443/a"));
    host("evil.example", Err("HostMismatch"));
    host("h.example, evil.example", Err("HostMismatch"));
    host("h.example:8443", Err("HostMismatch"));
    host("x@h.example", Err("HostMismatch"));
}

#[test]
fn inside_a_tunnel() {
    let tunnel = Some("h.example:443");
    check("GET", "/a", &[("host", "h.example")], tunnel, Ok("GET https://h.example:443/a"));
    check("GET", "/a", &[("host", "evil.example")], tunnel, Err("HostMismatch"));
    check("GET", "/a", &[], tunnel, Err("HostMismatch"));
    check("GET", "https://h.example/a", &[], tunnel, Ok("GET https://h.example:443/a"));
    check("GET", "https://evil.example/a", &[], tunnel, Err("HostMismatch"));
    check("GET", "http://h.example:443/a", &[], tunnel, Err("HostMismatch"));
    check("GET", "https://h.example/a", &[("host", "evil.example")], tunnel, Err("HostMismatch"));
    check("CONNECT", "h.example:443", &[("host", "h.example:443")], tunnel, Err("MethodUnknown"));
}

#[test]
fn methods_and_protocols() {
    for method in ["TRACE", "get", "PROPFIND", "PRI"] {
        check(method, "https://h.example/", &[], None, Err("MethodUnknown"));
    }
    check("GET", "https://h.example/", &[("upgrade", "websocket")], None, Err("UpgradeNotAllowed"));
    check("GET", "https://h.example/", &[("http2-settings", "x")], None, Err("UpgradeNotAllowed"));
    check(
        "POST",
        "https://h.example/",
        &[("expect", "100-Continue")],
        None,
        Ok("POST https://h.example:443/"),
    );
    check("POST", "https://h.example/", &[("expect", "other")], None, Err("ExpectationUnknown"));
}

#[test]
fn connect_names_host_and_port() {
    let check = |authority: &str, headers: &[(&str, &str)], expected: Result<&str, &str>| {
        let read = connect_target(&parts("CONNECT", authority, headers)).map(|it| it.to_string());
        assert_eq!(read.as_deref().map_err(|it| it.refusal.reason.as_str()), expected, "{authority}");
    };
    check("h.example:443", &[("host", "h.example:443")], Ok("https://h.example:443"));
    check("h.example:443", &[("host", "h.example")], Ok("https://h.example:443"));
    check("h.example:8443", &[("host", "h.example")], Err("HostMismatch"));
    check("h.example:443", &[("host", "evil.example")], Err("HostMismatch"));
    check("h.example", &[], Err("HostMalformed"));
    check("h.example:0", &[], Err("HostMalformed"));
    check("[::1]:443", &[], Ok("https://[::1]:443"));
}
