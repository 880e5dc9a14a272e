use kube::runtime::reflector;
use kube::runtime::watcher::Event;
use redoubt_metrics::Exposition;
use serde_json::{Value, json};

use super::*;

/// What the samples look like to whoever asks.
fn lines(samples: Vec<Sample>) -> Vec<String> {
    let mut out = Exposition::default();
    out.read(move || samples.clone());
    out.encode().unwrap().lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

fn store<K>(objects: Vec<K>) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let (store, mut writer) = reflector::store();
    objects.into_iter().for_each(|object| writer.apply_watcher_event(&Event::Apply(object)));
    store
}

fn agent(name: &str, status: Value) -> WatchedAgent {
    let mut agent = serde_json::to_value(crate::agent::fixtures::agent(name)).unwrap();
    agent["status"] = status;
    serde_json::from_value(agent).unwrap()
}

fn condition(kind: &str, status: &str, reason: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"})
}

#[test]
fn agents_are_counted_by_condition_and_never_named() {
    let ready =
        json!({"conditions": [condition("Accepted", "True", "Valid"), condition("Ready", "True", "Ready")]});
    let drift = json!({"conditions": [condition("PolicyDrift", "True", "ForeignNetworkPolicy"),
        condition("Ready", "False", "VaultSealed"), condition("Ours", "True", "Valid")]});
    // As someone could write it while the guards are away.
    let forged = json!({"conditions": [condition("Ready", "evil\"} 1", "evil\nreason")]});
    let unread: WatchedAgent =
        serde_json::from_value(json!({"apiVersion": "redoubt.dev/v1alpha1", "kind": "Agent",
            "metadata": {"name": "unread", "namespace": "team"}, "spec": {"runtime": 1}}))
        .unwrap();
    assert!(unread.0.is_err(), "it cannot be read");
    let told = lines(agents(&store(vec![
        agent("one", ready.clone()),
        agent("two", ready),
        agent("three", drift),
        agent("four", forged),
        agent("five", Value::Null),
        unread,
    ])));
    let of = |condition: &str| {
        let start = format!("redoubt_operator_agents{{condition=\"{condition}\",");
        told.iter().filter_map(|line| line.strip_prefix(&start)).collect::<Vec<_>>()
    };
    assert_eq!(
        of("Ready"),
        [
            "status=\"False\",reason=\"VaultSealed\"} 1.0",
            "status=\"True\",reason=\"Ready\"} 2.0",
            "status=\"Unknown\",reason=\"Unknown\"} 3.0",
        ]
    );
    assert_eq!(of("PolicyDrift"), ["status=\"True\",reason=\"ForeignNetworkPolicy\"} 1.0"]);
    assert_eq!(of("Accepted").len(), 2);
    let text = told.join("\n");
    assert!(!["evil", "Ours", "one\"", "team"].iter().any(|word| text.contains(word)), "{text}");
}

#[test]
fn objects_are_counted_by_acceptance() {
    let tool = |name: &str, status: Value| {
        let spec = json!({"http": {"baseURL": "https://api.example.com", "functions": []}});
        let tool = json!({"apiVersion": "redoubt.dev/v1alpha1", "kind": "Tool", "spec": spec, "status": status,
            "metadata": {"name": name, "namespace": "team"}});
        let tool: Guard<redoubt_crds::Tool> = serde_json::from_value(tool).unwrap();
        assert!(tool.0.is_ok(), "{tool:?}");
        tool
    };
    let accepted_as = |status: &str| json!({"conditions": [condition("Accepted", status, "Valid")]});
    let told = lines(accepted(&store(vec![
        tool("a", accepted_as("True")),
        tool("b", accepted_as("False")),
        tool("c", Value::Null),
        tool("d", accepted_as("maybe")),
    ])));
    let line = |accepted: &str, count: u8| {
        format!("redoubt_operator_objects{{kind=\"Tool\",accepted=\"{accepted}\"}} {count}.0")
    };
    assert_eq!(told, [line("True", 1), line("False", 1), line("Unknown", 2)]);
}

#[test]
fn what_a_sidecar_holds() {
    let map: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": "redoubt-agent-a", "namespace": "team",
        "annotations": {"redoubt.dev/policy-epoch": "60000"}}}))
        .unwrap();
    let pod = |started: bool| -> Pod {
        serde_json::from_value(
            json!({"metadata": {"name": "redoubt-agent-a", "namespace": "team", "uid": "1"},
            "status": {"initContainerStatuses": [{"name": "egress", "ready": true, "started": started,
                "image": "", "imageID": "", "restartCount": 0, "state": {"running": {}}}]}}),
        )
        .unwrap()
    };
    let report = |uid: &str, epoch: u64, refused: bool| Report {
        pod_uid: uid.to_owned(),
        epoch,
        refused: refused.then(|| ("PolicyRefused".to_owned(), String::new())),
    };
    let now = Duration::from_secs(100);
    let check = |report: Option<Report>, expected: (&'static str, u64)| {
        let told = held(&map, &pod(true), report.as_ref(), now);
        assert_eq!(told, Some((expected.0, Duration::from_secs(expected.1))), "{report:?}");
        assert_eq!(held(&map, &pod(false), report.as_ref(), now), None, "it has not started");
    };
    check(None, ("unheard", 0));
    check(Some(report("of an earlier pod", 60_000, false)), ("unheard", 0));
    check(Some(report("1", 60_000, false)), ("current", 0));
    check(Some(report("1", 70_000, true)), ("current", 0));
    check(Some(report("1", 59_999, false)), ("behind", 40));
    check(Some(report("1", 59_999, true)), ("refused", 40));
    let mut unsigned = map.clone();
    unsigned.metadata.annotations = None;
    assert_eq!(held(&unsigned, &pod(true), None, now), None);
}
