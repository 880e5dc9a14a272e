//! `kubectl redoubt` against the real API server: what it says of a cluster, and of files before they are applied.

use redoubt_e2e::cluster::Team;
use serde_json::{Value, json};

use super::{cluster, until};

const AGENT: &str = "agents.redoubt.dev/helper";
const POLICY: &str = "egresspolicies.redoubt.dev/helper";

#[test]
fn the_plugin_tells_what_decides_and_whether_all_is_there() {
    let cluster = cluster();
    let namespace = "cli-live";
    let team = Team::with_agent(&cluster, namespace).expect("the team");
    cluster.wait_ready(namespace, "helper").expect("ready");
    let note = "https://echo.redoubt-e2e.svc.cluster.local:8443/v1/notes/7";
    let explain = |method: &str| {
        cluster.redoubt(&["explain", "helper", method, note, "--from", "notes", "-n", namespace])
    };
    let allowed = explain("GET").expect("allowed").stdout;
    assert!(allowed.contains("EgressPolicy/helper spec.allow[1]"), "{allowed}");
    let refused = explain("DELETE").expect_err("refused").stdout;
    assert!(refused.contains("MethodNotAllowed") && refused.contains("Tool/notes"), "{refused}");
    let why = cluster.redoubt(&["why", "helper", "-n", namespace]).expect("ready").stdout;
    assert!(why.contains("Ready"), "{why}");
    let doctor = cluster.redoubt(&["doctor"]).expect("all is there").stdout;
    assert!(doctor.contains("operator: 2 ready") && !doctor.contains("FAIL"), "{doctor}");

    // The cluster's verdict, before anything is applied.
    let folder = std::env::temp_dir().join(format!("redoubt-cli-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let snapshot = folder.join("snapshot.yaml");
    let text = cluster.redoubt(&["snapshot"]).expect("a snapshot").stdout;
    assert!(!text.contains(&team.credential) && !text.contains("kind: Secret\n"), "{text}");
    std::fs::write(&snapshot, text).expect("written");
    let manifest = team.manifest("3-agent.yaml").expect("the manifest");
    let check = |text: &str| {
        let file = folder.join("agent.yaml");
        std::fs::write(&file, text).expect("written");
        let (file, snapshot) = (file.to_string_lossy(), snapshot.to_string_lossy());
        cluster.redoubt(&["check", "-f", &file, "--against", &snapshot])
    };
    check(&manifest).expect("what runs is accepted");
    let foreign = manifest.replace(&format!("path: agents/{namespace}/notes"), "path: prod/root");
    assert_ne!(foreign, manifest);
    let refused = check(&foreign).expect_err("refused").stdout;
    assert!(refused.contains("VaultPathNotGranted") && refused.contains("VaultConnection/"), "{refused}");
    std::fs::remove_dir_all(&folder).expect("removed");
}

#[test]
fn a_refused_request_can_be_understood_and_a_change_taken_back_without_exec() {
    let cluster = cluster();
    let namespace = "cli-logs";
    let team = Team::with_agent(&cluster, namespace).expect("the team");
    cluster.wait_ready(namespace, "helper").expect("ready");
    let unused = cluster.redoubt(&["unused", "helper", "-n", namespace]).expect_err("nothing is used yet");
    assert!(unused.stdout.contains("EgressPolicy/helper spec.allow[1]"), "{unused}");
    let logs = |more: &[&str]| {
        cluster.redoubt(&[&["logs", "helper", "-n", namespace], more].concat()).expect("the log").stdout
    };
    let note = "https://echo.redoubt-e2e.svc.cluster.local:8443/v1/notes/7";
    let test = |method: &str| {
        cluster.redoubt(&["test", "helper", method, note, "--from", "notes", "-n", namespace, "-o", "json"])
    };
    let told = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    let call = || team.call("notes__get_note", &json!({"id": "7"})).expect("an answer");

    // What the policy in the pod says is what the sidecar does.
    let allowed = told(&test("GET").expect("allowed").stdout);
    assert_eq!(allowed["decision"]["grantedBy"], "EgressPolicy/helper spec.allow[1]", "{allowed}");
    assert_eq!((&allowed["sent"], &allowed["notes"]), (&json!(false), &json!([])), "{allowed}");
    assert!(!allowed.to_string().contains(&team.credential));
    assert!(call().contains("note 7"));
    let line = format!("allowed Tool/notes GET {note} -> 200 (by EgressPolicy/helper spec.allow[1]");
    until("the request is in the log", 60, || logs(&[]).contains(&line));
    assert!(!logs(&["--refused"]).contains(&line));
    let refused = told(&test("DELETE").expect_err("refused").stdout);
    assert_eq!(refused["decision"]["refusal"]["reason"], "MethodNotAllowed", "{refused}");
    let used = cluster.redoubt(&["unused", "helper", "-n", namespace, "-o", "json"]).expect("all are used");
    assert_eq!(told(&used.stdout)["used"].as_array().map(Vec::len), Some(2), "{}", used.stdout);

    // Another workload, and a permission less.
    let spec = |what: &str| cluster.get(namespace, what).expect("the object")["spec"].clone();
    let (workload, mut policy) = (spec(AGENT), spec(POLICY));
    let mut other = workload.clone();
    other["runtime"]["instructions"] = json!("You say as little as you can.");
    let change = |what: &str, spec: &Value| {
        let patch = json!([{"op": "replace", "path": "/spec", "value": spec}]).to_string();
        cluster.kubectl(&["patch", "-n", namespace, what, "--type=json", "-p", &patch]).expect("changed");
    };
    change(AGENT, &other);
    policy["allow"].as_array_mut().expect("grants").truncate(1);
    change(POLICY, &policy);
    until("the pod is on the new policy", 120, || {
        let refused = test("GET").err().map(|failed| failed.stdout).filter(|text| !text.is_empty());
        let ready = cluster.wait_ready(namespace, "helper").is_ok();
        ready && refused.is_some_and(|text| told(&text)["notes"] == json!([]))
    });
    let answer = call();
    assert!(answer.contains("NotGranted"), "{answer}");
    until("the refusal is in the log", 60, || {
        let text = logs(&["--refused"]);
        text.contains(&format!("REFUSED Tool/notes GET {note}: NotGranted (by ")) && !text.contains("allowed")
    });
    let raw = logs(&["-o", "json", "--refused", "--tail", "1000"]);
    assert!(raw.lines().all(|line| told(line)["decision"] == "refuse") && !raw.is_empty(), "{raw}");
    let own = logs(&["--container", "agent"]);
    assert!(own.lines().all(|line| line.starts_with("agent: ")), "{own}");

    // Back: the workload comes back, the permission does not.
    let rollback = |more: &[&str]| {
        cluster.redoubt(&[&["rollback", "helper", "-n", namespace, "-o", "json"], more].concat())
    };
    let dry = told(&rollback(&["--dry-run"]).expect("it would").stdout);
    assert_eq!((&dry["changed"], spec(AGENT) == other), (&json!(false), true), "{dry}");
    assert_eq!(dry["changes"][0]["field"], "spec.runtime.instructions", "{dry}");
    let done = told(&rollback(&[]).expect("done").stdout);
    assert_eq!((&done["changed"], &done["permissions"]["added"]), (&json!(true), &json!([])), "{done}");
    assert!(done["permissions"]["notRestored"].to_string().contains("Tool/notes"), "{done}");
    assert_eq!(spec(AGENT), workload);
    until("the operator has looked at it", 60, || {
        let agent = cluster.get(namespace, AGENT).expect("the Agent");
        agent["status"]["observedGeneration"] == agent["metadata"]["generation"]
    });
    let effective =
        cluster.get(namespace, AGENT).expect("the Agent")["status"]["policy"]["effective"].clone();
    assert!(!effective.to_string().contains("Tool/notes"), "{effective}");
    let none = rollback(&["--to", "99"]).expect_err("there is none");
    assert!(none.stderr.contains("has no revision 99"), "{none}");

    // A workload that the operator would not accept any more is not given back.
    other["tools"] = json!([]);
    other["secretBindings"] = json!([]);
    change(AGENT, &other);
    cluster.kubectl(&["delete", "-n", namespace, "tools.redoubt.dev", "notes"]).expect("deleted");
    let refused = rollback(&["--to", "1"]).expect_err("refused").stdout;
    assert!(refused.contains("ReferenceNotFound") && told(&refused)["changed"] == false, "{refused}");
    assert_eq!(spec(AGENT), other);
}
