//! The operator behind a proxy that lets a share of its requests to the real API server fail: it comes to the right state,
//! leaves nothing half done and nothing twice, and then writes nothing any more.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command};

use redoubt_e2e::cluster::{Cluster, agent_yaml};
use redoubt_e2e::faults::{Fault, Faulty};
use serde_json::{Value, json};

use super::{cluster, until};

const SYSTEM: &str = "redoubt-system";
const NAMESPACE: &str = "faults";
const AGENTS: usize = 40;
/// Of a hundred requests so many fail.
const SHARE: u8 = 25;
/// A suspended agent has no pod, one without callers no Service.
const CHILDREN: [&str; 3] = ["serviceaccounts", "configmaps", "networkpolicies"];

/// The operator's Deployment without a pod, until this is dropped.
struct Away<'a>(&'a Cluster);

impl<'a> Away<'a> {
    fn new(cluster: &'a Cluster) -> Self {
        let away = Self(cluster);
        away.scale("0").expect("the operator goes");
        let of = ["get", "pods", "-n", SYSTEM, "-l", "app.kubernetes.io/component=operator", "-o", "name"];
        until("the operator is away", 120, || cluster.kubectl(&of).expect("pods").stdout.is_empty());
        away
    }

    fn scale(&self, replicas: &str) -> Result<(), redoubt_e2e::cluster::Failed> {
        let to = format!("--replicas={replicas}");
        self.0.kubectl(&["scale", "-n", SYSTEM, "deployment/redoubt-operator", &to]).map(drop)
    }
}

impl Drop for Away<'_> {
    fn drop(&mut self) {
        let _ = self.scale("2");
        let wait = ["rollout", "status", "-n", SYSTEM, "deployment/redoubt-operator", "--timeout=180s"];
        let _ = self.0.kubectl(&wait);
    }
}

/// The namespace and the Agents in it, which go with the test.
struct Namespace<'a>(&'a Cluster);

impl Drop for Namespace<'_> {
    fn drop(&mut self) {
        let _ = self.0.kubectl(&["delete", "namespace", NAMESPACE, "--wait=false"]);
    }
}

/// The operator as a process of this machine, started again when it ends, as a kubelet does.
struct Operator {
    program: PathBuf,
    kubeconfig: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

impl Operator {
    fn new(cluster: &Cluster, kubeconfig: &str) -> Self {
        let file = cluster.state.join("faulty.kubeconfig");
        std::fs::write(&file, kubeconfig).expect("a kubeconfig");
        Self {
            program: cluster.programs.join("redoubt-operator"),
            kubeconfig: file,
            log: cluster.state.join("logs").join("faulty-operator.log"),
            child: None,
        }
    }

    fn keep(&mut self) {
        let running = self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)));
        if running {
            return;
        }
        let log = File::options().create(true).append(true).open(&self.log).expect("a log");
        let child = Command::new(&self.program)
            .args(["--health", "127.0.0.1:0", "--stream", "127.0.0.1:0", "--identity", "faulty"])
            .env("KUBECONFIG", &self.kubeconfig)
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn();
        self.child = Some(child.expect("the operator starts"));
    }

    /// Without giving anything back, as when a machine is lost.
    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // Told to end, it gives its Lease back, and the Deployment's pods need not wait for it.
        if let Some(child) = &self.child {
            let _ = Command::new("kill").arg(child.id().to_string()).status();
            std::thread::sleep(std::time::Duration::from_secs(2));
        }
        self.kill();
    }
}

/// The administrator's kubeconfig with the operator's own account in it.
fn as_the_operator(cluster: &Cluster) -> String {
    let view = cluster.kubectl(&["config", "view", "--minify", "--raw", "-o", "json"]).expect("kubeconfig");
    let mut config: Value = serde_json::from_str(&view.stdout).expect("JSON");
    let token = ["create", "token", "redoubt-operator", "-n", SYSTEM, "--duration=2h"];
    let token = cluster.kubectl(&token).expect("a token").stdout.trim().to_owned();
    config["users"][0]["user"] = json!({ "token": token });
    config.to_string()
}

