//! The operator at work: references that come late, pods that go, objects at rest, deletion.

use std::time::{Duration, Instant};

use redoubt_e2e::cluster::{Cluster, Phase, Team, agent_yaml};
use serde_json::Value;

use super::cluster;

const AGENT: &str = "agents.redoubt.dev/helper";
const POD: &str = "pod/redoubt-agent-helper";
const CHILDREN: [&str; 5] = [
    "pod/redoubt-agent-helper",
    "configmap/redoubt-agent-helper",
    "networkpolicy/redoubt-agent-helper",
    "service/redoubt-agent-helper",
    "serviceaccount/redoubt-agent-helper",
];

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(90);
    while !holds() {
        assert!(Instant::now() < end, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(300));
    }
}

fn uid(cluster: &Cluster, namespace: &str) -> Option<String> {
    cluster.get(namespace, POD).ok()?["metadata"]["uid"].as_str().map(str::to_owned)
}

#[test]
fn missing_references_are_named_and_heal() {
    let cluster = cluster();
    let team = Team::without_agent(&cluster, "life-refs").expect("the team");
    let manifest = team.manifest("3-agent.yaml").expect("the manifest");
    let documents: Vec<&str> = manifest.split("\n---\n").filter(|d| d.contains("kind:")).collect();
    let kind =
        |name: &str| *documents.iter().find(|d| d.contains(&format!("kind: {name}\n"))).expect("a document");
    cluster.apply(kind("Agent")).expect("the agent alone");
    let missing = Phase { kind: "Accepted", status: "False", reason: "ReferenceNotFound" };
    let condition = cluster.wait("life-refs", AGENT, &missing).expect("a condition");
    assert!(condition.message.contains("notes"), "{}", condition.message);
    cluster.apply(kind("Tool")).expect("the tool");
    until("the binding is named as missing", || {
        cluster
            .wait("life-refs", AGENT, &missing)
            .expect("a condition")
            .message
            .contains("SecretBinding/notes-token")
    });
    assert_eq!(uid(&cluster, "life-refs"), None, "no pod runs without its references");
    cluster.apply(kind("SecretBinding")).expect("the binding");
    cluster.apply(kind("EgressPolicy")).expect("the policy");
    cluster.wait_ready("life-refs", "helper").expect("it heals by itself");
}

#[test]
fn a_pod_that_is_gone_is_replaced_and_never_two_at_once() {
    let cluster = cluster();
    let _team = Team::with_agent(&cluster, "life-pods").expect("the team");
    cluster.wait_ready("life-pods", "helper").expect("ready");
    let first = uid(&cluster, "life-pods").expect("a pod");
    cluster.kubectl(&["delete", "-n", "life-pods", POD, "--wait=false"]).expect("deleted");
    until("another pod takes its place", || {
        let pods = cluster.kubectl(&["get", "pods", "-n", "life-pods", "-o", "name"]).expect("pods").stdout;
        assert!(pods.lines().count() <= 1, "two at once: {pods}");
        uid(&cluster, "life-pods").is_some_and(|now| now != first)
    });
    cluster.wait_ready("life-pods", "helper").expect("ready again");
}

#[test]
fn nothing_is_written_at_rest() {
    let cluster = cluster();
    let _team = Team::with_agent(&cluster, "life-rest").expect("the team");
    cluster.wait_ready("life-rest", "helper").expect("ready");
    std::thread::sleep(Duration::from_secs(5));
    let versions = || -> Vec<Value> {
        CHILDREN
            .iter()
            .chain(&[AGENT])
            .map(|what| {
                cluster.get("life-rest", what).expect("the object")["metadata"]["resourceVersion"].clone()
            })
            .collect()
    };
    let before = versions();
    // A restart makes every controller see every object anew.
    cluster
        .kubectl(&["rollout", "restart", "-n", "redoubt-system", "deployment/redoubt-operator"])
        .expect("restarted");
    cluster
        .kubectl(&[
            "rollout",
            "status",
            "-n",
            "redoubt-system",
            "deployment/redoubt-operator",
            "--timeout=60s",
        ])
        .expect("it is back");
    std::thread::sleep(Duration::from_secs(15));
    assert_eq!(before, versions());
}

