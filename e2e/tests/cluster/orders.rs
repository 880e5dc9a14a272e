//! A pipeline applies objects in whatever order it likes: all 24 orders of an Agent and what it refers to end in the same.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use redoubt_e2e::cluster::Cluster;
use serde_json::{Value, json};

use super::{cluster, until};

const KINDS: [&str; 4] = ["Tool", "SecretBinding", "EgressPolicy", "Agent"];
const NAME: &str = "orders";

/// Every order of the four.
fn orders() -> Vec<[usize; 4]> {
    let mut all = Vec::new();
    for a in 0..4 {
        for b in (0..4).filter(|b| *b != a) {
            for c in (0..4).filter(|c| *c != a && *c != b) {
                all.push([a, b, c, 6 - a - b - c]);
            }
        }
    }
    all
}

fn namespace(order: [usize; 4]) -> String {
    let digits: String = order.iter().map(ToString::to_string).collect();
    format!("{NAME}-{digits}")
}

fn object(kind: &str, namespace: &str) -> Value {
    let (name, spec) = match kind {
        "Tool" => (
            "notes",
            json!({"http": {"baseURL": "https://notes.example.com/v1", "functions": [{
                "name": "get_note", "description": "Read one note.", "effect": "Read", "method": "GET", "path": "/notes/{id}",
                "parameters": {"type": "object", "properties": {"id": {"type": "string", "pattern": "^[0-9]{1,6}$"}},
                    "required": ["id"], "additionalProperties": false}}]}}),
        ),
        "SecretBinding" => (
            "notes-token",
            json!({"vault": {"connectionName": NAME, "kv2": {"mount": "secret", "path": "agents/orders/notes", "key": "token"}},
                "inject": {"bearer": {}},
                "destinations": [{"hosts": ["notes.example.com"], "methods": ["GET"], "paths": ["/v1/notes/*"]}],
                "consumers": [{"kind": "Tool", "name": "notes"}]}),
        ),
        "EgressPolicy" => (
            "helper",
            json!({"agentSelector": {"matchLabels": {"app": "helper"}}, "allow": [
                {"from": [{"kind": "Agent"}], "hosts": ["model.example.com"], "methods": ["POST"], "paths": ["/v1/chat/completions"]},
                {"from": [{"kind": "Tool", "name": "notes"}], "hosts": ["notes.example.com"], "methods": ["GET"],
                    "paths": ["/v1/notes/*"]}]}),
        ),
        _ => (
            "helper",
            json!({"suspend": true, "runtime": {"model": {"baseURL": "https://model.example.com/v1", "name": "m"},
                    "instructions": "Read a note before you speak of it."},
                "tools": [{"name": "notes"}], "secretBindings": [{"name": "notes-token"}],
                "callers": [{"serviceAccount": {"name": "alice"}}]}),
        ),
    };
    json!({"apiVersion": "redoubt.dev/v1alpha1", "kind": kind, "spec": spec,
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": "helper"}}})
}

/// Namespaces and the VaultConnection, which go with the test.
struct Given<'a>(&'a Cluster);

impl<'a> Given<'a> {
    fn new(cluster: &'a Cluster) -> Self {
        let given = Self(cluster);
        let mut all: Vec<Value> = orders()
            .into_iter()
            .map(|order| {
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace(order), "labels": {
                    "orders": "true", "redoubt.dev/vault": NAME, "pod-security.kubernetes.io/enforce": "restricted"}}})
            })
            .collect();
        all.push(json!({"apiVersion": "platform.redoubt.dev/v1alpha1", "kind": "VaultConnection", "metadata": {"name": NAME},
            "spec": {"address": "https://vault.example.com:8200",
                "auth": {"kubernetes": {"mount": "kubernetes", "role": "r", "audience": "vault"}},
                "grants": [{"namespaceSelector": {"matchLabels": {"redoubt.dev/vault": NAME}},
                    "paths": [{"mount": "secret", "prefix": "agents/orders"}]}]}}));
        cluster.apply(&list(all)).expect("what is there before");
        given
    }
}

impl Drop for Given<'_> {
    fn drop(&mut self) {
        let _ = self.0.kubectl(&["delete", "namespace", "-l", "orders=true", "--wait=false"]);
        let _ = self.0.kubectl(&["delete", "vaultconnections.platform.redoubt.dev", NAME]);
    }
}

