//! Hands that run: a signed policy with one tool, the stand-in for the sidecar, and the server under test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use redoubt_policy::envelope::{SigningKey, sign};
use redoubt_policy::wire::PodPolicy;
use redoubt_tools::Args;
use serde_json::{Value, json};

use crate::pod::{self, Dir, Egress};
use crate::upstream;

/// A policy of epoch 7 for Agent n/a with the tool `shop` at this URL.
pub fn policy(base_url: &str) -> PodPolicy {
    let function = |name: &str, method: &str, query: Value, properties: Value| {
        json!({"name": name, "description": "does it", "effect": "Read", "method": method, "path": "/items/{id}",
            "query": query, "maxResponseBytes": 101, "parameters": {
                "type": "object", "required": ["id"], "additionalProperties": false, "properties": properties}})
    };
    serde_json::from_value(json!({
        "agent": {"namespace": "n", "name": "a", "uid": "u"}, "epoch": 7, "rules": [],
        "denies": [], "audit": {"ceilings": [], "denies": []},
        "explanation": {"needs": [], "grants": [], "ceilings": [], "selectedBy": []}, "bindings": [], "vaults": [],
        "inbound": {"issuer": "i", "jwks": {}, "audience": "x", "callers": []},
        "tools": [{"name": "shop", "http": {"baseURL": format!("{base_url}/v1"), "functions": [
            function("get", "GET", json!(["q"]), json!({"id": {"type": "string"}, "q": {"type": "string"}})),
            function("put", "PUT", json!([]), json!({
                "id": {"type": "string"}, "name": {"type": "string"}, "price": {"type": "integer"}})),
        ]}}],
    }))
    .unwrap()
}

pub fn new_key() -> SigningKey {
    SigningKey::from_pkcs8(&SigningKey::generate().unwrap()).unwrap()
}

pub fn signed(policy: &PodPolicy, key: &SigningKey) -> Vec<u8> {
    sign(policy, key).unwrap().into_bytes()
}

pub struct World {
    pub egress: Egress,
    pub socket: PathBuf,
    policy: PathBuf,
    key: SigningKey,
    ids: AtomicU64,
    _dir: Dir,
}

fn arguments(dir: &Dir, key: &SigningKey) -> Vec<String> {
    let path = |name: &str| dir.join(name).display().to_string();
    [
        ("--policy", path("policy.dsse.json")),
        ("--policy-key", key.public().to_string()),
        ("--agent-namespace", "n".to_owned()),
        ("--agent-name", "a".to_owned()),
        ("--agent-uid", "u".to_owned()),
        ("--min-epoch", "7".to_owned()),
        ("--egress", path("egress.sock")),
        ("--listen", path("tools.sock")),
    ]
    .into_iter()
    .flat_map(|(name, value)| [name.to_owned(), value])
    .collect()
}

impl World {
    /// Hands with the tool `shop` at `base_url`, and more arguments.
    pub async fn start(base_url: &str, more: &[&str]) -> Self {
        let (dir, key) = (Dir::new(), new_key());
        let egress = Egress::start(&dir);
        let policy_path = dir.join("policy.dsse.json");
        std::fs::write(&policy_path, signed(&policy(base_url), &key)).unwrap();
        let mut line = vec!["redoubt-tools".to_owned()];
        line.extend(arguments(&dir, &key));
        if !more.contains(&"--agent-process-uid") {
            line.extend(["--agent-process-uid".to_owned(), pod::own_uid().to_string()]);
        }
        line.extend(more.iter().map(|text| (*text).to_owned()));
        let args = Args::parse_from(line);
        let socket = args.listen.clone();
        tokio::spawn(async move { redoubt_tools::serve(args, std::future::pending()).await.unwrap() });
        upstream::until("the hands' socket", || async { socket.exists().then_some(()) }).await;
        Self { egress, socket, policy: policy_path, key, ids: AtomicU64::new(0), _dir: dir }
    }

    pub fn next_id(&self) -> String {
        format!("id-{}", self.ids.fetch_add(1, Ordering::Relaxed))
    }

    pub fn sign(&self, policy: &PodPolicy) -> Vec<u8> {
        signed(policy, &self.key)
    }

    /// As the kubelet does it: at once.
    pub fn replace_policy(&self, bytes: &[u8]) {
        replace(&self.policy, bytes);
    }

    /// Announcements of keys, beside the policy.
    pub fn announce(&self, lines: &str) {
        replace(&self.policy.with_file_name("keys.dsse.jsonl"), lines.as_bytes());
    }

    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    pub async fn call(&self, name: &str, arguments: Value, id: &str) -> (u16, Value) {
        let body = json!({"name": name, "arguments": arguments, "callId": id}).to_string();
        let (status, _, body) = pod::exchange(&self.socket, "POST", "/v1/call", &body).await;
        (status.as_u16(), serde_json::from_str(&body).unwrap())
    }
}

fn replace(path: &Path, bytes: &[u8]) {
    let new = path.with_extension("new");
    std::fs::write(&new, bytes).unwrap();
    std::fs::rename(&new, path).unwrap();
}

/// Starts the real process with a policy that it has to refuse, and gives the line of its log that says why.
pub fn start_refused(policy: &[u8], key: &SigningKey) -> Value {
    let dir = Dir::new();
    std::fs::write(dir.join("policy.dsse.json"), policy).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_redoubt-tools"))
        .args(arguments(&dir, key))
        .args(["--agent-process-uid", "65003"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(!dir.join("tools.sock").exists(), "nothing listens");
    let log = String::from_utf8(output.stdout).unwrap();
    log.lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .find(|line| line["level"] == "ERROR")
        .unwrap_or_else(|| panic!("no error in the log: {log}"))
}
