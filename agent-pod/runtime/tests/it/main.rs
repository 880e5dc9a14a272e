//! Brain and hands together on real sockets, with a scripted model on loopback.

#![allow(unreachable_pub, reason = "a test binary has no outside")]
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what goes wrong in a test's own helpers fails the test"
)]

mod links;
mod model;
#[allow(dead_code, reason = "shared with the tests of the hands")]
#[path = "../../../tools/tests/it/pod.rs"]
mod pod;
#[allow(dead_code, reason = "shared with the tests of the hands")]
#[path = "../../../tools/tests/it/upstream.rs"]
mod upstream;
mod world;

use std::time::{Duration, Instant};

use model::{call, call_head, call_part, cut, stop, stream, text};
use serde_json::{Value, json};
use upstream::{Received, Step, Upstream, whole};
use world::{World, answer_of, events};

fn ask(content: &str) -> Value {
    json!({"messages": [{"role": "user", "content": content}]})
}

/// The tool's server answers everything.
async fn shop() -> Upstream {
    Upstream::start(|_, received| whole(200, "text/plain", &format!("did {}", received.line()))).await
}

#[tokio::test]
async fn text_whole_and_streamed() {
    let model =
        Upstream::start(|_, _| stream(&[text("Hel"), text("lo ✓"), stop("stop"), model::usage(3, 2)])).await;
    let world = World::start(&model.url, &shop().await.url, json!({})).await;
    let (status, answer) = world.chat(ask("hi")).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(answer["model"], "a");
    assert_eq!(
        answer["choices"][0]["message"],
        json!({"role": "assistant", "content": "Hello ✓", "refusal": null})
    );
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert_eq!(answer["usage"], json!({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}));

    let mut request = ask("hi");
    request["stream_options"] = json!({"include_usage": true});
    let (head, events) = world.stream(request).await;
    assert_eq!(head["content-type"], "text/event-stream");
    assert_eq!(events.last().unwrap(), "[DONE]");
    let chunks: Vec<Value> =
        events[..events.len() - 1].iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk["object"] == "chat.completion.chunk" && chunk["id"] == chunks[0]["id"])
    );
    assert_eq!(answer_of(&events), "Hello ✓");
    assert_eq!(chunks[chunks.len() - 2]["choices"][0]["finish_reason"], "stop");
    assert_eq!(chunks.last().unwrap()["usage"]["total_tokens"], 5);

    let sent = model.received()[0].json();
    assert_eq!(sent["model"], "m");
    assert_eq!((&sent["stream"], &sent["stream_options"]), (&json!(true), &json!({"include_usage": true})));
    assert_eq!(
        sent["messages"],
        json!([
            {"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"},
        ])
    );
    assert_eq!(sent["tools"][0]["function"]["name"], "shop__get");
    // The whole URL goes to the sidecar, without a tool's name.
    let target = format!("{}/v1/chat/completions", model.url);
    assert_eq!(world.egress.proxied.lock().unwrap()[0], (target, None));
}

