//! What others write beside the operator: a NetworkPolicy that lets more through to or from an agent's pod.

use redoubt_e2e::cluster::{Cluster, Phase, Team};
use serde_json::{Value, json};

use super::{cluster, until};

const AGENT: &str = "agents.redoubt.dev/helper";

fn drift(cluster: &Cluster, namespace: &str) -> Option<Value> {
    let agent = cluster.get(namespace, AGENT).expect("the Agent");
    let conditions = agent["status"]["conditions"].as_array().expect("conditions").clone();
    conditions.into_iter().find(|condition| condition["type"] == "PolicyDrift")
}

fn policy(name: &str, namespace: &str, spec: &Value) -> String {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace}, "spec": spec})
    .to_string()
}

#[test]
fn a_policy_that_widens_the_ring_is_named_while_it_is_there() {
    let cluster = cluster();
    let namespace = "drift-foreign";
    let _team = Team::with_agent(&cluster, namespace).expect("the team");
    cluster.wait_ready(namespace, "helper").expect("ready");
    let editor = cluster.editor(namespace).expect("a user with the edit role");
    // Twins first: one selects other pods, one only denies. Neither is told, and by the time the third is, both were seen.
    let others =
        json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Egress"], "egress": [{}]});
    let denies = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]});
    let wide = json!({"podSelector": {}, "policyTypes": ["Egress"],
        "egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]});
    for (name, spec) in [("others", &others), ("denies", &denies), ("wide", &wide)] {
        editor.kubectl(&["create", "-f", "-"], &policy(name, namespace, spec)).expect("an editor may");
    }
    let holds = Phase { kind: "PolicyDrift", status: "True", reason: "ForeignNetworkPolicy" };
    let condition = cluster.wait(namespace, AGENT, &holds).expect("it is told");
    assert!(condition.message.starts_with("NetworkPolicy/wide spec.egress[0]: "), "{}", condition.message);
    cluster.wait_ready(namespace, "helper").expect("the jail holds, so the agent goes on");
    let warnings = || {
        let fields = "--field-selector=type=Warning,reason=ForeignNetworkPolicy";
        let list =
            cluster.kubectl(&["get", "events", "-n", namespace, fields, "-o", "name"]).expect("events");
        list.stdout.lines().count()
    };
    until("an event", 90, || warnings() == 1);
    editor.kubectl(&["delete", "networkpolicy", "wide"], "").expect("deleted");
    until("the condition goes", 90, || drift(&cluster, namespace).is_none());
    assert_eq!(warnings(), 1);
    for name in ["others", "denies"] {
        cluster
            .get(namespace, &format!("networkpolicy/{name}"))
            .expect("the operator takes nobody's policy away");
    }
}
