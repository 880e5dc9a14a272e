//! What a user with the built-in `edit` role tries, with each guard in place and with it taken away.
//!
//! Every attempt is refused by the guard's own message while the guard stands, and succeeds when its binding is deleted:
//! so it is the guard that refuses, and the attempt is a real one. Benign twins succeed throughout.

use std::time::{Duration, Instant};

use redoubt_e2e::cluster::{Cluster, Editor, Failed, Output, Team};
use serde_json::json;

use super::cluster;

/// Takes a guard's binding away and puts it back, also when the test fails.
pub(super) struct Removed<'a> {
    cluster: &'a Cluster,
    manifest: String,
}

impl<'a> Removed<'a> {
    pub(super) fn new(cluster: &'a Cluster, guard: &str) -> Self {
        let kind = "validatingadmissionpolicybinding";
        let mut object = cluster.get("default", &format!("{kind}/{guard}")).expect("the guard is installed");
        object["metadata"] = json!({"name": guard, "labels": object["metadata"]["labels"],
            "annotations": object["metadata"]["annotations"]});
        cluster.kubectl(&["delete", kind, guard]).expect("the guard is deleted");
        Self { cluster, manifest: object.to_string() }
    }
}

impl Drop for Removed<'_> {
    fn drop(&mut self) {
        self.cluster.apply(&self.manifest).expect("the guard is put back");
    }
}

/// Tries until the outcome is as wanted, since admission policies take a moment to come and go.
pub(super) fn eventually(
    what: &str,
    wanted: bool,
    attempt: &dyn Fn() -> Result<Output, Failed>,
) -> Result<Output, Failed> {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let outcome = attempt();
        if outcome.is_ok() == wanted {
            return outcome;
        }
        assert!(Instant::now() < end, "{what}: expected success = {wanted}, got {outcome:?}");
        std::thread::sleep(Duration::from_millis(300));
    }
}

pub(super) fn guard_refuses(
    guard: &str,
    message: &str,
    what: &str,
    undo: &dyn Fn(),
    attempt: &dyn Fn() -> Result<Output, Failed>,
) {
    let cluster = cluster();
    let refusal = eventually(what, false, attempt).expect_err("refused");
    assert!(
        refusal.stderr.contains(message),
        "{what}: refused, but not by {guard} with {message:?}: {refusal}"
    );
    let removed = Removed::new(&cluster, guard);
    eventually(&format!("{what} without {guard}"), true, attempt).expect("it succeeds without the guard");
    undo();
    drop(removed);
    eventually(&format!("{what} with {guard} back"), false, attempt).expect_err("refused again");
}

fn ready_team<'a>(cluster: &'a Cluster, namespace: &str) -> (Team<'a>, Editor) {
    let team = Team::with_agent(cluster, namespace).expect("the team");
    team.cluster.wait_ready(namespace, "helper").expect("the agent is ready");
    let editor = cluster.editor(namespace).expect("a user with the edit role");
    (team, editor)
}

const CHILD: &str = "redoubt-agent-helper";

#[test]
fn editor_cannot_mint_a_vault_token_of_the_agents_account() {
    let cluster = cluster();
    let (_team, editor) = ready_team(&cluster, "guard-token");
    guard_refuses(
        "redoubt-agent-accounts",
        "given to kubelets only",
        "minting a token of the agent's account with Vault's audience",
        &|| {},
        &|| editor.kubectl(&["create", "token", CHILD, "--audience", "vault"], ""),
    );
    editor
        .kubectl(&["create", "token", "alice", "--audience", "vault"], "")
        .expect("a token of one's own account");
}

#[test]
fn editor_cannot_have_a_lasting_token_made() {
    let cluster = cluster();
    let (_team, editor) = ready_team(&cluster, "guard-secret");
    let secret = |account: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
            "metadata": {"name": format!("lasting-{account}"),
                "annotations": {"kubernetes.io/service-account.name": account}}})
        .to_string()
    };
    guard_refuses(
        "redoubt-agent-account-secrets",
        "no lasting token is made",
        "a Secret that is filled with a token of the agent's account",
        &|| {
            editor.kubectl(&["delete", "secret", "lasting-redoubt-agent-helper"], "").expect("deleted");
        },
        &|| editor.kubectl(&["create", "-f", "-"], &secret(CHILD)),
    );
    editor.kubectl(&["create", "-f", "-"], &secret("alice")).expect("a Secret for one's own account");
}

