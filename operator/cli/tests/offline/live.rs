//! The commands that read a cluster, against a stand-in for its API server that holds the same objects as the files.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::{Value, json};

use super::{Copy, files};

/// An API server that lists and reads these objects, and nothing else. It ends with the test's process.
struct Server {
    kubeconfig: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.kubeconfig);
    }
}

impl Server {
    fn start(name: &str, objects: Vec<Value>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut head = String::new();
                while reader.read_line(&mut head).unwrap() > 2 {}
                let path = head.split([' ', '?']).nth(1).unwrap().to_owned();
                let (status, body) = answer(&path, &objects);
                let body = body.to_string();
                let head = format!(
                    "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
            }
        });
        let kubeconfig =
            std::env::temp_dir().join(format!("redoubt-cli-{}-{name}.kubeconfig", std::process::id()));
        let content = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "team"}}],
            "clusters": [{"name": "c", "cluster": {"server": server}}], "users": [{"name": "u", "user": {}}]});
        std::fs::write(&kubeconfig, content.to_string()).unwrap();
        Self { kubeconfig }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-redoubt"));
        command.args(arguments).arg("--kubeconfig").arg(&self.kubeconfig).output().unwrap()
    }

    fn json(&self, arguments: &[&str]) -> (i32, Value) {
        let output = self.run(&[arguments, &["-o", "json"]].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
        (output.status.code().unwrap(), value)
    }
}

fn answer(path: &str, objects: &[Value]) -> (u16, Value) {
    let parts: Vec<&str> = path.split('/').collect();
    let (namespace, rest) = match parts.as_slice() {
        ["", "apis", _, _, "namespaces", namespace, rest @ ..] => (Some(*namespace), rest),
        ["", "apis", _, _, rest @ ..] | ["", "api", "v1", rest @ ..] => (None, rest),
        _ => panic!("{path}"),
    };
    let plural = |object: &Value| match object["kind"].as_str().unwrap().to_lowercase() {
        kind if kind.ends_with('y') => format!("{}ies", kind.trim_end_matches('y')),
        kind if kind.ends_with('s') => format!("{kind}es"),
        kind => format!("{kind}s"),
    };
    let of = |object: &&Value| {
        let place = object["metadata"]["namespace"].as_str();
        plural(object) == rest[0] && (namespace.is_none() || place == namespace)
    };
    let mut found: Vec<Value> = objects.iter().filter(of).cloned().collect();
    if let Some(name) = rest.get(1) {
        return match found.into_iter().find(|object| object["metadata"]["name"] == **name) {
            Some(object) => (200, object),
            None => {
                (404, json!({"kind": "Status", "reason": "NotFound", "code": 404, "message": "not found"}))
            }
        };
    }
    // Items of a list do not say what they are.
    for object in &mut found {
        let members = object.as_object_mut().unwrap();
        members.remove("kind");
        members.remove("apiVersion");
    }
    (200, json!({"apiVersion": "v1", "kind": "XList", "metadata": {"resourceVersion": "1"}, "items": found}))
}

fn objects() -> Vec<Value> {
    let mut all = Vec::new();
    for file in ["good/agent.yaml", "good/policy.json", "good/tools/notes.yaml", "platform/snapshot.yaml"] {
        let text = std::fs::read_to_string(files(file)).unwrap();
        for document in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
            match document["items"].as_array() {
                Some(items) => all.extend(items.iter().cloned()),
                None => all.push(document),
            }
        }
    }
    // What an API server adds, and a snapshot does not need.
    for object in &mut all {
        object["metadata"]["uid"] = json!("the-uid");
        object["metadata"]["generation"] = json!(2);
        object["metadata"]["annotations"]["note"] = json!("the-annotation");
    }
    all
}

