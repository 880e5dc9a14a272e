//! Bad input on the live path: what the API server or the operator answers, naming object, field and way out.

use redoubt_e2e::cluster::{Cluster, Phase, Team, agent_yaml};
use serde_json::json;

use super::cluster;

const AGENT: &str = "agents.redoubt.dev/helper";

fn refused(cluster: &Cluster, manifest: &str, words: &[&str]) {
    let refusal = cluster.apply(manifest).expect_err(manifest).stderr;
    for word in words {
        assert!(refusal.contains(word), "{word:?} is not in: {refusal}");
    }
}

#[test]
fn the_api_server_refuses_what_cannot_be_right() {
    let cluster = cluster();
    let team = Team::without_agent(&cluster, "bad-schema").expect("the team");
    let manifest = team.manifest("3-agent.yaml").expect("the manifest");
    let with = |from: &str, to: &str| {
        assert!(manifest.contains(from), "{from}");
        manifest.replace(from, to)
    };
    refused(&cluster, &with("  callers:", "  unknownField: 1\n  callers:"), &["unknownField"]);
    refused(
        &cluster,
        &with("hosts: [echo.redoubt-e2e.svc.cluster.local]", "hosts: []"),
        &["hosts", "at least 1"],
    );
    for host in [
        "'*'",
        "'*.com'",
        "'https://a.example'",
        "'a.example:443'",
        "'A.example'",
        "'a.example.'",
        "'2852039166'",
        "'0x7f.1'",
    ] {
        let bad = with("hosts: [echo.redoubt-e2e.svc.cluster.local]", &format!("hosts: [{host}]"));
        refused(&cluster, &bad, &["hosts", "lower-case name such as api.example.com"]);
    }
    refused(
        &cluster,
        &with("paths: [/v1/notes/*]", "paths: [/v1/../admin]"),
        &["paths", "no . or .. segments"],
    );
    refused(&cluster, &with("methods: [GET]", "methods: [get]"), &["methods", "upper-case"]);
    refused(
        &cluster,
        &with("bearer: {}", "bearer: {}\n    header: {name: X-Api-Key}"),
        &["exactly one of bearer, header"],
    );
    refused(
        &cluster,
        &with("{kind: Tool, name: notes}", "{kind: Tool}"),
        &["name the tool when kind is Tool or ClusterTool"],
    );
    let class = json!({"apiVersion": "platform.redoubt.dev/v1alpha1", "kind": "IsolationClass", "metadata": {"name": "tagged"},
        "spec": {"runtimeClassName": "kata-qemu", "images": {"egress": "a/b:latest", "tools": "a/b:latest", "agent": "a/b:latest"}}});
    refused(&cluster, &class.to_string(), &["spec.images.egress", "by digest"]);
    cluster.apply(&manifest).expect("the benign twin");
}

fn blocked(cluster: &Cluster, namespace: &str, kind: &str, reason: &str, words: &[&str]) {
    let phase = Phase { kind, status: "False", reason };
    let condition = cluster.wait(namespace, AGENT, &phase).expect("the condition");
    for word in words {
        assert!(condition.message.contains(word), "{word:?} is not in: {}", condition.message);
    }
    let ready = cluster.conditions(namespace, AGENT).expect("conditions");
    assert!(ready.iter().any(|c| c.kind == "Ready" && c.status == "False"), "{ready:#?}");
}

#[test]
fn an_absent_runtime_class_is_never_replaced_by_a_weaker_one() {
    let cluster = cluster();
    let image = |name: &str| cluster.image(name).expect("an image");
    let class = json!({"apiVersion": "platform.redoubt.dev/v1alpha1", "kind": "IsolationClass",
        "metadata": {"name": "absent"}, "spec": {"runtimeClassName": "kata-absent",
            "images": {"egress": image("egress"), "tools": image("tools"), "agent": image("agent")}}});
    cluster.apply(&class.to_string()).expect("the class");
    let _team = Team::without_agent(&cluster, "bad-class").expect("the team");
    cluster.apply(&agent_yaml("bad-class", "helper", "  isolationClassName: absent\n")).expect("the agent");
    blocked(&cluster, "bad-class", "Accepted", "RuntimeClassNotFound", &["kata-absent"]);
    assert!(cluster.get("bad-class", "pod/redoubt-agent-helper").is_err(), "no pod");
    cluster.kubectl(&["delete", "isolationclasses.platform.redoubt.dev", "absent"]).expect("deleted");
    blocked(&cluster, "bad-class", "Accepted", "ReferenceNotFound", &["IsolationClass/absent"]);
}

/// Applies the quickstart's agent with one text replaced, and expects the credentials to be reported so.
fn credentials(namespace: &str, from: &str, to: &str, reason: &str, words: &[&str]) {
    let cluster = cluster();
    let team = Team::without_agent(&cluster, namespace).expect("the team");
    let platform = team.manifest("2-platform.yaml").expect("the manifest");
    let agent = team.manifest("3-agent.yaml").expect("the manifest");
    assert!(platform.contains(from) || agent.contains(from), "{from}");
    cluster.apply(&platform.replace(from, to)).expect("the platform's part");
    cluster.apply(&agent.replace(from, to)).expect("the team's part");
    blocked(&cluster, namespace, "CredentialsReady", reason, words);
    // Mended, it starts by itself.
    cluster.apply(&platform).expect("the platform's part");
    cluster.apply(&agent).expect("the team's part");
    cluster.wait_ready(namespace, "helper").expect("it heals");
}

#[test]
fn a_wrong_vault_role_is_named() {
    credentials("bad-role", "role: redoubt-agents", "role: nobody", "VaultLoginRefused", &["nobody"]);
}

#[test]
fn a_missing_path_is_named() {
    credentials("bad-path", "/notes, key: token", "/absent, key: token", "VaultPathNotFound", &["absent"]);
}

#[test]
fn a_missing_key_is_named() {
    credentials("bad-key", "key: token}", "key: absent}", "VaultKeyNotFound", &["absent"]);
}

#[test]
fn a_path_that_the_platform_does_not_grant_is_refused() {
    let cluster = cluster();
    let team = Team::without_agent(&cluster, "bad-grant").expect("the team");
    let manifest = team
        .manifest("3-agent.yaml")
        .expect("the manifest")
        .replace("path: agents/bad-grant/notes", "path: prod/root");
    cluster.apply(&manifest).expect("applied");
    blocked(
        &cluster,
        "bad-grant",
        "Accepted",
        "VaultPathNotGranted",
        &["VaultConnection/bad-grant", "prod/root"],
    );
    assert!(cluster.get("bad-grant", "pod/redoubt-agent-helper").is_err(), "no pod");
}

#[test]
fn a_sealed_vault_is_named_and_heals() {
    let cluster = cluster();
    let team = Team::without_agent(&cluster, "bad-sealed").expect("the team");
    cluster.vault(&["operator", "seal"], "").expect("sealed");
    struct Unseal<'a>(&'a Cluster);
    impl Drop for Unseal<'_> {
        fn drop(&mut self) {
            let key = std::fs::read_to_string(self.0.state.join("vault").join("unseal-key"))
                .expect("the unseal key");
            self.0.vault(&["operator", "unseal", key.trim()], "").expect("unsealed");
        }
    }
    let unseal = Unseal(&cluster);
    cluster.apply(&team.manifest("3-agent.yaml").expect("the manifest")).expect("applied");
    blocked(&cluster, "bad-sealed", "CredentialsReady", "VaultSealed", &["VaultConnection/bad-sealed"]);
    drop(unseal);
    cluster.wait_ready("bad-sealed", "helper").expect("it heals by itself");
}