/// What it grants in `round` shows in every Agent's status, as granted without need.
fn policy(round: usize) -> String {
    let allow = |path: &str| {
        json!({"from": [{"kind": "Agent"}], "hosts": ["model.redoubt-e2e.svc.cluster.local"], "ports": [8443],
            "methods": ["POST"], "paths": [path]})
    };
    json!({"apiVersion": "redoubt.dev/v1alpha1", "kind": "EgressPolicy",
        "metadata": {"name": "all", "namespace": NAMESPACE},
        "spec": {"agentSelector": {}, "allow": [allow("/v1/chat/completions"), allow(&format!("/v1/round-{round}"))]}})
    .to_string()
}

fn make(cluster: &Cluster, names: impl Iterator<Item = usize>, round: usize) {
    let more = format!("    instructions: 'round {round}'\n  suspend: true");
    let documents: Vec<_> = names.map(|n| agent_yaml(NAMESPACE, &format!("a{n}"), &more)).collect();
    cluster.apply(&documents.join("\n---\n")).expect("agents");
}

fn list(cluster: &Cluster, kind: &str) -> Vec<Value> {
    let list = cluster.get(NAMESPACE, kind).expect("a list");
    list["items"].as_array().expect("items").clone()
}

/// What is not as it should be. Every Agent says that it is programmed and suspended, of its newest generation and under
/// the policy of `round`; each has each child once, and nobody else has any.
fn faults(cluster: &Cluster, round: usize) -> Vec<String> {
    let mut wrong = Vec::new();
    let agents = list(cluster, "agents.redoubt.dev");
    let mut uids = BTreeMap::new();
    for agent in &agents {
        let name = agent["metadata"]["name"].as_str().expect("a name").to_owned();
        uids.insert(agent["metadata"]["uid"].as_str().expect("a UID").to_owned(), name.clone());
        let status = &agent["status"];
        let condition = |kind: &str| {
            let conditions = status["conditions"].as_array().into_iter().flatten();
            let mut of_kind = conditions.filter(|condition| condition["type"] == kind);
            of_kind.next().map(|condition| condition["reason"].clone()).unwrap_or_default()
        };
        if status["observedGeneration"] != agent["metadata"]["generation"] {
            wrong.push(format!("{name}: another generation"));
        }
        if condition("Programmed") != "Applied" || condition("Ready") != "Suspended" {
            wrong.push(format!("{name}: {status}"));
        }
        if !status["policy"]["unneeded"].to_string().contains(&format!("/v1/round-{round}")) {
            wrong.push(format!("{name}: an older policy"));
        }
        if status["conditions"].as_array().is_some_and(|all| all.len() != 5) {
            wrong.push(format!("{name}: conditions {}", status["conditions"]));
        }
    }
    for kind in CHILDREN {
        let mut owners = BTreeSet::new();
        for child in list(cluster, kind) {
            if child["metadata"]["labels"]["redoubt.dev/agent"].is_null() {
                continue;
            }
            let owner =
                child["metadata"]["ownerReferences"][0]["uid"].as_str().unwrap_or_default().to_owned();
            if !uids.contains_key(&owner) || !owners.insert(owner) {
                wrong.push(format!("{kind}/{}: nobody's, or twice", child["metadata"]["name"]));
            }
        }
        if owners.len() != agents.len() {
            wrong.push(format!("{kind}: {} of {}", owners.len(), agents.len()));
        }
    }
    let mut numbers = BTreeMap::<String, BTreeSet<i64>>::new();
    for revision in list(cluster, "agentpolicyrevisions.redoubt.dev") {
        let uid = revision["spec"]["agent"]["uid"].as_str().unwrap_or_default().to_owned();
        let number = revision["spec"]["revision"].as_i64().unwrap_or_default();
        if !uids.contains_key(&uid) || !numbers.entry(uid).or_default().insert(number) {
            wrong.push(format!("{}: nobody's, or its number is another's too", revision["metadata"]["name"]));
        }
    }
    for agent in &agents {
        let uid = agent["metadata"]["uid"].as_str().expect("a UID");
        let number = agent["status"]["revision"].as_i64().unwrap_or_default();
        if !numbers.get(uid).is_some_and(|numbers| numbers.contains(&number)) {
            wrong.push(format!("{}: no record of revision {number}", agent["metadata"]["name"]));
        }
    }
    wrong
}

