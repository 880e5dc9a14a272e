//! Brain and hands that run, with a signed policy, a configuration and the stand-in for the sidecar.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use redoubt_local::{Client, sse};
use redoubt_policy::envelope::{SigningKey, sign};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::pod::{self, Dir, Egress};
use crate::upstream;

pub struct World {
    pub egress: Egress,
    pub socket: PathBuf,
    tools_socket: PathBuf,
    stop_hands: std::sync::Mutex<Option<oneshot::Sender<()>>>,
    _dir: Dir,
}

fn config(model_url: &str, limits: Value) -> Value {
    let mut all = json!({"maxTurns": 16, "timeoutSeconds": 60});
    all.as_object_mut().unwrap().extend(limits.as_object().unwrap().clone());
    json!({"name": "a", "namespace": "n", "instructions": "Be brief.",
        "model": {"baseURL": format!("{model_url}/v1"), "name": "m"}, "limits": all})
}

impl World {
    pub async fn start(model_url: &str, tool_url: &str, limits: Value) -> Self {
        Self::start_for(model_url, tool_url, limits, pod::own_uid()).await
    }

    /// A brain that serves `uid`.
    pub async fn start_for(model_url: &str, tool_url: &str, limits: Value, uid: u32) -> Self {
        let dir = Dir::new();
        let path = |name: &str| dir.join(name).display().to_string();
        let egress = Egress::start(&dir);
        let key = SigningKey::from_pkcs8(&SigningKey::generate().unwrap()).unwrap();
        let policy = serde_json::from_value(json!({
            "agent": {"namespace": "n", "name": "a", "uid": "u"}, "epoch": 7, "rules": [],
            "denies": [], "audit": {"ceilings": [], "denies": []},
        "explanation": {"needs": [], "grants": [], "ceilings": [], "selectedBy": []}, "bindings": [], "vaults": [],
            "inbound": {"issuer": "i", "jwks": {}, "audience": "x", "callers": []},
            "tools": [{"name": "shop", "http": {"baseURL": format!("{tool_url}/v1"), "functions": [
                {"name": "get", "description": "Gets an item.", "effect": "Read", "method": "GET",
                    "path": "/items/{id}", "query": [], "maxResponseBytes": 1000, "parameters":
                    {"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}}}},
            ]}}],
        }))
        .unwrap();
        std::fs::write(dir.join("policy.dsse.json"), sign(&policy, &key).unwrap()).unwrap();
        std::fs::write(dir.join("agent.json"), config(model_url, limits).to_string()).unwrap();
        let hands = redoubt_tools::Args::parse_from([
            "redoubt-tools",
            "--policy",
            &path("policy.dsse.json"),
            "--policy-key",
            &key.public().to_string(),
            "--agent-namespace",
            "n",
            "--agent-name",
            "a",
            "--agent-uid",
            "u",
            "--min-epoch",
            "7",
            "--egress",
            &path("egress.sock"),
            "--listen",
            &path("tools.sock"),
            "--agent-process-uid",
            &pod::own_uid().to_string(),
        ]);
        let brain = redoubt_agent::Args::parse_from([
            "redoubt-agent",
            "--config",
            &path("agent.json"),
            "--egress",
            &path("egress.sock"),
            "--tools",
            &path("tools.sock"),
            "--listen",
            &path("agent.sock"),
            "--egress-uid",
            &uid.to_string(),
        ]);
        let (stop_hands, stopped) = oneshot::channel::<()>();
        let (socket, tools_socket) = (brain.listen.clone(), hands.listen.clone());
        tokio::spawn(async move {
            redoubt_tools::serve(hands, async { drop(stopped.await) }).await.unwrap();
        });
        tokio::spawn(async move { redoubt_agent::serve(brain, std::future::pending()).await.unwrap() });
        upstream::until("the sockets", || async { (socket.exists() && tools_socket.exists()).then_some(()) })
            .await;
        Self { egress, socket, tools_socket, stop_hands: Some(stop_hands).into(), _dir: dir }
    }

    pub async fn stop_hands(&self) {
        drop(self.stop_hands.lock().unwrap().take());
        let client = Client::new(&self.tools_socket, Duration::from_secs(5));
        upstream::until("the hands to be gone", || async {
            let request = Request::get("/v1/tools").body(Full::default()).unwrap();
            client.send(request).await.is_err().then_some(())
        })
        .await;
    }

    pub async fn raw(&self, request: Value) -> (u16, HeaderMap, String) {
        let body = request.to_string();
        let (status, head, body) = pod::exchange(&self.socket, "POST", "/v1/chat/completions", &body).await;
        (status.as_u16(), head, body)
    }

    pub async fn chat(&self, request: Value) -> (u16, Value) {
        let (status, _, body) = self.raw(request).await;
        (status, serde_json::from_str(&body).unwrap())
    }

    /// The head of a streamed answer, and the data of all its events.
    pub async fn stream(&self, mut request: Value) -> (HeaderMap, Vec<String>) {
        request["stream"] = json!(true);
        let (status, head, body) = self.raw(request).await;
        assert_eq!(status, 200, "{body}");
        let events = sse::Reader::new(1 << 20).push(body.as_bytes()).unwrap();
        (head, events.into_iter().map(|event| event.data).collect())
    }

    /// A streamed answer that is still to be read.
    pub async fn open(&self, mut request: Value) -> Incoming {
        request["stream"] = json!(true);
        let request =
            Request::post("/v1/chat/completions").body(Full::new(Bytes::from(request.to_string()))).unwrap();
        Client::new(&self.socket, Duration::from_secs(30)).send(request).await.unwrap().into_body()
    }
}

/// Reads events until one is as wanted.
pub async fn events(body: &mut Incoming, wanted: impl Fn(&str) -> bool) -> Option<String> {
    let mut reader = sse::Reader::new(1 << 20);
    while let Some(frame) = body.frame().await {
        for event in reader.push(&frame.unwrap().into_data().unwrap()).unwrap() {
            if wanted(&event.data) {
                return Some(event.data);
            }
        }
    }
    None
}

/// The text of a streamed answer.
pub fn answer_of(events: &[String]) -> String {
    events
        .iter()
        .filter(|event| *event != "[DONE]")
        .map(|event| serde_json::from_str::<Value>(event).unwrap())
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
        .collect()
}

/// The real process: it refuses to start without a usable configuration, and ends by itself when told to.
pub fn process_starts_and_stops() {
    let dir = Dir::new();
    let start = || {
        Command::new(env!("CARGO_BIN_EXE_redoubt-agent"))
            .args(["--config".into(), dir.join("agent.json"), "--egress".into(), dir.join("egress.sock")])
            .args(["--tools".into(), dir.join("tools.sock"), "--listen".into(), dir.join("agent.sock")])
            .args(["--egress-uid", "65001"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    };
    for (content, field) in [
        (None, dir.join("agent.json").display().to_string()),
        (Some(config("http://h", json!({"maxTurns": 0}))), "spec.runtime.limits.maxTurns".to_owned()),
    ] {
        if let Some(content) = content {
            std::fs::write(dir.join("agent.json"), content.to_string()).unwrap();
        }
        let output = start().wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let log: Value = serde_json::from_slice(&output.stdout[..]).unwrap_or_else(|_| {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            serde_json::from_str(text.lines().find(|line| line.contains("ERROR")).unwrap()).unwrap()
        });
        assert_eq!((&log["reason"], &log["field"]), (&json!("ConfigurationUnusable"), &json!(field)));
    }
    std::fs::write(dir.join("agent.json"), config("http://h", json!({})).to_string()).unwrap();
    let mut brain = start();
    let mut waits = 0;
    while !dir.join("agent.sock").exists() {
        waits += 1;
        assert!(waits < 600, "the socket did not appear");
        std::thread::sleep(Duration::from_millis(50));
    }
    let told = Command::new("/bin/kill").args(["-TERM", &brain.id().to_string()]).status().unwrap();
    assert!(told.success());
    assert_eq!(brain.wait().unwrap().code(), Some(0));
}
