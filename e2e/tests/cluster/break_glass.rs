//! One person let in to one agent's pod for a while: who gets in and who does not, what ends it, and who may grant it.

use std::path::PathBuf;

use redoubt_e2e::cluster::{Cluster, Editor, Failed, Output, Phase, Team, agent_yaml};
use serde_json::{Value, json};

use super::guards::{eventually, guard_refuses};
use super::{cluster, until};

const CHILD: &str = "redoubt-agent-helper";
const SYSTEM: &str = "redoubt-system";
const LIST: &str = "configmap/redoubt-open-grants";
const OPERATOR: &str = "deployment/redoubt-operator";
const REFUSED: &str = "nobody gets in to an agent pod";

/// A team with an agent, two people with the `edit` role, and one who may let others in.
struct Scene<'a> {
    team: Team<'a>,
    alice: Editor,
    granter: Editor,
}

impl<'a> Scene<'a> {
    fn new(cluster: &'a Cluster, namespace: &str) -> Self {
        let team = Team::with_agent(cluster, namespace).expect("the team");
        cluster.wait_ready(namespace, "helper").expect("the agent is ready");
        let editor =
            |name: &str| cluster.person(namespace, name, &[("ClusterRole", "edit")]).expect("a person");
        let scene = Self { alice: editor("alice"), granter: editor("granter"), team };
        let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": format!("granter-of-{namespace}")},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                "name": "redoubt-break-glass"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": scene.user("granter")}]});
        cluster.apply(&binding.to_string()).expect("the right to let others in");
        scene
    }

    fn namespace(&self) -> &str {
        &self.team.namespace
    }

    fn user(&self, name: &str) -> String {
        format!("{name}-of-{}", self.namespace())
    }

    /// A BreakGlass for alice, made by the granter, with `changes` to its spec.
    fn grant(&self, seconds: u32, changes: &Value) -> Value {
        let mut grant = json!({"apiVersion": "platform.redoubt.dev/v1alpha1", "kind": "BreakGlass",
            "metadata": {"name": self.namespace()},
            "spec": {"user": self.user("alice"), "grantedBy": self.user("granter"),
                "reason": "incident 17: it answers nobody", "durationSeconds": seconds,
                "agent": {"namespace": self.namespace(), "name": "helper"}}});
        for (field, value) in changes.as_object().expect("an object") {
            grant["spec"][field] = value.clone();
        }
        grant
    }

    fn make(&self, grant: &Value, more: &[&str]) -> Result<Output, Failed> {
        self.granter.kubectl(&[&["create", "-f", "-"], more].concat(), &grant.to_string())
    }

    fn wait(&self, status: &str, reason: &str) -> String {
        let object = format!("breakglasses.platform.redoubt.dev/{}", self.namespace());
        let phase = Phase { kind: "Active", status, reason };
        self.team.cluster.wait("default", &object, &phase).expect("the condition").message
    }

    fn pod(&self) -> Value {
        self.team.cluster.get(self.namespace(), &format!("pod/{CHILD}")).unwrap_or_default()
    }

    fn uid(&self) -> Option<String> {
        self.pod()["metadata"]["uid"].as_str().map(str::to_owned)
    }

    /// What is on the list of those who are let in.
    fn listed(&self) -> Option<String> {
        let list = self.team.cluster.get(SYSTEM, LIST).expect("the list");
        Some(list["data"].get(self.namespace())?.as_str()?.to_owned())
    }
}

impl Drop for Scene<'_> {
    fn drop(&mut self) {
        let cluster = self.team.cluster;
        let binding = format!("granter-of-{}", self.namespace());
        let _ = cluster.kubectl(&["delete", "breakglass", self.namespace(), "--ignore-not-found"]);
        let _ = cluster.kubectl(&["delete", "clusterrolebinding", &binding, "--ignore-not-found"]);
    }
}

/// Runs a program that is in the image; there is no shell in it.
fn exec(person: &Editor, pod: &str, container: &[&str]) -> Result<Output, Failed> {
    person.kubectl(&[&["exec", pod], container, &["--", "/redoubt-agent", "--version"]].concat(), "")
}

fn refused(what: &str, message: &str, outcome: Result<Output, Failed>) {
    let refusal = outcome.expect_err(what);
    assert!(refusal.stderr.contains(message), "{what}: not refused with {message:?}: {refusal}");
}

/// Events of the API server's audit log in which the guard has named a grant.
fn audited(annotation: &str) -> Vec<Value> {
    let folder: PathBuf = std::env::var_os("REDOUBT_LOGS").expect("the local cluster").into();
    let log = std::fs::read_to_string(folder.join("audit.log")).expect("the audit log");
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.filter(|event| event["annotations"].get(annotation).is_some()).collect()
}

