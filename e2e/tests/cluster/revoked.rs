//! No user of a namespace can keep a pod going that the operator can no longer take grants from.

use redoubt_e2e::cluster::{Cluster, Editor, Phase, Team};
use serde_json::json;

use super::cluster;
use super::guards::{Removed, eventually};

const AGENT: &str = "agents.redoubt.dev/helper";
const POD: &str = "pod/redoubt-agent-helper";

fn ready<'a>(cluster: &'a Cluster, namespace: &str) -> (Team<'a>, Editor) {
    let team = Team::with_agent(cluster, namespace).expect("the team");
    cluster.wait_ready(namespace, "helper").expect("ready");
    (team, cluster.editor(namespace).expect("a user with the edit role"))
}

fn until(what: &str, holds: impl FnMut() -> bool) {
    super::until(what, 90, holds);
}

fn gone(cluster: &Cluster, namespace: &str, what: &str) {
    until(&format!("{what} is gone"), || cluster.get(namespace, what).is_err());
}

#[test]
fn a_finalizer_does_not_keep_the_pod() {
    let cluster = cluster();
    let (_team, editor) = ready(&cluster, "revoked-finalizer");
    let finalizers = |list: serde_json::Value| {
        let patch = json!({"metadata": {"finalizers": list}}).to_string();
        editor.kubectl(&["patch", AGENT, "--type=merge", "-p", &patch], "").expect("patched");
    };
    finalizers(json!(["example.com/held"]));
    editor.kubectl(&["delete", AGENT, "--wait=false"], "").expect("deleted");
    gone(&cluster, "revoked-finalizer", POD);
    cluster.get("revoked-finalizer", AGENT).expect("the Agent is held");
    finalizers(json!([]));
}

#[test]
fn an_orphaning_deletion_does_not_keep_the_pod() {
    let cluster = cluster();
    let (_team, editor) = ready(&cluster, "revoked-orphan");
    editor.kubectl(&["delete", AGENT, "--cascade=orphan", "--wait=false"], "").expect("deleted");
    gone(&cluster, "revoked-orphan", AGENT);
    gone(&cluster, "revoked-orphan", POD);
}

#[test]
fn a_status_that_cannot_be_read_does_not_keep_the_pod() {
    let cluster = cluster();
    let (_team, editor) = ready(&cluster, "revoked-status");
    let uid = || Some(cluster.get("revoked-status", POD).ok()?["metadata"]["uid"].clone());
    let before = uid();
    let patch = json!({"status": {"conditions": [{"type": "Ready", "status": "True", "reason": "Ready",
        "message": "spoofed", "lastTransitionTime": "9999-12-31T23:59:59Z"}]}});
    let patch = patch.to_string();
    let arguments = ["patch", AGENT, "--subresource=status", "--type=merge", "-p", &patch];
    // One from before the guard was there.
    let removed = Removed::new(&cluster, "redoubt-status");
    eventually("a spoofed status", true, &|| editor.kubectl(&arguments, ""))
        .expect("the API server takes it");
    drop(removed);
    until("the pod is replaced", || uid() != before);
    let condition = cluster.wait_ready("revoked-status", "helper").expect("it heals by itself");
    assert_ne!(condition.message, "spoofed");
}

#[test]
fn a_policy_that_cannot_be_applied_does_not_keep_the_pod() {
    let cluster = cluster();
    let (_team, editor) = ready(&cluster, "revoked-quota");
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q", "namespace": "revoked-quota"},
        "spec": {"hard": {"count/configmaps": "1"}}});
    cluster.apply(&quota.to_string()).expect("a quota of the platform team's");
    let used =
        ["wait", "-n", "revoked-quota", "resourcequota/q", "--for=jsonpath={.status.used}", "--timeout=30s"];
    cluster.kubectl(&used).expect("it is counted");
    editor.kubectl(&["delete", "configmap", "redoubt-agent-helper"], "").expect("deleted");
    let failed = Phase { kind: "Programmed", status: "False", reason: "ApplyFailed" };
    let condition = cluster.wait("revoked-quota", AGENT, &failed).expect("it says so");
    assert!(condition.message.contains("exceeded quota"), "{}", condition.message);
    gone(&cluster, "revoked-quota", POD);
    cluster.kubectl(&["delete", "-n", "revoked-quota", "resourcequota/q"]).expect("deleted");
    cluster.wait_ready("revoked-quota", "helper").expect("it heals");
}