#[tokio::test]
async fn text_is_streamed_while_the_model_still_speaks() {
    let model = Upstream::start(|_, _| {
        let mut steps = cut(&[text("first")], "");
        steps.push(Step::Hang);
        steps
    })
    .await;
    let world = World::start(&model.url, &shop().await.url, json!({})).await;
    let mut answer = world.open(ask("hi")).await;
    assert!(events(&mut answer, |event| event.contains("first")).await.is_some());
    // The model hangs. The caller goes away, and with it the request to the model.
    assert_eq!(model.abandoned(), 0);
    drop(answer);
    upstream::until("the model's request to be given up", || async {
        (model.abandoned() == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_caller_that_leaves_ends_the_task() {
    let model = Upstream::start(|_, _| vec![Step::Hang]).await;
    let world = World::start(&model.url, &shop().await.url, json!({})).await;
    tokio::select! {
        _ = world.chat(ask("hi")) => panic!("the model hangs"),
        () = upstream::until("the request", || async { (!model.received().is_empty()).then_some(()) }) => {}
    }
    upstream::until("the model's request to be given up", || async {
        (model.abandoned() == 1).then_some(())
    })
    .await;
    assert_eq!(model.received().len(), 1);
}

/// Two calls, their fragments interleaved, seven each.
fn two_calls() -> Vec<Value> {
    let mut parts = vec![call_head(0, "x", "shop__get"), call_head(1, "y", "shop__get")];
    let left = ["{", "\"id\"", ":", " \"", "o", "ne", "\"}"];
    let right = ["{\"", "id", "\":", "\"", "zw", "ö", "\"}"];
    for (left, right) in left.iter().zip(right) {
        parts.extend([call_part(0, left), call_part(1, right)]);
    }
    parts.push(stop("tool_calls"));
    parts.push(model::usage(10, 5));
    parts
}

#[tokio::test]
async fn interleaved_tool_calls_are_executed_once_each() {
    let model = Upstream::start(|number, _| match number {
        0 => stream(&two_calls()),
        _ => stream(&[text("done"), stop("stop"), model::usage(20, 1)]),
    })
    .await;
    let tools = shop().await;
    let world = World::start(&model.url, &tools.url, json!({})).await;
    let (status, answer) = world.chat(ask("do it")).await;
    assert_eq!((status, &answer["choices"][0]["message"]["content"]), (200, &json!("done")));
    assert_eq!(answer["usage"], json!({"prompt_tokens": 30, "completion_tokens": 6, "total_tokens": 36}));

    let mut lines: Vec<_> = tools.received().iter().map(|received| received.line().to_owned()).collect();
    lines.sort();
    assert_eq!(lines, ["GET /v1/items/one HTTP/1.1", "GET /v1/items/zw%C3%B6 HTTP/1.1"]);
    let requests = model.received();
    assert_eq!(requests.len(), 2, "all results go back in one request");
    let messages = requests[1].json()["messages"].as_array().unwrap().clone();
    assert_eq!(
        messages[2]["tool_calls"][0],
        json!({"id": "x", "type": "function",
        "function": {"name": "shop__get", "arguments": "{\"id\": \"one\"}"}})
    );
    for (message, id, line) in [(&messages[3], "x", "items/one"), (&messages[4], "y", "items/zw%C3%B6")] {
        assert_eq!((&message["role"], &message["tool_call_id"]), (&json!("tool"), &json!(id)));
        let result: Value = serde_json::from_str(message["content"].as_str().unwrap()).unwrap();
        assert_eq!(result["status"], 200);
        assert!(result["body"].as_str().unwrap().contains(line), "{result}");
    }
    let audit = world.egress.audit();
    assert_eq!(audit.len(), 2);
    assert!(audit.iter().all(|entry| entry["outcome"] == "Executed"));
    assert_ne!(audit[0]["callId"], audit[1]["callId"]);
}

#[tokio::test]
async fn text_around_calls_is_kept_apart() {
    let script = |number: usize, _: &Received| match number % 2 {
        0 => stream(&[text("Let me look."), call(0, "x", "shop__get", "{\"id\":\"1\"}"), stop("tool_calls")]),
        _ => stream(&[text("Found."), stop("stop")]),
    };
    let model = Upstream::start(script).await;
    let world = World::start(&model.url, &shop().await.url, json!({})).await;
    let (_, answer) = world.chat(ask("x")).await;
    assert_eq!(answer["choices"][0]["message"]["content"], "Let me look.\n\nFound.");
    let (_, events) = world.stream(ask("x")).await;
    assert_eq!(answer_of(&events), "Let me look.\n\nFound.");
}

#[tokio::test]
async fn broken_calls_are_told_to_the_model() {
    let turns = [
        call(0, "a", "shop__get", "{\"id\": broken"),
        call(0, "b", "shop__get", "[1]"),
        call(0, "c", "shop__nothing", "{}"),
        call(0, "d", "bank__transfer", "{}"),
        call(0, "e", "sh\u{43e}p__get", "{\"id\":\"1\"}"),
        call(0, "f", "shop__get", "{\"id\":7}"),
        call(0, "g", "shop__get", "{\"id\":\"1\"}"),
    ];
    let count = turns.len();
    let model = Upstream::start(move |number, _| match turns.get(number) {
        Some(turn) => stream(&[turn.clone(), stop("tool_calls")]),
        None => stream(&[text("done"), stop("stop")]),
    })
    .await;
    let tools = shop().await;
    let world = World::start(&model.url, &tools.url, json!({})).await;
    let (status, answer) = world.chat(ask("x")).await;
    assert_eq!((status, &answer["choices"][0]["message"]["content"]), (200, &json!("done")));
    let messages = model.received()[count].json()["messages"].clone();
    let results: Vec<Value> = messages
        .as_array()
        .unwrap()
        .iter()
        .filter(|message| message["role"] == "tool")
        .map(|message| serde_json::from_str(message["content"].as_str().unwrap()).unwrap())
        .collect();
    let reasons: Vec<_> =
        results.iter().map(|result| result["error"]["reason"].as_str().unwrap_or("-")).collect();
    assert_eq!(
        reasons,
        [
            "InvalidCall",
            "InvalidCall",
            "UnknownFunction",
            "UnknownFunction",
            "UnknownFunction",
            "InvalidArguments",
            "-",
        ]
    );
    assert!(results[0]["error"]["message"].as_str().unwrap().contains("not valid JSON"));
    assert_eq!(tools.received().len(), 1, "only the last call is executed");
    let outcomes: Vec<_> = world.egress.audit().iter().map(|entry| entry["outcome"].clone()).collect();
    assert_eq!(
        outcomes,
        ["UnknownFunction", "UnknownFunction", "UnknownFunction", "InvalidArguments", "Executed"]
    );
}

/// A call whose stream breaks off in the middle of a character of its arguments.
fn cut_call() -> Vec<Step> {
    cut(&[call_head(0, "x", "shop__get"), call_part(0, "{\"id\":\"ö")], "ö")
}

#[tokio::test]
async fn a_cut_stream_is_asked_for_again_and_nothing_of_it_is_done() {
    let model = Upstream::start(|number, _| match number {
        0 => cut_call(),
        // Cut at the end of an event, and once with a clean end of the body.
        1 => cut(&[call(0, "x", "shop__get", "{\"id\":\"1\"}")], ""),
        _ => stream(&[text("done"), stop("stop")]),
    })
    .await;
    let tools = shop().await;
    let world = World::start(&model.url, &tools.url, json!({})).await;
    let (_, events) = world.stream(ask("x")).await;
    assert_eq!(answer_of(&events), "done");
    assert_eq!((model.received().len(), tools.received().len()), (3, 0));
}

#[tokio::test]
async fn a_stream_that_is_always_cut_fails() {
    for (what, answer) in [
        ("inside a character", cut_call()),
        ("clean end without a reason to stop", stream(&[call(0, "x", "shop__get", "{\"id\":\"1\"}")])),
    ] {
        let model = Upstream::start(move |_, _| answer.clone()).await;
        let tools = shop().await;
        let world = World::start(&model.url, &tools.url, json!({})).await;
        let (status, failure) = world.chat(ask("x")).await;
        assert_eq!(
            (status, &failure["error"]["code"]),
            (502, &json!("ModelStreamTruncated")),
            "{what}: {failure}"
        );
        assert_eq!(failure["error"]["object"], "Agent/a");
        assert_eq!((model.received().len(), tools.received().len()), (3, 0), "{what}");
        assert!(world.egress.audit().is_empty());
    }
}

#[tokio::test]
async fn what_the_caller_heard_is_not_said_twice() {
    let model = Upstream::start(|_, _| cut(&[text("Once upon"), text("a")], "")).await;
    let world = World::start(&model.url, &shop().await.url, json!({})).await;
    let (_, events) = world.stream(ask("x")).await;
    assert_eq!(answer_of(&events[..events.len() - 1]), "Once upona");
    let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], "ModelStreamTruncated");
    assert_eq!(model.received().len(), 1);
    // Whoever heard nothing yet can be given another try.
    world.chat(ask("x")).await;
    assert_eq!(model.received().len(), 4);
}

#[tokio::test]
async fn too_many_requests_are_waited_for() {
    let limited = |seconds: u32| {
        let head = format!("HTTP/1.1 429 X\r\nretry-after: {seconds}\r\ncontent-length: 0\r\n\r\n");
        vec![Step::Send(head.into_bytes())]
    };
    let model = Upstream::start(move |number, _| match number {
        0 | 1 => limited(2),
        2 => stream(&[text("done"), stop("stop"), model::usage(1, 1)]),
        _ => limited(3600),
    })
    .await;
    let world = World::start(&model.url, &shop().await.url, json!({})).await;
    let begin = Instant::now();
    let (status, answer) = world.chat(ask("x")).await;
    assert_eq!((status, &answer["usage"]["total_tokens"]), (200, &json!(2)));
    assert!(begin.elapsed() >= Duration::from_secs(4), "both waits were kept");
    // An hour is not waited for.
    let (status, head, body) = world.raw(ask("x")).await;
    let failure: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &failure["error"]["code"]), (429, &json!("ModelRateLimited")));
    assert_eq!(
        (&head["retry-after"], &head["x-should-retry"]),
        (&"3600".parse().unwrap(), &"false".parse().unwrap())
    );
    assert_eq!(model.received().len(), 4);
}

