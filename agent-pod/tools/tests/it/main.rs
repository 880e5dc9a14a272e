//! The hands on real sockets, with a policy that was really signed.

#![allow(unreachable_pub, reason = "a test binary has no outside")]
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what goes wrong in a test's own helpers fails the test"
)]

#[allow(dead_code, reason = "the brain's tests use it too, each of them a part")]
mod pod;
#[allow(dead_code, reason = "the tests of brain and plugin use it too, each of them a part")]
mod upstream;
mod world;

use std::sync::atomic::Ordering;

use redoubt_policy::envelope::keyring::announce;
use serde_json::{Value, json};
use upstream::{Received, Step, Upstream, whole};
use world::{World, policy, start_refused};

fn echo() -> impl Fn(usize, &Received) -> Vec<Step> {
    |_, _| whole(200, "application/json", "{\"ok\":true}")
}

#[tokio::test]
async fn a_call_becomes_the_request_of_the_tool() {
    let upstream = Upstream::start(echo()).await;
    let world = World::start(&upstream.url, &[]).await;
    let (status, _, body) = pod::exchange(&world.socket, "GET", "/v1/tools", "").await;
    assert_eq!(status, 200);
    let tools: Value = serde_json::from_str(&body).unwrap();
    let names: Vec<_> =
        tools["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["shop__get", "shop__put"]);
    assert_eq!(tools["tools"][0]["parameters"]["type"], "object");

    let (status, result) =
        world.call("shop__get", json!({"id": "a b/../c".replace('/', "_"), "q": "x&y"}), "1").await;
    assert_eq!((status, &result["result"]["status"]), (200, &json!(200)), "{result}");
    assert_eq!(result["result"]["body"], "{\"ok\":true}");
    assert_eq!(result["result"]["contentType"], "application/json");
    assert_eq!(result["result"]["truncated"], false);
    let (status, _) = world.call("shop__put", json!({"id": "7", "name": "n", "price": 3}), "2").await;
    assert_eq!(status, 200);

    let received = upstream.received();
    assert_eq!(received[0].line(), "GET /v1/items/a%20b_.._c?q=x%26y HTTP/1.1");
    assert_eq!(received[1].line(), "PUT /v1/items/7 HTTP/1.1");
    assert_eq!(received[1].json(), json!({"name": "n", "price": 3}));
    let proxied = world.egress.proxied.lock().unwrap().clone();
    assert_eq!(
        proxied[0],
        (format!("{}/v1/items/a%20b_.._c?q=x%26y", upstream.url), Some("shop".to_owned()))
    );
    assert_eq!(
        world.egress.audit(),
        [
            json!({"tool": "shop", "function": "get", "callId": "1", "outcome": "Executed"}),
            json!({"tool": "shop", "function": "put", "callId": "2", "outcome": "Executed"}),
        ]
    );
}

#[tokio::test]
async fn what_is_refused_is_not_sent_and_is_recorded() {
    let upstream = Upstream::start(echo()).await;
    let world = World::start(&upstream.url, &[]).await;
    for (id, name, arguments, status, reason) in [
        ("unknown", "shop__delete", json!({}), 404, "UnknownFunction"),
        ("other-agent", "bank__transfer", json!({"to": "x"}), 404, "UnknownFunction"),
        ("homoglyph", "sh\u{43e}p__get", json!({"id": "1"}), 404, "UnknownFunction"),
        ("missing", "shop__get", json!({}), 422, "InvalidArguments"),
        ("wrong-type", "shop__get", json!({"id": 7}), 422, "InvalidArguments"),
        ("surprise", "shop__get", json!({"id": "1", "host": "evil.example"}), 422, "InvalidArguments"),
        ("climb", "shop__get", json!({"id": ".."}), 422, "InvalidArguments"),
        ("slash", "shop__get", json!({"id": "1/../../admin"}), 422, "InvalidArguments"),
    ] {
        let (got, answer) = world.call(name, arguments, id).await;
        assert_eq!((got, &answer["error"]["reason"]), (status, &json!(reason)), "{id}: {answer}");
        let audit = world.egress.audit();
        let last = audit.last().unwrap();
        assert_eq!((&last["callId"], &last["outcome"]), (&json!(id), &json!(reason)));
    }
    let (_, answer) = world.call("shop__get", json!({"id": 7}), "w2").await;
    assert_eq!(answer["error"]["object"], "Tool/shop");
    assert_eq!(answer["error"]["field"], "spec.http.functions[0].parameters");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("shop__get") && message.contains("/id"), "{message}");
    assert_eq!(upstream.received().len(), 0);
    // The look-alike shows in the record.
    assert_eq!(world.egress.audit()[2]["tool"], "sh\\u{43e}p");
}

