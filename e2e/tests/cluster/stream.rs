//! The policy stream: what the operator decides reaches a running pod at once, and a pod that hears no operator closes.

use redoubt_e2e::cluster::{Cluster, Team};
use serde_json::json;

use super::{cluster, until};

const AGENT: &str = "agents.redoubt.dev/helper";
const POD: &str = "pod/redoubt-agent-helper";
const OPERATOR: &str = "deployment/redoubt-operator";

fn uid(cluster: &Cluster, namespace: &str) -> serde_json::Value {
    cluster.get(namespace, POD).expect("the pod")["metadata"]["uid"].clone()
}

/// Epoch of the policy, and the one that the sidecar has acknowledged. Only the stream carries acknowledgements.
fn epochs(cluster: &Cluster, namespace: &str) -> (Option<i64>, Option<i64>) {
    let agent = cluster.get(namespace, AGENT).expect("the agent");
    let policy = &agent["status"]["policy"];
    (policy["epoch"].as_i64(), policy["acknowledgedEpoch"].as_i64())
}

fn call(team: &Team<'_>) -> String {
    team.call("notes__get_note", &json!({"id": "7"})).expect("an answer")
}

#[test]
fn a_withdrawn_grant_reaches_the_running_pod_and_is_acknowledged() {
    let cluster = cluster();
    let namespace = "stream-narrowed";
    let team = Team::with_agent(&cluster, namespace).expect("the team");
    cluster.wait_ready(namespace, "helper").expect("ready");
    until("the first policy is acknowledged", 60, || {
        let (epoch, acknowledged) = epochs(&cluster, namespace);
        epoch.is_some() && epoch == acknowledged
    });
    let (before, _) = epochs(&cluster, namespace);
    let pod = uid(&cluster, namespace);
    assert!(call(&team).contains("note 7"));
    let policy = cluster.get(namespace, "egresspolicies.redoubt.dev/helper").expect("the policy");
    let patch = json!({"spec": {"allow": [policy["spec"]["allow"][0]]}}).to_string();
    let arguments =
        ["patch", "-n", namespace, "egresspolicies.redoubt.dev/helper", "--type=merge", "-p", &patch];
    cluster.kubectl(&arguments).expect("patched");
    until("the narrower policy is acknowledged", 30, || {
        let (epoch, acknowledged) = epochs(&cluster, namespace);
        epoch > before && epoch == acknowledged
    });
    let answer = call(&team);
    assert!(answer.contains("NotGranted"), "{answer}");
    assert_eq!(uid(&cluster, namespace), pod, "the pod is the same");
    // Each replica has heard it, whichever leads.
    let pods =
        ["get", "pods", "-n", "redoubt-system", "-l", "app.kubernetes.io/component=operator", "-o", "name"];
    let replicas = cluster.kubectl(&pods).expect("the replicas").stdout;
    assert!(replicas.lines().count() > 1, "{replicas}");
    for replica in replicas.lines() {
        until(&format!("{replica} hears the sidecar"), 30, || {
            let log = cluster.kubectl(&["logs", "-n", "redoubt-system", replica]).expect("its log").stdout;
            log.lines().any(|line| line.contains("a sidecar reports") && line.contains(namespace))
        });
    }
}

/// Brings the operator back, whatever becomes of the test.
struct Replicas<'a>(&'a Cluster);

impl Replicas<'_> {
    fn scale(&self, number: &str) {
        let arguments = ["scale", "-n", "redoubt-system", OPERATOR, "--replicas", number];
        self.0.kubectl(&arguments).expect("scaled");
    }
}

impl Drop for Replicas<'_> {
    fn drop(&mut self) {
        self.scale("2");
        let _status =
            self.0.kubectl(&["rollout", "status", "-n", "redoubt-system", OPERATOR, "--timeout", "60s"]);
    }
}

#[test]
fn a_pod_that_hears_no_operator_closes_and_heals() {
    let cluster = cluster();
    let namespace = "stream-stale";
    let team = Team::without_agent(&cluster, namespace).expect("the team");
    let ceiling = json!({"apiVersion": "platform.redoubt.dev/v1alpha1", "kind": "ClusterAgentPolicy",
        "metadata": {"name": namespace}, "spec": {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "ceilings": {"policyTTLSeconds": 30}}});
    cluster.apply(&ceiling.to_string()).expect("the ceiling");
    cluster.apply(&team.manifest("3-agent.yaml").expect("the manifest")).expect("the agent");
    cluster.wait_ready(namespace, "helper").expect("ready");
    let pod = uid(&cluster, namespace);
    assert!(call(&team).contains("note 7"));
    let operator = Replicas(&cluster);
    operator.scale("0");
    // The brain's own model is refused too, so there may be no answer at all; the audit log says why.
    until("nothing goes out any more", 120, || {
        let _answer = team.call("notes__get_note", &json!({"id": "7"}));
        let log = cluster.kubectl(&["logs", "-n", namespace, "redoubt-agent-helper", "-c", "egress"]);
        log.expect("the log").stdout.contains("\"reason\":\"PolicyStale\"")
    });
    drop(operator);
    until("it heals", 120, || {
        team.call("notes__get_note", &json!({"id": "7"})).is_ok_and(|answer| answer.contains("note 7"))
    });
    assert_eq!(uid(&cluster, namespace), pod, "the pod is the same");
    cluster.kubectl(&["delete", "clusteragentpolicies", namespace]).expect("deleted");
}
