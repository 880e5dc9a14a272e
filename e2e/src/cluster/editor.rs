//! Real users of a namespace: a client certificate signed by the cluster, and roles.

use std::path::PathBuf;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::command::run;
use super::{Cluster, Failed, Output};

/// A user with rights in one namespace.
pub struct Editor {
    kubeconfig: PathBuf,
    namespace: String,
}

impl Cluster {
    /// A user who holds the built-in `edit` role in one namespace, and may write all of Redoubt's team kinds there.
    ///
    /// # Errors
    /// When the cluster does not sign the request, or a file cannot be written.
    pub fn editor(&self, namespace: &str) -> Result<Editor, Box<dyn std::error::Error>> {
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": "redoubt-team", "namespace": namespace},
            "rules": [{"apiGroups": ["redoubt.dev"], "resources": ["*"], "verbs": ["*"]}]});
        self.apply(&role.to_string())?;
        self.person(namespace, "editor", &[("ClusterRole", "edit"), ("Role", "redoubt-team")])
    }

    /// A user of this name in the namespace, with these roles there: kind and name of each. The user is made through the
    /// cluster's own certificate signing.
    ///
    /// # Errors
    /// As [`Cluster::editor`].
    pub fn person(
        &self,
        namespace: &str,
        name: &str,
        roles: &[(&str, &str)],
    ) -> Result<Editor, Box<dyn std::error::Error>> {
        let user = format!("{name}-of-{namespace}");
        let key = rcgen::KeyPair::generate()?;
        let mut parameters = rcgen::CertificateParams::default();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, user.as_str());
        let request = STANDARD.encode(parameters.serialize_request(&key)?.pem()?);
        self.kubectl(&["delete", "csr", &user, "--ignore-not-found"])?;
        self.apply(
            &json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
                "metadata": {"name": user},
                "spec": {"request": request, "signerName": "kubernetes.io/kube-apiserver-client",
                    "expirationSeconds": 7200, "usages": ["client auth"]}})
            .to_string(),
        )?;
        self.kubectl(&["certificate", "approve", &user])?;
        self.kubectl(&["wait", "csr", &user, "--for=jsonpath={.status.certificate}", "--timeout=30s"])?;
        let certificate =
            self.kubectl(&["get", "csr", &user, "-o", "jsonpath={.status.certificate}"])?.stdout;
        for (kind, role) in roles {
            self.give(namespace, &user, kind, role)?;
        }

        let view = self.kubectl(&["config", "view", "--minify", "--raw", "-o", "json"])?.stdout;
        let mut config: Value = serde_json::from_str(&view)?;
        let credentials = json!({"client-certificate-data": certificate,
            "client-key-data": STANDARD.encode(key.serialize_pem())});
        *config.pointer_mut("/users/0/user").ok_or("the kubeconfig has no user")? = credentials;
        let kubeconfig = self.state.join(format!("{user}.kubeconfig"));
        std::fs::write(&kubeconfig, config.to_string())?;
        Ok(Editor { kubeconfig, namespace: namespace.to_owned() })
    }

    /// Binds a role to the user in the namespace.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub fn give(&self, namespace: &str, user: &str, kind: &str, role: &str) -> Result<Output, Failed> {
        let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": format!("{user}-{role}"), "namespace": namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}]});
        self.apply(&binding.to_string())
    }
}

impl Editor {
    /// Runs kubectl as this user in the user's namespace.
    ///
    /// # Errors
    /// When it does not succeed.
    pub fn kubectl(&self, arguments: &[&str], input: &str) -> Result<Output, Failed> {
        let mut command = Command::new("kubectl");
        command.args(["-n", &self.namespace]).args(arguments).env("KUBECONFIG", &self.kubeconfig);
        run(command, input)
    }
}