#[test]
fn one_person_gets_in_to_one_container_of_one_pod_until_the_grant_goes() {
    let cluster = cluster();
    let namespace = "glass-one";
    let scene = Scene::new(&cluster, namespace);
    let alice = &scene.alice;
    let bob = cluster.person(namespace, "bob", &[("ClusterRole", "edit")]).expect("a person");
    cluster.apply(&agent_yaml(namespace, "other", "")).expect("another agent");
    cluster.wait_ready(namespace, "other").expect("it is ready");
    refused("without a grant", REFUSED, exec(alice, CHILD, &["-c", "agent"]));

    scene.make(&scene.grant(3600, &json!({})), &[]).expect("the granter may");
    let message = scene.wait("True", "Open");
    assert!(message.contains(&scene.user("alice")) && message.contains("incident 17"), "{message}");
    let first = scene.uid().expect("a pod");
    assert_eq!(scene.listed(), Some(format!("{namespace}/{CHILD}/{first}/{}", scene.user("alice"))));
    let deadline = scene.pod()["spec"]["activeDeadlineSeconds"].as_i64();
    assert!(
        deadline.is_some_and(|seconds| seconds >= 3600),
        "the kubelet ends the pod by itself: {deadline:?}"
    );

    let output = eventually("alice", true, &|| exec(alice, CHILD, &["-c", "agent"])).expect("she is let in");
    assert!(output.stdout.starts_with("redoubt-agent "), "{output:?}");
    exec(alice, CHILD, &[]).expect("kubectl names the container by itself");
    refused("another user", REFUSED, exec(&bob, CHILD, &["-c", "agent"]));
    refused("the granter", REFUSED, exec(&scene.granter, CHILD, &["-c", "agent"]));
    let administrator = cluster.kubectl(&[
        "exec",
        CHILD,
        "-n",
        namespace,
        "-c",
        "agent",
        "--",
        "/redoubt-agent",
        "--version",
    ]);
    refused("the administrator", REFUSED, administrator);
    refused("another pod", REFUSED, exec(alice, "redoubt-agent-other", &["-c", "agent"]));
    let alone = "a BreakGlass opens the container agent alone";
    refused("the sidecar", alone, exec(alice, CHILD, &["-c", "egress"]));
    refused("the hands", alone, exec(alice, CHILD, &["-c", "tools"]));
    let raw = |more: &str| {
        let path =
            format!("/api/v1/namespaces/{namespace}/pods/{CHILD}/exec?command=/redoubt-agent&stdout=1{more}");
        alice.kubectl(&["get", "--raw", &path], "")
    };
    refused("no container", alone, raw(""));
    refused("admitted, and not a stream", "pgrade", raw("&container=agent"));
    refused("attach", REFUSED, alice.kubectl(&["attach", CHILD, "-c", "agent"], ""));
    refused("port-forward", REFUSED, alice.kubectl(&["port-forward", CHILD, ":8081"], ""));
    let ephemeral = json!({"spec": {"ephemeralContainers": [{"name": "in", "image": "registry.invalid/in:1",
        "targetContainerName": "egress", "securityContext": {"allowPrivilegeEscalation": false,
            "runAsNonRoot": true, "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"}}}]}})
    .to_string();
    let patch =
        ["patch", "pod", CHILD, "-n", namespace, "--subresource=ephemeralcontainers", "-p", &ephemeral];
    refused("an ephemeral container", REFUSED, cluster.kubectl(&patch));

    let named = |annotation: &str, user: &str, text: &str| {
        audited(annotation).iter().any(|event| {
            event["user"]["username"] == user
                && event["annotations"][annotation].as_str().is_some_and(|found| found.contains(text))
        })
    };
    until("the audit log names the grant", 30, || {
        let opened = format!("BreakGlass {namespace} opens {namespace}/{CHILD}");
        named("redoubt-agent-pod-access/break-glass", &scene.user("alice"), &opened)
            && named("redoubt-break-glass/granted", &scene.user("granter"), &scene.user("alice"))
    });
    until("the Agent has an event", 30, || {
        let selector = "--field-selector=reason=BreakGlassOpened";
        let events =
            cluster.kubectl(&["get", "events", "-n", namespace, selector, "-o", "json"]).expect("events");
        events.stdout.contains("incident 17")
    });

    // A session that would go on for ever: a second brain, beside the first.
    let pod = scene.pod();
    let arguments: Vec<&str> = pod["spec"]["containers"][0]["args"]
        .as_array()
        .expect("args")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let program = arguments.iter().position(|text| *text == "--").expect("--") + 1;
    let session: Vec<&str> = arguments[program..]
        .iter()
        .map(|text| if text.ends_with("agent.sock") { "/run/redoubt/agent/second.sock" } else { text })
        .collect();
    let processes = || {
        let all = cluster.containers(namespace, "helper").unwrap_or_default();
        all.iter().find(|container| container.name == "agent").map_or(0, |container| container.pids.len())
    };
    let before = processes();
    std::thread::scope(|threads| {
        let inside = threads.spawn(|| {
            alice.kubectl(&[&["exec", CHILD, "-c", "agent", "--"], session.as_slice()].concat(), "")
        });
        until("the session runs", 60, || processes() > before || inside.is_finished());
        assert!(!inside.is_finished(), "{:?}", inside.join());
        scene.granter.kubectl(&["delete", "breakglass", namespace], "").expect("the granter takes it back");
        until("the session ends", 120, || inside.is_finished());
    });
    until("the pod is replaced", 120, || scene.uid().is_some_and(|uid| uid != first));
    cluster.wait_ready(namespace, "helper").expect("the next one is ready");
    until("nothing is left on the list", 30, || scene.listed().is_none());
    eventually("alice, afterwards", false, &|| exec(alice, CHILD, &["-c", "agent"])).expect_err("refused");
    refused("afterwards", REFUSED, exec(alice, CHILD, &["-c", "agent"]));
    assert_eq!(scene.pod()["spec"].get("activeDeadlineSeconds"), None, "nobody was let in to this one");
}

