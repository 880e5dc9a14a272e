//! Destinations that misbehave.

use std::time::Duration;

use tokio_rustls::TlsAcceptor;

use crate::support::{Double, SECRET, Setup, Step, TestCa, World, ok};

#[tokio::test]
async fn answers_that_are_not_http() {
    let world = World::new().await;
    for raw in [
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\r\nX y: z\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nnonsense\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: foo\r\n\r\n",
        "nonsense\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "",
    ] {
        world.free.answer_raw(raw);
        assert_eq!(
            world.refusal("GET", "https://free.test/", "", "").await,
            (502, "UpstreamMalformed".to_owned()),
            "{raw:?}"
        );
    }
    world.free.answer_raw(
        "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine",
    );
    assert_eq!(world.get("https://free.test/").await.text(), "fine");
}

#[tokio::test]
async fn a_connection_that_went_wrong_is_not_used_again() {
    let world = World::new().await;
    assert_eq!(world.get("https://free.test/1").await.status, 200);
    assert_eq!(world.get("https://free.test/2").await.status, 200);
    world.free.answer(|_| {
        vec![Step::Write(
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
        )]
    });
    assert_eq!(world.get("https://free.test/3").await.status, 502);
    world.free.answer(|_| ok("fine"));
    assert_eq!(world.get("https://free.test/4").await.status, 200);
    let connections: Vec<usize> = world.free.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [1, 1, 1, 2]);
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_does_no_harm() {
    let world = World::new().await;
    world.free.answer(|_| {
        let mut steps = ok("fine");
        steps.push(Step::Close);
        steps
    });
    for _ in 0..3 {
        assert_eq!(world.request("POST", "https://free.test/", "", "body").await.text(), "fine");
    }
    assert_eq!(world.free.seen().len(), 3);
}

#[tokio::test]
async fn answers_without_a_body() {
    let world = World::new().await;
    world.free.answer(|seen| {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        let text = if seen.head.starts_with("HEAD") {
            head.to_owned()
        } else {
            "HTTP/1.1 204 No Content\r\n\r\n".to_owned()
        };
        vec![Step::Write(text.into_bytes())]
    });
    let bytes =
        world.raw(b"HEAD https://free.test/ HTTP/1.1\r\nHost: free.test\r\nConnection: close\r\n\r\n").await;
    let head = crate::support::parse(&bytes, true).unwrap();
    assert_eq!((head.status, head.header("content-length"), head.rest.len()), (200, Some("5"), 0));
    assert_eq!(world.get("https://free.test/").await.status, 204);
    world.request("POST", "https://free.test/", "Content-Length: 0\r\n", "").await;
    let seen = world.free.seen();
    assert_eq!((seen[2].header("content-length"), seen[2].connection), (Some("0"), 1));
}

#[tokio::test]
async fn a_destination_that_hangs() {
    let world = World::with(Setup { timeout: 1, ..Setup::default() }).await;
    world.free.answer(|_| vec![Step::Hang]);
    assert_eq!(world.refusal("GET", "https://free.test/", "", "").await, (504, "UpstreamTimeout".to_owned()));
    // In the middle of the body: what came is delivered, and the end is not pretended.
    world.free.answer(|_| {
        vec![Step::Write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc".to_vec()), Step::Hang]
    });
    let answer = world.get("https://free.test/").await;
    assert_eq!((answer.status, answer.text().as_str(), answer.whole), (200, "abc", false));
    world.audit.record(|it| it["reason"] == "UpstreamTimeout" && it["status"] == 200).await;
}

#[tokio::test]
async fn an_answer_that_ends_early_does_not_look_whole() {
    let world = World::new().await;
    for raw in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n",
    ] {
        world.free.answer_raw(raw);
        let answer = world.get("https://free.test/").await;
        assert_eq!((answer.status, answer.whole), (200, false), "{raw:?}");
    }
    world.audit.record(|it| it["reason"] == "UpstreamMalformed" && it["status"] == 200).await;
}

