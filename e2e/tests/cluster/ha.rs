//! Two replicas of the operator, of which one writes: killed, told to end, stopped and let go on.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{self, TryRecvError};
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use redoubt_e2e::cluster::{Cluster, agent_yaml};
use redoubt_e2e::search::processes_of_container;
use serde_json::Value;

use super::cluster;

const SYSTEM: &str = "redoubt-system";
const LEASE: &str = "lease/redoubt-operator";
/// Less than what a Lease that is not given back takes to run out.
const HANDED_OVER: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(60);
/// Agents that are made at a time while others are at work.
const BATCH: usize = 10;
/// Children of a suspended agent: it has no pod.
const CHILDREN: [&str; 3] = ["serviceaccounts", "configmaps", "networkpolicies"];

/// The pod that holds the Lease, if anyone does.
fn leader(cluster: &Cluster) -> Option<String> {
    let lease = cluster.get(SYSTEM, LEASE).expect("the Lease");
    let holder = lease.pointer("/spec/holderIdentity")?.as_str()?;
    Some(holder.split_once('_').expect("pod_number").0.to_owned())
}

fn until<T>(what: &str, patience: Duration, mut get: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + patience;
    loop {
        if let Some(got) = get() {
            return got;
        }
        assert!(Instant::now() < end, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The leader of two ready replicas, and its process on this machine.
fn settled(cluster: &Cluster) -> (String, u32) {
    let deployment = ["rollout", "status", "-n", SYSTEM, "deployment/redoubt-operator", "--timeout=120s"];
    cluster.kubectl(&deployment).expect("both replicas are ready");
    until("a living leader", PATIENCE, || {
        let pod = leader(cluster)?;
        let found = cluster.get(SYSTEM, &format!("pod/{pod}")).ok()?;
        found.pointer("/status/containerStatuses/0/state/running")?;
        let id = found.pointer("/status/containerStatuses/0/containerID")?.as_str()?.to_owned();
        let pids = processes_of_container(Path::new("/proc"), &id).ok()?;
        Some((pod, *pids.first()?))
    })
}

fn signal(name: &str, pid: u32) {
    let program = std::fs::read(format!("/proc/{pid}/cmdline")).expect("the process");
    assert!(program.starts_with(b"/redoubt-operator\0"), "process {pid} is another's");
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().expect("kill");
    assert!(status.success());
}

/// A namespace with suspended agents, which goes when this is dropped.
struct Agents<'a>(&'a Cluster, &'static str);

impl<'a> Agents<'a> {
    fn new(cluster: &'a Cluster, namespace: &'static str) -> Self {
        let manifest = format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}, \
             labels: {{pod-security.kubernetes.io/enforce: restricted}}}}}}"
        );
        cluster.apply(&manifest).expect("the namespace");
        Self(cluster, namespace)
    }

    fn make(&self, names: &[String]) {
        let documents: Vec<_> =
            names.iter().map(|name| agent_yaml(self.1, name, "  suspend: true")).collect();
        self.0.apply(&documents.join("\n---\n")).expect("agents");
    }

    /// Children that are there, by kind and name.
    fn children(&self) -> BTreeSet<String> {
        let kinds = CHILDREN.join(",");
        let arguments = ["get", "-n", self.1, &kinds, "-l", "redoubt.dev/agent", "-o", "name"];
        self.0.kubectl(&arguments).expect("children").stdout.lines().map(str::to_owned).collect()
    }

    fn wait_for(&self, agents: usize, patience: Duration) {
        let complete = || (self.children().len() == agents * CHILDREN.len()).then_some(());
        until(&format!("{agents} agents with their children"), patience, complete);
    }
}

impl Drop for Agents<'_> {
    fn drop(&mut self) {
        let _ = self.0.kubectl(&["delete", "namespace", self.1, "--wait=false"]);
    }
}

/// One write that reached the API server.
struct Write {
    at: Timestamp,
    pod: String,
    resource: String,
    /// `verb namespace/resource/name`.
    what: String,
    status: i64,
    body: Value,
}

/// Every write of the operator since `from`, as the API server has recorded it.
fn writes(from: Timestamp) -> Vec<Write> {
    let folder: PathBuf = std::env::var_os("REDOUBT_LOGS").expect("the local cluster").into();
    let log = std::fs::read_to_string(folder.join("audit.log")).expect("the audit log");
    let text = |event: &Value, pointer: &str| {
        event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    // The last line may be half written.
    log.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|event| {
            text(event, "/user/username") == "system:serviceaccount:redoubt-system:redoubt-operator"
        })
        .filter(|event| ["create", "update", "patch", "delete"].contains(&text(event, "/verb").as_str()))
        .map(|event| {
            let of = |field: &str| text(&event, &format!("/objectRef/{field}"));
            Write {
                at: text(&event, "/requestReceivedTimestamp").parse().expect("a time"),
                pod: text(&event, "/user/extra/authentication.kubernetes.io~1pod-name/0"),
                resource: of("resource"),
                what: format!(
                    "{} {}/{}/{}",
                    text(&event, "/verb"),
                    of("namespace"),
                    of("resource"),
                    of("name")
                ),
                status: event.pointer("/responseStatus/code").and_then(Value::as_i64).unwrap_or_default(),
                body: event.get("requestObject").cloned().unwrap_or_default(),
            }
        })
        .filter(|write| write.at >= from)
        .collect()
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number}")).collect()
}

