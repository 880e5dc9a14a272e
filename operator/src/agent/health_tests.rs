//! What pipelines make of the objects that this operator writes: Argo CD by docs/gitops/argocd-cm.yaml, in its own
//! interpreter, and Flux by its own kstatus. Needs `e2e/cluster/build gitops` once.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use k8s_openapi::api::core::v1::Pod;
use redoubt_crds::{ClusterAgentPolicy, Tool};
use redoubt_policy::{Refusal, SigningKey};
use serde_json::{Value, json};

use super::*;
use crate::agent::apply::testing::applied;
use crate::agent::build::build;
use crate::agent::fixtures::{agent, agent_with, object, read};
use crate::agent::replace::Why;
use crate::agent::validate::validate;
use crate::signing::Signer;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn program() -> PathBuf {
    let cache = std::env::var_os("REDOUBT_CACHE").map(PathBuf::from).unwrap_or_else(|| {
        PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".cache/redoubt")
    });
    let path = cache.join("bin/gitops");
    assert!(path.exists(), "{} is missing: run e2e/cluster/build gitops", path.display());
    path
}

/// The scripts that are shipped, by the kind that they are for.
fn scripts() -> BTreeMap<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/gitops/argocd-cm.yaml");
    let map: Value = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let entry = |(key, script): (&String, &Value)| {
        let kind = key.strip_prefix("resource.customizations.health.").unwrap().to_owned();
        (kind, script.as_str().unwrap().to_owned())
    };
    map["data"].as_object().unwrap().iter().map(entry).collect()
}

/// For each object what Argo CD says by `script`, what kstatus says, and Argo CD's message.
fn judged(script: &str, objects: &[Value]) -> Vec<(String, String, String)> {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    let file = std::env::temp_dir().join(format!("redoubt-health-{}-{number}.lua", std::process::id()));
    std::fs::write(&file, script).unwrap();
    let mut child = Command::new(program())
        .arg(&file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let text = serde_json::to_vec(objects).unwrap();
    child.stdin.take().unwrap().write_all(&text).unwrap();
    let output = child.wait_with_output().unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told.len(), objects.len());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    told.iter()
        .map(|it| {
            (text(&it["argo"][0]["status"]), text(&it["kstatus"]["status"]), text(&it["argo"][0]["message"]))
        })
        .collect()
}

/// A pod's status in which the sidecar is up, as far as told.
fn pod_status(started: bool, ready: bool, ended: Option<&Refusal>) -> Value {
    let state = if ended.is_some() {
        json!({"terminated": {"exitCode": 1, "message": serde_json::to_string(&ended).unwrap()}})
    } else {
        json!({"running": {}})
    };
    json!({
        "phase": "Running", "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
        "initContainerStatuses": [{"name": "egress", "image": "", "imageID": "", "restartCount": 0,
            "ready": ready, "started": started, "state": state}],
    })
}

/// The status after a visit that found the pod in this state.
fn visited(
    agent: &Agent,
    pod_status: &Value,
    (said, drift): (Option<&Report>, Option<&str>),
    outcome: impl FnOnce(Live<Pod>) -> PodOutcome,
) -> AgentStatus {
    let validated = validate(read(agent.clone())).unwrap();
    let signer = Signer::from_pkcs8(&SigningKey::generate().unwrap()).unwrap();
    let mut built = build(&validated, &signer, 1000).unwrap();
    if let Some(pod) = built.pod.as_mut() {
        pod.metadata.uid = Some("pod-1".to_owned());
        pod.status = Some(object(pod_status.clone()));
    }
    let children = applied(built, outcome);
    next(agent, &Outcome::Applied(&children, validated.policy(), said), drift, NOW)
}

fn with_pod(agent: &Agent, status: &Value, said: Option<&Report>, drift: Option<&str>) -> AgentStatus {
    visited(agent, status, (said, drift), |pod| PodOutcome::Present(Box::new(pod)))
}

fn refusal(reason: &str) -> Refusal {
    Refusal::new(reason, "VaultConnection/v", "spec.address", "it is so", "Do this.")
}