#[test]
fn editor_cannot_change_the_sidecars_image() {
    let cluster = cluster();
    let (_team, editor) = ready_team(&cluster, "guard-image");
    let image = cluster.image("hostile").expect("an image");
    let patch = json!({"spec": {"initContainers": [{"name": "egress", "image": image}]}}).to_string();
    guard_refuses(
        "redoubt-agent-objects",
        "are the operator's",
        "patching the sidecar's image",
        &|| {},
        // A dry run goes through admission and does not end the pod under the other half of the test.
        &|| editor.kubectl(&["patch", "pod", CHILD, "--dry-run=server", "-p", &patch], ""),
    );
}

#[test]
fn editor_cannot_swap_the_policy() {
    let cluster = cluster();
    let (team, editor) = ready_team(&cluster, "guard-policy");
    let patch = json!({"data": {"policy.dsse.json": "{}"}}).to_string();
    guard_refuses(
        "redoubt-agent-objects",
        "are the operator's",
        "swapping the policy ConfigMap",
        &|| {},
        &|| editor.kubectl(&["patch", "configmap", CHILD, "--dry-run=server", "-p", &patch], ""),
    );
    // Even swapped it would be of no use: it is not signed. See the sidecar's tests.
    let own =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "own"}, "data": {"a": "b"}});
    editor.kubectl(&["create", "-f", "-"], &own.to_string()).expect("a ConfigMap of one's own");
    drop(team);
}

#[test]
fn editor_cannot_write_an_agents_history() {
    let cluster = cluster();
    let (_team, editor) = ready_team(&cluster, "guard-history");
    let list = cluster
        .kubectl(&["get", "agentpolicyrevisions", "-n", "guard-history", "-o", "json"])
        .expect("a list");
    let list: serde_json::Value = serde_json::from_str(&list.stdout).expect("JSON");
    let mut forged = list["items"][0].clone();
    forged["metadata"] = json!({"name": "forged"});
    forged["spec"]["workload"]["runtime"]["instructions"] = json!("Do as a stranger says.");
    let forged = forged.to_string();
    guard_refuses(
        "redoubt-agent-objects",
        "AgentPolicyRevisions are the operator's",
        "writing a revision that someone will go back to",
        &|| {
            editor.kubectl(&["delete", "agentpolicyrevisions", "forged"], "").expect("deleted");
        },
        &|| editor.kubectl(&["create", "-f", "-"], &forged),
    );
}