#[tokio::test]
async fn the_sidecars_refusal_is_passed_through() {
    let world = World::start("http://refused.example:80", &[]).await;
    let (status, answer) = world.call("shop__get", json!({"id": "1"}), "1").await;
    assert_eq!(status, 403);
    assert_eq!(answer["error"]["reason"], "NotGranted");
    assert_eq!(answer["error"]["object"], "EgressPolicy/base");
    assert_eq!(answer["error"]["field"], "spec.allow[0]");
    assert_eq!(world.egress.audit()[0]["outcome"], "NotGranted");
}

#[tokio::test]
async fn responses_are_bounded_and_taken_as_they_are() {
    let answers = [
        whole(200, "text/plain", &"é".repeat(1000)),
        whole(302, "text/plain", "moved"),
        whole(500, "text/plain", "broken"),
        vec![Step::Send(
            b"HTTP/1.1 200 X\r\ncontent-type: text/plain\r\ncontent-length: 3\r\n\r\na\xff\x00".to_vec(),
        )],
    ];
    let upstream = Upstream::start(move |number, _| answers[number].clone()).await;
    let world = World::start(&upstream.url, &[]).await;
    let (_, long) = world.call("shop__get", json!({"id": "1"}), "1").await;
    // 101 bytes are allowed: the half of a character at the end is left out.
    assert_eq!(
        long["result"],
        json!({
            "status": 200, "contentType": "text/plain", "body": "é".repeat(50), "truncated": true,
        })
    );
    // No redirect is followed; a failing server is a result like any other.
    let (status, moved) = world.call("shop__get", json!({"id": "1"}), "2").await;
    assert_eq!((status, &moved["result"]["status"]), (200, &json!(302)));
    let (status, broken) = world.call("shop__get", json!({"id": "1"}), "3").await;
    assert_eq!((status, &broken["result"]["status"]), (200, &json!(500)));
    let (_, binary) = world.call("shop__get", json!({"id": "1"}), "4").await;
    assert_eq!(binary["result"]["body"], "a\u{fffd}\u{0}");
    assert_eq!(upstream.received().len(), 4);
}

#[tokio::test]
async fn no_call_is_executed_twice() {
    let upstream = Upstream::start(echo()).await;
    let world = World::start(&upstream.url, &[]).await;
    assert_eq!(world.call("shop__get", json!({"id": "1"}), "same").await.0, 200);
    let (status, answer) = world.call("shop__get", json!({"id": "1"}), "same").await;
    assert_eq!((status, &answer["error"]["reason"]), (409, &json!("DuplicateCall")));
    assert_eq!(upstream.received().len(), 1);
    assert_eq!(world.egress.audit()[1]["outcome"], "DuplicateCall");
}

#[tokio::test]
async fn a_server_that_hangs_ends_in_a_refusal() {
    let head = b"HTTP/1.1 200 X\r\ncontent-length: 9\r\n\r\nx".to_vec();
    let upstream = Upstream::start(move |number, _| match number {
        0 => vec![Step::Hang],
        _ => vec![Step::Send(head.clone()), Step::Hang],
    })
    .await;
    let world = World::start(&upstream.url, &["--call-timeout-seconds", "1"]).await;
    for id in ["before the head", "in the body"] {
        let (status, answer) = world.call("shop__get", json!({"id": "1"}), &id.replace(' ', "-")).await;
        assert_eq!((status, &answer["error"]["reason"]), (504, &json!("ToolTimeout")), "{id}: {answer}");
        assert_eq!(answer["error"]["object"], "Tool/shop");
    }
    assert_eq!(world.egress.audit().len(), 2);
}

