//! Destinations that give the credential back.

use std::sync::Arc;

use crate::support::{SECRET, Step, World, ok};

fn masked(text: &str) -> String {
    text.replace(SECRET, &"*".repeat(SECRET.len()))
}

#[tokio::test]
async fn in_the_body() {
    let world = World::new().await;
    let body = format!("{{\"a\":\"{SECRET}\",\"b\":\"Bearer {SECRET}{SECRET}\"}}");
    let echo = body.clone();
    world.api.answer(move |_| ok(&echo));
    let answer = world.get("https://api.test/v1/x").await;
    assert_eq!((answer.status, answer.text()), (200, masked(&body)));
    assert_eq!(answer.header("content-length"), Some(&*body.len().to_string()));
    let record = world.audit.record(|it| it["event"] == "redaction").await;
    assert_eq!((&record["binding"], &record["redactions"]), (&"echo".into(), &3.into()));
    assert!(!world.audit.text().contains(SECRET));
}

#[tokio::test]
async fn in_headers_and_the_reason_phrase() {
    let world = World::new().await;
    world.api.answer_raw(format!(
        "HTTP/1.1 401 {SECRET}\r\nWWW-Authenticate: Bearer {SECRET}\r\nSet-Cookie: t={SECRET}\r\nLocation: /{SECRET}?x\r\nX-Plain: 1\r\nContent-Length: 0\r\n\r\n"
    ));
    let answer = world.get("https://api.test/v1/x").await;
    assert!(!answer.head.contains(SECRET), "{}", answer.head);
    let stars = "*".repeat(SECRET.len());
    assert_eq!(answer.header("www-authenticate"), Some(&*format!("Bearer {stars}")));
    assert_eq!(answer.header("location"), Some(&*format!("/{stars}?x")));
    assert_eq!((answer.status, answer.header("x-plain")), (401, Some("1")));
    assert_eq!(world.audit.record(|it| it["event"] == "redaction").await["redactions"], 3);
}

#[tokio::test]
async fn split_at_every_byte_over_chunks_and_records() {
    let world = World::new().await;
    for at in 0..=SECRET.len() {
        let (one, two) = SECRET.split_at(at);
        let chunk = |text: &str| Step::Write(format!("{:x}\r\n{text}\r\n", text.len()).into_bytes());
        let (one, two) = (format!("data: {one}"), format!("{two} tail\n\n"));
        world.api.answer(move |_| {
            vec![
                Step::Write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()),
                chunk(&one),
                Step::Pause(5),
                chunk(&two),
                Step::Write(b"0\r\n\r\n".to_vec()),
            ]
        });
        let answer = world.get("https://api.test/v1/x").await;
        assert_eq!(answer.text(), masked(&format!("data: {SECRET} tail\n\n")), "split at {at}");
    }
    let whole = format!("x{SECRET}y");
    let reply =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nX-Echo: {SECRET}\r\n\r\n{whole}", whole.len());
    world.api.answer(move |_| vec![Step::Bytewise(reply.clone().into_bytes())]);
    let answer = world.get("https://api.test/v1/x").await;
    assert_eq!((answer.text(), answer.head.contains(SECRET)), (masked(&whole), false));
}

#[tokio::test]
async fn compressed_or_in_parts_is_refused_on_bound_hosts() {
    let world = World::new().await;
    let gzip = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nxyz";
    let part = "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-2/9\r\nContent-Length: 3\r\n\r\nxyz";
    for reply in [gzip, part] {
        world.api.answer_raw(reply);
        world.free.answer_raw(reply);
        assert_eq!(
            world.refusal("GET", "https://api.test/v1/x", "", "").await,
            (502, "ResponseUnreadable".to_owned())
        );
        assert_eq!(world.get("https://free.test/").await.text(), "xyz");
    }
    world.api.answer(|_| ok("plain"));
    let headers = "Accept-Encoding: gzip\r\nRange: bytes=0-2\r\nIf-Range: x\r\n";
    assert_eq!(world.request("GET", "https://api.test/v1/x", headers, "").await.text(), "plain");
    let seen = world.api.seen().pop().unwrap();
    assert_eq!(
        (seen.header("accept-encoding"), seen.header("range"), seen.header("if-range")),
        (Some("identity"), None, None)
    );
    world.free.answer(|_| ok("plain"));
    world.request("GET", "https://free.test/", headers, "").await;
    assert_eq!(world.free.seen().pop().unwrap().header("range"), Some("bytes=0-2"));
}

#[tokio::test]
async fn what_holds_no_credential_is_not_touched() {
    let world = World::new().await;
    let mut state = 1_u32;
    let body: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_le_bytes()[3]
    })
    .take(3 << 20)
    .collect();
    let reply =
        [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes(), body.clone()]
            .concat();
    world.api.answer(move |_| vec![Step::Write(reply.clone())]);
    assert!(world.get("https://api.test/v1/x").await.body == body);
    assert!(!world.audit.text().contains("redaction"));
}

