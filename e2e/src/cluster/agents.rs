//! Agents: manifests for tests, and waiting for what their status says.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

use super::{Cluster, Failed};

/// A condition of an object's status.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
    pub reason: String,
    pub message: String,
    #[serde(rename = "observedGeneration", default)]
    pub observed_generation: i64,
}

/// How long to wait for something that takes a pod.
const PATIENCE: Duration = Duration::from_secs(120);

/// What to wait for.
pub struct Phase<'a> {
    /// Type of the condition.
    pub kind: &'a str,
    /// Its status.
    pub status: &'a str,
    /// Its reason.
    pub reason: &'a str,
}

impl Cluster {
    /// The conditions that speak of the object as it is now, which may be none yet.
    ///
    /// # Errors
    /// When the object cannot be read.
    pub fn conditions(&self, namespace: &str, object: &str) -> Result<Vec<Condition>, Failed> {
        let value = self.get(namespace, object)?;
        let generation = value.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or_default();
        let conditions = value.pointer("/status/conditions").cloned().unwrap_or_default();
        let mut conditions: Vec<Condition> = serde_json::from_value(conditions).unwrap_or_default();
        conditions.retain(|condition| condition.observed_generation >= generation);
        Ok(conditions)
    }

    /// Waits until the object has the condition, and gives it.
    ///
    /// # Errors
    /// When it does not come about in two minutes; the error lists the conditions and the pod's state.
    pub fn wait(&self, namespace: &str, object: &str, phase: &Phase<'_>) -> Result<Condition, Failed> {
        let end = Instant::now() + PATIENCE;
        loop {
            let conditions = self.conditions(namespace, object)?;
            let found = conditions
                .iter()
                .find(|c| c.kind == phase.kind && c.status == phase.status && c.reason == phase.reason);
            if let Some(condition) = found {
                return Ok(condition.clone());
            }
            if Instant::now() > end {
                let pods = self.kubectl(&["describe", "pods", "-n", namespace]).map(|o| o.stdout);
                return Err(Failed {
                    command: format!(
                        "wait for {object} to be {}={} ({})",
                        phase.kind, phase.status, phase.reason
                    ),
                    status: format!("{conditions:#?}"),
                    stdout: pods.unwrap_or_default(),
                    stderr: String::new(),
                });
            }
            std::thread::sleep(Duration::from_millis(250));
        }
    }

    /// Waits until the agent is Ready.
    ///
    /// # Errors
    /// As [`Cluster::wait`].
    pub fn wait_ready(&self, namespace: &str, agent: &str) -> Result<Condition, Failed> {
        self.wait(
            namespace,
            &format!("agents.redoubt.dev/{agent}"),
            &Phase { kind: "Ready", status: "True", reason: "Ready" },
        )
    }
}

/// An Agent that asks the model double, with `more` of the spec in YAML (indented by two).
#[must_use]
pub fn agent_yaml(namespace: &str, name: &str, more: &str) -> String {
    format!(
        "apiVersion: redoubt.dev/v1alpha1
kind: Agent
metadata: {{name: {name}, namespace: {namespace}, labels: {{app: {name}}}}}
spec:
  runtime:
    model: {{baseURL: 'https://model.redoubt-e2e.svc.cluster.local:8443/v1', name: demo}}
{more}"
    )
}
