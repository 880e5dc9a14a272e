use serde_json::json;

use super::*;

fn agent(instructions: &str, in_force: Option<i64>) -> Agent {
    serde_json::from_value(json!({
        "apiVersion": "redoubt.dev/v1alpha1", "kind": "Agent",
        "metadata": {"name": "helper", "namespace": "team", "uid": "uid-1", "resourceVersion": "5"},
        "spec": {"runtime": {"model": {"baseURL": "https://m.example/v1", "name": "m"}, "instructions": instructions}},
        "status": {"revision": in_force},
    }))
    .unwrap()
}

fn revision(number: i64, uid: &str, instructions: &str) -> AgentPolicyRevisionSpec {
    serde_json::from_value(json!({
        "agent": {"name": "helper", "uid": uid}, "revision": number, "digest": "d",
        "workload": agent(instructions, None).spec, "policy": {"digest": "d", "effective": []},
    }))
    .unwrap()
}

#[test]
fn which_revision() {
    let history = || {
        vec![
            revision(1, "uid-1", "first"),
            revision(3, "uid-1", "now"),
            revision(2, "uid-1", "second"),
            revision(4, "uid-1", "later"),
            revision(2, "uid-0", "another Agent's"),
        ]
    };
    let chosen = |agent: &Agent, to: Option<i64>| {
        choose(agent, history(), to).map(|revision| revision.workload.runtime.instructions)
    };
    // The one before, whatever number came later.
    assert_eq!(chosen(&agent("now", Some(3)), None).unwrap(), "second");
    // The Agent was changed to something that never came into force: back to what is in force.
    assert_eq!(chosen(&agent("broken", Some(3)), None).unwrap(), "now");
    assert_eq!(chosen(&agent("now", Some(3)), Some(4)).unwrap(), "later");
    for (agent, to) in
        [(agent("first", Some(1)), None), (agent("first", None), None), (agent("now", Some(3)), Some(9))]
    {
        assert!(matches!(choose(&agent, history(), to), Err(Error::NoRevision(_))), "{to:?}");
    }
    let twice = vec![revision(2, "uid-1", "one"), revision(2, "uid-1", "another")];
    assert!(matches!(choose(&agent("now", Some(3)), twice, Some(2)), Err(Error::NoRevision(_))));
    let other = choose(&agent("now", Some(3)), vec![revision(2, "uid-0", "another Agent's")], Some(2));
    assert!(matches!(other, Err(Error::NoRevision(_))));
}

#[test]
fn pipelines_are_named() {
    let mut agent = agent("now", None);
    assert_eq!(kept_by(&agent), None);
    agent.labels_mut().insert("kustomize.toolkit.fluxcd.io/name".into(), "apps".into());
    assert!(kept_by(&agent).unwrap().starts_with("Flux "));
    agent.annotations_mut().insert("argocd.argoproj.io/tracking-id".into(), "apps".into());
    assert!(kept_by(&agent).unwrap().starts_with("Argo CD "));
}