#[tokio::test]
async fn failures_of_the_model() {
    for (answer, status, code, asked) in [
        (whole(500, "text/plain", "oops"), 502, "ModelUnavailable", 3),
        (whole(503, "application/json", "{\"error\":{\"message\":\"over\\nloaded\"}}"), 502, "ModelUnavailable", 3),
        (whole(401, "application/json", "{\"error\":{\"message\":\"no key\"}}"), 502, "ModelRefused", 1),
        (whole(200, "text/html", "<html>"), 502, "ModelProtocol", 1),
        (whole(200, "text/event-stream", "data: <html>\n\n"), 502, "ModelProtocol", 1),
        (whole(200, "text/event-stream", "data: {\"choices\": 7}\n\n"), 502, "ModelProtocol", 1),
        (whole(200, "text/event-stream", "data: \u{0}\n\n"), 502, "ModelProtocol", 1),
        (whole(200, "text/event-stream", "data: {\"error\":{\"message\":\"x\"}}\n\n"), 502, "ModelUnavailable", 3),
        (whole(200, "text/event-stream", &format!("data: {}", "x".repeat(2 << 20))), 502, "ModelAnswerTooLarge", 1),
        (vec![Step::Send(b"HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\ncontent-length: 9\r\n\r\ndata: \xff\n\n".to_vec())],
            502, "ModelProtocol", 1),
        (vec![Step::Send(b"nonsense\r\n\r\n".to_vec())], 502, "UpstreamUnavailable", 3),
    ] {
        let what = format!("{answer:?}").chars().take(200).collect::<String>();
        let model = Upstream::start(move |_, _| answer.clone()).await;
        let world = World::start(&model.url, &shop().await.url, json!({})).await;
        let (got, failure) = world.chat(ask("x")).await;
        assert_eq!((got, failure["error"]["code"].as_str()), (status, Some(code)), "{what}: {failure}");
        assert_eq!(model.received().len(), asked, "{what}");
        let message = failure["error"]["message"].as_str().unwrap();
        assert!(message.contains(code) && !message.contains('\n'), "{message}");
    }
}

