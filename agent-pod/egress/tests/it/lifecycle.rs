//! Start, probes, newer policies, the end.

use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::{SECRET, Setup, Step, World, exchange, ok, parse};

async fn probe(world: &World, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(world.health).await.unwrap();
    let text = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let answer = parse(&exchange(&mut stream, text.as_bytes()).await, false).unwrap();
    (answer.status, answer.text())
}

#[tokio::test]
async fn probes_say_what_is_missing() {
    let world = World::with(Setup { verified: false, ..Setup::default() }).await;
    assert_eq!(probe(&world, "/livez").await.0, 200);
    assert_eq!(probe(&world, "/startupz").await, (200, "[]".to_owned()));
    let (status, body) = probe(&world, "/readyz").await;
    let missing: Vec<serde_json::Value> = serde_json::from_str(&body).unwrap();
    assert_eq!((status, missing.len()), (503, 2));
    assert!(missing.iter().all(|it| it["reason"] == "NotVerified"));
    world.verify().await;
    let (_, body) = probe(&world, "/readyz").await;
    assert!(!body.contains("agent container") && body.contains("tools container"), "{body}");
    assert_eq!(probe(&world, "/").await.0, 404);
}

#[tokio::test]
async fn a_bad_policy_or_vault_is_a_start_that_is_refused_with_a_reason() {
    let check = |setup: Setup, reason: &'static str, object: &'static str| async move {
        let refusal = World::try_with(setup).await.err().expect("it started");
        assert_eq!((refusal.reason.as_str(), refusal.object.as_str()), (reason, object), "{refusal}");
        assert!(!refusal.help.is_empty() && !refusal.message.contains(SECRET));
    };
    let with = |policy: fn(&mut serde_json::Value)| Setup { policy: Box::new(policy), ..Setup::default() };
    check(
        with(|policy| policy["agent"]["uid"] = "other".into()),
        "PolicyRefused",
        "ConfigMap/redoubt-agent-helper",
    )
    .await;
    check(with(|policy| policy["epoch"] = 99.into()), "PolicyRefused", "ConfigMap/redoubt-agent-helper")
        .await;
    check(
        with(|policy| policy["bindings"][0]["path"] = "absent".into()),
        "VaultPathNotFound",
        "SecretBinding/echo",
    )
    .await;
    check(
        with(|policy| policy["vaults"][0]["address"] = "https://127.0.0.1:1".into()),
        "VaultUnavailable",
        "VaultConnection/main",
    )
    .await;
    let key = redoubt_policy::SigningKey::generate().unwrap();
    let key = redoubt_policy::SigningKey::from_pkcs8(&key).unwrap().public().to_string();
    let foreign = Setup { policy_key: Some(key), ..Setup::default() };
    check(foreign, "PolicyRefused", "ConfigMap/redoubt-agent-helper").await;
}

#[tokio::test]
async fn a_newer_policy_takes_over_and_a_bad_one_does_not() {
    let world = World::new().await;
    assert_eq!(world.get("https://free.test/").await.status, 200);
    // A stream that the newer policy does not allow ends; what it allows goes on.
    world.free.answer(|_| {
        vec![Step::Write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc".to_vec()), Step::Hang]
    });
    let mut open = world.connect().await;
    open.write_all(b"GET https://free.test/ HTTP/1.1\r\nHost: free.test\r\n\r\n").await.unwrap();
    for bad in ["{}", "not JSON"] {
        std::fs::write(world.dir.join("policy.json"), bad).unwrap();
        tokio::time::sleep(std::time::Duration::from_secs(4)).await;
        assert_eq!(world.get("https://api.test/v1/x").await.status, 200);
    }
    world.mount(50, |policy| policy["rules"] = json!([]));
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    assert_eq!(world.get("https://api.test/v1/x").await.status, 200);
    world.mount(101, |policy| {
        policy["rules"].as_array_mut().unwrap().retain(|rule| rule["scope"]["host"] != "free.test");
    });
    world.audit.record(|it| it["event"] == "policy" && it["epoch"] == 101).await;
    assert_eq!(world.refusal("GET", "https://free.test/", "", "").await.0, 403);
    assert_eq!(world.get("https://api.test/v1/x").await.status, 200);
    let bytes = exchange(&mut open, b"").await;
    assert!(!parse(&bytes, false).unwrap().whole);
    world.audit.record(|it| it["reason"] == "PolicyChanged").await;
    // Connections of the older epoch are not used for the newer.
    let connections: Vec<usize> = world.api.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [1, 1, 1, 2]);
}

#[tokio::test]
async fn requests_may_finish_when_it_ends_and_the_log_is_whole() {
    let mut world = World::new().await;
    world.free.answer(|_| {
        let mut steps = vec![Step::Pause(500)];
        steps.extend(ok("late"));
        steps
    });
    let mut stream = world.connect().await;
    let request = b"GET https://free.test/late HTTP/1.1\r\nHost: free.test\r\n\r\n";
    let answer = tokio::spawn(async move { exchange(&mut stream, request).await });
    while world.free.seen().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    world.stop().await;
    assert_eq!(parse(&answer.await.unwrap(), false).unwrap().text(), "late");
    assert!(tokio::net::UnixStream::connect(world.dir.join("egress.sock")).await.is_err());
    assert!(world.audit.text().contains("/late"));
    let revoked = world.vault.seen().iter().any(|seen| seen.head.contains("/v1/auth/token/revoke-self"));
    assert!(revoked, "the login was not given back");
}

#[tokio::test]
async fn connections_are_bounded_for_each_kind() {
    let world = World::with(Setup {
        extra: vec!["--max-connections".to_owned(), "4".to_owned()],
        ..Setup::default()
    })
    .await;
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(world.connect().await);
    }
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    let request = b"GET https://free.test/ HTTP/1.1\r\nHost: free.test\r\nConnection: close\r\n\r\n";
    assert!(world.raw(request).await.is_empty());
    assert_eq!(probe(&world, "/livez").await.0, 200);
    held.clear();
    for _ in 0..100 {
        if !world.raw(request).await.is_empty() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("places were not freed");
}

#[tokio::test]
async fn idle_connections_cannot_keep_the_probes_away() {
    use tokio::io::AsyncReadExt as _;
    let world = World::new().await;
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(TcpStream::connect(world.health).await.unwrap());
    }
    // The oldest makes room for the newest, which still gets its answer.
    assert_eq!(held[0].read(&mut [0; 16]).await.unwrap_or(0), 0);
    // Were it the limit of time that ended the first, the last would be over by now too.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    let answer =
        exchange(&mut held[99], b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert_eq!(parse(&answer, false).unwrap().status, 200);
}