#[tokio::test]
async fn hanging_up_leaves_no_call_unrecorded() {
    let upstream = Upstream::start(|_, _| vec![Step::Hang]).await;
    let world = World::start(&upstream.url, &["--call-timeout-seconds", "1"]).await;
    let call = world.call("shop__get", json!({"id": "1"}), "left");
    tokio::select! {
        _ = call => panic!("the call cannot end before it was left"),
        () = upstream::until("the request", || async { (!upstream.received().is_empty()).then_some(()) }) => {}
    }
    let audit = upstream::until("the record", || async { world.egress.audit().first().cloned() }).await;
    assert_eq!((&audit["callId"], &audit["outcome"]), (&json!("left"), &json!("ToolTimeout")));
}

#[tokio::test]
async fn what_cannot_be_recorded_gives_no_result() {
    let upstream = Upstream::start(echo()).await;
    let world = World::start(&upstream.url, &[]).await;
    world.egress.records.store(false, Ordering::SeqCst);
    let (status, answer) = world.call("shop__get", json!({"id": "1"}), "1").await;
    assert_eq!((status, &answer["error"]["reason"]), (503, &json!("AuditUnavailable")));
    assert!(answer.get("result").is_none());
    // A refusal is told all the same.
    let (_, answer) = world.call("shop__none", json!({}), "2").await;
    assert_eq!(answer["error"]["reason"], "UnknownFunction");
}

