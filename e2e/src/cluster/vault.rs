//! What a test does to Vault, as its administrator.

use super::{Cluster, Failed};

impl Cluster {
    /// Runs the `vault` command with the root token of the local server.
    ///
    /// # Errors
    /// When it does not succeed.
    pub fn vault(&self, arguments: &[&str], input: &str) -> Result<String, Failed> {
        let file = self.state.join("vault").join("root-token");
        let token = std::fs::read_to_string(&file).map_err(|error| Failed {
            command: format!("read {}", file.display()),
            status: error.to_string(),
            stdout: String::new(),
            stderr: String::new(),
        })?;
        let mut command = std::process::Command::new("vault");
        command.args(arguments).envs(self.variables.iter().cloned()).env("VAULT_TOKEN", token.trim());
        super::command::run(command, input).map(|output| output.stdout)
    }

    /// Puts `value` as key `token` at `path` of the engine `secret`, without showing it on a command line.
    ///
    /// # Errors
    /// When Vault refuses.
    pub fn put_token(&self, path: &str, value: &str) -> Result<(), Failed> {
        self.vault(&["kv", "put", "-mount=secret", path, "token=-"], value).map(|_| ())
    }
}
