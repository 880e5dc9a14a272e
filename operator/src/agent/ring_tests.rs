use serde_json::{Value, json};

use super::*;
use crate::agent::fixtures::object;

fn policy(name: &str, spec: Value) -> NetworkPolicy {
    object(json!({ "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": { "name": name, "namespace": "team" }, "spec": spec }))
}

fn own() -> NetworkPolicy {
    policy(
        "redoubt-agent-a",
        json!({
            "podSelector": { "matchLabels": { "redoubt.dev/agent": "a" } },
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{ "ports": [{ "protocol": "TCP", "port": 8443 }] }],
            "egress": [
                { "ports": [{ "protocol": "UDP", "port": 53 }, { "protocol": "TCP", "port": 53 }] },
                { "ports": [{ "protocol": "TCP", "port": 443 }, { "protocol": "TCP", "port": 444 }] },
                { "to": [{ "ipBlock": { "cidr": "10.0.0.0/8" } }], "ports": [{ "protocol": "TCP", "port": 9443 }] },
            ],
        }),
    )
}

fn told(others: &[NetworkPolicy]) -> Option<String> {
    let labels = BTreeMap::from([
        ("redoubt.dev/agent".to_owned(), "a".to_owned()),
        ("app.kubernetes.io/managed-by".to_owned(), "redoubt-operator".to_owned()),
    ]);
    // As it is kept.
    let mut kept = others.to_vec();
    kept.iter_mut().for_each(trim);
    widened(&own(), &[&labels], &kept)
}

/// The field that is told of a policy with this spec.
fn check(spec: Value, field: Option<&str>) {
    let told = told(&[policy("other", spec.clone())]);
    match (&told, field) {
        (None, None) => {}
        (Some(told), Some(field)) => {
            assert!(told.starts_with(&format!("NetworkPolicy/other {field}: ")), "{told}");
        }
        _ => panic!("{spec}: {told:?}, expected {field:?}"),
    }
}

#[test]
fn what_selects_the_pod_counts() {
    let all = json!([{}]);
    let selecting =
        |selector: Value| json!({ "podSelector": selector, "policyTypes": ["Egress"], "egress": all });
    let wide = Some("spec.egress[0]");
    check(selecting(json!({})), wide);
    check(selecting(json!({ "matchLabels": { "redoubt.dev/agent": "a" } })), wide);
    check(selecting(json!({ "matchLabels": { "redoubt.dev/agent": "b" } })), None);
    check(selecting(json!({ "matchLabels": { "app": "web" } })), None);
    check(selecting(json!({ "matchLabels": { "redoubt.dev/agent": "a", "app": "web" } })), None);
    let by = |key: &str, operator: &str| {
        selecting(json!({ "matchExpressions": [{ "key": key, "operator": operator }] }))
    };
    check(by("app", "DoesNotExist"), wide);
    check(by("redoubt.dev/agent", "Exists"), wide);
    check(by("redoubt.dev/agent", "DoesNotExist"), None);
}

#[test]
fn out() {
    let out = |rule: Value| json!({ "podSelector": {}, "policyTypes": ["Egress"], "egress": [rule] });
    let ports = |ports: Value| out(json!({ "ports": ports }));
    let wide = Some("spec.egress[0]");
    check(out(json!({})), wide);
    check(out(json!({ "to": [{ "ipBlock": { "cidr": "0.0.0.0/0" } }] })), wide);
    check(out(json!({ "to": [{ "podSelector": {} }] })), wide);
    check(ports(json!([{ "protocol": "TCP", "port": 443 }])), None);
    // TCP is what is meant where no protocol is given.
    check(ports(json!([{ "port": 443 }])), None);
    check(ports(json!([{ "protocol": "UDP", "port": 443 }])), wide);
    check(ports(json!([{ "protocol": "TCP", "port": 443 }, { "protocol": "TCP", "port": 22 }])), wide);
    check(ports(json!([{ "protocol": "TCP", "port": 443, "endPort": 444 }])), None);
    check(ports(json!([{ "protocol": "TCP", "port": 443, "endPort": 445 }])), wide);
    check(ports(json!([{ "protocol": "TCP" }])), wide);
    check(ports(json!([{ "protocol": "TCP", "port": "https" }])), wide);
    // Nearer peers on a port that is open to all.
    check(out(json!({ "to": [{ "podSelector": {} }], "ports": [{ "protocol": "UDP", "port": 53 }] })), None);
    // A port that is open to one peer alone.
    let nine = json!([{ "protocol": "TCP", "port": 9443 }]);
    check(out(json!({ "to": [{ "ipBlock": { "cidr": "10.0.0.0/8" } }], "ports": nine })), None);
    check(out(json!({ "to": [{ "ipBlock": { "cidr": "10.0.0.0/7" } }], "ports": nine })), wide);
    check(out(json!({ "ports": nine })), wide);
}