#[tokio::test]
async fn the_sidecars_refusal_is_told() {
    let world = World::start("http://refused.example:80", &shop().await.url, json!({})).await;
    let (status, failure) = world.chat(ask("x")).await;
    assert_eq!(status, 502);
    let error = &failure["error"];
    assert_eq!((&error["code"], &error["object"]), (&json!("NotGranted"), &json!("EgressPolicy/base")));
    assert_eq!((&error["field"], &error["help"]), (&json!("spec.allow[0]"), &json!("grant it")));
    assert_eq!(error["type"], "api_error");
    // A stream that has not begun says it by its status too.
    let mut request = ask("x");
    request["stream"] = json!(true);
    let (status, _, body) = world.raw(request).await;
    assert_eq!(status, 502);
    assert!(body.contains("NotGranted"), "{body}");
}

#[tokio::test]
async fn a_model_that_hangs_ends_by_the_tasks_limit() {
    let model = Upstream::start(|_, _| vec![Step::Hang]).await;
    let world = World::start(&model.url, &shop().await.url, json!({"timeoutSeconds": 1})).await;
    let (status, failure) = world.chat(ask("x")).await;
    assert_eq!((status, &failure["error"]["code"]), (504, &json!("TaskTimeout")));
    assert_eq!(failure["error"]["field"], "spec.runtime.limits.timeoutSeconds");
    upstream::until("the model's request to be given up", || async {
        (model.abandoned() == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn turns_are_bounded() {
    let model =
        Upstream::start(|_, _| stream(&[call(0, "x", "shop__get", "{\"id\":\"1\"}"), stop("tool_calls")]))
            .await;
    let tools = shop().await;
    let world = World::start(&model.url, &tools.url, json!({"maxTurns": 3})).await;
    let (status, failure) = world.chat(ask("x")).await;
    assert_eq!((status, &failure["error"]["code"]), (422, &json!("TurnLimit")));
    assert_eq!(failure["error"]["field"], "spec.runtime.limits.maxTurns");
    assert_eq!(
        (model.received().len(), tools.received().len()),
        (3, 2),
        "calls of the last turn are of no use"
    );
}

#[tokio::test]
async fn a_turn_that_was_stopped_is_not_acted_on() {
    let model = Upstream::start(|number, _| match number {
        0 => stream(&[call(0, "x", "shop__get", "{\"id\":\"1\"}"), stop("length")]),
        _ => stream(&[text("ok"), stop("length")]),
    })
    .await;
    let tools = shop().await;
    let world = World::start(&model.url, &tools.url, json!({})).await;
    let (_, answer) = world.chat(ask("x")).await;
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(tools.received().len(), 0);
}

#[tokio::test]
async fn a_hundred_calls_in_one_turn() {
    let model = Upstream::start(|number, _| match number {
        0 => {
            let mut turn: Vec<_> = (0..100)
                .map(|i| call(i, &format!("c{i}"), "shop__get", &format!("{{\"id\":\"{i}\"}}")))
                .collect();
            turn.push(stop("tool_calls"));
            stream(&turn)
        }
        _ => stream(&[text("done"), stop("stop")]),
    })
    .await;
    let tools = shop().await;
    let world = World::start(&model.url, &tools.url, json!({})).await;
    let (status, _) = world.chat(ask("x")).await;
    assert_eq!(status, 200);
    assert_eq!((tools.received().len(), world.egress.audit().len()), (100, 100));
    let messages = model.received()[1].json()["messages"].as_array().unwrap().len();
    assert_eq!(messages, 2 + 1 + 100);
}

#[tokio::test]
async fn requests_are_checked() {
    let world = World::start("http://refused.example:80", &shop().await.url, json!({})).await;
    let (status, _, models) = pod::exchange(&world.socket, "GET", "/v1/models", "").await;
    assert_eq!(status, 200);
    assert_eq!(serde_json::from_str::<Value>(&models).unwrap()["data"][0]["id"], "a");
    let mut tools = ask("x");
    tools["tools"] = json!([{"type": "function"}]);
    for (body, status, field) in [
        (tools.to_string(), 400, "tools"),
        ("{".to_owned(), 400, ""),
        (json!({"messages": [{"role": "user", "content": "x".repeat(5 << 20)}]}).to_string(), 413, ""),
    ] {
        let (got, _, answer) = pod::exchange(&world.socket, "POST", "/v1/chat/completions", &body).await;
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!((got.as_u16(), &answer["error"]["param"]), (status, &json!(field)), "{answer}");
        assert_eq!(answer["error"]["type"], "invalid_request_error");
    }
    assert_eq!(pod::exchange(&world.socket, "GET", "/v1/files", "").await.0, 404);
    assert_eq!(pod::exchange(&world.socket, "GET", "/v1/chat/completions", "").await.0, 405);
    assert!(world.egress.proxied.lock().unwrap().is_empty());
}

#[tokio::test]
async fn only_the_sidecar_is_served() {
    let model = Upstream::start(|_, _| stream(&[text("x"), stop("stop")])).await;
    let world = World::start_for(&model.url, &shop().await.url, json!({}), pod::own_uid() + 1).await;
    let (status, answer) = world.chat(ask("x")).await;
    assert_eq!((status, &answer["error"]["reason"]), (403, &json!("PeerNotAllowed")));
    assert_eq!(pod::exchange(&world.socket, "GET", "/v1/models", "").await.0, 403);
    assert!(model.received().is_empty());
}

#[tokio::test]
async fn without_hands_there_is_no_task() {
    let model = Upstream::start(|_, _| stream(&[text("x"), stop("stop")])).await;
    let world = World::start(&model.url, &shop().await.url, json!({})).await;
    world.stop_hands().await;
    let (status, failure) = world.chat(ask("x")).await;
    assert_eq!((status, &failure["error"]["code"]), (503, &json!("ToolsUnavailable")));
    assert!(model.received().is_empty());
}

#[test]
fn the_process_refuses_a_broken_configuration_and_stops_when_told() {
    world::process_starts_and_stops();
}
