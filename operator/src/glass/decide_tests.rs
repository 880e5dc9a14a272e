use redoubt_crds::{BreakGlassSpec, BreakGlassStatus, GlassAgent};
use serde_json::{Value, json};

use super::*;
use crate::conditions::{Verdict, merge};

const MADE: i64 = 1_000;
const STARTED: i64 = 400;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn grant(name: &str, made: i64) -> BreakGlass {
    let mut grant = BreakGlass::new(
        name,
        BreakGlassSpec {
            user: "alice/of/somewhere".into(),
            granted_by: "bob".into(),
            reason: "it hangs since noon".into(),
            agent: GlassAgent { namespace: "team".into(), name: "helper".into() },
            duration_seconds: 600,
        },
    );
    grant.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(made)));
    grant
}

fn pod(uid: &str, spec: Value, status: Value) -> Option<Pod> {
    let mut pod = json!({ "metadata": { "name": "redoubt-agent-helper", "namespace": "team", "uid": uid },
        "spec": { "containers": [] }, "status": { "phase": "Running", "startTime": at(STARTED).to_string() } });
    for (key, more) in [("spec", spec), ("status", status)] {
        for (name, value) in more.as_object().unwrap() {
            pod[key][name] = value.clone();
        }
    }
    Some(serde_json::from_value(pod).unwrap())
}

fn with_status(mut grant: BreakGlass, uid: Option<&str>, verdict: Option<Verdict>) -> BreakGlass {
    let verdicts: Vec<_> = verdict.map(|verdict| (kind::ACTIVE, verdict)).into_iter().collect();
    grant.status = Some(BreakGlassStatus {
        pod_uid: uid.map(str::to_owned),
        conditions: merge(&[], &verdicts, Some(1), at(MADE)),
        ..Default::default()
    });
    grant
}

fn state(grant: BreakGlass, pod: Option<Pod>, now: i64) -> State {
    let find = |namespace: &str, name: &str| {
        assert_eq!((namespace, name), ("team", "redoubt-agent-helper"));
        pod.clone()
    };
    decide(&[grant], &BTreeMap::new(), find, at(now)).remove(0).1
}

fn opening(state: State) -> Opening {
    let State::Open(opening) = state else { panic!("{state:?}") };
    opening
}

#[test]
fn it_opens_the_pod_that_runs_and_the_kubelet_is_told_first() {
    let opened = opening(state(grant("g", MADE), pod("p1", json!({}), json!({})), MADE));
    assert_eq!(opened.entry.to_string(), "team/redoubt-agent-helper/p1/alice/of/somewhere");
    // 600 seconds from its making, counted from the start of the pod.
    assert_eq!((opened.deadline, opened.ends_earlier), (Some(MADE + 600 - STARTED), false));
    let told = |seconds: i64| pod("p1", json!({ "activeDeadlineSeconds": seconds }), json!({}));
    let check = |seconds: i64, deadline: Option<i64>, earlier: bool| {
        let opened = opening(state(grant("g", MADE), told(seconds), MADE));
        assert_eq!((opened.deadline, opened.ends_earlier), (deadline, earlier), "{seconds}");
    };
    check(1200, None, false);
    check(1201, Some(1200), false);
    check(1199, None, true);
}

#[test]
fn it_waits_for_a_pod_that_runs() {
    let check = |pod: Option<Pod>| assert_eq!(state(grant("g", MADE), pod, MADE), State::Waiting);
    check(None);
    check(pod("p1", json!({}), json!({ "phase": "Pending" })));
    check(pod("p1", json!({}), json!({ "phase": "Failed" })));
    check(pod("p1", json!({}), json!({ "startTime": null })));
    let mut ending = pod("p1", json!({}), json!({})).unwrap();
    ending.metadata.deletion_timestamp = grant("g", MADE).metadata.creation_timestamp;
    check(Some(ending));
}

#[test]
fn it_ends_by_its_time() {
    let runs = || pod("p1", json!({}), json!({}));
    assert!(matches!(state(grant("g", MADE), runs(), MADE + 599), State::Open(_)));
    assert_eq!(state(grant("g", MADE), runs(), MADE + 600), State::Over(Reason::Expired));
    assert_eq!(state(grant("g", MADE), None, MADE + 600), State::Over(Reason::Expired));
    let mut unknown = grant("g", MADE);
    unknown.metadata.creation_timestamp = None;
    assert_eq!(state(unknown, runs(), MADE), State::Over(Reason::Expired));
}

#[test]
fn it_opens_one_pod_and_no_later_one() {
    let opened = |uid: &str| with_status(grant("g", MADE), Some(uid), None);
    let check = |uid: &str, pod, expected: State| assert_eq!(state(opened(uid), pod, MADE), expected);
    check("p1", pod("p2", json!({}), json!({})), State::Over(Reason::PodEnded));
    check("p1", None, State::Over(Reason::PodEnded));
    check("p1", pod("p1", json!({}), json!({ "phase": "Failed" })), State::Over(Reason::PodEnded));
    assert!(matches!(state(opened("p1"), pod("p1", json!({}), json!({})), MADE), State::Open(_)));
    // The list tells it too, when the status was not written.
    let entry = BTreeMap::from([("g".to_owned(), Entry::parse("team/redoubt-agent-helper/p1/a").unwrap())]);
    let grants = [grant("g", MADE)];
    let states = decide(&grants, &entry, |_, _| pod("p2", json!({}), json!({})), at(MADE));
    assert_eq!(states[0].1, State::Over(Reason::PodEnded));
}

#[test]
fn what_is_over_stays_over() {
    for reason in [Reason::Expired, Reason::PodEnded] {
        let over = with_status(grant("g", MADE), None, Some(Verdict::no(reason, "")));
        assert!(is_over(&over));
        assert_eq!(state(over, pod("p1", json!({}), json!({})), MADE), State::Over(reason));
    }
    let waits = with_status(grant("g", MADE), None, Some(Verdict::no(Reason::PodNotRunning, "")));
    assert!(!is_over(&waits));
    assert!(matches!(state(waits, pod("p1", json!({}), json!({})), MADE), State::Open(_)));
    let mut deleted = grant("g", MADE);
    deleted.metadata.deletion_timestamp = deleted.metadata.creation_timestamp.clone();
    assert!(matches!(state(deleted, pod("p1", json!({}), json!({})), MADE), State::Over(_)));
}

#[test]
fn no_more_than_so_many_are_open_and_the_oldest_come_first() {
    let made = |i: usize| MADE - i64::try_from(i).unwrap();
    let grants: Vec<_> = (0..OPEN_MAX + 2).map(|i| grant(&format!("g{i:03}"), made(i))).collect();
    let states = decide(&grants, &BTreeMap::new(), |_, _| pod("p1", json!({}), json!({})), at(MADE));
    let crowded: Vec<_> = states
        .iter()
        .filter(|(_, state)| *state == State::Crowded)
        .map(|(grant, _)| grant.name_any())
        .collect();
    assert_eq!(crowded, ["g001", "g000"]);
}