fn problem() -> Problem {
    Problem::new("ReferenceNotFound", "Agent/a", "spec.tools[0].name", "Tool/t does not exist", "Make it.")
}

/// The Agent as the API server holds it after the status was written.
fn stored(agent: &Agent, status: Option<AgentStatus>) -> Value {
    serde_json::to_value(Agent { status, ..agent.clone() }).unwrap()
}

#[test]
fn of_an_agent_at_every_point_of_its_life() {
    let plain = agent("a");
    let suspended = agent_with("a", |agent| agent.spec.suspend = true);
    let newer = agent_with("a", |agent| agent.metadata.generation = Some(4));
    let ending = agent_with("a", |agent| {
        agent.metadata.deletion_timestamp = Some(object(json!("2026-01-02T03:04:05Z")));
    });
    let ready = || with_pod(&plain, &pod_status(true, true, None), None, None);
    let refused = |reason: &str| Report {
        pod_uid: "pod-1".to_owned(),
        epoch: 900,
        refused: Some((reason.to_owned(), "because".to_owned())),
    };
    let stopped = |reason: &str| pod_status(false, false, Some(&refusal(reason)));
    let back_off = |status: Value, why: Why| {
        visited(&plain, &status, (None, None), |pod| {
            PodOutcome::BackOff(Box::new(pod), why, Timestamp::from_second(60).unwrap())
        })
    };
    // As the definition's default has it before the operator's first visit.
    let mut made = stored(&plain, None);
    made["status"] = redoubt_crds::yaml::status_before_the_first_visit();
    let drift = "NetworkPolicy/wide spec.egress[0] allows more";
    let of = |agent: &Agent, status| stored(agent, Some(status));
    let cases: Vec<(&str, Value, &str, &str)> = vec![
        ("just made", made, "Progressing", "InProgress"),
        (
            "not accepted",
            of(&plain, next(&plain, &Outcome::Rejected(&[problem()]), None, NOW)),
            "Degraded",
            "Failed",
        ),
        (
            "not applied",
            of(&plain, next(&plain, &Outcome::Failed("forbidden".into()), None, NOW)),
            "Degraded",
            "Failed",
        ),
        (
            "its pod is made",
            of(&plain, with_pod(&plain, &json!({}), None, None)),
            "Progressing",
            "InProgress",
        ),
        (
            "its sidecar is up",
            of(&plain, with_pod(&plain, &pod_status(true, false, None), None, None)),
            "Progressing",
            "InProgress",
        ),
        ("ready", of(&plain, ready()), "Healthy", "Current"),
        ("ready, and changed since", of(&newer, ready()), "Progressing", "InProgress"),
        ("ready, and being deleted", of(&ending, ready()), "Progressing", "Terminating"),
        (
            "ready, and somebody lets more through",
            of(&plain, with_pod(&plain, &pod_status(true, true, None), None, Some(drift))),
            "Healthy",
            "Current",
        ),
        (
            "Vault is sealed",
            of(&plain, with_pod(&plain, &stopped("VaultSealed"), None, None)),
            "Degraded",
            "Failed",
        ),
        (
            "a self-test found a way out",
            of(&plain, with_pod(&plain, &stopped("SelfTestFailed"), None, None)),
            "Degraded",
            "Failed",
        ),
        (
            "the sidecar refuses a newer policy",
            of(
                &plain,
                with_pod(&plain, &pod_status(true, true, None), Some(&refused("PolicyRefused")), None),
            ),
            "Degraded",
            "Failed",
        ),
        (
            "the sidecar cannot read a newer policy",
            of(
                &plain,
                with_pod(&plain, &pod_status(true, true, None), Some(&refused("VersionUnsupported")), None),
            ),
            "Degraded",
            "Failed",
        ),
        (
            "its pod is deleted to be replaced",
            of(&plain, visited(&plain, &json!({}), (None, None), |_| PodOutcome::Ending(Some(Why::Changed)))),
            "Progressing",
            "InProgress",
        ),
        (
            "its sidecar was restarted",
            of(&plain, back_off(pod_status(true, false, None), Why::SidecarRestarted)),
            "Progressing",
            "InProgress",
        ),
        (
            "its pod failed",
            of(&plain, back_off(json!({"phase": "Failed", "message": "out of memory"}), Why::Failed)),
            "Degraded",
            "Failed",
        ),
        // kstatus knows no such state: docs/gitops.md tells what to do.
        (
            "suspended",
            of(&suspended, visited(&suspended, &json!({}), (None, None), |_| PodOutcome::Absent)),
            "Suspended",
            "InProgress",
        ),
    ];
    let objects: Vec<Value> = cases.iter().map(|(_, object, ..)| object.clone()).collect();
    let told = judged(&scripts()["redoubt.dev_Agent"], &objects);
    for ((name, object, argo, kstatus), told) in cases.iter().zip(&told) {
        assert_eq!((told.0.as_str(), told.1.as_str()), (*argo, *kstatus), "{name}: {} {object:#}", told.2);
        assert!(!told.2.is_empty(), "{name}");
    }
    let message = |name: &str| {
        let index = cases.iter().position(|(case, ..)| *case == name).unwrap();
        told[index].2.as_str()
    };
    assert!(message("not accepted").contains("ReferenceNotFound: Agent/a spec.tools[0].name"));
    assert!(message("Vault is sealed").contains("VaultSealed"));
    assert!(message("ready, and somebody lets more through").contains("NetworkPolicy/wide"));
}

