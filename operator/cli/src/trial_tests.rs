use redoubt_policy::{SigningKey, sign};
use serde_json::{Value, json};

use super::*;

fn key() -> SigningKey {
    SigningKey::from_pkcs8(&SigningKey::generate().unwrap()).unwrap()
}

fn pod(keys: &[&SigningKey], uid: &str, lowest: u64) -> Pod {
    let mut args: Vec<String> =
        ["--agent-namespace", "team", "--agent-name", "helper"].map(str::to_owned).to_vec();
    for key in keys {
        args.extend(["--policy-key".to_owned(), key.public().to_string()]);
    }
    args.extend(["--agent-uid".to_owned(), uid.to_owned(), "--min-epoch".to_owned(), lowest.to_string()]);
    serde_json::from_value(json!({"metadata": {"name": "redoubt-agent-helper"}, "spec": {"containers": [],
        "initContainers": [{"name": "egress", "args": args}]}}))
    .unwrap()
}

fn map(key: &SigningKey, epoch: u64) -> ConfigMap {
    let origin = |object: &str| json!({"object": object, "field": "spec.x"});
    let scope = json!({"from": "agent", "scheme": "https", "host": "a.example", "port": 443, "methods": ["GET"],
        "path": "/v1/**"});
    let policy = json!({
        "agent": {"namespace": "team", "name": "helper", "uid": "uid-1"}, "epoch": epoch,
        "rules": [{"scope": scope, "need": origin("Tool/need"), "grant": origin("EgressPolicy/grant"),
            "privateCIDRs": []}],
        "denies": [], "audit": {"ceilings": [], "denies": []},
        "explanation": {"needs": [{"scope": scope, "origin": origin("Tool/need")}], "grants": [], "ceilings": [],
            "selectedBy": []},
        "bindings": [], "vaults": [], "inbound": {"callers": [], "issuer": "", "audience": "", "jwks": {"keys": []}},
        "tools": [],
    });
    let policy = serde_json::from_value(policy).unwrap();
    serde_json::from_value(json!({"data": {ENVELOPE_KEY: sign(&policy, key).unwrap()}})).unwrap()
}

fn agent(status: &Value) -> Agent {
    serde_json::from_value(json!({
        "apiVersion": "redoubt.dev/v1alpha1", "kind": "Agent",
        "metadata": {"name": "helper", "namespace": "team", "uid": "uid-1"},
        "spec": {"runtime": {"model": {"baseURL": "https://m.example/v1", "name": "m"}}}, "status": status,
    }))
    .unwrap()
}

#[test]
fn only_what_the_pod_would_take() {
    let (old, new) = (key(), key());
    let agent = agent(&json!({}));
    let policy = accepted(&agent, &pod(&[&new], "uid-1", 5), &map(&new, 5)).unwrap();
    assert_eq!(policy.epoch, 5);
    accepted(&agent, &pod(&[&old, &new], "uid-1", 5), &map(&new, 5)).unwrap();
    for (pod, map) in [
        (pod(&[&new], "uid-1", 5), map(&old, 5)),
        (pod(&[&new], "uid-1", 6), map(&new, 5)),
        (pod(&[&new], "uid-1", 5), ConfigMap::default()),
    ] {
        assert!(matches!(accepted(&agent, &pod, &map), Err(Error::NotAccepted(_))));
    }
    for pod in [pod(&[&new], "uid-0", 5), pod(&[], "uid-1", 5), Pod::default()] {
        assert!(matches!(accepted(&agent, &pod, &map(&new, 5)), Err(Error::NotOurs(_))));
    }
}

#[test]
fn the_decision_is_the_engines() {
    let key = key();
    let policy = accepted(&agent(&json!({})), &pod(&[&key], "uid-1", 5), &map(&key, 5)).unwrap();
    let decide = |method: &str, url: &str| Asked::parse(method, url).unwrap().decide(None, &policy);
    let allowed = decide("GET", "https://a.example/v1/x?y=1");
    assert!(allowed.allowed, "{allowed:?}");
    assert_eq!(allowed.granted_by.as_deref(), Some("EgressPolicy/grant spec.x"));
    for (method, url) in [
        ("POST", "https://a.example/v1/x"),
        ("GET", "https://a.example/other"),
        ("GET", "https://b.example/v1/x"),
        ("GET", "http://a.example/v1/x"),
    ] {
        let refused = decide(method, url);
        assert!(!refused.allowed && refused.refusal.is_some(), "{method} {url}");
        assert!(told(&refused).starts_with("refused: "));
    }
}

#[test]
fn what_else_decides_is_told() {
    let key = key();
    let policy = accepted(&agent(&json!({})), &pod(&[&key], "uid-1", 5), &map(&key, 5)).unwrap();
    let condition = |kind: &str, status: &str| {
        json!({"type": kind, "status": status, "reason": "R", "message": "",
            "lastTransitionTime": "2026-01-02T03:04:05Z"})
    };
    let status = |acknowledged: Value, ready: &str| {
        let policy = json!({"epoch": 5, "digest": "d", "acknowledgedEpoch": acknowledged});
        json!({"conditions": [condition("PolicyEnforced", "True"), condition("Ready", ready)], "policy": policy})
    };
    let told = |status: &Value| notes(&agent(status), &policy);
    assert_eq!(told(&status(json!(5), "True")), Vec::<String>::new());
    let older = told(&status(json!(4), "True"));
    assert!(older.len() == 1 && older[0].contains("epoch 4 only"), "{older:?}");
    let unready = told(&status(json!(5), "False"));
    assert!(unready.len() == 1 && unready[0].contains("not Ready"), "{unready:?}");
    assert_eq!(told(&json!({})).len(), 2);
}
