//! The plugin as a process, against a stand-in for the API server: how it asks, what it prints, how it ends.

#![allow(unreachable_pub, reason = "a test binary has no outside")]
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what goes wrong in a test's own helpers fails the test"
)]

#[allow(dead_code, reason = "shared with the tests of the hands")]
#[path = "../../../../agent-pod/tools/tests/it/upstream.rs"]
mod upstream;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use upstream::{Received, Step, Upstream, until, whole};

const TOKEN: &str = "eyJ-the-callers-token";
const PROXY: &str =
    "POST /api/v1/namespaces/team/services/https:redoubt-agent-helper:8443/proxy/v1/chat/completions";

fn agent(callers: &Value) -> String {
    json!({"apiVersion": "redoubt.dev/v1alpha1", "kind": "Agent", "metadata": {"name": "helper", "namespace": "team"},
        "spec": {"callers": callers, "runtime": {"model": {"baseURL": "https://m.example", "name": "m"}}}})
    .to_string()
}

/// An API server whose service proxy answers as given; the number counts the requests through the proxy.
async fn api_server(
    callers: Value,
    answer: impl Fn(usize, &Received) -> Vec<Step> + Send + Sync + 'static,
) -> Upstream {
    let proxied = std::sync::atomic::AtomicUsize::new(0);
    Upstream::start(move |_, received| match received.line().trim_end_matches(" HTTP/1.1") {
        "GET /apis/redoubt.dev/v1alpha1/namespaces/team/agents/helper" => {
            whole(200, "application/json", &agent(&callers))
        }
        line if line.starts_with("POST /api/v1/namespaces/team/serviceaccounts/") => {
            let status = json!({"token": TOKEN, "expirationTimestamp": "2030-01-01T00:00:00Z"});
            let mut request = received.json();
            request["status"] = status;
            whole(201, "application/json", &request.to_string())
        }
        PROXY => answer(proxied.fetch_add(1, std::sync::atomic::Ordering::SeqCst), received),
        line => whole(
            404,
            "application/json",
            &json!({"kind": "Status", "message": format!("no {line}")}).to_string(),
        ),
    })
    .await
}

fn callers() -> Value {
    json!([
        {"serviceAccount": {"name": "far", "namespace": "elsewhere"}},
        {"serviceAccount": {"name": "caller"}},
    ])
}

fn said(texts: &[&str], end: &str) -> Vec<Step> {
    let mut body = String::from(": still working\n\n");
    for text in texts {
        let chunk = json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]});
        body.push_str(&format!("data: {chunk}\n\n"));
    }
    body.push_str(end);
    vec![Step::Send(
        format!("HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{body}")
            .into_bytes(),
    )]
}

const DONE: &str = "data: [DONE]\n\n";

struct Kubeconfig(PathBuf);

impl Drop for Kubeconfig {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn kubeconfig(server: &str) -> Kubeconfig {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    let path = std::env::temp_dir().join(format!("kubeconfig-{}-{number}", std::process::id()));
    let content = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "team"}}],
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": "the-persons-token"}}]});
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(content.to_string().as_bytes()).unwrap();
    Kubeconfig(path)
}

fn command(kubeconfig: &Kubeconfig, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-redoubt"));
    command.args(["chat", "helper", "--kubeconfig"]).arg(&kubeconfig.0).args(arguments);
    command.env_remove("HTTPS_PROXY").env_remove("https_proxy").env("RUST_LOG", "trace");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

async fn run(server: &Upstream, arguments: &[&str]) -> (i32, String, String) {
    let kubeconfig = kubeconfig(&server.url);
    outcome(command(&kubeconfig, arguments).output().await.unwrap())
}

fn outcome(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(output.stdout), text(output.stderr));
    for shown in [&out, &err] {
        assert!(!shown.contains(TOKEN) && !shown.contains("the-persons-token"), "{shown}");
    }
    (output.status.code().unwrap(), out, err)
}

fn through_the_proxy(server: &Upstream) -> Vec<Received> {
    server.received().into_iter().filter(|received| received.line().starts_with(PROXY)).collect()
}

#[tokio::test]
async fn one_message() {
    let server = api_server(callers(), |_, _| said(&["Hel", "lo"], DONE)).await;
    let (code, out, err) = run(&server, &["--message", "hi"]).await;
    assert_eq!((code, out.as_str(), err.as_str()), (0, "Hello\n", ""));
    let received = server.received();
    assert_eq!(received[1].line(), "POST /api/v1/namespaces/team/serviceaccounts/caller/token? HTTP/1.1");
    let asked = received[1].json();
    assert_eq!(asked["spec"]["audiences"], json!(["redoubt.dev/agents/team/helper"]));
    assert_eq!(asked["spec"]["expirationSeconds"], 600);
    assert!(
        received[2].head.contains(&format!("redoubt-authorization: Bearer {TOKEN}\r\n")),
        "{}",
        received[2].head
    );
    assert!(received[2].head.contains("authorization: Bearer the-persons-token\r\n"));
    assert_eq!(
        received[2].json(),
        json!({
            "model": "helper", "stream": true, "messages": [{"role": "user", "content": "hi"}],
        })
    );
}

