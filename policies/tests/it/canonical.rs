//! Hosts, authorities, paths and methods of requests, which are hostile: canonical or refused.

use redoubt_policy::host::HostPattern;
use redoubt_policy::method::Method;
use redoubt_policy::path::{CanonicalPath, PathPattern};
use redoubt_policy::target::{Scheme, Target};

fn check_authority(authority: &str, expected: Option<&str>) {
    let target = Target::parse(Scheme::Https, authority).map(|target| target.to_string());
    let expected = expected.map(|text| format!("https://{text}"));
    assert_eq!(target.ok(), expected, "{authority:?}");
}

#[test]
fn authorities() {
    for (authority, canonical) in [
        ("api.example.com", "api.example.com:443"),
        ("API.Example.COM", "api.example.com:443"),
        ("api.example.com.", "api.example.com:443"),
        ("api.example.com.:8443", "api.example.com:8443"),
        ("api.example.com:443", "api.example.com:443"),
        ("api.example.com:65535", "api.example.com:65535"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example:443"),
        ("10.0.0.1:80", "10.0.0.1:80"),
        ("10.0.0.1.", "10.0.0.1:443"),
        ("[::1]", "[::1]:443"),
        ("[2001:DB8:0::1]:80", "[2001:db8::1]:80"),
        ("[::ffff:10.0.0.1]", "[::ffff:10.0.0.1]:443"),
    ] {
        check_authority(authority, Some(canonical));
        check_authority(canonical, Some(canonical));
    }
    for authority in [
        "",
        ".",
        "..",
        ":443",
        "a..b",
        "a.com..",
        ".a.com",
        "a.com:",
        "a.com:0",
        "a.com:00",
        "a.com:0443",
        "a.com:443x",
        "a.com:x443",
        "a.com: 443",
        "a.com:+443",
        "a.com:-1",
        "a.com:65536",
        "a.com:4294967739",
        "a.com:443:443",
        "a.com:443@evil",
        "allowed@evil",
        "u:p@a.com",
        "allowed\\@evil",
        "allowed\\.evil",
        "a.com\t",
        "a\tb.com",
        "a.com\n",
        "a.com\r\nHost: x",
        "a.com\0",
        "a.com%00",
        "a%2ecom",
        "a.com,b.com",
        "a com",
        " a.com",
        "a.com ",
        "a.com/x",
        "a.com?x",
        "a.com#x",
        "*.a.com",
        "*",
        "bücher.example",
        "аpi.example.com",
        "ａ.com",
        "a。com",
        "a\u{ad}b.com",
        "straße.de",
        "a\u{200b}.com",
        "2852039166",
        "0251.0376.0251.0376",
        "0xA9FEA9FE",
        "0xa9.254.169.254",
        "127.1",
        "127.0.1",
        "1.2.3.4.5",
        "256.0.0.1",
        "1.2.3.04",
        "0x7f.1",
        "a.0x1",
        "1.2.3.4.:x",
        "[::1",
        "::1",
        "::1]",
        "[::1]]",
        "[[::1]]",
        "[::1]x",
        "[::1]443",
        "[::1]:",
        "[::1]:0",
        "[1.2.3.4]",
        "[fe80::1%25eth0]",
        "[fe80::1%eth0]",
        "x[::1]",
        "[a.com]",
        "[]",
        "-a.com",
        "a-.com",
        "a.-b.com",
        "a.com-",
    ] {
        check_authority(authority, None);
    }
    check_authority(&"a".repeat(64), None);
    check_authority(&format!("{}a", "a.".repeat(127)), None);
}

#[test]
fn default_ports() {
    assert_eq!(Target::parse(Scheme::Http, "a").unwrap().port, 80);
    assert_eq!(Target::parse(Scheme::Https, "a").unwrap().port, 443);
}

#[test]
fn host_patterns_match_on_label_boundaries() {
    for (pattern, host, expected) in [
        ("x.com", "x.com", true),
        ("x.com", "X.COM.", true),
        ("x.com", "a.x.com", false),
        ("x.com", "evilx.com", false),
        ("x.com", "x.com.evil", false),
        ("*.x.com", "a.x.com", true),
        ("*.x.com", "x.com", false),
        ("*.x.com", "a.b.x.com", false),
        ("*.x.com", "evilx.com", false),
        ("*.x.com", "x.com.evil", false),
        ("*.x.com", "a.x.com.evil", false),
        ("1.2.3.4", "1.2.3.4", true),
        ("1.2.3.4", "[::ffff:1.2.3.4]", false),
        ("::1", "[::1]", true),
        ("::1", "[0:0:0:0:0:0:0:1]", true),
        ("*.2.3.x", "1.2.3.x", true),
    ] {
        let pattern: HostPattern = pattern.parse().unwrap();
        let host = host.parse().unwrap();
        assert_eq!(pattern.matches(&host), expected, "{pattern} {host}");
    }
}

fn check_path(path: &str, expected: Option<&str>) {
    let canonical = path.parse::<CanonicalPath>().map(|path| path.to_string());
    assert_eq!(canonical.ok().as_deref(), expected, "{path:?}");
}

#[test]
fn paths() {
    for (path, canonical) in [
        ("/", "/"),
        ("/a/b/", "/a/b/"),
        ("/%41%7e%2d", "/A~-"),
        ("/a%2a%c3%bc", "/a%2A%C3%BC"),
        ("/a:b@c!$&'()*+,=", "/a:b@c!$&'()*+,="),
        ("/.well-known/x", "/.well-known/x"),
        ("/...", "/..."),
        ("/a..b/..c/d..", "/a..b/..c/d.."),
        ("/V1/Messages", "/V1/Messages"),
        ("/a%20b", "/a%20b"),
    ] {
        check_path(path, Some(canonical));
        check_path(canonical, Some(canonical));
    }
    for path in [
        "",
        "a",
        "*",
        "https://a/b",
        "//",
        "//host/path",
        "/a//b",
        "/a//",
        "///",
        "/..",
        "/.",
        "/allowed/../admin",
        "/allowed/./x",
        "/allowed/..",
        "/allowed/.",
        "/%2e%2e/admin",
        "/%2E./admin",
        "/.%2e/admin",
        "/%2e",
        "/a%2fb",
        "/a%2Fb",
        "/a%5cb",
        "/a%5Cb",
        "/a\\b",
        "/..;/admin",
        "/a;jsessionid=1",
        "/;",
        "/a%3bb",
        "/a%00",
        "/a%0d%0ab",
        "/a%09",
        "/a%1f",
        "/a%7f",
        "/a%",
        "/a%4",
        "/a%4x",
        "/a%u002e",
        "/a%+1",
        "/%252e%252e/x",
        "/a%25",
        "/a b",
        "/a\tb",
        "/a\r\nb",
        "/a\0",
        "/a?b",
        "/a#b",
        "/a\"b",
        "/a<b>",
        "/a[b]",
        "/{a}",
        "/a|b",
        "/a^b",
        "/a`b",
        "/ü",
        "/%ff",
        "/%c0%ae%c0%ae/x",
        "/%c0%af",
        "/%ed%a0%80",
        "/a%e2%82",
    ] {
        check_path(path, None);
    }
    check_path(&format!("/{}", "a".repeat(8191)), Some(&format!("/{}", "a".repeat(8191))));
    check_path(&format!("/{}", "a".repeat(8192)), None);
}

#[test]
fn path_patterns_match_on_segment_boundaries() {
    for (pattern, path, expected) in [
        ("/v1/files", "/v1/files", true),
        ("/v1/files", "/v1/files/", false),
        ("/v1/files", "/v1/files-evil", false),
        ("/v1/files", "/V1/files", false),
        ("/v1/files", "/v1/files/x", false),
        ("/v1/files/**", "/v1/files", true),
        ("/v1/files/**", "/v1/files/", true),
        ("/v1/files/**", "/v1/files/a/b/", true),
        ("/v1/files/**", "/v1/files-evil/a", false),
        ("/v1/files/**", "/v1", false),
        ("/v1/*", "/v1/a", true),
        ("/v1/*", "/v1/", false),
        ("/v1/*", "/v1", false),
        ("/v1/*", "/v1/a/b", false),
        ("/v1/*/x", "/v1/a/x", true),
        ("/v1/*/x", "/v1/a/b/x", false),
        ("/**", "/", true),
        ("/**", "/a/b", true),
        ("/", "/", true),
        ("/", "/a", false),
    ] {
        let (own, other): (PathPattern, CanonicalPath) = (pattern.parse().unwrap(), path.parse().unwrap());
        assert_eq!(own.matches(&other), expected, "{pattern} {path}");
    }
}

#[test]
fn methods() {
    for method in Method::ALL {
        assert_eq!(method.as_str().parse(), Ok(method));
        assert!(method.as_str().to_ascii_lowercase().parse::<Method>().is_err());
    }
    let long = "G".repeat(10_000);
    for text in ["", "TRACE", "CONNECT", "PRI", "Get", "GET ", " GET", "GET\0", "GETT", "GE", "*", &long] {
        assert!(text.parse::<Method>().is_err(), "{text:?}");
    }
}
