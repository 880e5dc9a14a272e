use redoubt_policy::SigningKey;
use redoubt_policy::envelope::keyring::{announce, appended};
use serde_json::{Value, json};

use super::*;
use crate::agent::fixtures::signer;

const NOW: i64 = 100_000;

fn at(second: i64) -> String {
    Timestamp::from_second(second).unwrap().to_string()
}

fn wanted() -> Pod {
    serde_json::from_value(json!({
        "metadata": {
            "name": "p", "labels": { "redoubt.dev/agent": "a" },
            "annotations": { POD_HASH: "h", MIN_EPOCH: "10", ATTEMPT: "0" },
        },
        "spec": {
            "initContainers": [{ "name": "egress", "image": "e" }, { "name": "tools", "image": "t" }],
            "containers": [{ "name": "agent", "image": "a" }],
        },
    }))
    .unwrap()
}

/// The wanted pod as it is, created an hour ago, with `changes` merged in.
fn actual(changes: &Value) -> Pod {
    let mut value = serde_json::to_value(wanted()).unwrap();
    value["metadata"]["creationTimestamp"] = json!(at(NOW - 3600));
    merge(&mut value, changes);
    serde_json::from_value(value).unwrap()
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

fn container(name: &str, state: Value, last: Value, started: bool) -> Value {
    json!({
        "name": name, "image": "i", "imageID": "", "ready": started, "started": started, "restartCount": 0,
        "state": state, "lastState": last,
    })
}

fn running(second: i64) -> Value {
    json!({ "running": { "startedAt": at(second) } })
}

fn terminated(second: i64) -> Value {
    json!({ "terminated": { "exitCode": 1, "finishedAt": at(second) } })
}

fn check(actual: Option<&Pod>, expected: Step) {
    let now = Timestamp::from_second(NOW).unwrap();
    assert_eq!(decide(Some(&wanted()), actual, &signer(), now), expected);
}

fn delete(why: Why, attempt: u32) -> Step {
    Step::Delete { why, attempt }
}

#[test]
fn without_reasons_it_stays() {
    check(None, Step::Create);
    check(Some(&actual(&json!({}))), Step::Keep);
    check(Some(&actual(&json!({ "metadata": { "labels": { "more": "x" } } }))), Step::Keep);
    let now = Timestamp::from_second(NOW).unwrap();
    assert_eq!(decide(None, None, &signer(), now), Step::Nothing);
    assert_eq!(decide(None, Some(&actual(&json!({}))), &signer(), now), delete(Why::Unwanted, 0));
}

#[test]
fn never_two_at_once() {
    let going =
        json!({ "metadata": { "deletionTimestamp": at(NOW - 9000) }, "status": { "phase": "Failed" } });
    check(Some(&actual(&going)), Step::WaitGone);
    let now = Timestamp::from_second(NOW).unwrap();
    assert_eq!(decide(None, Some(&actual(&going)), &signer(), now), Step::WaitGone);
}

#[test]
fn what_changed_is_replaced_at_once() {
    check(
        Some(&actual(&json!({ "metadata": { "annotations": { POD_HASH: "other" } } }))),
        delete(Why::Changed, 0),
    );
    check(
        Some(&actual(&json!({ "spec": { "containers": [{ "name": "agent", "image": "evil" }] } }))),
        delete(Why::Tampered, 0),
    );
    check(
        Some(&actual(&json!({ "spec": { "ephemeralContainers": [{ "name": "debug" }] } }))),
        delete(Why::Tampered, 0),
    );
    check(
        Some(&actual(&json!({ "metadata": { "labels": { "redoubt.dev/agent": "b" } } }))),
        delete(Why::Tampered, 0),
    );
}

#[test]
fn a_pod_stays_as_long_as_its_key_leads_to_todays() {
    let keys: Vec<SigningKey> =
        (0..3).map(|_| SigningKey::from_pkcs8(&SigningKey::generate().unwrap()).unwrap()).collect();
    let now = Timestamp::from_second(NOW).unwrap();
    let step = |egress: &SigningKey, tools: &SigningKey, announcements: &str| {
        let args =
            |key: &SigningKey| json!(["--policy", "p", "--policy-key", key.public().to_string(), "--x"]);
        let pod = actual(&json!({ "spec": { "initContainers": [
            { "name": "egress", "image": "e", "args": args(egress) },
            { "name": "tools", "image": "t", "args": args(tools) },
        ] } }));
        let pkcs8 = SigningKey::generate().unwrap();
        let next = SigningKey::from_pkcs8(&pkcs8).unwrap().public();
        let last = announce(&next, &keys[1]).unwrap();
        let signer = Signer::from_pkcs8(&pkcs8).unwrap().with_announcements(appended(announcements, &last));
        decide(Some(&wanted()), Some(&pod), &signer, now)
    };
    let chain = announce(&keys[1].public(), &keys[0]).unwrap();
    assert_eq!(step(&keys[0], &keys[0], &chain), Step::Keep);
    assert_eq!(step(&keys[1], &keys[1], &chain), Step::Keep);
    assert_eq!(step(&keys[1], &keys[1], ""), Step::Keep);
    assert_eq!(step(&keys[0], &keys[0], ""), delete(Why::KeyUnknown, 0));
    assert_eq!(step(&keys[2], &keys[2], &chain), delete(Why::KeyUnknown, 0));
    assert_eq!(step(&keys[0], &keys[2], &chain), delete(Why::KeyUnknown, 0));
}

#[test]
fn what_failed_waits_longer_each_time() {
    let failed = |phase: &str, lived: i64, since: i64, attempt: &str| {
        actual(&json!({
            "metadata": { "creationTimestamp": at(NOW - since - lived), "annotations": { ATTEMPT: attempt } },
            "status": { "phase": phase, "containerStatuses": [
                container("agent", terminated(NOW - since), json!({}), false),
            ] },
        }))
    };
    let until =
        |seconds: i64, why: Why| Step::BackOff { why, until: Timestamp::from_second(NOW + seconds).unwrap() };
    check(Some(&failed("Failed", 10, 1, "0")), until(4, Why::Failed));
    check(Some(&failed("Failed", 10, 5, "0")), delete(Why::Failed, 1));
    check(Some(&failed("Succeeded", 10, 5, "0")), delete(Why::Finished, 1));
    check(Some(&failed("Failed", 10, 5, "1")), until(5, Why::Failed));
    check(Some(&failed("Failed", 10, 10, "1")), delete(Why::Failed, 2));
    check(Some(&failed("Failed", 10, 299, "30")), until(1, Why::Failed));
    check(Some(&failed("Failed", 10, 300, "4000000000")), delete(Why::Failed, 4_000_000_001));
    // One that ran steadily starts anew.
    check(Some(&failed("Failed", 600, 5, "9")), delete(Why::Failed, 1));
    // Someone was let in to it, and the kubelet has ended it in time: no failure. Another's end by a deadline is one.
    let opened = json!({ "spec": { "activeDeadlineSeconds": 60 },
        "status": { "phase": "Failed", "reason": "DeadlineExceeded" } });
    check(Some(&actual(&opened)), delete(Why::Opened, 0));
    let other = json!({ "status": { "phase": "Failed", "reason": "DeadlineExceeded" } });
    check(Some(&actual(&other)), delete(Why::Failed, 1));
    // Evicted before any container ran.
    let evicted = json!({ "status": { "phase": "Failed", "reason": "Evicted" } });
    check(Some(&actual(&evicted)), delete(Why::Failed, 1));
}

#[test]
fn a_sidecar_that_forgot_the_verdicts() {
    let pod = |egress: Value, tools: i64| {
        actual(&json!({ "status": { "phase": "Running", "initContainerStatuses": [
            egress, container("tools", running(tools), json!({}), true),
        ] } }))
    };
    let up = |second| container("egress", running(second), json!({}), true);
    check(Some(&pod(up(NOW - 50), NOW - 40)), Step::Keep);
    check(Some(&pod(up(NOW - 50), NOW - 50)), Step::Keep);
    check(Some(&pod(up(NOW - 30), NOW - 40)), delete(Why::SidecarRestarted, 1));
    let waiting = json!({ "waiting": { "reason": "CrashLoopBackOff" } });
    let down = container("egress", waiting.clone(), terminated(NOW - 30), false);
    check(Some(&pod(down, NOW - 40)), delete(Why::SidecarRestarted, 1));
    // Not told of yet: no end, no restart.
    check(Some(&pod(container("egress", waiting, json!({}), false), NOW - 40)), Step::Keep);
    // Restarted before anything ran beside it.
    let alone = json!({ "status": { "phase": "Pending", "initContainerStatuses": [up(NOW - 1)] } });
    check(Some(&actual(&alone)), Step::Keep);
}

#[test]
fn a_sidecar_that_never_came_up_gets_the_newer_policy() {
    let crashed = |min_epoch: &str| {
        actual(&json!({
            "metadata": { "annotations": { MIN_EPOCH: min_epoch } },
            "status": { "phase": "Pending", "initContainerStatuses": [
                container("egress", json!({ "waiting": { "reason": "CrashLoopBackOff" } }), terminated(NOW - 1), false),
            ] },
        }))
    };
    check(Some(&crashed("9")), delete(Why::Outdated, 0));
    check(Some(&crashed("10")), Step::Keep);
    // One that is up takes the policy by itself.
    let up = json!({
        "metadata": { "annotations": { MIN_EPOCH: "9" } },
        "status": { "phase": "Running", "initContainerStatuses": [
            container("egress", running(NOW - 50), terminated(NOW - 60), true),
        ] },
    });
    check(Some(&actual(&up)), Step::Keep);
}