fn list(items: Vec<Value>) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

/// All objects of the four kinds in the test's namespaces.
fn all(cluster: &Cluster) -> Vec<Value> {
    let kinds = "tools.redoubt.dev,secretbindings.redoubt.dev,egresspolicies.redoubt.dev,agents.redoubt.dev";
    let text = cluster.kubectl(&["get", kinds, "-A", "-l", "app=helper", "-o", "json"]).expect("all").stdout;
    let value: Value = serde_json::from_str(&text).expect("JSON");
    let ours = |object: &&Value| {
        object["metadata"]["namespace"].as_str().is_some_and(|namespace| namespace.starts_with(NAME))
    };
    value["items"].as_array().expect("items").iter().filter(ours).cloned().collect()
}

fn condition(object: &Value, kind: &str) -> Option<String> {
    let conditions = object["status"]["conditions"].as_array()?;
    let found = conditions.iter().find(|condition| condition["type"] == kind)?;
    Some(format!("{}/{}", found["status"].as_str()?, found["reason"].as_str()?))
}

fn is_seen(object: &Value) -> bool {
    object["status"]["observedGeneration"] == object["metadata"]["generation"]
}

/// The policy in the Agent's ConfigMap, but for what tells one Agent from another.
fn policy(cluster: &Cluster, namespace: &str) -> Value {
    let map = cluster.get(namespace, "configmap/redoubt-agent-helper").expect("the ConfigMap");
    let envelope: Value =
        serde_json::from_str(map["data"]["policy.dsse.json"].as_str().expect("an envelope")).expect("JSON");
    let payload = STANDARD.decode(envelope["payload"].as_str().expect("a payload")).expect("base64");
    let text = String::from_utf8(payload).expect("text").replace(namespace, NAME);
    let mut policy: Value = serde_json::from_str(&text).expect("JSON");
    policy["epoch"] = Value::Null;
    policy["agent"]["uid"] = Value::Null;
    policy
}

#[test]
fn all_orders_end_in_the_same() {
    let cluster = cluster();
    let _given = Given::new(&cluster);
    let orders = orders();
    assert_eq!(orders.len(), 24);
    for step in 0..4 {
        let objects = orders.iter().map(|order| object(KINDS[order[step]], &namespace(*order))).collect();
        cluster.apply(&list(objects)).expect("applied");
        // The operator has seen each half before it gets more, or the order would be no order.
        until("the operator has looked at all that is there", 120, || {
            let all = all(&cluster);
            all.len() == 24 * (step + 1) && all.iter().all(is_seen)
        });
    }
    until("all is accepted", 120, || {
        let all = all(&cluster);
        all.iter()
            .all(|object| is_seen(object) && condition(object, "Accepted").as_deref() == Some("True/Valid"))
    });
    let is_suspended = |agent: &Value| {
        condition(agent, "Programmed").as_deref() == Some("True/Applied")
            && condition(agent, "Ready").as_deref() == Some("False/Suspended")
    };
    until("every Agent is programmed", 120, || {
        all(&cluster).iter().filter(|object| object["kind"] == "Agent").all(is_suspended)
    });

    let mut outcomes = BTreeMap::<String, Vec<String>>::new();
    for order in orders {
        let namespace = namespace(order);
        let policy = policy(&cluster, &namespace).to_string();
        assert!(policy.contains("agents/orders/notes") && policy.contains("model.example.com"), "{policy}");
        let agent = cluster.get(&namespace, "agents.redoubt.dev/helper").expect("the Agent");
        let network =
            cluster.get(&namespace, "networkpolicy/redoubt-agent-helper").expect("the NetworkPolicy");
        let kinds = "serviceaccounts,configmaps,networkpolicies,services";
        let children = ["get", "-n", &namespace, kinds, "-l", "redoubt.dev/agent=helper", "-o", "name"];
        let children = cluster.kubectl(&children).expect("children").stdout;
        let status = &agent["status"]["policy"];
        let outcome = json!([
            policy,
            status["effective"],
            status["refused"],
            status["selectedBy"],
            network["spec"],
            children
        ]);
        outcomes.entry(outcome.to_string()).or_default().push(namespace);
    }
    assert_eq!(outcomes.len(), 1, "different outcomes: {:?}", outcomes.values().collect::<Vec<_>>());
}