#[test]
fn an_api_server_that_fails_at_random_leaves_the_right_state_and_nothing_twice() {
    let cluster = cluster();
    let _away = Away::new(&cluster);
    let proxy = Faulty::start(&as_the_operator(&cluster), 1).expect("the proxy");
    let mut operator = Operator::new(&cluster, &proxy.kubeconfig());
    let restricted = "pod-security.kubernetes.io/enforce: restricted";
    cluster
        .apply(&format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {NAMESPACE}, labels: {{{restricted}}}}}}}"
        ))
        .expect("the namespace");
    let _namespace = Namespace(&cluster);

    proxy.set(SHARE);
    let rounds = 6;
    for round in 0..=rounds {
        operator.keep();
        cluster.apply(&policy(round)).expect("the policy");
        // All at first; then some are changed, some go, and some come back with the same name.
        if round == 0 {
            make(&cluster, 0..AGENTS, round);
        }
        let some = |of: usize| (0..AGENTS).filter(move |n| n % rounds == of % rounds);
        make(&cluster, some(round), round);
        let gone: Vec<String> = some(round + 1).take(3).map(|n| format!("a{n}")).collect();
        let gone: Vec<&str> = gone.iter().map(String::as_str).collect();
        cluster
            .kubectl(&[&["delete", "-n", NAMESPACE, "agents.redoubt.dev"], &gone[..]].concat())
            .expect("deleted");
        make(&cluster, some(round + 1).take(3), round);
        if round == rounds / 2 {
            operator.kill();
        }
        let before = proxy.seen().requests;
        until("the operator goes on", 180, || {
            operator.keep();
            proxy.seen().requests > before + 60
        });
    }
    // Until every way to fail was met, there is something to do.
    let mut rounds = rounds;
    until("every way to fail was met", 240, || {
        operator.keep();
        rounds += 1;
        cluster.apply(&policy(rounds)).expect("the policy");
        std::thread::sleep(std::time::Duration::from_secs(3));
        let seen = proxy.seen().faults;
        let met = Fault::ALL.iter().all(|fault| seen.get(fault).is_some_and(|count| *count >= 3));
        if !met {
            eprintln!("so far: {seen:?}");
        }
        met
    });
    proxy.set(0);

    let mut wrong = Vec::new();
    until(&format!("all is as it should be, with the log {}", operator.log.display()), 240, || {
        operator.keep();
        let now = faults(&cluster, rounds);
        if now != wrong {
            eprintln!("not yet: {} things, the first {:?}", now.len(), now.first());
        }
        wrong = now;
        wrong.is_empty()
    });
    assert_eq!(list(&cluster, "agents.redoubt.dev").len(), AGENTS);
    let mut written = 0;
    until("it comes to rest", 120, || {
        let before = std::mem::replace(&mut written, proxy.seen().writes.len());
        std::thread::sleep(std::time::Duration::from_secs(5));
        before == written
    });
    eprintln!("{} requests, {} writes, faults: {:?}", proxy.seen().requests, written, proxy.seen().faults);

    // One that knows nothing of all that finds nothing to put right.
    operator.kill();
    let before = proxy.seen();
    operator.keep();
    until("another has looked at everything", 120, || {
        operator.keep();
        let log = std::fs::read_to_string(&operator.log).expect("the log");
        let last = log.rsplit("keys loaded").next().unwrap_or_default();
        last.contains("at work") && proxy.seen().requests > before.requests + 20
    });
    std::thread::sleep(std::time::Duration::from_secs(10));
    let after = proxy.seen();
    let extra: Vec<&String> = after.writes.iter().skip(before.writes.len()).collect();
    assert!(extra.is_empty(), "it writes at rest: {extra:?}");
    assert_eq!(faults(&cluster, rounds), Vec::<String>::new());
}
