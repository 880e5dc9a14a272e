use serde_json::{Value, json};

use super::*;
use crate::conditions::Truth::{self, False, True, Unknown};

fn refusal(reason: &str) -> String {
    serde_json::to_string(&Refusal::new(reason, "SecretBinding/b", "spec.vault", "it is so.", "Do this."))
        .unwrap()
}

fn ended(message: &str) -> Value {
    json!({ "terminated": { "exitCode": 1, "message": message } })
}

fn waiting(reason: &str) -> Value {
    json!({ "waiting": { "reason": reason, "message": "kubelet's words" } })
}

fn running() -> Value {
    json!({ "running": {} })
}

fn container(name: &str, state: Value, last: Value, started: bool, ready: bool) -> Value {
    json!({
        "name": name, "image": "i", "imageID": "", "ready": ready, "started": started, "restartCount": 0,
        "state": state, "lastState": last,
    })
}

fn pod(containers: &[Value], phase: &str, ready: bool) -> Pod {
    let (main, init): (Vec<_>, Vec<_>) = containers.iter().cloned().partition(|c| c["name"] == "agent");
    let ready = if ready { "True" } else { "False" };
    serde_json::from_value(json!({ "status": {
        "phase": phase,
        "initContainerStatuses": init,
        "containerStatuses": main,
        "conditions": [{ "type": "Ready", "status": ready }, { "type": "PodScheduled", "status": "True" }],
    } }))
    .unwrap()
}

type Expected = (Truth, Reason);

#[track_caller]
fn check(pod: &Pod, bound: bool, credentials: Expected, enforced: Expected, runs: Expected) -> PodReport {
    let report = report(pod, bound);
    let told = |verdict: &Verdict| (verdict.truth, verdict.reason);
    assert_eq!(
        (told(&report.credentials), told(&report.enforced), told(&report.running)),
        (credentials, enforced, runs),
        "{report:?}"
    );
    report
}

const STARTING: Expected = (Unknown, Reason::Starting);

#[test]
fn on_the_way_up() {
    let nothing = Pod::default();
    check(&nothing, true, STARTING, STARTING, STARTING);
    check(&nothing, false, (True, Reason::NoBindings), STARTING, STARTING);
    let creating =
        pod(&[container("egress", waiting("PodInitializing"), json!({}), false, false)], "Pending", false);
    check(&creating, true, STARTING, STARTING, STARTING);
    let started = pod(&[container("egress", running(), json!({}), true, false)], "Pending", false);
    check(&started, true, (True, Reason::CredentialsHeld), STARTING, STARTING);
    let up = [
        container("egress", running(), json!({}), true, true),
        container("tools", running(), json!({}), true, true),
        container("agent", running(), json!({}), true, true),
    ];
    check(
        &pod(&up, "Running", true),
        true,
        (True, Reason::CredentialsHeld),
        (True, Reason::Enforced),
        (True, Reason::Ready),
    );
    check(
        &pod(&up, "Running", false),
        true,
        (True, Reason::CredentialsHeld),
        (True, Reason::Enforced),
        STARTING,
    );
}

#[test]
fn what_the_sidecar_refused() {
    let crashed = |reason: &str| {
        pod(
            &[container("egress", waiting("CrashLoopBackOff"), ended(&refusal(reason)), false, false)],
            "Pending",
            false,
        )
    };
    for reason in [
        Reason::VaultUnavailable,
        Reason::VaultSealed,
        Reason::VaultLoginRefused,
        Reason::VaultReadRefused,
        Reason::VaultPathNotFound,
        Reason::VaultKeyNotFound,
        Reason::CredentialUnusable,
    ] {
        let report = check(&crashed(reason.as_str()), true, (False, reason), STARTING, (False, reason));
        let expected = "container egress: SecretBinding/b spec.vault: it is so. Do this.";
        assert_eq!(report.credentials.message, expected);
    }
    let refused = (False, Reason::PolicyRefused);
    check(&crashed("PolicyRefused"), true, (Unknown, Reason::PodFailed), refused, refused);
    // A reason that is none of ours is told and claims nothing.
    let foreign = (False, Reason::PodFailed);
    check(&crashed("Ready"), false, (True, Reason::NoBindings), STARTING, foreign);
    check(&crashed("Whatever"), false, (True, Reason::NoBindings), STARTING, foreign);
}