#[tokio::test]
async fn redirects_are_answers() {
    let world = World::new().await;
    world.api.answer_raw("HTTP/1.1 302 Found\r\nLocation: https://evil.test/\r\nContent-Length: 0\r\n\r\n");
    let answer = world.get("https://api.test/v1/x").await;
    assert_eq!((answer.status, answer.header("location")), (302, Some("https://evil.test/")));
    assert_eq!(world.api.seen().len(), 1);
    assert_eq!(*world.names.asked.lock().unwrap(), ["api.test"]);
}

#[tokio::test]
async fn certificates_that_are_not_believed() {
    let world = World::new().await;
    let other = TestCa::new();
    let past = |params: &mut rcgen::CertificateParams| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 2, 1);
    };
    let address = world.names.addresses.lock().unwrap()["free.test"][0];
    for (what, config) in [
        ("other name", world.ca.server(&["other.test"])),
        ("other authority", other.server(&["free.test"])),
        ("expired", world.ca.server_with(&["free.test"], past)),
    ] {
        let double = Double::start(Some(TlsAcceptor::from(config))).await;
        world.names.ports.lock().unwrap().insert((address, 443), double.address);
        assert_eq!(
            world.refusal("GET", "https://free.test/", "", "").await,
            (502, "UpstreamTLS".to_owned()),
            "{what}"
        );
        assert!(double.seen().is_empty());
    }
    let good = Double::start(Some(TlsAcceptor::from(world.ca.server(&["free.test"])))).await;
    world.names.ports.lock().unwrap().insert((address, 443), good.address);
    assert_eq!(world.get("https://free.test/").await.status, 200);
}

#[tokio::test]
async fn destinations_that_are_not_there() {
    let world = World::new().await;
    let address = world.names.addresses.lock().unwrap()["free.test"][0];
    world.names.ports.lock().unwrap().remove(&(address, 443));
    assert_eq!(world.refusal("GET", "https://free.test/", "", "").await, (502, "ConnectFailed".to_owned()));
    world.names.addresses.lock().unwrap().remove("free.test");
    assert_eq!(world.refusal("GET", "https://free.test/", "", "").await, (502, "NameNotResolved".to_owned()));
    world.names.addresses.lock().unwrap().insert("free.test".to_owned(), Vec::new());
    assert_eq!(world.refusal("GET", "https://free.test/", "", "").await, (502, "NameNotResolved".to_owned()));
}

#[tokio::test]
async fn an_early_answer_does_not_hide_a_credential_in_the_body() {
    use tokio::io::AsyncWriteExt as _;
    let world = World::new().await;
    // Answers at the first byte of the body, before it ends.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = world.names.addresses.lock().unwrap()["plain.test"][0];
    world.names.ports.lock().unwrap().insert((address, 80), listener.local_addr().unwrap());
    let (send, received) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        use tokio::io::AsyncReadExt as _;
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut read = vec![0; 4096];
        let n = stream.read(&mut read).await.unwrap();
        read.truncate(n);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart").await.unwrap();
        let _reset = stream.read_to_end(&mut read).await;
        send.send(read).unwrap();
    });
    let mut stream = world.connect().await;
    let head = "POST http://plain.test/ HTTP/1.1\r\nHost: plain.test\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nfirst\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let rest = format!("{:x}\r\n{SECRET}\r\n0\r\n\r\n", SECRET.len());
    let bytes = crate::support::exchange(&mut stream, rest.as_bytes()).await;
    let answer = crate::support::parse(&bytes, false).unwrap();
    assert_eq!((answer.status, answer.whole), (200, false));
    let arrived = tokio::time::timeout(Duration::from_secs(10), received).await.unwrap().unwrap();
    assert!(!String::from_utf8_lossy(&arrived).contains(&SECRET[..4]));
    world.audit.record(|it| it["reason"] == "CredentialInRequest" && it["status"] == 200).await;
}