/// Nothing was made twice: each child was applied with success once, by whomever.
fn assert_made_once(from: Timestamp, namespace: &str) {
    let mut made = BTreeSet::new();
    for write in writes(from).iter().filter(|write| write.what.contains(&format!(" {namespace}/"))) {
        if write.status == 201 && CHILDREN.contains(&write.resource.as_str()) {
            assert!(made.insert(write.what.clone()), "made twice: {}", write.what);
        }
    }
    assert!(!made.is_empty());
}

#[test]
fn a_killed_leader_is_replaced() {
    let cluster = cluster();
    let (first, pid) = settled(&cluster);
    let agents = Agents::new(&cluster, "ha-killed");
    let from = Timestamp::now();
    signal("KILL", pid);
    agents.make(&names("new", 1));
    agents.wait_for(1, PATIENCE);
    assert_ne!(leader(&cluster), Some(first), "the container that was started anew has to wait like anyone");
    assert_made_once(from, "ha-killed");
    settled(&cluster);
}

#[test]
fn a_leader_that_is_told_to_end_hands_over() {
    let cluster = cluster();
    let (first, pid) = settled(&cluster);
    let agents = Agents::new(&cluster, "ha-ended");
    let from = Timestamp::now();
    // While it has work to do.
    agents.make(&names("before", 20));
    signal("TERM", pid);
    until("another leader", HANDED_OVER, || leader(&cluster).filter(|now| *now != first));
    agents.make(&names("after", 1));
    agents.wait_for(21, PATIENCE);
    assert_made_once(from, "ha-ended");
    settled(&cluster);
}

#[test]
fn a_stopped_leader_writes_nothing_after_losing_the_lease() {
    let cluster = cluster();
    let (first, pid) = settled(&cluster);
    let agents = Agents::new(&cluster, "ha-stopped");
    let from = Timestamp::now();
    // Agents come until after it is stopped, so that it is stopped in the midst of its work however quick it is.
    let (stopping, stopped) = mpsc::channel::<()>();
    let (made, at_the_stop) = std::thread::scope(|scope| {
        let agents = &agents;
        let maker = scope.spawn(move || {
            for batch in 0.. {
                let last = stopped.try_recv() == Err(TryRecvError::Disconnected);
                agents.make(&names(&format!("agent-{batch}"), BATCH));
                if last {
                    return (batch + 1) * BATCH;
                }
            }
            unreachable!("it is stopped before the numbers end")
        });
        let stopping = stopping;
        until("the work has begun", PATIENCE, || (!agents.children().is_empty()).then_some(()));
        signal("STOP", pid);
        let at_the_stop = agents.children().len();
        drop(stopping);
        (maker.join().expect("the agents are made"), at_the_stop)
    });
    let second =
        until("another leader", Duration::from_secs(40), || leader(&cluster).filter(|now| *now != first));
    agents.wait_for(made, PATIENCE);
    signal("CONT", pid);
    // What it had begun, and what its watches tell now, is all there to be written.
    agents.make(&names("later", 5));
    agents.wait_for(made + 5, PATIENCE);
    std::thread::sleep(Duration::from_secs(8));

    let written = writes(from);
    let lost = written
        .iter()
        .find(|write| {
            let holder =
                write.body.pointer("/spec/holderIdentity").and_then(Value::as_str).unwrap_or_default();
            write.resource == "leases" && write.status == 200 && holder.starts_with(&second)
        })
        .expect("the Lease was taken over")
        .at;
    let of = |pod: &str, after: bool| {
        let of_pod = written.iter().filter(|write| write.pod == pod && write.resource != "leases");
        of_pod.filter(|write| (write.at >= lost) == after).map(|write| write.what.clone()).collect::<Vec<_>>()
    };
    assert!(at_the_stop < made * CHILDREN.len(), "it was stopped in the midst of its work");
    assert!(!of(&first, false).is_empty() && !of(&second, true).is_empty(), "the record tells the two apart");
    assert_eq!(of(&first, true), Vec::<String>::new(), "written by the one that had lost the Lease");
    assert_eq!(of(&second, false), Vec::<String>::new(), "written by the one that did not have it yet");
    assert_made_once(from, "ha-stopped");
    settled(&cluster);
}
