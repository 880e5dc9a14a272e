//! The agent's callers.

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixListener};

use crate::support::{Answer, Setup, World, exchange, parse, tls_over};

const AUDIENCE: &str = "redoubt.dev/agents/team/helper";
const NAME: &str = "redoubt-agent-helper.team.svc";

/// An agent that answers with what it was asked.
fn agent(world: &World) {
    let listener = UnixListener::bind(world.dir.join("agent.sock")).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut read = Vec::new();
                let mut space = [0; 4096];
                while !read.windows(4).any(|it| it == b"\r\n\r\n") {
                    let n = stream.read(&mut space).await.unwrap();
                    read.extend_from_slice(&space[..n]);
                }
                let text = String::from_utf8(read).unwrap();
                let reply = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nRedoubt-Refused: no\r\n\r\n{text}",
                    text.len()
                );
                stream.write_all(reply.as_bytes()).await.unwrap();
            });
        }
    });
}

async fn call(world: &World, method: &str, path: &str, headers: &str) -> Answer {
    let stream = TcpStream::connect(world.inbound).await.unwrap();
    let mut tls = tls_over(stream, &world.ca_pem().await, NAME, &[b"http/1.1"]).await.unwrap();
    let text = format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n\r\n");
    parse(&exchange(&mut tls, text.as_bytes()).await, false).unwrap()
}

#[tokio::test]
async fn callers_show_a_token_of_theirs_for_this_agent() {
    let world = World::new().await;
    agent(&world);
    let token = |account: &str, audience: &str| world.issuer.token(account, audience);
    let good = token("caller", AUDIENCE);
    for (headers, expected) in [
        (format!("Authorization: Bearer {good}\r\n"), (200, "-")),
        (format!("Redoubt-Authorization: Bearer {good}\r\n"), (200, "-")),
        (format!("Redoubt-Authorization: Bearer {good}\r\nAuthorization: Bearer sk-dummy\r\n"), (200, "-")),
        (String::new(), (401, "CallerNotAuthenticated")),
        ("Authorization: Bearer nonsense\r\n".to_owned(), (401, "CallerNotAuthenticated")),
        (format!("Authorization: Basic {good}\r\n"), (401, "CallerNotAuthenticated")),
        (
            format!("Authorization: Bearer {good}\r\nAuthorization: Bearer {good}\r\n"),
            (401, "CallerNotAuthenticated"),
        ),
        (
            format!("Authorization: Bearer {}\r\n", token("caller", "redoubt.dev/agents/team/other")),
            (401, "CallerNotAuthenticated"),
        ),
        (format!("Authorization: Bearer {}\r\n", token("stranger", AUDIENCE)), (403, "CallerNotAllowed")),
    ] {
        let answer = call(&world, "GET", "/v1/models", &headers).await;
        let (status, reason) = answer.refusal();
        assert_eq!((status, reason.as_str()), expected, "{headers}");
        assert_eq!(answer.header("www-authenticate").is_some(), status == 401);
    }
    for (method, path, expected) in [
        ("GET", "/v1/models", 200),
        ("POST", "/v1/chat/completions", 200),
        ("GET", "/", 404),
        ("GET", "/v1/chat/completions", 404),
        ("GET", "/v1/models/../x", 404),
        ("DELETE", "/v1/models", 404),
    ] {
        assert_eq!(
            call(&world, method, path, &format!("Authorization: Bearer {good}\r\n")).await.status,
            expected,
            "{method} {path}"
        );
    }
    world
        .audit
        .record(|it| it["event"] == "inbound" && it["caller"] == "system:serviceaccount:team:caller")
        .await;
    world.audit.record(|it| it["event"] == "inbound" && it["reason"] == "CallerNotAuthenticated").await;
    assert!(!world.audit.text().contains(&good));
}

#[tokio::test]
async fn the_agent_learns_who_calls_and_sees_no_token() {
    let world = World::new().await;
    agent(&world);
    let good = world.issuer.token("caller", AUDIENCE);
    let headers = format!(
        "Authorization: Bearer {good}\r\nRedoubt-Authorization: Bearer {good}\r\nRedoubt-Caller: system:serviceaccount:kube-system:admin\r\nCookie: a=b\r\nX-Kept: 1\r\n"
    );
    let answer = call(&world, "GET", "/v1/models?q=1", &headers).await;
    let arrived = answer.text().to_lowercase();
    assert!(arrived.starts_with("get /v1/models http/1.1\r\n"), "{arrived}");
    assert!(
        !arrived.contains(&good.to_lowercase())
            && !arrived.contains("authorization")
            && !arrived.contains("cookie")
    );
    assert_eq!(arrived.matches("redoubt-caller:").count(), 1);
    assert!(
        arrived.contains("redoubt-caller: system:serviceaccount:team:caller\r\n")
            && arrived.contains("x-kept: 1\r\n")
    );
    assert_eq!(answer.header("redoubt-refused"), None);
}