#[tokio::test]
async fn a_chosen_service_account_needs_no_look_at_the_agent() {
    let server = api_server(callers(), |_, _| said(&["x"], DONE)).await;
    let (code, _, err) = run(&server, &["-m", "hi", "--service-account", "other"]).await;
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(server.received()[0].line().contains("/serviceaccounts/other/token"));
}

#[tokio::test]
async fn answers_are_printed_as_they_come_and_can_be_cancelled() {
    let server = api_server(callers(), |_, _| {
        let mut steps = said(&["first"], "");
        steps.push(Step::Hang);
        steps
    })
    .await;
    let kubeconfig = kubeconfig(&server.url);
    let mut child = command(&kubeconfig, &["-m", "hi"]).spawn().unwrap();
    let mut first = [0; 5];
    child.stdout.as_mut().unwrap().read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"first");
    assert_eq!(server.abandoned(), 0);
    let told = Command::new("kill").args(["-INT", &child.id().unwrap().to_string()]).status().await.unwrap();
    assert!(told.success());
    let (code, _, err) = outcome(child.wait_with_output().await.unwrap());
    assert_eq!((code, err.as_str()), (130, "error: interrupted\n"));
    until("the request to be given up", || async { (server.abandoned() == 1).then_some(()) }).await;
}

#[tokio::test]
async fn lines_are_a_conversation() {
    let server = api_server(callers(), |number, _| said(&[&format!("answer {number}")], DONE)).await;
    let kubeconfig = kubeconfig(&server.url);
    let mut child = command(&kubeconfig, &[]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stdin, b"one\n\n  \ntwo\n").await.unwrap();
    drop(stdin);
    let (code, out, err) = outcome(child.wait_with_output().await.unwrap());
    assert_eq!((code, out.as_str(), err.as_str()), (0, "answer 0\nanswer 1\n", ""));
    let requests = through_the_proxy(&server);
    assert_eq!(
        requests[1].json()["messages"],
        json!([
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "answer 0"},
            {"role": "user", "content": "two"},
        ])
    );
    assert_eq!(server.received().len(), 4, "one token serves both");
}

#[tokio::test]
async fn failures_are_told_and_nothing_is_sent_twice() {
    let refusal = json!({"error": {"reason": "CallerNotListed", "object": "Agent/helper", "field": "spec.callers",
        "message": "not a caller", "help": "List it."}});
    let status = json!({"kind": "Status", "message": "no endpoints available for service"});
    for (answer, expected) in [
        (
            whole(403, "application/json", &refusal.to_string()),
            "CallerNotListed: not a caller (Agent/helper, spec.callers). List it.",
        ),
        (
            whole(503, "application/json", &status.to_string()),
            "no endpoints available for service\nIs the agent Ready?",
        ),
        (whole(429, "application/json", "{\"error\":{\"message\":\"TooManyTasks: x\"}}"), "TooManyTasks: x"),
        (whole(504, "text/html", "<html>"), "status 504, and no explanation"),
        (said(&["part"], "data: {\"error\":{\"message\":\"TaskTimeout: x\"}}\n\n"), "error: TaskTimeout: x"),
        (said(&["part"], ""), "error: the answer broke off"),
        (said(&["part"], "data: {broken\n\n"), "error: the answer is not that of an agent"),
    ] {
        let partial =
            matches!(&answer[0], Step::Send(bytes) if String::from_utf8_lossy(bytes).contains("part"));
        let server = api_server(callers(), move |_, _| answer.clone()).await;
        let (code, out, err) = run(&server, &["-m", "hi"]).await;
        assert_eq!(code, 1);
        assert!(err.contains(expected), "{expected}: {err}");
        assert_eq!(out, if partial { "part\n" } else { "" });
        assert_eq!(through_the_proxy(&server).len(), 1, "{expected}");
    }
}

#[tokio::test]
async fn without_a_caller_or_an_agent() {
    let server =
        api_server(json!([{"serviceAccount": {"name": "far", "namespace": "elsewhere"}}]), |_, _| vec![])
            .await;
    let (code, _, err) = run(&server, &["-m", "hi"]).await;
    assert_eq!(code, 1);
    assert!(
        err.contains("Agent team/helper lists no service account of its namespace in spec.callers"),
        "{err}"
    );
    assert!(err.contains("--service-account"), "{err}");
    let (code, _, err) = run(&server, &["-m", "hi", "-n", "nowhere"]).await;
    assert_eq!(code, 1);
    assert!(err.contains("cannot read Agent nowhere/helper"), "{err}");
    for bad in ["../x", "A", "a/b"] {
        let (code, _, err) = run(&server, &["-m", "hi", "-n", bad]).await;
        assert_eq!(code, 2, "{err}");
    }
}

#[tokio::test]
async fn escape_sequences_do_not_reach_the_terminal() {
    let server = api_server(callers(), |_, _| said(&["\u{1b}]52;c;eA==\u{7}\r", "ok\u{9b}"], DONE)).await;
    let (_, out, _) = run(&server, &["-m", "hi"]).await;
    assert_eq!(out, "\u{241b}]52;c;eA==\u{2407}\u{240d}ok\u{fffd}\n");
}