#[test]
fn a_snapshot_is_what_check_needs() {
    let server = Server::start("snapshot", objects());
    let output = server.run(&["snapshot"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains("the-uid") && !text.contains("the-annotation"), "{text}");
    assert!(!text.contains("helper"), "the team's objects are in it: {text}");
    let file = std::env::temp_dir().join(format!("redoubt-cli-{}-snapshot.yaml", std::process::id()));
    std::fs::write(&file, text).unwrap();
    let (status, report) = super::json(&["check", "-f", &files("good"), "--against", file.to_str().unwrap()]);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(status, 0, "{report:#}");
    assert_eq!(report["agents"][0]["effective"].as_array().unwrap().len(), 2, "{report:#}");
}

#[test]
fn explain_reads_the_cluster() {
    let server = Server::start("explain", objects());
    let ask = |method, url| server.json(&["explain", "helper", method, url, "--from", "notes"]);
    let (status, report) = ask("GET", "https://notes.example.com/notes/7");
    assert_eq!((status, &report["decision"]["allowed"]), (0, &true.into()), "{report:#}");
    let note = report["notes"][0].as_str().unwrap();
    assert!(note.contains("no policy is in force yet"), "{report:#}");
    let (status, report) = ask("DELETE", "https://notes.example.com/admin/notes");
    assert_eq!((status, &report["decision"]["refusal"]["reason"]), (1, &"Denied".into()), "{report:#}");
    // The listing without a request, from a context's namespace.
    assert_eq!(server.json(&["explain", "helper"]).0, 0);
    assert_eq!(server.run(&["explain", "other"]).status.code(), Some(2));
}

#[test]
fn diff_compares_the_cluster_with_files() {
    let server = Server::start("diff", objects());
    let diff = |path: &str| server.json(&["diff", "--cluster", path, "--fail-on-widening"]);
    let (status, report) = diff(&files("good"));
    assert_eq!((status, report["agents"].as_array().unwrap().len()), (0, 0), "{report:#}");
    let copy = Copy::new("cluster");
    copy.replace("agent.yaml", "{name: alice}", "{name: mallory}");
    let (status, report) = diff(copy.path());
    assert_eq!(status, 1, "{report:#}");
    assert!(report["agents"][0]["added"].to_string().contains("team:mallory"), "{report:#}");
}

#[test]
fn why_tells_what_does_not_hold() {
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({"type": kind, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z"})
    };
    let mut all = objects();
    let server = Server::start("why-new", all.clone());
    let (status, report) = server.json(&["why", "helper"]);
    assert_eq!((status, &report["ready"], &report["stale"]), (1, &false.into(), &true.into()), "{report:#}");

    let agent = all.iter_mut().find(|object| object["kind"] == "Agent").unwrap();
    agent["status"] = json!({"observedGeneration": 2, "conditions": [
        condition("Accepted", "True", "Valid", ""),
        condition("CredentialsReady", "False", "VaultSealed", "Unseal it.\u{1b}[2J"),
        condition("Ready", "False", "VaultSealed", "Unseal it."),
    ]});
    let server = Server::start("why-sealed", all.clone());
    let output = server.run(&["why", "helper"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.starts_with("Agent team/helper is not Ready\n"), "{text}");
    assert!(text.contains("CredentialsReady=False VaultSealed: Vault is sealed."), "{text}");
    assert!(text.contains("Unseal it.") && !text.contains("Accepted") && !text.contains('\u{1b}'), "{text}");

    let agent = all.iter_mut().find(|object| object["kind"] == "Agent").unwrap();
    agent["status"]["conditions"] = json!([condition("Ready", "True", "Ready", "")]);
    assert_eq!(Server::start("why-ready", all).json(&["why", "helper"]).0, 0);
}

/// A cluster where all is well.
fn healthy() -> Vec<Value> {
    let mut all = objects();
    for object in &mut all {
        let kind = object["kind"].as_str().unwrap().to_owned();
        let wanted = if kind == "Agent" { "Ready" } else { "Accepted" };
        if !["Namespace", "RuntimeClass"].contains(&kind.as_str()) {
            object["status"] = json!({"conditions": [{"type": wanted, "status": "True", "reason": "Valid"}]});
        }
        if kind == "Namespace" {
            object["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = json!("restricted");
        }
    }
    for definition in redoubt_crds::yaml::definitions() {
        let mut live = serde_json::to_value(&definition).unwrap();
        live["apiVersion"] = json!("apiextensions.k8s.io/v1");
        live["kind"] = json!("CustomResourceDefinition");
        live["spec"]["conversion"] = json!({"strategy": "None"});
        live["status"] = json!({"conditions": [{"type": "Established", "status": "True"}],
            "acceptedNames": {"kind": "", "plural": ""}, "storedVersions": []});
        all.push(live);
    }
    let library = concat!(env!("CARGO_MANIFEST_DIR"), "/../../policies/library");
    for entry in std::fs::read_dir(library).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for mut guard in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
            // A default that the API server adds.
            guard["spec"]["matchConstraints"]["matchPolicy"] = json!("Equivalent");
            all.push(guard);
        }
    }
    all.push(json!({"apiVersion": "apps/v1", "kind": "Deployment", "status": {"readyReplicas": 2},
        "metadata": {"name": "redoubt-operator", "namespace": "redoubt-system"}}));
    all
}

#[test]
fn doctor_finds_what_is_missing_or_changed() {
    let (status, report) = Server::start("doctor", healthy()).json(&["doctor"]);
    let checks = report["checks"].as_array().unwrap();
    assert_eq!((status, &report["healthy"]), (0, &true.into()), "{report:#}");
    assert!(checks.iter().all(|check| check["mark"] == "OK"), "{report:#}");

    let has = |what: &str| checks.iter().any(|check| check["what"] == what);
    assert!(has("Agent/helper in namespace team is Ready"), "{report:#}");
    assert!(has("Namespace/team enforces Pod Security restricted"), "{report:#}");

    type Break = fn(&mut Vec<Value>);
    let named = "ValidatingAdmissionPolicyBinding/redoubt-agent-accounts";
    let cases: [(&str, i32, &str, Break); 6] = [
        ("FAIL", 1, named, |all| {
            all.retain(|o| o["kind"] != "ValidatingAdmissionPolicyBinding");
        }),
        ("FAIL", 1, named, |all| {
            for object in all.iter_mut().filter(|o| o["kind"] == "ValidatingAdmissionPolicyBinding") {
                object["spec"]["validationActions"] = json!(["Audit"]);
            }
        }),
        ("FAIL", 1, "definition tools.redoubt.dev", |all| {
            all.retain(|o| o["metadata"]["name"] != "tools.redoubt.dev");
        }),
        ("FAIL", 1, "operator: no replica", |all| all.retain(|o| o["kind"] != "Deployment")),
        ("FAIL", 1, "VaultConnection/main is not Accepted", |all| {
            let vault = all.iter_mut().find(|o| o["kind"] == "VaultConnection").unwrap();
            vault["status"]["conditions"][0]["status"] = json!("False");
        }),
        // Worth a word, and no danger by itself.
        ("WARN", 0, "Namespace/team enforces Pod Security privileged", |all| {
            let namespace = all.iter_mut().find(|o| o["kind"] == "Namespace").unwrap();
            namespace["metadata"]["labels"] = json!({});
        }),
    ];
    for (i, (mark, expected, what, breaks)) in cases.into_iter().enumerate() {
        let mut all = healthy();
        breaks(&mut all);
        let (status, report) = Server::start(&format!("doctor-{i}"), all).json(&["doctor"]);
        let found = report["checks"]
            .as_array()
            .unwrap()
            .iter()
            .find(|check| check["mark"] == mark && check["what"].as_str().unwrap().starts_with(what));
        let found = found.unwrap_or_else(|| panic!("{what}: {report:#}"));
        assert!(!found["help"].as_str().unwrap().is_empty(), "{report:#}");
        assert_eq!(status, expected, "{what}: {report:#}");
    }
}