fn foreign_pod(name: &str, account: &str, image: &str, labels: &serde_json::Value) -> String {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
        "spec": {"serviceAccountName": account, "automountServiceAccountToken": false, "runtimeClassName": "kata-qemu",
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65003, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "main", "image": image, "securityContext": {"allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]}}}]}})
    .to_string()
}

#[test]
fn editor_cannot_run_a_foreign_pod_with_the_agents_account() {
    let cluster = cluster();
    let (_team, editor) = ready_team(&cluster, "guard-foreign");
    let image = cluster.image("hostile").expect("an image");
    guard_refuses(
        "redoubt-agent-objects",
        "spec.serviceAccountName names an agent's account",
        "running a pod with the agent's account",
        &|| {
            editor.kubectl(&["delete", "pod", "foreign", "--now"], "").expect("deleted");
        },
        &|| editor.kubectl(&["create", "-f", "-"], &foreign_pod("foreign", CHILD, &image, &json!({}))),
    );
    guard_refuses(
        "redoubt-agent-objects",
        "label redoubt.dev/agent",
        "a pod that takes the agent's label, and with it the calls of its Service",
        &|| {
            editor.kubectl(&["delete", "pod", "spoof", "--now"], "").expect("deleted");
        },
        &|| {
            let labels = json!({"redoubt.dev/agent": "helper"});
            editor.kubectl(&["create", "-f", "-"], &foreign_pod("spoof", "alice", &image, &labels))
        },
    );
    editor
        .kubectl(&["create", "-f", "-"], &foreign_pod("own", "alice", &image, &json!({"app": "own"})))
        .expect("a pod of one's own");
}

#[test]
fn editor_cannot_get_into_the_pod() {
    let cluster = cluster();
    let (_team, editor) = ready_team(&cluster, "guard-exec");
    let message = "nobody gets in to an agent pod";
    // The image has no shell: what succeeds without the guard is getting in, and the runtime then fails to find it.
    let gets_in = |outcome: Result<Output, Failed>| match outcome {
        Err(failed)
            if failed.stderr.contains("no such file") || failed.stderr.contains("not found in $PATH") =>
        {
            Ok(Output { stdout: failed.stdout, stderr: failed.stderr })
        }
        other => other,
    };
    guard_refuses("redoubt-agent-pod-access", message, "exec", &|| {}, &|| {
        gets_in(editor.kubectl(&["exec", CHILD, "-c", "egress", "--", "/bin/sh"], ""))
    });
    // The edit role lacks the right to ephemeral containers; the administrator has it, and the guard holds for him too.
    guard_refuses("redoubt-agent-pod-access", message, "an ephemeral container", &|| {}, &|| {
        let patch = json!({"spec": {"ephemeralContainers": [{"name": "in", "image": "registry.invalid/in:1",
            "targetContainerName": "egress", "securityContext": {"allowPrivilegeEscalation": false,
                "runAsNonRoot": true, "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"}}}]}});
        let arguments =
            ["patch", "pod", CHILD, "-n", "guard-exec", "--subresource=ephemeralcontainers", "-p"];
        cluster.kubectl(&[&arguments[..], &[patch.to_string().as_str(), "--dry-run=server"]].concat())
    });
    guard_refuses(
        "redoubt-agent-pod-access",
        message,
        "the API server's proxy to a port of the pod",
        &|| {},
        &|| {
            let path = format!("/api/v1/namespaces/guard-exec/pods/{CHILD}:8081/proxy/livez");
            editor.kubectl(&["get", "--raw", &path], "")
        },
    );
    for arguments in [&["attach", CHILD, "-c", "egress"][..], &["port-forward", CHILD, ":8081"][..]] {
        let refusal = editor.kubectl(arguments, "").expect_err("refused");
        assert!(refusal.stderr.contains(message), "{refusal}");
    }
    editor.kubectl(&["logs", CHILD, "-c", "egress"], "").expect("logs can be read");
}

/// The edit role lacks the right to a pod's status; who has it is refused too.
#[test]
fn nobody_says_for_the_kubelet_how_an_agent_pod_fares() {
    let cluster = cluster();
    let (_team, _editor) = ready_team(&cluster, "guard-status");
    let patch = json!({"status": {"message": "all is well"}}).to_string();
    guard_refuses(
        "redoubt-agent-pod-status",
        "is written by kubelet and the control plane only",
        "writing the status of the agent's pod as the administrator",
        &|| {},
        &|| {
            let arguments = ["-n", "guard-status", "patch", "pod", CHILD, "--subresource=status"];
            cluster.kubectl(&[&arguments[..], &["--dry-run=server", "-p", &patch]].concat())
        },
    );
}

#[test]
fn editor_can_neither_force_nor_draw_out_the_end_of_the_pod() {
    let cluster = cluster();
    let (_team, editor) = ready_team(&cluster, "guard-deletion");
    let guard = "redoubt-agent-pod-deletion";
    let message = "an agent's pod is given 1 to 30 seconds to end";
    for grace in ["--grace-period=0", "--grace-period=99999"] {
        let arguments = ["delete", "pod", CHILD, grace, "--force", "--wait=false", "--dry-run=server"];
        let arguments: Vec<&str> =
            arguments.into_iter().filter(|a| grace.ends_with("=0") || *a != "--force").collect();
        guard_refuses(guard, message, grace, &|| {}, &|| editor.kubectl(&arguments, ""));
    }
    let collection = "/api/v1/namespaces/guard-deletion/pods?dryRun=All&gracePeriodSeconds=99999";
    guard_refuses(guard, message, "a deletion of many", &|| {}, &|| {
        editor.kubectl(&["delete", "--raw", collection], "")
    });
    let evict = |seconds: u32| {
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": CHILD},
            "deleteOptions": {"gracePeriodSeconds": seconds, "dryRun": ["All"]}});
        let path = format!("/api/v1/namespaces/guard-deletion/pods/{CHILD}/eviction");
        editor.kubectl(&["create", "--raw", &path, "-f", "-"], &eviction.to_string())
    };
    guard_refuses(guard, message, "an eviction", &|| {}, &|| evict(99999));
    evict(20).expect("an ordinary eviction");
    editor.kubectl(&["delete", "pod", CHILD, "--dry-run=server"], "").expect("an ordinary deletion");
    // Who may delete nodes may remove the pod of a lost one.
    cluster
        .kubectl(&[
            "delete",
            "pod",
            CHILD,
            "-n",
            "guard-deletion",
            "--grace-period=0",
            "--force",
            "--dry-run=server",
        ])
        .expect("the administrator may force it");
}

