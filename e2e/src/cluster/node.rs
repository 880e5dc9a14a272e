//! The node's side of a pod: its processes and files, and the search of them for a credential.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Cluster, Team};
use crate::search::{
    Needles, Report, Secret, processes_of_container, search_path, search_process, search_stream,
};

/// A container of a pod and its processes on this node.
pub struct AgentContainer {
    /// Name in the pod.
    pub name: String,
    /// Processes, seen from the node.
    pub pids: Vec<u32>,
}

/// Where a search looked, for people, and what it found.
pub struct Searched {
    /// Places, one a line.
    pub places: Vec<String>,
    /// The report.
    pub report: Report,
}

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

impl Cluster {
    /// The containers of an agent's pod and their processes. Works on the local cluster only, as root.
    ///
    /// # Errors
    /// When the pod does not run, or its processes cannot be listed.
    pub fn containers(&self, namespace: &str, agent: &str) -> Result<Vec<AgentContainer>> {
        let pod = self.get(namespace, &format!("pod/redoubt-agent-{agent}"))?;
        let of = |list: &str| pod.pointer(list).and_then(Value::as_array).cloned().unwrap_or_default();
        let mut containers = Vec::new();
        for status in of("/status/initContainerStatuses").into_iter().chain(of("/status/containerStatuses")) {
            let text = |field: &str| status.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
            let pids = processes_of_container(Path::new("/proc"), &text("containerID"))?;
            containers.push(AgentContainer { name: text("name"), pids });
        }
        Ok(containers)
    }

    /// Looks for the team's credential everywhere but in the sidecar of `agent`: in the memory, environment, arguments and
    /// files of the hands and the brain, in the files that the sidecar sees, in the operator, in all logs, and in etcd.
    ///
    /// # Errors
    /// When a place to look in cannot be found. What cannot be read is in the report.
    pub fn search_outside_the_sidecar(&self, team: &Team<'_>, agent: &str) -> Result<Searched> {
        let needles = needles(team)?;
        let mut report = Report::default();
        let mut places = Vec::new();
        for container in self.containers(&team.namespace, agent)? {
            let pid = *container.pids.first().ok_or("a container without a process")?;
            if container.name == "egress" {
                places.push("egress: files and volumes".to_owned());
            } else {
                places.push(format!(
                    "{}: memory, environment and arguments of {:?}; files and volumes",
                    container.name, container.pids
                ));
                container.pids.iter().for_each(|pid| search_process(&needles, *pid, &mut report));
            }
            search_path(&needles, Path::new(&format!("/proc/{pid}/root")), &mut report);
            let pod = format!("redoubt-agent-{agent}");
            let log = self.kubectl(&["logs", "-n", &team.namespace, &pod, "-c", &container.name])?.stdout;
            search_stream(&needles, &format!("log of {}", container.name), &mut log.as_bytes(), &mut report);
        }
        places.push("logs of all three containers".to_owned());

        let operator = self.get("redoubt-system", "pods")?;
        for pod in operator.get("items").and_then(Value::as_array).into_iter().flatten() {
            if let Some(id) = pod.pointer("/status/containerStatuses/0/containerID").and_then(Value::as_str) {
                let pids = processes_of_container(Path::new("/proc"), id)?;
                places.push(format!("operator: memory and environment of {pids:?}"));
                pids.iter().for_each(|pid| search_process(&needles, *pid, &mut report));
            }
        }
        for (what, variable) in [
            ("etcd: all its files", "REDOUBT_ETCD_DATA"),
            ("logs of the cluster, the API server's audit log among them", "REDOUBT_LOGS"),
        ] {
            search_path(&needles, &folder(variable)?, &mut report);
            places.push(what.to_owned());
        }
        Ok(Searched { places, report })
    }

    /// Looks for the team's credential in the memory of the sidecar of `agent`, where it must be: the same search finds it.
    ///
    /// # Errors
    /// As [`Cluster::search_outside_the_sidecar`].
    pub fn search_the_sidecar(&self, team: &Team<'_>, agent: &str) -> Result<Searched> {
        let needles = needles(team)?;
        let mut report = Report::default();
        let mut places = Vec::new();
        for container in self.containers(&team.namespace, agent)?.iter().filter(|c| c.name == "egress") {
            places.push(format!("egress: memory of {:?}", container.pids));
            container.pids.iter().for_each(|pid| search_process(&needles, *pid, &mut report));
        }
        Ok(Searched { places, report })
    }
}

fn needles(team: &Team<'_>) -> Result<Needles> {
    Ok(Needles::new(&Secret::read(&mut File::open(team.cluster.state.join("demo-token"))?)?)?)
}

fn folder(variable: &str) -> Result<PathBuf> {
    Ok(std::env::var_os(variable)
        .ok_or(format!("{variable} is not set: this search needs the local cluster"))?
        .into())
}