#[test]
fn in_and_the_types_that_a_policy_speaks_of() {
    let within = json!([{ "ports": [{ "protocol": "TCP", "port": 8443 }] }]);
    let spec = |types: Value, ingress: Value, egress: Value| json!({ "podSelector": {}, "policyTypes": types, "ingress": ingress, "egress": egress });
    let none = json!([]);
    let all = json!([{}]);
    check(spec(json!(["Ingress"]), within.clone(), none.clone()), None);
    check(spec(json!(["Ingress"]), all.clone(), none.clone()), Some("spec.ingress[0]"));
    check(spec(json!(["Ingress"]), json!([within[0], {}]), none.clone()), Some("spec.ingress[1]"));
    // To deny is never more.
    check(spec(json!(["Ingress", "Egress"]), none.clone(), none.clone()), None);
    // Rules of a direction that it does not speak of mean nothing.
    check(spec(json!(["Ingress"]), none.clone(), all.clone()), None);
    check(spec(json!(["Egress"]), all.clone(), none.clone()), None);
    check(spec(Value::Null, none.clone(), all.clone()), Some("spec.egress[0]"));
    check(spec(Value::Null, all, none), Some("spec.ingress[0]"));
}

#[test]
fn the_message_names_them_in_order_and_not_all() {
    let wide = json!({ "podSelector": {}, "policyTypes": ["Egress"], "egress": [{}] });
    let mut others: Vec<_> = (0..7).rev().map(|i| policy(&format!("p{i}"), wide.clone())).collect();
    others.push(policy("redoubt-agent-a", wide));
    let told = told(&others).unwrap();
    assert!(told.starts_with("NetworkPolicy/p0 spec.egress[0], NetworkPolicy/p1 "), "{told}");
    assert!(
        told.contains("p4 spec.egress[0] and 2 more: allows more than NetworkPolicy/redoubt-agent-a"),
        "{told}"
    );
}

#[test]
fn nothing_is_kept_of_others_that_is_not_needed() {
    let with = |name: &str, selector: Value| {
        let mut policy = policy(name, json!({ "podSelector": selector, "egress": [{}] }));
        policy.metadata = object(json!({
            "name": name, "namespace": "team", "annotations": { "much": "text" }, "labels": { "l": "v" },
            "ownerReferences": [{ "apiVersion": "redoubt.dev/v1alpha1", "kind": "Agent", "name": "a", "uid": "u",
                "controller": true }],
        }));
        trim(&mut policy);
        policy
    };
    let own = with("redoubt-agent-a", json!({}));
    assert!(own.metadata.annotations.is_some() && own.metadata.labels.is_some() && own.spec.is_some());
    // An owner reference alone, which anyone can write, makes none the operator's own.
    let foreign = with("mine", json!({}));
    assert!(!is_own(&foreign) && foreign.spec.is_some());
    assert!(foreign.metadata.annotations.is_none() && foreign.metadata.labels.is_none());
    assert!(with("mine", json!({ "matchLabels": { "app": "web" } })).spec.is_none());
}
