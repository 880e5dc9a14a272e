//! What a hostile user of one namespace can do to the others: nothing.

use redoubt_e2e::cluster::Team;
use serde_json::{Value, json};

use super::cluster;

fn tool(name: &str, parameters: Value, managed_fields: Value) -> String {
    json!({"apiVersion": "redoubt.dev/v1alpha1", "kind": "Tool",
        "metadata": {"name": name, "managedFields": managed_fields},
        "spec": {"http": {"baseURL": "https://a.example", "functions": [{"name": "f", "description": "d",
            "effect": "Read", "method": "GET", "path": "/", "parameters": parameters}]}}})
    .to_string()
}

fn nested(key: &str) -> Value {
    (0..150).fold(json!({}), |inner, _| json!({ key: inner }))
}

#[test]
fn an_object_that_cannot_be_parsed_does_not_stop_the_operator_for_others() {
    let cluster = cluster();
    let hostile = Team::without_agent(&cluster, "neighbour-hostile").expect("the namespace");
    let editor = cluster.editor("neighbour-hostile").expect("a user with the edit role");
    let object = || json!({"type": "object"});
    let fields = |time: &str, fields: Value| {
        json!([{"manager": "x", "operation": "Update", "apiVersion": "redoubt.dev/v1alpha1",
            "time": time, "fieldsType": "FieldsV1", "fieldsV1": fields}])
    };
    let mut deep = nested("a");
    deep["type"] = json!("object");
    for manifest in [
        tool("deep", deep, json!(null)),
        tool("late", object(), fields("9999-12-31T23:59:59Z", json!({"f:metadata": {"f:x": {}}}))),
        tool("fields", object(), fields("2026-01-01T00:00:00Z", nested("f:a"))),
    ] {
        editor.kubectl(&["create", "-f", "-"], &manifest).expect("the API server takes it");
    }
    // A restart makes the operator list everything anew.
    let operator = ["-n", "redoubt-system", "deployment/redoubt-operator"];
    cluster.kubectl(&[&["rollout", "restart"], &operator[..]].concat()).expect("restarted");
    let back = [&["rollout", "status", "--timeout=60s"], &operator[..]].concat();
    cluster.kubectl(&back).expect("the operator is ready again");
    let _team = Team::with_agent(&cluster, "neighbour-victim").expect("the team");
    cluster.wait_ready("neighbour-victim", "helper").expect("the neighbour's agent is ready");
    // kubectl reads what the parser of this test does not.
    let message = "jsonpath={.status.conditions[?(@.type=='Accepted')].message}";
    let arguments = ["get", "tools.redoubt.dev/deep", "-n", "neighbour-hostile", "-o", message];
    let told = cluster.kubectl(&arguments).expect("the Tool").stdout;
    assert!(told.contains("nested deeper"), "{told}");
    drop(hostile);
}