/// Puts the replicas back, also when the test fails.
struct Away<'a>(&'a Cluster);

impl Away<'_> {
    fn scale(&self, number: &str) {
        let arguments = ["scale", "-n", SYSTEM, OPERATOR, "--replicas", number];
        self.0.kubectl(&arguments).expect("scaled");
    }
}

impl Drop for Away<'_> {
    fn drop(&mut self) {
        self.scale("2");
        let arguments = ["rollout", "status", "-n", SYSTEM, OPERATOR, "--timeout=120s"];
        self.0.kubectl(&arguments).expect("the operator is back");
    }
}

#[test]
fn the_kubelet_ends_it_in_time_while_no_operator_runs() {
    let cluster = cluster();
    let scene = Scene::new(&cluster, "glass-time");
    scene.make(&scene.grant(90, &json!({})), &[]).expect("the granter may");
    scene.wait("True", "Open");
    let first = scene.uid().expect("a pod");
    let operator = Away(&cluster);
    operator.scale("0");
    let gone = ["wait", "pod", "-n", SYSTEM, "-l", "app.kubernetes.io/component=operator", "--for=delete"];
    cluster.kubectl(&[&gone[..], &["--timeout=60s"]].concat()).expect("no operator runs");
    assert!(scene.listed().is_some(), "nobody takes her off the list");
    until("the kubelet has ended the pod", 300, || {
        let pod = scene.pod();
        pod["status"]["phase"] == "Failed" && pod["status"]["reason"] == "DeadlineExceeded"
    });
    assert_eq!(scene.uid().as_ref(), Some(&first), "nobody replaces it meanwhile");
    let refusal = exec(&scene.alice, CHILD, &["-c", "agent"]).expect_err("there is nothing to get in to");
    assert!(refusal.stderr.contains("completed pod"), "{refusal}");
    drop(operator);
    scene.wait("False", "Expired");
    until("the pod is replaced", 120, || scene.uid().is_some_and(|uid| uid != first));
    cluster.wait_ready("glass-time", "helper").expect("the next one is ready");
    until("nothing is left on the list", 30, || scene.listed().is_none());
    refused("afterwards", REFUSED, exec(&scene.alice, CHILD, &["-c", "agent"]));
}

