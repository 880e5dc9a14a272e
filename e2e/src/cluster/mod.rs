//! A cluster as tests and the demonstration use it: through `kubectl`, `vault` and `kubectl-redoubt`, as a person would.
//!
//! Where things are is read from the environment that `e2e/cluster/up` writes; `e2e/test` and `e2e/quickstart` pass it on.

mod agents;
mod command;
mod editor;
mod node;
mod team;
mod vault;

pub use agents::{Condition, Phase, agent_yaml};
pub use command::{Failed, Output};
pub use editor::Editor;
pub use node::{AgentContainer, Searched};
pub use team::Team;

use std::path::PathBuf;

/// A running cluster and the programs to reach it with.
pub struct Cluster {
    /// Folder of state of the local cluster: logs, certificates of the doubles, the demonstration's credential.
    pub state: PathBuf,
    /// Folder of this build's programs.
    pub programs: PathBuf,
    /// Environment of every command.
    variables: Vec<(String, String)>,
}

/// What is missing to reach a cluster.
#[derive(Debug, thiserror::Error)]
#[error("{0} is not set: bring the cluster up and run this through e2e/test or e2e/quickstart")]
pub struct NoCluster(&'static str);

impl Cluster {
    /// The cluster that the environment names.
    ///
    /// # Errors
    /// When a variable that `e2e/deploy` sets is missing.
    pub fn from_environment() -> Result<Self, NoCluster> {
        let get = |name: &'static str| std::env::var(name).map_err(|_| NoCluster(name));
        let variables = ["KUBECONFIG", "VAULT_ADDR", "VAULT_CACERT"]
            .into_iter()
            .map(|name| Ok((name.to_owned(), get(name)?)))
            .collect::<Result<_, NoCluster>>()?;
        Ok(Self { state: get("REDOUBT_STATE")?.into(), programs: get("REDOUBT_PROGRAMS")?.into(), variables })
    }

    /// The image that `e2e/deploy` made of this name, by digest.
    ///
    /// # Errors
    /// When it made none.
    pub fn image(&self, name: &str) -> std::io::Result<String> {
        let path = self.state.join("images").join(name);
        let text = std::fs::read_to_string(&path)
            .map_err(|error| std::io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        Ok(text.trim().to_owned())
    }
}
