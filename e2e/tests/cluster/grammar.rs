//! The table of good and bad values, as the API server reads it: it accepts and refuses exactly what the parsers do.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::cluster;

#[derive(Deserialize)]
struct Values {
    good: Vec<Value>,
    bad: Vec<Value>,
}

const TEAM: &str = "redoubt.dev/v1alpha1";
const PLATFORM: &str = "platform.redoubt.dev/v1alpha1";

/// An object with each value in place of `value`; several where a grammar has several places.
fn objects(grammar: &str, value: &Value) -> Vec<Value> {
    let egress = |field: &str, value: Value| {
        let mut allow =
            json!({"from": [{"kind": "Agent"}], "hosts": ["a.example"], "methods": ["GET"], "paths": ["/"]});
        allow[field] = value;
        json!({"apiVersion": TEAM, "kind": "EgressPolicy", "spec": {"agentSelector": {}, "allow": [allow]}})
    };
    let tool = |base: &Value, path: &Value| {
        json!({"apiVersion": TEAM, "kind": "Tool", "spec": {"http": {"baseURL": base, "functions": [{"name": "f",
            "description": "d", "effect": "Read", "method": "GET", "path": path, "parameters": {"type": "object"}}]}}})
    };
    let vault = |address: &Value, auth: &Value, mount: &Value, prefix: &Value| {
        json!({"apiVersion": PLATFORM, "kind": "VaultConnection", "spec": {"address": address,
            "auth": {"kubernetes": {"mount": auth, "role": "r", "audience": "vault"}},
            "grants": [{"namespaceSelector": {}, "paths": [{"mount": mount, "prefix": prefix}]}]}})
    };
    let binding = |path: &Value, inject: Value| {
        json!({"apiVersion": TEAM, "kind": "SecretBinding", "spec": {"consumers": [{"kind": "Agent"}], "inject": inject,
            "vault": {"connectionName": "v", "kv2": {"mount": "secret", "path": path, "key": "k"}},
            "destinations": [{"hosts": ["a.example"], "methods": ["GET"], "paths": ["/"]}]}})
    };
    let (https, a) = (json!("https://a.example"), json!("a"));
    match grammar {
        "hosts" | "paths" | "privateCIDRs" => vec![egress(grammar, json!([value]))],
        "methods" => vec![egress(grammar, value.clone())],
        "pathTemplates" => vec![tool(&https, value)],
        "baseURLs" => vec![tool(value, &json!("/"))],
        "vaultAddresses" => vec![vault(value, &a, &a, &a)],
        "vaultPaths" => vec![
            vault(&https, value, &a, &a),
            vault(&https, &a, value, &a),
            vault(&https, &a, &a, value),
            binding(value, json!({"bearer": {}})),
        ],
        "injectedHeaders" => vec![binding(&a, json!({"header": {"name": value}}))],
        other => panic!("no object for the grammar {other}"),
    }
}

#[test]
fn the_api_server_reads_the_grammar_as_the_parsers_do() {
    let table: BTreeMap<String, Values> =
        serde_json::from_str(include_str!("../../../crds/tests/data/grammar.json")).expect("the table");
    let mut items = Vec::new();
    let mut expected = Vec::new();
    for (grammar, values) in &table {
        let good = values.good.iter().map(|value| (true, value));
        for (accepted, value) in good.chain(values.bad.iter().map(|value| (false, value))) {
            for mut object in objects(grammar, value) {
                let name = format!("value-{}-end", items.len());
                object["metadata"] = json!({"name": name});
                items.push(object);
                expected.push((name, accepted, format!("{grammar} {value}")));
            }
        }
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
    let arguments =
        ["create", "-n", "default", "--dry-run=server", "--validate=false", "-o", "name", "-f", "-"];
    let answer = cluster().run("kubectl", &arguments, &list).expect_err("some are refused");
    for (name, accepted, what) in &expected {
        let is_accepted = answer.stdout.lines().any(|line| line.ends_with(&format!("/{name}")));
        let is_refused = answer.stderr.contains(&format!("\"{name}\" is invalid"));
        assert_eq!((is_accepted, is_refused), (*accepted, !accepted), "{what}: {}", answer.stderr);
    }
}