#[test]
fn a_grant_that_is_malformed_or_for_oneself_is_refused() {
    let cluster = cluster();
    let scene = Scene::new(&cluster, "glass-bad");
    let own = json!({"user": scene.user("granter")});
    let agent = |namespace: &str, name: &str| json!({"agent": {"namespace": namespace, "name": name}});
    for (changes, message) in [
        (own, "nobody lets themselves in"),
        (json!({"user": "system:anonymous"}), "spec.user must be one known person"),
        (json!({"user": "alice\u{7}"}), "spec.user must be one known person"),
        (json!({"user": ""}), "spec.user"),
        (json!({"reason": "because"}), "spec.reason"),
        (json!({"reason": " . . . . . . "}), "spec.reason must say in words why"),
        (json!({"reason": null}), "spec.reason"),
        (json!({"durationSeconds": 29}), "spec.durationSeconds"),
        (json!({"durationSeconds": 3601}), "spec.durationSeconds"),
        (json!({"durationSeconds": null}), "spec.durationSeconds"),
        (agent("glass-bad", "redoubt/agent"), "spec.agent.name must be the name of an Agent"),
        (agent("glass/bad", "helper"), "spec.agent.namespace must be the name of a namespace"),
        (json!({"pods": "all"}), "spec.pods"),
    ] {
        let outcome = scene.make(&scene.grant(600, &changes), &["--dry-run=server"]);
        refused(&changes.to_string(), message, outcome);
    }
    let dry = |grant: &Value| scene.make(grant, &["--dry-run=server"]);
    let by_other = scene.grant(600, &json!({"grantedBy": "someone-else"}));
    guard_refuses(
        "redoubt-break-glass",
        "spec.grantedBy must name the one who makes the BreakGlass",
        "a grant on the word of someone else",
        &|| {},
        &|| dry(&by_other),
    );
    for changes in [json!({"durationSeconds": 30}), json!({"durationSeconds": 3600})] {
        dry(&scene.grant(600, &changes)).expect("a benign twin");
    }
    // No Agent of this name: nobody is let in, and it is told.
    let absent = scene.grant(600, &agent("glass-bad", "nobody"));
    scene.make(&absent, &[]).expect("made");
    assert!(scene.wait("False", "PodNotRunning").contains("glass-bad/redoubt-agent-nobody"));
    let longer = json!({"spec": {"durationSeconds": 3600}}).to_string();
    let patch = ["patch", "breakglass", scene.namespace(), "--type=merge", "-p", &longer];
    refused("a longer time", "a BreakGlass is never changed", cluster.kubectl(&patch));
    let refusal = scene.alice.kubectl(&["create", "-f", "-"], &scene.grant(600, &json!({})).to_string());
    refused("the edit role", "forbidden", refusal);
}

#[test]
fn nobody_but_the_operator_writes_the_list() {
    let cluster = cluster();
    let entry = |value: Value| json!({"data": {"forged": value}}).to_string();
    let write = |patch: &str| {
        let arguments = ["patch", LIST, "-n", SYSTEM, "--type=merge", "--dry-run=server", "-p", patch];
        cluster.kubectl(&arguments)
    };
    let forged = entry(json!("demo/redoubt-agent-helper/u/kubernetes-admin"));
    guard_refuses(
        "redoubt-open-grants",
        "is written by the operator only",
        "an entry of one's own, as the administrator",
        &|| {},
        &|| write(&forged),
    );
    write(&entry(Value::Null)).expect("entries may be taken away");
    write(&json!({"metadata": {"labels": {"a": "b"}}}).to_string()).expect("labels are nobody's");
}

#[test]
fn the_operator_changes_nothing_of_a_pod_but_when_it_ends() {
    let cluster = cluster();
    let scene = Scene::new(&cluster, "glass-operator");
    let operator = "--as=system:serviceaccount:redoubt-system:redoubt-operator";
    let patch = |pod: &str, patch: &Value| {
        let patch = patch.to_string();
        let arguments =
            ["patch", "pod", pod, "-n", "glass-operator", operator, "--dry-run=server", "-p", &patch];
        cluster.kubectl(&arguments)
    };
    let image = cluster.image("hostile").expect("an image");
    let changes = [
        ("another image", json!({"spec": {"containers": [{"name": "agent", "image": image}]}})),
        (
            "another image of the sidecar",
            json!({"spec": {"initContainers": [{"name": "egress", "image": image}]}}),
        ),
        ("a label", json!({"metadata": {"labels": {"a": "b"}}})),
        ("an annotation", json!({"metadata": {"annotations": {"a": "b"}}})),
        ("no owner", json!({"metadata": {"ownerReferences": null}})),
        ("a toleration", json!({"spec": {"tolerations": [{"key": "a", "operator": "Exists"}]}})),
    ];
    for (what, change) in &changes {
        let mut change = change.clone();
        change["spec"]["activeDeadlineSeconds"] = json!(3600);
        guard_refuses(
            "redoubt-operator-pods",
            "the operator changes nothing of a pod but spec.activeDeadlineSeconds",
            what,
            &|| {},
            &|| patch(CHILD, &change),
        );
    }
    patch(CHILD, &json!({"spec": {"activeDeadlineSeconds": 3600}})).expect("when it ends");
    let own = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "own", "namespace": "glass-operator"},
        "spec": {"runtimeClassName": "kata-qemu", "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65003, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "main", "image": image, "securityContext": {"allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]}}}]}});
    cluster.apply(&own.to_string()).expect("a pod of someone else");
    let outcome = patch("own", &json!({"spec": {"activeDeadlineSeconds": 3600}}));
    refused("someone else's pod", "that of an agent's pod alone", outcome);
    drop(scene);
}