#[test]
fn of_what_agents_refer_to() {
    let tool: Tool = object(json!({
        "apiVersion": "redoubt.dev/v1alpha1", "kind": "Tool",
        "metadata": { "name": "t", "namespace": "team", "generation": 2 },
        "spec": { "http": { "baseURL": "https://a.example.com", "functions": [] } },
    }));
    let policy: ClusterAgentPolicy = object(json!({
        "apiVersion": "platform.redoubt.dev/v1alpha1", "kind": "ClusterAgentPolicy",
        "metadata": { "name": "p", "generation": 2 }, "spec": { "namespaceSelector": {} },
    }));
    let before = redoubt_crds::Status::default();
    let mut cases = Vec::new();
    for problems in [Vec::new(), vec![problem()]] {
        let expected = if problems.is_empty() { ("Healthy", "Current") } else { ("Degraded", "Failed") };
        let mut one = serde_json::to_value(&tool).unwrap();
        one["status"] = json!(crate::accept::next(&tool, &before, &problems, NOW));
        cases.push(("redoubt.dev_Tool", one.clone(), expected));
        one["metadata"]["generation"] = json!(3);
        cases.push(("redoubt.dev_Tool", one.clone(), ("Progressing", "InProgress")));
        one["status"] = redoubt_crds::yaml::status_before_the_first_visit();
        cases.push(("redoubt.dev_Tool", one, ("Progressing", "InProgress")));
        let mut one = serde_json::to_value(&policy).unwrap();
        one["status"] = json!(crate::accept::next(&policy, &before, &problems, NOW));
        cases.push(("platform.redoubt.dev_ClusterAgentPolicy", one, expected));
    }
    let scripts = scripts();
    for (kind, object, expected) in cases {
        let told = judged(&scripts[kind], std::slice::from_ref(&object));
        assert_eq!((told[0].0.as_str(), told[0].1.as_str()), expected, "{object:#}");
    }
}

#[test]
fn every_kind_with_a_status_has_a_script() {
    let kinds: Vec<String> = redoubt_crds::yaml::definitions()
        .iter()
        // The operator makes revisions, and a BreakGlass is made by the person whom it names.
        .filter(|definition| {
            !["AgentPolicyRevision", "BreakGlass"].contains(&definition.spec.names.kind.as_str())
        })
        .map(|definition| format!("{}_{}", definition.spec.group, definition.spec.names.kind))
        .collect();
    let mut kinds: Vec<&String> = kinds.iter().collect();
    kinds.sort();
    let scripts = scripts();
    assert_eq!(scripts.keys().collect::<Vec<_>>(), kinds);
    let first = &scripts["redoubt.dev_Agent"];
    assert!(scripts.values().all(|script| script == first));
}
