//! The main job, as the quickstart shows it, and who may call an agent.

use redoubt_e2e::cluster::Team;
use redoubt_e2e::demo::STEPS;
use serde_json::json;

use super::cluster;

#[test]
fn everything_that_the_quickstart_shows() {
    let cluster = cluster();
    let team = Team::with_agent(&cluster, "slice-demo").expect("the team");
    cluster.apply(&team.manifest("4-hostile.yaml").expect("the manifest")).expect("the hostile agent");
    for step in STEPS {
        let lines = (step.show)(&team).unwrap_or_else(|error| panic!("{}: {error}", step.title));
        assert!(!lines.is_empty(), "{}", step.title);
    }
}

#[test]
fn only_listed_callers_are_let_in() {
    let cluster = cluster();
    let team = Team::with_agent(&cluster, "slice-callers").expect("the team");
    let namespace = team.namespace.as_str();
    cluster.wait_ready(namespace, "helper").expect("ready");
    cluster.kubectl(&["create", "serviceaccount", "mallory", "-n", namespace]).expect("an account");
    let program = cluster.programs.join("kubectl-redoubt");
    let chat = |account: &str| {
        let arguments =
            ["chat", "helper", "-n", namespace, "--service-account", account, "--message", "hello"];
        cluster.run(&program.to_string_lossy(), &arguments, "")
    };
    chat("alice").expect("a listed caller");
    let refusal = chat("mallory").expect_err("not a listed caller");
    assert!(refusal.stderr.contains("spec.callers"), "{refusal}");

    // Without a token, and with one for another audience: 401, straight through the API server's proxy.
    let path =
        format!("/api/v1/namespaces/{namespace}/services/https:redoubt-agent-helper:8443/proxy/v1/models");
    let refusal = cluster.kubectl(&["get", "--raw", &path]).expect_err("no token");
    assert!(
        refusal.stderr.contains("asked for the client to provide credentials"),
        "401 is expected: {refusal}"
    );
}

#[test]
fn a_refused_tool_call_is_told_to_the_model_and_the_record() {
    let cluster = cluster();
    let team = Team::with_agent(&cluster, "slice-refused").expect("the team");
    cluster.wait_ready("slice-refused", "helper").expect("ready");
    let answer = team.call("notes__get_note", &json!({"id": "../admin"})).expect("an answer");
    assert!(answer.contains("id"), "{answer}");
    let answer = team.call("notes__delete_everything", &json!({})).expect("an answer");
    assert!(answer.contains("notes__delete_everything"), "{answer}");
    // Withdraw the grant: the need alone allows nothing.
    let patch = json!({"spec": {"allow": [cluster.get("slice-refused", "egresspolicies.redoubt.dev/helper")
        .expect("the policy")["spec"]["allow"][0]]}});
    let arguments =
        ["patch", "-n", "slice-refused", "egresspolicies.redoubt.dev/helper", "--type=merge", "-p"];
    cluster.kubectl(&[&arguments[..], &[patch.to_string().as_str()]].concat()).expect("patched");
    let end = std::time::Instant::now() + std::time::Duration::from_secs(150);
    loop {
        let answer = team.call("notes__get_note", &json!({"id": "7"})).expect("an answer");
        if answer.contains("NotGranted") {
            break;
        }
        assert!(std::time::Instant::now() < end, "still allowed: {answer}");
        std::thread::sleep(std::time::Duration::from_secs(3));
    }
    let log = cluster
        .kubectl(&["logs", "-n", "slice-refused", "redoubt-agent-helper", "-c", "egress"])
        .expect("the log");
    assert!(log.stdout.contains("NotGranted"), "{}", log.stdout);
    assert!(!log.stdout.contains(&team.credential));
}
