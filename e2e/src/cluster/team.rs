//! A team with the quickstart's objects in a namespace of its own, so that tests do not meet.

use super::{Cluster, Failed};

/// A namespace with the quickstart's Tool, SecretBinding, EgressPolicy and Agent `helper`. It goes when this is dropped.
pub struct Team<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// Name of the namespace, and of the VaultConnection that grants it `secret/agents/NAMESPACE`.
    pub namespace: String,
    /// The value of the credential at `secret/agents/NAMESPACE/notes`, which the API double accepts.
    pub credential: String,
    keep: bool,
}

impl<'a> Team<'a> {
    /// The namespace, its callers and its VaultConnection, and the credential in Vault; no agent yet.
    ///
    /// # Errors
    /// When something is refused.
    pub fn without_agent(cluster: &'a Cluster, namespace: &str) -> Result<Self, Failed> {
        let file = cluster.state.join("demo-token");
        let credential = std::fs::read_to_string(&file).map_err(|error| Failed {
            command: format!("read {}", file.display()),
            status: error.to_string(),
            stdout: String::new(),
            stderr: String::new(),
        })?;
        let team = Self {
            cluster,
            namespace: namespace.to_owned(),
            credential: credential.trim().to_owned(),
            keep: false,
        };
        cluster.put_token(&format!("agents/{namespace}/notes"), &team.credential)?;
        cluster.apply(&team.manifest("1-namespace.yaml")?)?;
        cluster.apply(&team.manifest("2-platform.yaml")?)?;
        Ok(team)
    }

    /// The quickstart's own, in `demo`, with the hostile agent; it stays.
    ///
    /// # Errors
    /// When something is refused.
    pub fn of_the_quickstart(cluster: &'a Cluster) -> Result<Self, Failed> {
        let mut team = Self::with_agent(cluster, "demo")?;
        team.keep = true;
        cluster.apply(&team.manifest("4-hostile.yaml")?)?;
        Ok(team)
    }

    /// Everything of the quickstart but the hostile agent.
    ///
    /// # Errors
    /// When something is refused.
    pub fn with_agent(cluster: &'a Cluster, namespace: &str) -> Result<Self, Failed> {
        let team = Self::without_agent(cluster, namespace)?;
        cluster.apply(&team.manifest("3-agent.yaml")?)?;
        Ok(team)
    }

    /// A manifest of the quickstart, for this namespace.
    ///
    /// # Errors
    /// When it cannot be rendered.
    pub fn manifest(&self, name: &str) -> Result<String, Failed> {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        let path = format!("{root}/docs/quickstart/{name}");
        let text = self.cluster.run(&format!("{root}/e2e/render"), &[&path], "")?.stdout;
        let own = &self.namespace;
        if own == "demo" {
            return Ok(text);
        }
        Ok(text
            .replace("namespace: demo", &format!("namespace: {own}"))
            .replace("  name: demo\n", &format!("  name: {own}\n"))
            .replace("redoubt.dev/vault: demo", &format!("redoubt.dev/vault: {own}"))
            .replace("agents/demo", &format!("agents/{own}"))
            .replace("name: main", &format!("name: {own}"))
            .replace("connectionName: main", &format!("connectionName: {own}")))
    }

    /// Asks the agent `helper` to call a tool, and gives its answer.
    ///
    /// # Errors
    /// When the agent cannot be asked.
    pub fn call(&self, tool: &str, arguments: &serde_json::Value) -> Result<String, Failed> {
        let directive = serde_json::json!({"tool": tool, "arguments": arguments});
        self.cluster.chat(&self.namespace, "helper", &format!("```call {directive}```"))
    }
}

impl Drop for Team<'_> {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        // What is left over shows in `kubectl get ns` and is taken down with the cluster.
        let _ = self.cluster.kubectl(&["delete", "namespace", &self.namespace, "--wait=false"]);
        let _ = self.cluster.kubectl(&["delete", "vaultconnections.platform.redoubt.dev", &self.namespace]);
    }
}
