//! Commands as a person types them, with their output kept.

use std::io::Write as _;
use std::process::{Command, Stdio};

use super::Cluster;

/// What a command printed.
#[derive(Debug, Clone)]
pub struct Output {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A command that did not succeed.
#[derive(Debug, thiserror::Error)]
#[error("`{command}` failed ({status}):\n{stdout}{stderr}")]
pub struct Failed {
    /// The command line, without what was written to its standard input.
    pub command: String,
    /// Exit status, or why it could not be started.
    pub status: String,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Cluster {
    /// Runs a program with `input` on its standard input.
    ///
    /// # Errors
    /// When it cannot be started or does not succeed.
    pub fn run(&self, program: &str, arguments: &[&str], input: &str) -> Result<Output, Failed> {
        let mut command = Command::new(program);
        command.args(arguments).envs(self.variables.iter().cloned());
        run(command, input)
    }

    /// Runs kubectl as the cluster's administrator.
    ///
    /// # Errors
    /// When it does not succeed.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<Output, Failed> {
        self.run("kubectl", arguments, "")
    }

    /// Applies a manifest as the cluster's administrator, as a pipeline does: server-side.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub fn apply(&self, manifest: &str) -> Result<Output, Failed> {
        self.run("kubectl", &["apply", "--server-side", "--force-conflicts", "-f", "-"], manifest)
    }

    /// An object as JSON.
    ///
    /// # Errors
    /// When there is none.
    pub fn get(&self, namespace: &str, what: &str) -> Result<serde_json::Value, Failed> {
        let output = self.kubectl(&["get", "-n", namespace, what, "-o", "json"])?;
        serde_json::from_str(&output.stdout).map_err(|error| Failed {
            command: format!("kubectl get {what}"),
            status: error.to_string(),
            stdout: output.stdout,
            stderr: output.stderr,
        })
    }

    /// Asks the agent through `kubectl redoubt chat`.
    ///
    /// # Errors
    /// When the agent cannot be asked or answers with an error.
    pub fn chat(&self, namespace: &str, agent: &str, message: &str) -> Result<String, Failed> {
        self.redoubt(&["chat", agent, "-n", namespace, "--message", message]).map(|output| output.stdout)
    }

    /// Runs `kubectl redoubt`.
    ///
    /// # Errors
    /// When it does not end with 0.
    pub fn redoubt(&self, arguments: &[&str]) -> Result<Output, Failed> {
        self.run(&self.programs.join("kubectl-redoubt").to_string_lossy(), arguments, "")
    }
}

pub(super) fn run(mut command: Command, input: &str) -> Result<Output, Failed> {
    let told = format!("{command:?}");
    let failed = |status: String, stdout: String, stderr: String| Failed {
        command: told.clone(),
        status,
        stdout,
        stderr,
    };
    let start = |error: std::io::Error| failed(error.to_string(), String::new(), String::new());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(start)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that does not read its input ends early; its status tells.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(start)?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        Ok(Output { stdout, stderr })
    } else {
        Err(failed(output.status.to_string(), stdout, stderr))
    }
}
