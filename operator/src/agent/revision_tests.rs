use redoubt_crds::{Agent, AgentStatus};
use serde_json::json;

use super::*;
use crate::agent::fixtures::{agent, agent_with, object, read};
use crate::agent::validate::validate;

fn revision(agent: Agent, revisions: Vec<Known>) -> AgentPolicyRevision {
    revision_with(agent, revisions, false)
}

/// The revision of an Agent that is granted its model, or not.
fn revision_with(agent: Agent, revisions: Vec<Known>, granted: bool) -> AgentPolicyRevision {
    let mut read = read(agent);
    read.revisions = revisions;
    if granted {
        read.egress_policies.push(object(json!({
            "apiVersion": "redoubt.dev/v1alpha1", "kind": "EgressPolicy",
            "metadata": { "name": "e", "namespace": "team" },
            "spec": { "agentSelector": {}, "allow": [{
                "from": [{ "kind": "Agent" }], "hosts": ["model.example.com"], "methods": ["POST"], "paths": ["/**"],
            }] },
        })));
    }
    build(&validate(read).unwrap()).unwrap()
}

fn known(name: &str, number: i64) -> Known {
    Known { name: name.into(), number }
}

#[test]
fn named_by_workload_and_policy() {
    let first = revision(agent("a"), Vec::new());
    let name = first.name_any();
    assert!(name.starts_with("redoubt-agent-a-") && first.spec.digest.starts_with(&name[16..]), "{name}");
    assert_eq!((first.spec.digest.len(), first.spec.policy.digest.len()), (64, 64));
    assert_eq!(first.spec.agent, RevisedAgent { name: "a".into(), uid: "uid-1".into() });
    assert_eq!(first.spec.workload, agent("a").spec);
    assert_eq!(first.spec.policy.effective, []);
    assert_eq!(first.annotations()[REVISION], "1");
    assert!(first.metadata.owner_references.as_ref().unwrap()[0].controller.unwrap());

    let same = |other: &AgentPolicyRevision| other.name_any() == name;
    assert!(same(&revision(agent("a"), Vec::new())));
    // What is no part of either makes no new one.
    assert!(same(&revision(agent_with("a", |agent| agent.metadata.generation = Some(9)), Vec::new())));
    assert!(!same(&revision(agent_with("a", |agent| agent.spec.suspend = true), Vec::new())));
    assert!(!same(&revision(agent_with("a", |agent| agent.metadata.uid = Some("uid-2".into())), Vec::new())));
    let granted = revision_with(agent("a"), Vec::new(), true);
    assert!(!same(&granted));
    assert_eq!(granted.spec.workload, first.spec.workload);
    assert_eq!(granted.spec.policy.effective[0].decided_by, "EgressPolicy/e spec.allow[0]");
}

#[test]
fn numbered_one_after_the_other_and_the_same_content_by_its_own_number() {
    let number = |agent: Agent, revisions: Vec<Known>| revision(agent, revisions).spec.revision;
    let name = revision(agent("a"), Vec::new()).name_any();
    assert_eq!(number(agent("a"), Vec::new()), 1);
    assert_eq!(number(agent("a"), vec![known("x", 4), known("y", 7)]), 8);
    assert_eq!(number(agent("a"), vec![known(&name, 4), known("y", 7)]), 4);
    let recorded = agent_with("a", |agent| {
        agent.status = Some(AgentStatus { revision: Some(9), ..Default::default() });
    });
    assert_eq!(number(recorded, vec![known("y", 7)]), 10);
}

#[test]
fn the_newest_are_kept_and_the_one_in_force() {
    let all: Vec<Known> = (1..=12).rev().map(|number| known(&format!("r{number}"), number)).collect();
    assert_eq!(outdated(&all, "r12"), ["r2", "r1"]);
    // In force though it is the oldest.
    assert_eq!(outdated(&all, "r1"), ["r3", "r2"]);
    // One that is just being made has its place.
    assert_eq!(outdated(&all, "r13"), ["r3", "r2", "r1"]);
    assert_eq!(outdated(&all[..10], "r12"), Vec::<String>::new());
    assert_eq!(outdated(&[], "r1"), Vec::<String>::new());
}

#[test]
fn a_record_fits_its_own_schema() {
    assert_eq!(first("ab\u{e4}cd", 3), "ab\u{e4}");
    assert_eq!(first("ab", 3), "ab");
    let longest = "a".repeat(names::AGENT_NAME_MAX);
    let name = revision(agent(&longest), Vec::new()).name_any();
    assert!(name.len() <= 253, "{name}");
}

#[test]
fn a_number_is_taken_though_the_answer_is_lost() {
    let records = Records::default();
    let build = |agent: &Agent, there: &[Known]| {
        let mut known = there.to_vec();
        records.add(agent, &mut known);
        revision(agent.clone(), known)
    };
    let (plain, other) = (agent("a"), agent_with("a", |agent| agent.spec.suspend = true));
    let first = build(&plain, &[]);
    records.ask(&plain, &first, &[]);
    assert_eq!(build(&plain, &[]).spec.revision, 1, "the same is asked for again");
    let second = build(&other, &[]);
    assert_eq!(second.spec.revision, 2);
    records.ask(&other, &second, &[]);
    assert_eq!(build(&plain, &[known(&first.name_any(), 1)]).spec.revision, 1);
    // Another Agent of the name, and whoever leads next, begin anew.
    assert_eq!(
        build(&agent_with("a", |agent| agent.metadata.uid = Some("uid-2".into())), &[]).spec.revision,
        1
    );
    let there: PartialObjectMeta<AgentPolicyRevision> = object(json!({ "metadata": second.metadata }));
    records.ask(&other, &second, &[Arc::new(there)]);
    assert_eq!(build(&plain, &[]).spec.revision, 1, "what the watch tells of is not kept twice");
    records.ask(&plain, &first, &[]);
    records.forget();
    assert_eq!(build(&other, &[]).spec.revision, 1);
}
