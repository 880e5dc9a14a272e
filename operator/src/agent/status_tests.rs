use redoubt_policy::SigningKey;

use super::*;
use crate::agent::apply::testing::applied;
use crate::agent::build::build;
use crate::agent::fixtures::{agent, read};
use crate::agent::replace::Why;
use crate::agent::validate::validate;
use crate::signing::Signer;

fn told(status: &AgentStatus) -> Vec<String> {
    let one = |c: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
        assert_eq!(c.observed_generation, Some(3));
        assert!(Reason::parse(&c.reason).is_some(), "{}", c.reason);
        format!("{}={}/{}", c.type_, c.status, c.reason)
    };
    status.conditions.iter().map(one).collect()
}

fn next_for(pod: impl FnOnce(Live<k8s_openapi::api::core::v1::Pod>) -> PodOutcome) -> AgentStatus {
    let agent = agent("a");
    let validated = validate(read(agent.clone())).unwrap();
    let signer = Signer::from_pkcs8(&SigningKey::generate().unwrap()).unwrap();
    let children = applied(build(&validated, &signer, 1000).unwrap(), pod);
    next(&agent, &Outcome::Applied(&children, validated.policy(), None), None, Timestamp::UNIX_EPOCH)
}

#[test]
fn rejected_from_the_first_visit() {
    let problem = Problem::new(
        "ReferenceNotFound",
        "Agent/a",
        "spec.tools[0].name",
        "Tool/t does not exist",
        "Make it.",
    );
    let status = next(&agent("a"), &Outcome::Rejected(&[problem]), None, Timestamp::UNIX_EPOCH);
    assert_eq!(
        told(&status),
        [
            "Accepted=False/ReferenceNotFound",
            "Programmed=False/ReferenceNotFound",
            "CredentialsReady=Unknown/Unknown",
            "PolicyEnforced=Unknown/Unknown",
            "Ready=False/ReferenceNotFound",
            "Stalled=True/ReferenceNotFound",
        ]
    );
    assert_eq!(status.conditions[0].message, "Agent/a spec.tools[0].name: Tool/t does not exist. Make it.");
    assert_eq!(status.observed_generation, Some(3));
}

#[test]
fn not_applied() {
    let status = next(&agent("a"), &Outcome::Failed("Pod/p: forbidden".into()), None, Timestamp::UNIX_EPOCH);
    assert_eq!(
        told(&status),
        [
            "Accepted=True/Valid",
            "Programmed=False/ApplyFailed",
            "CredentialsReady=Unknown/Unknown",
            "PolicyEnforced=Unknown/Unknown",
            "Ready=False/ApplyFailed",
            "Stalled=True/ApplyFailed",
        ]
    );
}

#[test]
fn of_what_was_applied() {
    let starting = next_for(|pod| PodOutcome::Present(Box::new(pod)));
    assert_eq!(
        told(&starting),
        [
            "Accepted=True/Valid",
            "Programmed=True/Applied",
            "CredentialsReady=True/NoBindings",
            "PolicyEnforced=Unknown/Starting",
            "Ready=False/Starting",
            "Reconciling=True/Starting",
        ]
    );
    assert_eq!(starting.pod_name.as_deref(), Some("redoubt-agent-a"));
    assert_eq!(starting.runtime_class_name.as_deref(), Some("kata-qemu"));
    let policy = starting.policy.unwrap();
    assert_eq!((policy.epoch, policy.refused.len(), policy.digest.len()), (1000, 1, 64));

    let suspended = next_for(|_| PodOutcome::Absent);
    assert_eq!(
        told(&suspended)[2..],
        ["CredentialsReady=Unknown/Suspended", "PolicyEnforced=Unknown/Suspended", "Ready=False/Suspended",]
    );
    assert_eq!(suspended.pod_name, None);

    let ending = next_for(|_| PodOutcome::Ending(Some(Why::Changed)));
    assert_eq!(told(&ending)[4..], ["Ready=False/Replacing", "Reconciling=True/Replacing"]);

    let until = Timestamp::from_second(60).unwrap();
    let waiting = next_for(|pod| PodOutcome::BackOff(Box::new(pod), Why::SidecarRestarted, until));
    let ready = &waiting.conditions[4];
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "Replacing"));
    assert!(ready.message.contains("1970-01-01T00:01:00Z"), "{}", ready.message);
}