#[tokio::test]
async fn events_are_not_held_back() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let world = World::new().await;
    world.api.answer(|_| {
        vec![
            Step::Write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                    .to_vec(),
            ),
            Step::Write(b"9\r\ndata: 1\n\n\r\n".to_vec()),
            Step::Hang,
        ]
    });
    let mut stream = world.connect().await;
    stream.write_all(b"GET https://api.test/v1/x HTTP/1.1\r\nHost: api.test\r\n\r\n").await.unwrap();
    let mut read = Vec::new();
    while !read.ends_with(b"data: 1\n\n\r\n") {
        let mut space = [0; 1024];
        let n = tokio::time::timeout(std::time::Duration::from_secs(10), stream.read(&mut space))
            .await
            .expect("held back")
            .unwrap();
        assert!(n > 0);
        read.extend_from_slice(&space[..n]);
    }
}

#[tokio::test]
async fn in_the_name_of_a_header() {
    let world = World::new().await;
    // The HTTP library puts names into lower case, which is no disguise.
    world
        .api
        .answer_raw(format!("HTTP/1.1 200 OK\r\nX-{SECRET}-Y: 1\r\nX-Plain: 1\r\nContent-Length: 0\r\n\r\n"));
    let answer = world.get("https://api.test/v1/x").await;
    assert!(!answer.head.to_lowercase().contains(&SECRET.to_lowercase()), "{}", answer.head);
    assert_eq!((answer.status, answer.header("x-plain")), (200, Some("1")));
    assert_eq!(world.audit.record(|it| it["event"] == "redaction").await["redactions"], 1);
}

#[tokio::test]
async fn other_forms_of_an_answer_are_not_asked_for_on_bound_hosts() {
    let world = World::new().await;
    let headers = "A-IM: diffe\r\nAccept-Charset: utf-16\r\nAccept: */*\r\n";
    world.request("GET", "https://api.test/v1/x", headers, "").await;
    let seen = world.api.seen().pop().unwrap();
    assert_eq!(
        (seen.header("a-im"), seen.header("accept-charset"), seen.header("accept")),
        (None, None, Some("*/*"))
    );
    world.request("GET", "https://free.test/", headers, "").await;
    assert_eq!(world.free.seen().pop().unwrap().header("a-im"), Some("diffe"));
    let part = "HTTP/1.1 226 IM Used\r\nIM: diffe\r\nContent-Length: 3\r\n\r\nxyz";
    world.api.answer_raw(part);
    world.free.answer_raw(part);
    assert_eq!(
        world.refusal("GET", "https://api.test/v1/x", "", "").await,
        (502, "ResponseUnreadable".to_owned())
    );
    assert_eq!(world.get("https://free.test/").await.text(), "xyz");
}

#[tokio::test]
async fn a_value_that_is_newer_than_the_answer() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    const NEWER: &str = "newer-Value-9876543210";
    let world = World::new().await;
    world.vault_values.lock().unwrap().insert("newer".to_owned(), NEWER.to_owned());
    let word = Arc::new(tokio::sync::Notify::new());
    let (go_on, text) = (Arc::clone(&word), format!("one {SECRET} two {NEWER} end"));
    world.free.answer(move |_| {
        vec![
            Step::Write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nbegin ".to_vec()),
            Step::Await(Arc::clone(&go_on)),
            Step::Write(text.clone().into_bytes()),
            Step::Close,
        ]
    });
    // An answer is under way when the credential is replaced.
    let mut open = world.connect().await;
    open.write_all(b"GET https://free.test/log HTTP/1.1\r\nHost: free.test\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut read = Vec::new();
    while !read.windows(6).any(|it| it == b"begin ") {
        let mut space = [0; 1024];
        let n = open.read(&mut space).await.unwrap();
        assert!(n > 0);
        read.extend_from_slice(&space[..n]);
    }
    world.mount(101, |policy| policy["bindings"][0]["path"] = "newer".into());
    while world.api.seen().last().and_then(|seen| seen.header("authorization").map(str::to_owned))
        != Some(format!("Bearer {NEWER}"))
    {
        world.get("https://api.test/v1/x").await;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    word.notify_one();
    open.read_to_end(&mut read).await.unwrap();
    let read = String::from_utf8(read).unwrap();
    assert!(read.contains("one ") && read.contains(" two ") && read.contains(" end"), "{read}");
    assert!(!read.contains(SECRET) && !read.contains(NEWER), "{read}");
    let record = world.audit.record(|it| it["event"] == "redaction" && it["host"] == "free.test").await;
    assert_eq!(record["redactions"], 2);
}
