//! What the platform team sets holds for every agent that it selects, whatever a team grants.

use redoubt_e2e::cluster::{Cluster, Editor, Phase, Team};
use serde_json::{Value, json};

use super::cluster;

const AGENT: &str = "agents.redoubt.dev/helper";
const MODEL: &str = "model.redoubt-e2e.svc.cluster.local";
const ECHO: &str = "echo.redoubt-e2e.svc.cluster.local";

/// A ClusterAgentPolicy for one namespace, which goes with the test.
struct Policy<'a> {
    cluster: &'a Cluster,
    name: String,
}

impl<'a> Policy<'a> {
    fn new(cluster: &'a Cluster, namespace: &str, name: &str, fields: &Value) -> Self {
        let policy = Self { cluster, name: format!("{namespace}-{name}") };
        policy.set(namespace, fields).expect("the policy");
        policy
    }

    fn set(&self, namespace: &str, fields: &Value) -> Result<(), String> {
        let mut spec = fields.clone();
        spec["namespaceSelector"] = json!({"matchLabels": {"kubernetes.io/metadata.name": namespace}});
        let object = json!({"apiVersion": "platform.redoubt.dev/v1alpha1", "kind": "ClusterAgentPolicy",
            "metadata": {"name": self.name}, "spec": spec});
        self.cluster.apply(&object.to_string()).map(drop).map_err(|failed| failed.stderr)
    }
}

impl Drop for Policy<'_> {
    fn drop(&mut self) {
        let _gone = self.cluster.kubectl(&["delete", "clusteragentpolicies", &self.name, "--wait=false"]);
    }
}

fn ceiling(hosts: &[&str]) -> Value {
    json!({"ceilings": {"egress": [{"hosts": hosts, "ports": [8443]}]}})
}

/// Lines of the status's `list` that hold `text`.
fn lines(cluster: &Cluster, namespace: &str, list: &str, text: &str) -> usize {
    let agent = cluster.get(namespace, AGENT).expect("the agent");
    let lines = agent["status"]["policy"][list].as_array().cloned().unwrap_or_default();
    lines.iter().filter(|line| line.to_string().contains(text)).count()
}

fn until(what: &str, holds: impl FnMut() -> bool) {
    super::until(what, 60, holds);
}

#[test]
fn a_ceiling_holds_over_what_a_team_grants() {
    let cluster = cluster();
    let namespace = "ceiling-egress";
    let team = Team::without_agent(&cluster, namespace).expect("the team");
    let policy = Policy::new(&cluster, namespace, "model", &ceiling(&[MODEL]));
    cluster.apply(&team.manifest("3-agent.yaml").expect("the manifest")).expect("the agent");
    cluster.wait_ready(namespace, "helper").expect("ready");
    let name = format!("ClusterAgentPolicy/{}", policy.name);
    assert_eq!(lines(&cluster, namespace, "refused", &format!("{name} spec.ceilings.egress")), 1);
    let answer = team.call("notes__get_note", &json!({"id": "7"})).expect("an answer");
    assert!(answer.contains("ExceedsPolicy") && answer.contains(&name), "{answer}");
    // The credential is not even asked for, and its binding says why.
    let exceeds = Phase { kind: "Accepted", status: "False", reason: "ExceedsPolicy" };
    let condition =
        cluster.wait(namespace, "secretbindings.redoubt.dev/notes-token", &exceeds).expect("told");
    assert!(condition.message.contains(&name), "{}", condition.message);
    let nothing = Phase { kind: "CredentialsReady", status: "True", reason: "NoBindings" };
    cluster.wait(namespace, AGENT, &nothing).expect("no credential");

    // The team can do nothing about it.
    let editor: Editor = cluster.editor(namespace).expect("a user with the edit role");
    let wider = json!({"apiVersion": "redoubt.dev/v1alpha1", "kind": "EgressPolicy",
        "metadata": {"name": "wider", "namespace": namespace}, "spec": {"agentSelector": {}, "allow": [
            {"from": [{"kind": "Tool", "name": "notes"}], "hosts": [ECHO], "ports": [8443], "methods": ["*"], "paths": ["/**"]}]}});
    cluster.apply(&wider.to_string()).expect("a wider grant");
    until("the wider grant is seen", || lines(&cluster, namespace, "selectedBy", "EgressPolicy/wider") == 1);
    assert_eq!(lines(&cluster, namespace, "effective", ECHO), 0);
    let refused =
        editor.kubectl(&["delete", "clusteragentpolicies", &policy.name], "").expect_err("forbidden");
    assert!(refused.stderr.contains("cannot delete"), "{}", refused.stderr);

    // The benign twin: a ceiling that lets it pass.
    policy.set(namespace, &ceiling(&["**.svc.cluster.local"])).expect("loosened");
    until("the call passes", || {
        team.call("notes__get_note", &json!({"id": "7"})).is_ok_and(|answer| answer.contains("note 7"))
    });
}

