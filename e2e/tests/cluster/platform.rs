//! What users expect of any kind of object: applied by anyone's kubectl, made anew under its name, gone with its namespace,
//! and without a grant without any right.

use redoubt_e2e::cluster::{Cluster, Team, agent_yaml};

use super::{cluster, until};

const AGENT: &str = "agents.redoubt.dev/helper";
const POD: &str = "pod/redoubt-agent-helper";

#[test]
fn the_definitions_are_applied_by_a_plain_kubectl_and_then_unchanged() {
    let cluster = cluster();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../crds/yaml");
    cluster.kubectl(&["apply", "-f", folder]).expect("applied");
    let again = cluster.kubectl(&["apply", "-f", folder]).expect("applied again").stdout;
    let lines: Vec<&str> = again.lines().collect();
    assert_eq!(lines.len(), std::fs::read_dir(folder).expect("the folder").count(), "{again}");
    assert!(lines.iter().all(|line| line.ends_with(" unchanged")), "{again}");
}

#[test]
fn an_agent_without_a_grant_is_ready_and_may_do_nothing() {
    let cluster = cluster();
    let namespace = "plain-grantless";
    let team = Team::without_agent(&cluster, namespace).expect("the team");
    cluster.apply(&team.manifest("3-agent.yaml").expect("the manifest")).expect("the agent");
    cluster.kubectl(&["delete", "-n", namespace, "egresspolicies.redoubt.dev", "helper"]).expect("deleted");
    let nothing = || {
        let agent = cluster.get(namespace, AGENT).expect("the Agent");
        let policy = &agent["status"]["policy"];
        policy["effective"].as_array().is_some_and(Vec::is_empty)
            && policy["acknowledgedEpoch"].is_i64()
            && policy["acknowledgedEpoch"] == policy["epoch"]
    };
    until("its pod holds a policy that grants nothing", 120, nothing);
    cluster.wait_ready(namespace, "helper").expect("ready all the same");
    let model = "https://model.redoubt-e2e.svc.cluster.local:8443/v1/chat/completions";
    let refused = cluster.redoubt(&["test", "helper", "POST", model, "-n", namespace]).expect_err("refused");
    assert!(refused.stdout.contains("NotGranted"), "{refused}");
    // And so says the sidecar, when the agent itself asks.
    let _ = cluster.chat(namespace, "helper", "hello");
    until("the refusal is in the log", 60, || {
        let log = cluster.redoubt(&["logs", "helper", "--refused", "-n", namespace]).expect("the log").stdout;
        log.contains(&format!("REFUSED Agent POST {model}: NotGranted"))
    });
}

#[test]
fn an_agent_that_is_made_anew_does_not_take_the_old_pod() {
    let cluster = cluster();
    let namespace = "plain-anew";
    let team = Team::with_agent(&cluster, namespace).expect("the team");
    cluster.wait_ready(namespace, "helper").expect("ready");
    let uid = |what: &str| cluster.get(namespace, what).ok().map(|it| it["metadata"]["uid"].clone());
    let (agent, pod) = (uid(AGENT), uid(POD));
    cluster.kubectl(&["delete", "-n", namespace, AGENT, "--wait=false"]).expect("deleted");
    until("the old Agent is gone", 60, || uid(AGENT) != agent);
    cluster.apply(&team.manifest("3-agent.yaml").expect("the manifest")).expect("made anew");
    until("a pod of the new Agent", 180, || {
        let owner = |pod: serde_json::Value| pod["metadata"]["ownerReferences"][0]["uid"].clone();
        uid(AGENT) == cluster.get(namespace, POD).ok().map(owner)
    });
    assert_ne!(uid(POD), pod);
    cluster.wait_ready(namespace, "helper").expect("ready");
    let args = cluster.get(namespace, POD).expect("the pod")["spec"]["initContainers"][0]["args"].to_string();
    assert!(args.contains(uid(AGENT).expect("the Agent").as_str().expect("a UID")), "{args}");
}

/// Children of the agents of a namespace.
fn children(cluster: &Cluster, namespace: &str) -> usize {
    let kinds = "serviceaccounts,configmaps,networkpolicies";
    let of = ["get", "-n", namespace, kinds, "-l", "redoubt.dev/agent", "-o", "name"];
    cluster.kubectl(&of).expect("children").stdout.lines().count()
}

#[test]
fn a_namespace_with_fifty_agents_goes() {
    let cluster = cluster();
    let namespace = "plain-gone";
    cluster
        .apply(&format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}}}}}"))
        .expect("the namespace");
    let agents: Vec<_> =
        (0..50).map(|n| agent_yaml(namespace, &format!("a{n}"), "  suspend: true")).collect();
    cluster.apply(&agents.join("\n---\n")).expect("agents");
    until("all have their children", 120, || children(&cluster, namespace) == 150);
    cluster.kubectl(&["delete", "namespace", namespace, "--timeout=180s"]).expect("it goes");
    cluster.get(namespace, &format!("namespace/{namespace}")).expect_err("gone");
}