#[tokio::test]
async fn without_callers_nobody_calls() {
    let world = World::with(Setup {
        policy: Box::new(|policy| policy["inbound"]["callers"] = Value::Array(Vec::new())),
        ..Setup::default()
    })
    .await;
    agent(&world);
    let good = world.issuer.token("caller", AUDIENCE);
    let answer = call(&world, "GET", "/v1/models", &format!("Authorization: Bearer {good}\r\n")).await;
    assert_eq!(answer.refusal(), (403, "CallerNotAllowed".to_owned()));
    assert_eq!(call(&world, "GET", "/v1/models", "").await.status, 401);
}

#[tokio::test]
async fn an_agent_that_is_not_there_or_not_verified() {
    let world = World::with(Setup { verified: false, ..Setup::default() }).await;
    let headers = format!("Authorization: Bearer {}\r\n", world.issuer.token("caller", AUDIENCE));
    agent(&world);
    assert_eq!(
        call(&world, "GET", "/v1/models", &headers).await.refusal(),
        (503, "AgentUnavailable".to_owned())
    );
    world.verify().await;
    assert_eq!(call(&world, "GET", "/v1/models", &headers).await.status, 200);
    std::fs::remove_file(world.dir.join("agent.sock")).unwrap();
    assert_eq!(
        call(&world, "GET", "/v1/models", &headers).await.refusal(),
        (503, "AgentUnavailable".to_owned())
    );
}

#[tokio::test]
async fn events_reach_the_caller_as_they_come() {
    let world = World::new().await;
    let listener = UnixListener::bind(world.dir.join("agent.sock")).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut space = [0; 4096];
        let _n = stream.read(&mut space).await.unwrap();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        std::future::pending::<()>().await;
    });
    let stream = TcpStream::connect(world.inbound).await.unwrap();
    let mut tls = tls_over(stream, &world.ca_pem().await, NAME, &[b"http/1.1"]).await.unwrap();
    let token = world.issuer.token("caller", AUDIENCE);
    let text = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 2\r\n\r\n{{}}"
    );
    tls.write_all(text.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    while !read.ends_with(b"data: 1\n\n\r\n") {
        let mut space = [0; 1024];
        let n = tokio::time::timeout(std::time::Duration::from_secs(10), tls.read(&mut space))
            .await
            .expect("held back")
            .unwrap();
        assert!(n > 0);
        read.extend_from_slice(&space[..n]);
    }
}

#[tokio::test]
async fn strangers_cannot_keep_callers_out() {
    let world = World::with(Setup {
        extra: vec!["--max-connections".to_owned(), "4".to_owned()],
        ..Setup::default()
    })
    .await;
    agent(&world);
    let good = format!("Authorization: Bearer {}\r\n", world.issuer.token("caller", AUDIENCE));
    let unlisted = world.issuer.token("other", AUDIENCE);
    let ca = world.ca_pem().await;
    // A listed caller keeps its connection, whoever else comes.
    let stream = TcpStream::connect(world.inbound).await.unwrap();
    let mut listed = tls_over(stream, &ca, NAME, &[b"http/1.1"]).await.unwrap();
    listed.write_all(format!("GET /v1/models HTTP/1.1\r\nHost: x\r\n{good}\r\n").as_bytes()).await.unwrap();
    let mut space = [0; 4096];
    assert!(listed.read(&mut space).await.unwrap() > 0);
    // Without a word, with a handshake, with a token of somebody who is not listed.
    let mut held = Vec::new();
    let mut shaken = Vec::new();
    for number in 0..12 {
        let stream = TcpStream::connect(world.inbound).await.unwrap();
        if number % 3 == 0 {
            held.push(stream);
            continue;
        }
        let Ok(mut tls) = tls_over(stream, &ca, NAME, &[b"http/1.1"]).await else { continue };
        if number % 3 == 1 {
            let request =
                format!("GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {unlisted}\r\n\r\n");
            tls.write_all(request.as_bytes()).await.unwrap();
            assert!(tls.read(&mut space).await.unwrap() > 0);
        }
        shaken.push(tls);
    }
    assert_eq!(call(&world, "GET", "/v1/models", &good).await.status, 200);
    // The oldest stranger had to make room.
    let oldest = tokio::time::timeout(std::time::Duration::from_secs(5), held[0].read(&mut space)).await;
    assert_eq!(oldest.expect("it stays").unwrap_or(0), 0);
    let request = format!("GET /v1/models HTTP/1.1\r\nHost: x\r\n{good}Connection: close\r\n\r\n");
    assert_eq!(parse(&exchange(&mut listed, request.as_bytes()).await, false).unwrap().status, 200);
}