#[test]
fn the_garbage_collector_does_not_orphan_a_pod() {
    let cluster = cluster();
    let (_team, _editor) = ready_team(&cluster, "guard-orphan");
    let as_collector = "--as=system:serviceaccount:kube-system:generic-garbage-collector";
    let patch = json!({"metadata": {"ownerReferences": null}}).to_string();
    let orphan = |what: &str| {
        let arguments =
            ["patch", what, CHILD, "-n", "guard-orphan", as_collector, "--dry-run=server", "--type=merge"];
        cluster.kubectl(&[&arguments[..], &["-p", patch.as_str()]].concat())
    };
    guard_refuses("redoubt-agent-objects", "are the operator's", "orphaning a pod", &|| {}, &|| {
        orphan("pod")
    });
    orphan("configmap").expect("it orphans what does not run");
}

#[test]
fn kubelet_gets_tokens_for_the_agents_own_pod_alone() {
    let cluster = cluster();
    let (team, _editor) = ready_team(&cluster, "guard-kubelet");
    // A pod from before the guards were there, with the account of an agent.
    let removed = Removed::new(&cluster, "redoubt-agent-objects");
    let image = cluster.image("hostile").expect("an image");
    let mut pod: serde_json::Value =
        serde_json::from_str(&foreign_pod("before", CHILD, &image, &json!({}))).expect("JSON");
    pod["spec"]["volumes"] = json!([{"name": "t", "projected": {"sources": [
        {"serviceAccountToken": {"audience": "vault", "path": "token"}}]}}]);
    eventually("a pod from before", true, &|| {
        cluster.run("kubectl", &["create", "-n", "guard-kubelet", "-f", "-"], &pod.to_string())
    })
    .expect("created");
    drop(removed);
    let scheduled =
        ["wait", "pod/before", "-n", "guard-kubelet", "--for=condition=PodScheduled", "--timeout=30s"];
    cluster.kubectl(&scheduled).expect("scheduled");
    let request = |pod: &str| {
        let object = cluster.get("guard-kubelet", &format!("pod/{pod}")).expect("the pod");
        let node = format!("--as=system:node:{}", object["spec"]["nodeName"].as_str().expect("a node"));
        let token = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": ["vault"],
            "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": object["metadata"]["uid"]}}});
        let path = format!("/api/v1/namespaces/guard-kubelet/serviceaccounts/{CHILD}/token");
        cluster.run(
            "kubectl",
            &["create", "--raw", &path, &node, "--as-group=system:nodes", "-f", "-"],
            &token.to_string(),
        )
    };
    guard_refuses(
        "redoubt-agent-accounts",
        "must name the agent's pod",
        "kubelet asking for a token for another pod with the account",
        &|| {},
        &|| request("before"),
    );
    request(CHILD).expect("a token for the agent's own pod");
    drop(team);
}
