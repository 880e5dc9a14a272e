//! `CONNECT` and what goes through it.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::support::{SECRET, Setup, World, exchange, parse, tls_over};

async fn open(world: &World, authority: &str) -> (u16, String, UnixStream) {
    let mut stream = world.connect().await;
    stream
        .write_all(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut read = Vec::new();
    while !read.windows(4).any(|it| it == b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).await.unwrap();
        read.push(byte[0]);
    }
    let head = String::from_utf8(read).unwrap();
    let reason =
        head.lines().find_map(|line| line.strip_prefix("redoubt-refused: ")).unwrap_or("-").to_owned();
    (head[9..12].parse().unwrap(), reason, stream)
}

async fn inside(world: &World, authority: &str, name: &str, request: &str) -> Option<crate::support::Answer> {
    let (status, _, stream) = open(world, authority).await;
    assert_eq!(status, 200);
    let mut tls = tls_over(stream, &world.ca_pem().await, name, &[b"http/1.1"]).await.ok()?;
    parse(&exchange(&mut tls, request.as_bytes()).await, false)
}

#[tokio::test]
async fn only_declared_destinations_are_connected_to() {
    let world = World::new().await;
    for (authority, expected) in [
        ("free.test:443", (200, "-")),
        ("FREE.test.:443", (200, "-")),
        ("10.0.0.2:443", (200, "-")),
        ("evil.test:443", (403, "NotDeclared")),
        ("free.test:8443", (403, "PortNotAllowed")),
        ("10.0.0.1:443", (403, "NotDeclared")),
        ("tools-only.test:443", (403, "NotDeclared")),
        ("free.test@evil.test:443", (400, "HostMalformed")),
        ("plain.test:80", (403, "SchemeNotAllowed")),
    ] {
        let (status, reason, _) = open(&world, authority).await;
        assert_eq!((status, reason.as_str()), expected, "{authority}");
    }
    assert!(world.names.dialled.lock().unwrap().is_empty());
}

#[tokio::test]
async fn each_request_inside_is_judged_and_injected() {
    let world = World::new().await;
    let ask = |path: &str, headers: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: api.test\r\n{headers}Connection: close\r\n\r\n")
    };
    world.api.answer(|_| crate::support::ok(&format!("echo {SECRET}")));
    let answer = inside(&world, "api.test:443", "api.test", &ask("/v1/x", "")).await.unwrap();
    assert_eq!((answer.status, answer.text()), (200, format!("echo {}", "*".repeat(SECRET.len()))));
    assert_eq!(world.api.seen()[0].header("authorization"), Some(&*format!("Bearer {SECRET}")));
    for (path, headers, expected) in [
        ("/admin", "", (403, "PathNotAllowed")),
        ("/v1/x", "Authorization: Bearer mine\r\n", (403, "CredentialHeader")),
        ("/v1/x", "Upgrade: websocket\r\n", (403, "UpgradeNotAllowed")),
    ] {
        let answer = inside(&world, "api.test:443", "api.test", &ask(path, headers)).await.unwrap();
        let (status, reason) = answer.refusal();
        assert_eq!((status, reason.as_str()), expected, "{path} {headers}");
    }
    for request in [
        "GET /v1/x HTTP/1.1\r\nHost: free.test\r\nConnection: close\r\n\r\n",
        "GET https://free.test/ HTTP/1.1\r\nHost: free.test\r\nConnection: close\r\n\r\n",
        "GET /v1/x HTTP/1.0\r\n\r\n",
    ] {
        let answer = inside(&world, "api.test:443", "api.test", request).await.unwrap();
        assert_eq!(answer.refusal(), (400, "HostMismatch".to_owned()), "{request:?}");
    }
    let smuggled = "POST /v1/x HTTP/1.1\r\nHost: api.test\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let answer = inside(&world, "api.test:443", "api.test", smuggled).await.unwrap();
    assert_eq!(answer.refusal(), (400, "RequestMalformed".to_owned()));
    let nested = "CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\nGET /v1/x HTTP/1.1\r\nHost: api.test\r\n\r\n";
    let answer = inside(&world, "api.test:443", "api.test", nested).await.unwrap();
    assert_eq!((answer.refusal(), answer.rest.len()), ((400, "RequestMalformed".to_owned()), 0));
    assert_eq!((world.api.seen().len(), world.free.seen().len()), (1, 0));
}

#[tokio::test]
async fn the_name_in_the_hello_is_that_of_the_tunnel() {
    let world = World::new().await;
    let request = "GET / HTTP/1.1\r\nHost: free.test\r\nConnection: close\r\n\r\n";
    assert!(inside(&world, "free.test:443", "evil.test", request).await.is_none());
    world.audit.record(|it| it["event"] == "connect" && it["reason"] == "HostMismatch").await;
    assert_eq!(inside(&world, "free.test:443", "free.test", request).await.unwrap().status, 200);
    let literal = "GET / HTTP/1.1\r\nHost: 10.0.0.2\r\nConnection: close\r\n\r\n";
    assert_eq!(inside(&world, "10.0.0.2:443", "10.0.0.2", literal).await.unwrap().status, 200);
    assert!(inside(&world, "free.test:443", "10.0.0.2", request).await.is_none());
}

#[tokio::test]
async fn clients_with_other_authorities_fail_closed() {
    let world = World::new().await;
    let (_, _, stream) = open(&world, "free.test:443").await;
    assert!(tls_over(stream, &world.ca.pem, "free.test", &[b"http/1.1"]).await.is_err());
    world.audit.record(|it| it["reason"] == "CertificateNotTrusted").await;
    let (_, _, mut stream) = open(&world, "free.test:443").await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: free.test\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    let _closed = stream.read_to_end(&mut rest).await;
    world.audit.record(|it| it["reason"] == "TunnelNotTLS").await;
    let (_, _, stream) = open(&world, "free.test:443").await;
    assert!(tls_over(stream, &world.ca_pem().await, "free.test", &[b"h3"]).await.is_err());
    assert!(world.free.seen().is_empty());
}