#[test]
fn a_foreign_change_of_an_owned_field_is_undone_and_a_foreign_label_kept() {
    let cluster = cluster();
    let _team = Team::with_agent(&cluster, "life-drift").expect("the team");
    cluster.wait_ready("life-drift", "helper").expect("ready");
    // Only the operator may write here, so the change is made in its name.
    let operator = "--as=system:serviceaccount:redoubt-system:redoubt-operator";
    let patch = r#"{"metadata":{"labels":{"foreign":"kept"}},"spec":{"egress":[{}]}}"#;
    let own = cluster.get("life-drift", CHILDREN[2]).expect("the policy")["spec"].clone();
    cluster
        .kubectl(&["patch", "-n", "life-drift", CHILDREN[2], "--type=merge", "-p", patch, operator])
        .expect("patched");
    until("the policy is restored", || {
        cluster.get("life-drift", CHILDREN[2]).expect("the policy")["spec"] == own
    });
    let labels = cluster.get("life-drift", CHILDREN[2]).expect("the policy")["metadata"]["labels"].clone();
    assert_eq!(labels["foreign"], "kept", "{labels}");
}

#[test]
fn suspension_ends_the_pod_and_deletion_cleans_up() {
    let cluster = cluster();
    let _team = Team::with_agent(&cluster, "life-end").expect("the team");
    cluster.wait_ready("life-end", "helper").expect("ready");
    let suspend = |value: bool| {
        let patch = serde_json::json!({"spec": {"suspend": value}}).to_string();
        cluster.kubectl(&["patch", "-n", "life-end", AGENT, "--type=merge", "-p", &patch]).expect("patched")
    };
    suspend(true);
    until("the pod ends", || uid(&cluster, "life-end").is_none());
    let suspended = Phase { kind: "Ready", status: "False", reason: "Suspended" };
    cluster.wait("life-end", AGENT, &suspended).expect("it says so");
    suspend(false);
    cluster.wait_ready("life-end", "helper").expect("ready again");
    cluster.kubectl(&["delete", "-n", "life-end", AGENT]).expect("deleted");
    until("its children are gone", || CHILDREN.iter().all(|what| cluster.get("life-end", what).is_err()));
}

#[test]
fn the_pod_is_handed_to_the_kata_runtime_and_passes_the_restricted_standard() {
    let cluster = cluster();
    let _team = Team::with_agent(&cluster, "life-kata").expect("the team");
    cluster.wait_ready("life-kata", "helper").expect("ready");
    let pod = cluster.get("life-kata", POD).expect("the pod");
    assert_eq!(pod["spec"]["runtimeClassName"], "kata-qemu");
    let namespace = cluster.get("default", "namespace/life-kata").expect("the namespace");
    assert_eq!(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
    let agent = cluster.get("life-kata", AGENT).expect("the agent");
    assert_eq!(agent["status"]["runtimeClassName"], "kata-qemu");
}

/// The API server turns the deletion of a pod that no node has into one without any time to end.
#[test]
fn a_pod_that_no_node_takes_can_be_taken_back() {
    let cluster = cluster();
    let _team = Team::without_agent(&cluster, "life-nowhere").expect("the team");
    let nowhere = agent_yaml("life-nowhere", "helper", "  placement: {nodeSelector: {no: such-node}}\n");
    cluster.apply(&nowhere).expect("the agent");
    until("the pod is there", || uid(&cluster, "life-nowhere").is_some());
    let patch = ["patch", AGENT, "-n", "life-nowhere", "--type=merge", "-p", "{\"spec\":{\"suspend\":true}}"];
    cluster.kubectl(&patch).expect("suspended");
    until("the pod is gone", || uid(&cluster, "life-nowhere").is_none());
}