#[test]
fn the_epoch_is_never_forgotten() {
    let mut agent = agent("a");
    let policy = PolicyStatus { epoch: 5000, ..Default::default() };
    agent.status = Some(AgentStatus { policy: Some(policy), ..Default::default() });
    let rejected = next(&agent, &Outcome::Rejected(&[]), None, Timestamp::UNIX_EPOCH);
    assert_eq!(rejected.policy.unwrap().epoch, 5000);
    let failed = next(&agent, &Outcome::Failed(String::new()), None, Timestamp::UNIX_EPOCH);
    assert_eq!(failed.policy.unwrap().epoch, 5000);
}

#[test]
fn a_second_visit_writes_nothing() {
    let mut agent = agent("a");
    let problem = Problem::new("Invalid", "Agent/a", "", "m", "h");
    let outcome = Outcome::Rejected(std::slice::from_ref(&problem));
    agent.status = Some(next(&agent, &outcome, None, Timestamp::UNIX_EPOCH));
    let later = Timestamp::from_second(1_000_000).unwrap();
    assert_eq!(next(&agent, &outcome, None, later), agent.status.clone().unwrap());
}

#[test]
fn drift_is_told_while_it_holds_and_readiness_is_another_matter() {
    let mut agent = agent("a");
    let outcome = Outcome::Failed("Pod/p: forbidden".into());
    let without = next(&agent, &outcome, None, Timestamp::UNIX_EPOCH);
    let drifted = next(&agent, &outcome, Some("NetworkPolicy/wide"), Timestamp::UNIX_EPOCH);
    assert_eq!(told(&drifted)[..6], told(&without));
    assert_eq!(told(&drifted)[6..], ["PolicyDrift=True/ForeignNetworkPolicy"]);
    agent.status = Some(drifted);
    assert_eq!(next(&agent, &outcome, None, Timestamp::UNIX_EPOCH), without);
}

#[test]
fn what_the_sidecar_said_is_in_the_status() {
    let agent = agent("a");
    let validated = validate(read(agent.clone())).unwrap();
    let signer = Signer::from_pkcs8(&SigningKey::generate().unwrap()).unwrap();
    let status = |said: Option<&Report>, before: Option<i64>| {
        let mut built = build(&validated, &signer, 1000).unwrap();
        let pod = built.pod.as_mut().unwrap();
        pod.metadata.uid = Some("pod-1".to_owned());
        pod.status = Some(crate::agent::fixtures::object(serde_json::json!({
            "initContainerStatuses": [{ "name": "egress", "image": "", "imageID": "", "restartCount": 0,
                "ready": true, "started": true, "state": { "running": {} } }] })));
        let children = applied(built, |pod| PodOutcome::Present(Box::new(pod)));
        let mut agent = agent.clone();
        let policy = PolicyStatus { acknowledged_epoch: before, ..PolicyStatus::default() };
        agent.status = Some(AgentStatus { policy: Some(policy), ..AgentStatus::default() });
        let outcome = Outcome::Applied(&children, validated.policy(), said);
        let next = next(&agent, &outcome, None, Timestamp::UNIX_EPOCH);
        let enforced = told(&next).into_iter().find(|it| it.starts_with("PolicyEnforced")).unwrap();
        (next.policy.unwrap().acknowledged_epoch, enforced)
    };
    let said = |pod: &str, epoch: u64, reason: Option<&str>| Report {
        pod_uid: pod.to_owned(),
        epoch,
        refused: reason.map(|reason| (reason.to_owned(), "because".to_owned())),
    };
    let good = || "PolicyEnforced=True/Enforced".to_owned();
    assert_eq!(status(Some(&said("pod-1", 1000, None)), None), (Some(1000), good()));
    assert_eq!(status(Some(&said("pod-1", 900, None)), Some(1000)), (Some(900), good()));
    assert_eq!(status(Some(&said("pod-0", 1000, None)), Some(1000)), (None, good()), "of another pod");
    // After a restart of the operator, nothing is written anew.
    assert_eq!(status(None, Some(1000)), (Some(1000), good()));
    assert_eq!(
        status(Some(&said("pod-1", 900, Some("PolicyRefused"))), None),
        (Some(900), "PolicyEnforced=False/PolicyRefused".to_owned())
    );
    assert_eq!(
        status(Some(&said("pod-1", 900, Some("VersionUnsupported"))), None).1,
        "PolicyEnforced=False/VersionUnsupported"
    );
}