#[tokio::test]
async fn malformed_calls() {
    let world = World::start("http://refused.example:80", &[]).await;
    for body in ["", "{", "[]", "{\"name\":\"shop__get\"}"] {
        let (status, _, answer) = pod::exchange(&world.socket, "POST", "/v1/call", body).await;
        assert_eq!(status, 400, "{body}: {answer}");
    }
    let deep = format!(
        "{{\"name\":\"shop__get\",\"callId\":\"d\",\"arguments\":{{\"id\":{}1{}}}}}",
        "[".repeat(4000),
        "]".repeat(4000)
    );
    assert_eq!(pod::exchange(&world.socket, "POST", "/v1/call", &deep).await.0, 400);
    let large = format!("{{\"name\":\"{}\"}}", "x".repeat(600 * 1024));
    assert_eq!(pod::exchange(&world.socket, "POST", "/v1/call", &large).await.0, 413);
    assert_eq!(pod::exchange(&world.socket, "GET", "/v1/call", "").await.0, 404);
    assert_eq!(world.egress.proxied.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn only_the_brain_is_served() {
    let upstream = Upstream::start(echo()).await;
    let other = (pod::own_uid() + 1).to_string();
    let world = World::start(&upstream.url, &["--agent-process-uid", &other]).await;
    let (status, answer) = world.call("shop__get", json!({"id": "1"}), "1").await;
    assert_eq!((status, &answer["error"]["reason"]), (403, &json!("PeerNotAllowed")));
    assert_eq!(pod::exchange(&world.socket, "GET", "/v1/tools", "").await.0, 403);
    assert_eq!((upstream.received().len(), world.egress.audit().len()), (0, 0));
}

#[tokio::test]
async fn a_newer_policy_takes_over_and_nothing_else_does() {
    let (first, second) = (Upstream::start(echo()).await, Upstream::start(echo()).await);
    let world = World::start(&first.url, &[]).await;
    let served = || async { world.call("shop__get", json!({"id": "1"}), &world.next_id()).await.0 };
    assert_eq!(served().await, 200);
    let mut newer = policy(&second.url);
    newer.epoch += 1;
    let mut rivals = vec![b"{".to_vec(), world::signed(&newer, &world::new_key())];
    let mut other = newer.clone();
    other.agent.uid = "another".to_owned();
    rivals.push(world.sign(&other));
    let mut older = newer.clone();
    older.epoch = 6;
    rivals.push(world.sign(&older));
    let mut same = newer.clone();
    same.epoch = 7;
    rivals.push(world.sign(&same));
    for rival in rivals {
        world.replace_policy(&rival);
        // Longer than the period of looking; what should not happen cannot be waited for otherwise.
        tokio::time::sleep(redoubt_tools::policy::PERIOD + std::time::Duration::from_millis(700)).await;
        assert_eq!(served().await, 200);
        assert_eq!(second.received().len(), 0);
    }
    world.replace_policy(&world.sign(&newer));
    upstream::until("the newer policy", || async {
        assert_eq!(served().await, 200);
        (!second.received().is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_key_follows_announcements_and_never_goes_back() {
    let (first, second) = (Upstream::start(echo()).await, Upstream::start(echo()).await);
    let world = World::start(&first.url, &[]).await;
    let served = || async { world.call("shop__get", json!({"id": "1"}), &world.next_id()).await.0 };
    let at = |url: &str, epoch: u64| {
        let mut policy = policy(url);
        policy.epoch = epoch;
        policy
    };
    let patience = redoubt_tools::policy::PERIOD + std::time::Duration::from_millis(700);
    let next = world::new_key();
    let rotated = world::signed(&at(&second.url, 8), &next);
    let forged = announce(&next.public(), &world::new_key()).unwrap();
    for announcements in ["", &forged] {
        world.announce(announcements);
        world.replace_policy(&rotated);
        tokio::time::sleep(patience).await;
        assert_eq!((served().await, second.received().len()), (200, 0));
    }
    world.announce(&announce(&next.public(), world.key()).unwrap());
    upstream::until("the policy of the next key", || async {
        assert_eq!(served().await, 200);
        (!second.received().is_empty()).then_some(())
    })
    .await;
    let before = first.received().len();
    world.announce("");
    world.replace_policy(&world.sign(&at(&first.url, 9)));
    tokio::time::sleep(patience).await;
    assert_eq!((served().await, first.received().len()), (200, before), "the old key");
}

#[test]
fn without_an_acceptable_policy_there_is_no_start() {
    let good = policy("http://127.0.0.1:1");
    let key = world::new_key();
    let mut other = good.clone();
    other.agent.name = "another".to_owned();
    let mut older = good.clone();
    older.epoch = 6;
    let unsigned = {
        let mut envelope: Value = serde_json::from_slice(&world::signed(&good, &key)).unwrap();
        envelope["signatures"] = json!([]);
        envelope.to_string().into_bytes()
    };
    for (what, bytes, said) in [
        ("malformed", b"{".to_vec(), "malformed"),
        ("unsigned", unsigned, "unsigned"),
        ("foreign key", world::signed(&good, &world::new_key()), "another key"),
        ("other agent", world::signed(&other, &key), "another agent"),
        ("older", world::signed(&older, &key), "older"),
    ] {
        let log = start_refused(&bytes, &key);
        assert_eq!(log["reason"], "PolicyRefused", "{what}: {log}");
        assert_eq!(log["object"], "ConfigMap/redoubt-agent-a", "{what}");
        assert!(log["message"].as_str().unwrap().contains(said), "{what}: {log}");
    }
}

#[tokio::test]
async fn calls_that_the_brain_hangs_up_on_do_not_pile_up() {
    use tokio::io::AsyncWriteExt as _;
    const FLOOD: usize = 300;
    let upstream = Upstream::start(|_, _| vec![Step::Hang]).await;
    let world = World::start(&upstream.url, &["--call-timeout-seconds", "2"]).await;
    for number in 0..FLOOD {
        let body = json!({"name": "shop__get", "arguments": {"id": "1"}, "callId": format!("f-{number}")})
            .to_string();
        let head = format!("POST /v1/call HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
        let mut stream = tokio::net::UnixStream::connect(&world.socket).await.unwrap();
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        // Long enough for the call to be taken, if it is.
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    // What is asked next is answered, and what was taken comes to its end and is reported.
    assert_eq!(world.call("shop__none", json!({}), "after").await.0, 404);
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    let reports = world.egress.audit();
    let flood = reports.iter().filter(|it| it["outcome"] == "ToolTimeout").count();
    assert!((1..=redoubt_tools::serve::TAKEN_MAX).contains(&flood), "{flood} of {FLOOD} were taken");
    assert!(reports.iter().any(|it| it["callId"] == "after"));
}