#[tokio::test]
async fn http2_inside() {
    let world = World::new().await;
    let (_, _, stream) = open(&world, "api.test:443").await;
    let tls = tls_over(stream, &world.ca_pem().await, "api.test", &[b"h2"]).await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await.unwrap();
    tokio::spawn(connection);
    for (url, host, expected) in [
        ("https://api.test/v1/x", None, (200, "-")),
        ("https://free.test/", None, (400, "HostMismatch")),
        ("https://api.test/v1/x", Some("free.test"), (400, "HostMismatch")),
        ("http://api.test:443/v1/x", None, (400, "HostMismatch")),
        ("https://api.test/admin", None, (403, "PathNotAllowed")),
        ("https://api.test/v1/y", None, (200, "-")),
    ] {
        let mut request = Request::builder().uri(url);
        if let Some(host) = host {
            request = request.header("host", host);
        }
        let answer = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        let reason =
            answer.headers().get("redoubt-refused").map_or("-", |it| it.to_str().unwrap()).to_owned();
        assert_eq!((answer.status().as_u16(), reason.as_str()), expected, "{url} {host:?}");
        answer.into_body().collect().await.unwrap();
    }
    let seen = world.api.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(
        (seen[0].header("host"), seen[0].header("authorization")),
        (Some("api.test"), Some(&*format!("Bearer {SECRET}")))
    );
}

#[tokio::test]
async fn the_proxy_port_counts_as_the_agent() {
    let world = World::with(Setup {
        extra: vec!["--proxy".to_owned(), "127.0.0.1:0".to_owned()],
        ..Setup::default()
    })
    .await;
    let ask = |text: &'static str| {
        let proxy = world.proxy.unwrap();
        async move {
            let mut stream = tokio::net::TcpStream::connect(proxy).await.unwrap();
            parse(&exchange(&mut stream, text.as_bytes()).await, false).unwrap()
        }
    };
    let answer = ask("GET https://free.test/ HTTP/1.1\r\nHost: free.test\r\nConnection: close\r\n\r\n").await;
    assert_eq!(answer.status, 200);
    let answer = ask("GET https://tools-only.test/ HTTP/1.1\r\nHost: tools-only.test\r\nRedoubt-Tool: weather\r\nConnection: close\r\n\r\n").await;
    assert_eq!(answer.refusal(), (403, "ToolNotAccepted".to_owned()));
    let answer = ask("GET /v1/jail/nonce HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert_eq!(answer.refusal(), (403, "SocketOnly".to_owned()));
    let answer = ask("GET /v1/ca.pem HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.text().starts_with("-----BEGIN CERTIFICATE-----"));
}

/// Public keys of the certificates that a tunnel shows: its leaf's and its authority's.
async fn keys(world: &World, host: &str) -> Vec<Vec<u8>> {
    // What precedes the point in the SubjectPublicKeyInfo of a key on P-256 (RFC 5480).
    const PREFIX: [u8; 13] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00];
    let (_, _, stream) = open(world, &format!("{host}:443")).await;
    let tls = tls_over(stream, &world.ca_pem().await, host, &[b"http/1.1"]).await.unwrap();
    let chain = tls.get_ref().1.peer_certificates().unwrap();
    let key = |der: &[u8]| {
        let at = der.windows(PREFIX.len()).position(|it| it == PREFIX).unwrap() + PREFIX.len();
        der[at..at + 65].to_vec()
    };
    chain.iter().map(|certificate| key(certificate)).collect()
}

#[tokio::test]
async fn every_certificate_has_a_key_of_its_own() {
    let (one, two) = (World::new().await, World::new().await);
    let mut all = [keys(&one, "api.test").await, keys(&one, "free.test").await, keys(&two, "api.test").await];
    assert!(all.iter().all(|chain| chain.len() == 2) && all[0].pop() == all[1].pop());
    let distinct: std::collections::BTreeSet<_> =
        all.concat().into_iter().chain(keys(&one, "api.test").await).collect();
    assert_eq!(distinct.len(), 5, "two leaves and the authority of one sidecar, both of the other");
}

#[tokio::test]
async fn requests_under_way_are_bounded_whatever_connections_carry_them() {
    let world = World::with(Setup {
        extra: vec!["--max-connections".to_owned(), "3".to_owned()],
        ..Setup::default()
    })
    .await;
    world.api.answer(|seen| match seen.head.contains("/hang") {
        true => vec![crate::support::Step::Hang],
        false => crate::support::ok("fine"),
    });
    let (_, _, stream) = open(&world, "api.test:443").await;
    let tls = tls_over(stream, &world.ca_pem().await, "api.test", &[b"h2"]).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await.unwrap();
    tokio::spawn(connection);
    let ask = |path: &str| {
        let request = Request::builder().uri(format!("https://api.test/v1/{path}"));
        let mut sender = sender.clone();
        async move { sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap() }
    };
    let hanging: Vec<_> = (0..3).map(|_| tokio::spawn(ask("hang"))).collect();
    while world.api.seen().len() < 3 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let answer = ask("x").await;
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["redoubt-refused"], "TooManyRequests");
    world.audit.record(|it| it["reason"] == "TooManyRequests").await;
    for task in hanging {
        task.abort();
    }
    while ask("x").await.status() != 200 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
