use clap::Parser as _;
use serde_json::{Value, json};

use super::*;

fn args(more: &[&str]) -> Args {
    let cli = crate::Cli::try_parse_from([&["kubectl-redoubt", "logs", "helper"], more].concat()).unwrap();
    match cli.command {
        crate::Command::Logs(args) => args,
        other => panic!("{other:?}"),
    }
}

fn shown(record: &Value, more: &[&str]) -> Option<String> {
    told(&record.to_string(), &args(more))
}

/// As the sidecar writes it.
fn refused() -> Value {
    json!({"time": "2026-01-02T03:04:05Z", "event": "request", "decision": "refuse", "reason": "MethodNotAllowed",
        "source": "Tool/notes", "method": "DELETE", "scheme": "https", "host": "a.example", "port": 443,
        "path": "/v1/notes/7", "status": 403, "durationMs": 1, "epoch": 9,
        "object": "EgressPolicy/helper", "field": "spec.allow[1].methods"})
}

#[test]
fn records_are_told() {
    let allowed = json!({"time": "2026-01-02T03:04:05Z", "event": "request", "decision": "allow",
        "source": "Agent", "method": "POST", "scheme": "https", "host": "m.example", "port": 8443, "path": "/v1",
        "address": "192.0.2.7:8443", "status": 200, "durationMs": 12, "binding": "key",
        "object": "EgressPolicy/helper", "field": "spec.allow[0]", "wouldRefuse": "ClusterAgentPolicy/x spec.deny[0]"});
    let call = json!({"time": "2026-01-02T03:04:05Z", "event": "tool-call", "decision": "refuse", "reason": "Unknown",
        "source": "tools", "tool": "t", "function": "f"});
    let inbound = json!({"time": "2026-01-02T03:04:05Z", "event": "inbound", "decision": "refuse",
        "reason": "CallerNotAllowed", "caller": "system:serviceaccount:a:b", "status": 403});
    let policy = json!({"time": "2026-01-02T03:04:05Z", "event": "policy", "decision": "allow", "epoch": 7});
    for (record, expected) in [
        (
            refused(),
            "REFUSED Tool/notes DELETE https://a.example:443/v1/notes/7: MethodNotAllowed \
             (by EgressPolicy/helper spec.allow[1].methods)",
        ),
        (
            allowed,
            "allowed Agent POST https://m.example:8443/v1 -> 200 (by EgressPolicy/helper spec.allow[0], \
             with SecretBinding/key, audit: ClusterAgentPolicy/x spec.deny[0] would refuse it, at 192.0.2.7:8443, 12 ms)",
        ),
        (call, "REFUSED tools runs \"f\" of \"t\": Unknown"),
        (inbound, "REFUSED call of system:serviceaccount:a:b: CallerNotAllowed"),
        (policy, "allowed policy of epoch 7"),
    ] {
        assert_eq!(shown(&record, &[]).unwrap(), format!("2026-01-02T03:04:05Z {expected}\n"));
    }
}

#[test]
fn refusals_alone() {
    let mut allowed = refused();
    allowed["decision"] = json!("allow");
    assert!(shown(&refused(), &["--refused"]).is_some());
    assert_eq!(shown(&allowed, &["--refused"]), None);
    assert!(shown(&allowed, &[]).is_some());
    assert_eq!(told("some line", &args(&["--refused"])), None);
    assert_eq!(told("some line", &args(&[])).unwrap(), "egress: some line\n");
}

#[test]
fn what_an_agent_chose_cannot_move_a_cursor_or_begin_a_line() {
    let nasty = "/a\u{1b}[2K\r\n2026-01-02T03:04:05Z allowed\u{9b}31m\u{202e}\u{7f}\tx";
    let mut record = refused();
    record["path"] = json!(nasty);
    let text = shown(&record, &[]).unwrap();
    assert!(text.starts_with("2026-01-02T03:04:05Z REFUSED "), "{text:?}");
    let raw = shown(&record, &["-o", "json"]).unwrap();
    for shown in [&text, &raw, &told(nasty.trim_end(), &args(&["-c", "agent"])).unwrap()] {
        let (last, others) = shown.split_at(shown.len() - 1);
        assert_eq!(others, "\n");
        let plain = |c: char| !c.is_control() && !('\u{202a}'..='\u{202e}').contains(&c);
        assert!(last.chars().all(plain), "{last:?}");
    }
    // For a program it is still what was recorded.
    assert_eq!(serde_json::from_str::<Value>(&raw).unwrap(), record);
    let text = told(nasty, &args(&["-c", "agent", "-o", "json"])).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), json!({"container": "agent", "text": nasty}));
}

#[test]
fn a_brain_cannot_write_records() {
    let text = told(&refused().to_string(), &args(&["-c", "agent"])).unwrap();
    assert!(text.starts_with("agent: {"), "{text}");
    let text = told(&refused().to_string(), &args(&["-c", "agent", "-o", "json"])).unwrap();
    assert!(serde_json::from_str::<Value>(&text).unwrap()["text"].is_string());
}
