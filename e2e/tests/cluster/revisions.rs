//! The history of an Agent: what is written, what is kept, and that going back restores no permission.

use std::time::Duration;

use redoubt_e2e::cluster::{Cluster, Team};
use serde_json::{Value, json};

use super::{cluster, until};

const AGENT: &str = "agents.redoubt.dev/helper";
const POLICY: &str = "egresspolicies.redoubt.dev/helper";

fn all(cluster: &Cluster, namespace: &str) -> Vec<Value> {
    let list = cluster
        .kubectl(&["get", "agentpolicyrevisions.redoubt.dev", "-n", namespace, "-o", "json"])
        .expect("the revisions")
        .stdout;
    let list: Value = serde_json::from_str(&list).expect("JSON");
    list["items"].as_array().expect("a list").clone()
}

/// The number in force of a status that speaks of the present generation.
fn in_force(cluster: &Cluster, namespace: &str) -> Option<i64> {
    let agent = cluster.get(namespace, AGENT).expect("the Agent");
    (agent["status"]["observedGeneration"] == agent["metadata"]["generation"])
        .then(|| agent["status"]["revision"].as_i64())
        .flatten()
}

fn numbered(cluster: &Cluster, namespace: &str, number: i64) -> Value {
    let of_number = |revision: &Value| revision["spec"]["revision"] == number;
    all(cluster, namespace).into_iter().find(of_number).expect("the revision in force exists")
}

fn change(cluster: &Cluster, namespace: &str, what: &str, spec: &Value) {
    let patch = json!([{"op": "replace", "path": "/spec", "value": spec}]).to_string();
    cluster.kubectl(&["patch", "-n", namespace, what, "--type=json", "-p", &patch]).expect("changed");
}

/// Waits for another revision than `before`, and gives its number.
fn next(cluster: &Cluster, namespace: &str, before: i64) -> i64 {
    let mut now = before;
    until("another revision", 90, || {
        now = in_force(cluster, namespace).unwrap_or(before);
        now != before
    });
    now
}

/// Stops the pod: a history is written all the same, and no test waits for pods.
fn suspended<'a>(cluster: &'a Cluster, namespace: &str) -> (Team<'a>, i64) {
    let team = Team::with_agent(cluster, namespace).expect("the team");
    cluster.wait_ready(namespace, "helper").expect("ready");
    let before = in_force(cluster, namespace).expect("a revision");
    let mut spec = cluster.get(namespace, AGENT).expect("the Agent")["spec"].clone();
    spec["suspend"] = json!(true);
    change(cluster, namespace, AGENT, &spec);
    let number = next(cluster, namespace, before);
    (team, number)
}

#[test]
fn going_back_restores_the_workload_and_no_permission() {
    let cluster = cluster();
    let namespace = "rev-back";
    let (_team, first) = suspended(&cluster, namespace);
    let record = numbered(&cluster, namespace, first);
    let granted = |lines: &Value| lines.to_string().contains("Tool/notes");
    assert!(granted(&record["spec"]["policy"]["effective"]), "{record}");
    let agent = cluster.get(namespace, AGENT).expect("the Agent");
    assert_eq!(record["spec"]["workload"], agent["spec"]);
    assert_eq!(record["spec"]["agent"]["uid"], agent["metadata"]["uid"]);
    assert_eq!(record["metadata"]["ownerReferences"][0]["uid"], agent["metadata"]["uid"]);

    // Another workload, and then a permission is withdrawn.
    let mut workload = agent["spec"].clone();
    workload["runtime"]["instructions"] = json!("You say as little as you can.");
    change(&cluster, namespace, AGENT, &workload);
    let second = next(&cluster, namespace, first);
    assert!(second > first, "{second} after {first}");
    let policy = cluster.get(namespace, POLICY).expect("the policy")["spec"].clone();
    let mut less = policy.clone();
    less["allow"].as_array_mut().expect("grants").truncate(1);
    change(&cluster, namespace, POLICY, &less);
    let third = next(&cluster, namespace, second);
    assert!(third > second, "{third} after {second}");

    // Back to the first workload: it is in force, and what was withdrawn stays withdrawn.
    change(&cluster, namespace, AGENT, &record["spec"]["workload"]);
    let fourth = next(&cluster, namespace, third);
    assert!(fourth > third, "{fourth} after {third}");
    let now = cluster.get(namespace, AGENT).expect("the Agent");
    assert_eq!(now["spec"], record["spec"]["workload"]);
    assert!(!granted(&now["status"]["policy"]["effective"]), "{}", now["status"]["policy"]);
    assert!(!granted(&numbered(&cluster, namespace, fourth)["spec"]["policy"]["effective"]));

    // Who may write policies grants it again: that is the very first content, and its own number.
    change(&cluster, namespace, POLICY, &policy);
    assert_eq!(next(&cluster, namespace, fourth), first);
    assert_eq!(numbered(&cluster, namespace, first)["metadata"]["uid"], record["metadata"]["uid"]);
}

#[test]
fn ten_are_kept_none_is_changed_and_none_is_written_at_rest() {
    let cluster = cluster();
    let namespace = "rev-kept";
    let (_team, mut number) = suspended(&cluster, namespace);
    let mut spec = cluster.get(namespace, AGENT).expect("the Agent")["spec"].clone();
    for turn in 1..=12 {
        spec["runtime"]["limits"] = json!({"maxTurns": turn, "timeoutSeconds": 60});
        change(&cluster, namespace, AGENT, &spec);
        let next = next(&cluster, namespace, number);
        assert!(next > number, "{next} after {number}");
        number = next;
    }
    until("ten are left", 90, || all(&cluster, namespace).len() == 10);
    let numbers = |revisions: &[Value]| {
        let mut numbers: Vec<i64> =
            revisions.iter().map(|r| r["spec"]["revision"].as_i64().expect("a number")).collect();
        numbers.sort_unstable();
        numbers
    };
    let kept = all(&cluster, namespace);
    assert_eq!(numbers(&kept), (number - 9..=number).collect::<Vec<_>>());

    // A restart makes the operator see everything anew.
    let operator = ["-n", "redoubt-system", "deployment/redoubt-operator"];
    cluster.kubectl(&[&["rollout", "restart"], &operator[..]].concat()).expect("restarted");
    cluster.kubectl(&[&["rollout", "status", "--timeout=60s"], &operator[..]].concat()).expect("it is back");
    std::thread::sleep(Duration::from_secs(10));
    assert_eq!(all(&cluster, namespace), kept);

    let name = kept[0]["metadata"]["name"].as_str().expect("a name");
    let what = format!("agentpolicyrevisions.redoubt.dev/{name}");
    let operator = "--as=system:serviceaccount:redoubt-system:redoubt-operator";
    let groups = "--as-group=system:masters";
    let patch = r#"{"spec":{"revision":99}}"#;
    let refusal = cluster
        .kubectl(&["patch", "-n", namespace, &what, "--type=merge", "-p", patch, operator, groups])
        .expect_err("nobody changes one");
    assert!(refusal.stderr.contains("a revision is never changed"), "{refusal}");

    // With its Agent its history goes.
    cluster.kubectl(&["delete", "-n", namespace, AGENT]).expect("deleted");
    until("they are gone", 90, || all(&cluster, namespace).is_empty());
}