#[test]
fn what_held_while_it_is_tried_again_and_what_is_over() {
    let last = ended(&refusal("VaultSealed"));
    let again = pod(&[container("egress", running(), last.clone(), false, false)], "Pending", false);
    check(&again, true, (False, Reason::VaultSealed), STARTING, (False, Reason::VaultSealed));
    let over = pod(&[container("egress", running(), last, true, false)], "Pending", false);
    check(&over, true, (True, Reason::CredentialsHeld), STARTING, STARTING);
}

#[test]
fn what_the_jails_found() {
    let jailed = |name: &str, reason: &str| {
        pod(
            &[
                container("egress", running(), json!({}), true, false),
                container(name, ended(&format!("noise\n{}", refusal(reason))), json!({}), false, false),
            ],
            "Running",
            false,
        )
    };
    for (name, reason) in [
        ("tools", Reason::SelfTestFailed),
        ("agent", Reason::SelfTestFailed),
        ("tools", Reason::JailUnsupported),
    ] {
        check(
            &jailed(name, reason.as_str()),
            true,
            (True, Reason::CredentialsHeld),
            (False, reason),
            (False, reason),
        );
    }
}

#[test]
fn what_the_kubelet_and_the_scheduler_say() {
    for reason in ["ImagePullBackOff", "ErrImagePull", "CreateContainerConfigError", "InvalidImageName"] {
        let report = check(
            &pod(&[container("egress", waiting(reason), json!({}), false, false)], "Pending", false),
            true,
            (Unknown, Reason::PodFailed),
            STARTING,
            (False, Reason::PodFailed),
        );
        assert_eq!(report.running.message, format!("container egress: {reason}: kubelet's words"));
    }
    let crashed = pod(
        &[container("egress", waiting("CrashLoopBackOff"), ended("boom"), false, false)],
        "Pending",
        false,
    );
    assert_eq!(report(&crashed, false).running.message, "container egress ended with exit code 1: boom");

    let unschedulable: Pod = serde_json::from_value(json!({ "status": { "phase": "Pending", "conditions": [
        { "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes" },
    ] } }))
    .unwrap();
    let report =
        check(&unschedulable, false, (True, Reason::NoBindings), STARTING, (False, Reason::PodFailed));
    assert_eq!(report.running.message, "the pod cannot be scheduled: 0/1 nodes");
    let evicted: Pod = serde_json::from_value(
        json!({ "status": { "phase": "Failed", "reason": "Evicted", "message": "disk" } }),
    )
    .unwrap();
    let report = check(&evicted, false, (True, Reason::NoBindings), STARTING, (False, Reason::PodFailed));
    assert_eq!(report.running.message, "the pod failed: Evicted: disk");
}

#[test]
fn a_container_claims_nothing_but_its_own_trouble() {
    let claims = |name: &str, reason: &str| {
        let others = ["egress", "tools", "agent"].map(|container_name| {
            let state = if container_name == name { ended(&refusal(reason)) } else { ended("x") };
            container(container_name, state, json!({}), false, false)
        });
        report(&pod(&others, "Failed", false), true).running.reason
    };
    let check = |name: &str, reason: Reason, believed: bool| {
        let expected = if believed { reason } else { Reason::PodFailed };
        assert_eq!(claims(name, reason.as_str()), expected, "{name} {reason:?}");
    };
    for name in ["egress", "tools", "agent"] {
        for reason in [Reason::Ready, Reason::Suspended, Reason::Starting, Reason::Enforced, Reason::Valid] {
            check(name, reason, false);
        }
        check(name, Reason::SelfTestFailed, true);
        check(name, Reason::VaultSealed, name == "egress");
    }
}