#[test]
fn enforce_is_not_turned_back_and_audit_only_tells() {
    let cluster = cluster();
    let namespace = "ceiling-audit";
    let team = Team::with_agent(&cluster, namespace).expect("the team");
    let mut fields = ceiling(&[MODEL]);
    fields["mode"] = json!("Audit");
    let policy = Policy::new(&cluster, namespace, "trial", &fields);
    cluster.wait_ready(namespace, "helper").expect("ready");
    until("the status tells", || lines(&cluster, namespace, "wouldRefuse", &policy.name) == 1);
    until("a request is recorded as one that would be refused", || {
        let answer = team.call("notes__get_note", &json!({"id": "7"})).expect("an answer");
        assert!(answer.contains("note 7"), "{answer}");
        let log = cluster.kubectl(&["logs", "-n", namespace, "redoubt-agent-helper", "-c", "egress"]);
        log.expect("the log").stdout.contains("\"wouldRefuse\":\"ClusterAgentPolicy/")
    });
    fields["mode"] = json!("Enforce");
    policy.set(namespace, &fields).expect("enforced");
    fields["mode"] = json!("Audit");
    let refused = policy.set(namespace, &fields).expect_err("turned back");
    assert!(refused.contains("not turned back to Audit"), "{refused}");
}

#[test]
fn quotas_and_classes_are_ceilings_too() {
    let cluster = cluster();
    let namespace = "ceiling-quota";
    let team = Team::with_agent(&cluster, namespace).expect("the team");
    cluster.wait_ready(namespace, "helper").expect("ready");
    let policy = Policy::new(&cluster, namespace, "few", &json!({"quotas": {"agentsPerNamespace": 1}}));
    let second = team.manifest("3-agent.yaml").expect("the manifest");
    let agent = second.split("---").last().expect("the agent").replace("name: helper\n", "name: second\n");
    cluster.apply(&agent).expect("a second agent");
    let over = Phase { kind: "Accepted", status: "False", reason: "QuotaExceeded" };
    let condition = cluster.wait(namespace, "agents.redoubt.dev/second", &over).expect("refused");
    assert!(condition.message.contains("spec.quotas.agentsPerNamespace"), "{}", condition.message);
    let ready = Phase { kind: "Ready", status: "True", reason: "Ready" };
    cluster.wait(namespace, AGENT, &ready).expect("the first one is left alone");
    // Its place becomes free.
    cluster.kubectl(&["delete", "-n", namespace, AGENT]).expect("deleted");
    let accepted = Phase { kind: "Accepted", status: "True", reason: "Valid" };
    cluster.wait(namespace, "agents.redoubt.dev/second", &accepted).expect("its turn");

    policy.set(namespace, &json!({"ceilings": {"isolationClassNames": ["other"]}})).expect("changed");
    let exceeds = Phase { kind: "Accepted", status: "False", reason: "ExceedsPolicy" };
    let condition = cluster.wait(namespace, "agents.redoubt.dev/second", &exceeds).expect("refused");
    assert!(condition.message.contains("isolationClassNames"), "{}", condition.message);
    until("its pod is gone", || cluster.get(namespace, "pod/redoubt-agent-second").is_err());
}
