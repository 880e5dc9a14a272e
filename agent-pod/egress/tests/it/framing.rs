//! Requests that two parsers could read in two ways.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{Setup, World, parse};

#[tokio::test]
async fn only_one_reading_passes() {
    let world = World::new().await;
    let head = "POST https://free.test/a HTTP/1.1\r\nHost: free.test\r\nConnection: close\r\n";
    for (lines, expected) in [
        ("Content-Length: 5\r\n\r\nabcde", (200, "-")),
        ("Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n", (200, "-")),
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
            (400, "RequestMalformed"),
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
            (400, "RequestMalformed"),
        ),
        ("Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcde", (400, "RequestMalformed")),
        ("Content-Length: 5, 5\r\n\r\nabcde", (400, "RequestMalformed")),
        ("Content-Length: +5\r\n\r\nabcde", (400, "RequestMalformed")),
        ("Content-Length: 0x5\r\n\r\nabcde", (400, "RequestMalformed")),
        ("Content-Length: 18446744073709551621\r\n\r\nabcde", (400, "RequestMalformed")),
        ("Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n", (400, "RequestMalformed")),
        ("Transfer-Encoding: chunked\r\n\r\n5;ext=1\r\nabcde\r\n0\r\n\r\n", (400, "RequestMalformed")),
        ("Transfer-Encoding: chunked\r\n\r\n5\nabcde\n0\n\n", (400, "RequestMalformed")),
        ("Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nabcde", (400, "RequestMalformed")),
        ("Transfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: y\r\n\r\n", (400, "RequestMalformed")),
        ("X y: z\r\n\r\n", (400, "RequestMalformed")),
        ("X: a\rb\r\n\r\n", (400, "RequestMalformed")),
        ("X: a\0b\r\n\r\n", (400, "RequestMalformed")),
        (" folded: x\r\n\r\n", (400, "RequestMalformed")),
    ] {
        let (status, reason) = world.send(&format!("{head}{lines}")).await.refusal();
        assert_eq!((status, reason.as_str()), expected, "{lines:?}");
    }
    let whole = world.free.seen().iter().filter(|seen| seen.whole).count();
    assert_eq!(whole, 2, "{:?}", world.free.seen());
}

#[tokio::test]
async fn sizes_of_heads() {
    let world = World::new().await;
    let ask = |path: &str, headers: &str| {
        format!(
            "GET https://free.test/{path} HTTP/1.1\r\nHost: free.test\r\nConnection: close\r\n{headers}\r\n"
        )
    };
    for (text, expected) in [
        (ask(&"a".repeat(4000), ""), 200),
        (ask(&"a".repeat(64 * 1024), ""), 414),
        (ask("", &format!("X: {}\r\n", "a".repeat(8000))), 200),
        (ask("", &format!("X: {}\r\n", "a".repeat(100 * 1024))), 431),
        (ask("", &"X: y\r\n".repeat(90)), 200),
        (ask("", &"X: y\r\n".repeat(10_000)), 431),
    ] {
        assert_eq!(world.send(&text).await.status, expected, "{}", &text[..60]);
    }
}

#[tokio::test]
async fn a_pipelined_request_is_judged_on_its_own() {
    let world = World::new().await;
    let text = "GET https://api.test/v1/x HTTP/1.1\r\nHost: api.test\r\n\r\nGET https://api.test/admin HTTP/1.1\r\nHost: api.test\r\n\r\nGET https://free.test/ HTTP/1.1\r\nHost: free.test\r\nConnection: close\r\n\r\n";
    let bytes = world.raw(text.as_bytes()).await;
    let first = parse(&bytes, false).unwrap();
    let second = parse(&first.rest, false).unwrap();
    let third = parse(&second.rest, false).unwrap();
    assert_eq!(
        (first.status, second.refusal(), third.status),
        (200, (403, "PathNotAllowed".to_owned()), 200)
    );
    assert_eq!((world.api.seen().len(), world.free.seen().len()), (1, 1));
}

#[tokio::test]
async fn a_smuggled_request_behind_a_malformed_one_is_never_read() {
    let world = World::new().await;
    let text = "GET https://free.test/ HTTP/1.1\nHost: free.test\n\nGET https://free.test/second HTTP/1.1\r\nHost: free.test\r\n\r\n";
    let answer = world.send(text).await;
    assert_eq!(answer.refusal(), (400, "RequestMalformed".to_owned()));
    assert!(answer.rest.is_empty());
    assert!(world.free.seen().is_empty());
    world.audit.record(|it| it["reason"] == "RequestMalformed").await;
}

#[tokio::test]
async fn old_http_has_no_chunks() {
    let world = World::new().await;
    let ask = |lines: &str| format!("POST https://free.test/ HTTP/1.0\r\nHost: free.test\r\n{lines}");
    assert_eq!(world.send(&ask("Content-Length: 2\r\n\r\nab")).await.status, 200);
    let chunked = world.send(&ask("Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n")).await;
    assert_eq!(chunked.refusal(), (400, "RequestMalformed".to_owned()));
}

#[tokio::test]
async fn a_body_that_does_not_come_frees_its_place() {
    let world = World::with(Setup { timeout: 1, response_timeout: Some(15), ..Setup::default() }).await;
    let mut stream = world.connect().await;
    let head = "POST https://free.test/ HTTP/1.1\r\nHost: free.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut read))
        .await
        .expect("the place was not freed")
        .unwrap();
    let answer = parse(&read, false).unwrap();
    assert_eq!(answer.refusal(), (408, "RequestTimeout".to_owned()));
}
