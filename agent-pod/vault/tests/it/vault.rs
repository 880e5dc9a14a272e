//! A Vault server, in memory, with TLS, key-value engine, and Kubernetes auth against the test's API server.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use redoubt_policy::wire;
use redoubt_vault::{CredentialStore, Resolver, Settings, VaultError};

use crate::cluster::CLUSTER;
use crate::process::{Background, Folder, free_port, program, run, wait_for};

const ROOT: &str = "root-of-a-test";

/// Policy of the agents' role.
const POLICY: &str = r#"path "secret/data/agents/*" { capabilities = ["read"] }
path "old/*" { capabilities = ["read"] }"#;

pub(crate) struct Vault {
    folder: Folder,
    port: u16,
    _program: Background,
}

impl Vault {
    /// A server whose role `agents` gives tokens that live 10 minutes.
    pub(crate) fn start() -> Self {
        let folder = Folder::new("vault");
        let plugins = folder.0.join("plugins");
        let certificates = folder.0.join("certificates");
        for dir in [&plugins, &certificates] {
            std::fs::create_dir_all(dir).unwrap();
        }
        let plugin = "vault-plugin-auth-kubernetes";
        std::fs::copy(program(plugin), plugins.join(plugin)).unwrap();
        let port = free_port();
        let log = folder.0.join("vault.log");
        let args = [
            "server".to_owned(),
            "-dev".to_owned(),
            "-dev-tls".to_owned(),
            format!("-dev-tls-cert-dir={}", certificates.display()),
            format!("-dev-root-token-id={ROOT}"),
            format!("-dev-listen-address=127.0.0.1:{port}"),
            format!("-dev-plugin-dir={}", plugins.display()),
            "-dev-no-store-token".to_owned(),
        ];
        let program = Background::start(&program("vault"), &args, &log);
        let vault = Self { folder, port, _program: program };
        wait_for("Vault", &log, || {
            vault.cli(&["kv", "put", "-mount=secret", "agents/first", "key=first-value"]).is_ok()
        });
        std::fs::write(vault.folder.0.join("policy.hcl"), POLICY).unwrap();
        vault.root(&["policy", "write", "agents", &vault.folder.0.join("policy.hcl").display().to_string()]);
        vault.root(&["secrets", "enable", "-path=old", "-version=1", "kv"]);
        vault.root(&["auth", "enable", "-path=kubernetes", plugin]);
        vault.root(&[
            "write",
            "auth/kubernetes/config",
            &format!("kubernetes_host={}", CLUSTER.url()),
            &format!("kubernetes_ca_cert=@{}", CLUSTER.certificate().display()),
            &format!("token_reviewer_jwt={}", CLUSTER.reviewer()),
        ]);
        vault.role("10m", "10m");
        vault.pod_token(&CLUSTER.token("redoubt-agent-x", "vault"));
        vault
    }

    /// How long the tokens of the role live, and can be renewed to live.
    pub(crate) fn role(&self, ttl: &str, max_ttl: &str) {
        self.root(&[
            "write",
            "auth/kubernetes/role/agents",
            "bound_service_account_names=redoubt-agent-*",
            "bound_service_account_namespaces=team-a",
            "audience=vault",
            "token_policies=agents",
            &format!("token_ttl={ttl}"),
            &format!("token_max_ttl={max_ttl}"),
        ]);
    }

    /// What is in the file of the pod's projected token.
    pub(crate) fn pod_token(&self, token: &str) {
        let folder = self.token_dir().join("main");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("token"), token).unwrap();
    }

    pub(crate) fn token_dir(&self) -> PathBuf {
        self.folder.0.join("tokens")
    }

    pub(crate) fn ca(&self) -> String {
        std::fs::read_to_string(self.folder.0.join("certificates/vault-ca.pem")).unwrap()
    }

    /// The key that opens it after it was sealed, which a server in memory prints when it starts.
    pub(crate) fn unseal_key(&self) -> String {
        let log = std::fs::read_to_string(self.folder.0.join("vault.log")).unwrap();
        log.lines().find_map(|line| line.strip_prefix("Unseal Key: ")).unwrap().trim().to_owned()
    }

    /// Vault's own client, as root. It must succeed.
    pub(crate) fn root(&self, args: &[&str]) -> String {
        self.cli(args).unwrap_or_else(|error| panic!("vault {args:?}: {error}"))
    }

    fn cli(&self, args: &[&str]) -> Result<String, String> {
        let mut command = Command::new(program("vault"));
        command.env("VAULT_ADDR", format!("https://127.0.0.1:{}", self.port)).env("VAULT_TOKEN", ROOT);
        command
            .env("VAULT_CACERT", self.folder.0.join("certificates/vault-ca.pem"))
            .env("HOME", &self.folder.0);
        run(command.args(args))
    }

    /// Tokens that Vault knows, but root's.
    pub(crate) fn tokens(&self) -> Vec<String> {
        let list = self.root(&["list", "-format=json", "auth/token/accessors"]);
        let accessors: Vec<String> = serde_json::from_str(&list).unwrap();
        let is_agents = |accessor: &String| {
            self.cli(&["token", "lookup", "-format=json", "-accessor", accessor])
                .is_ok_and(|it| it.contains("auth/kubernetes/login"))
        };
        accessors.into_iter().filter(is_agents).collect()
    }

    pub(crate) fn connection(&self) -> wire::Vault {
        wire::Vault {
            name: "main".to_owned(),
            address: format!("https://127.0.0.1:{}", self.port),
            ca_bundle: Some(self.ca()),
            auth_mount: "kubernetes".to_owned(),
            role: "agents".to_owned(),
        }
    }

    pub(crate) async fn store(&self, bindings: &[wire::Binding]) -> Result<CredentialStore, VaultError> {
        self.store_at(self.connection(), bindings).await
    }

    pub(crate) async fn store_at(
        &self,
        connection: wire::Vault,
        bindings: &[wire::Binding],
    ) -> Result<CredentialStore, VaultError> {
        let resolver = Arc::new(Resolver::from_system().unwrap());
        CredentialStore::start(&[connection], bindings, &self.token_dir(), resolver, settings()).await
    }
}

/// Quicker than the defaults.
pub(crate) fn settings() -> Settings {
    Settings {
        refresh: Duration::from_millis(200),
        staleness: Duration::from_secs(3),
        start_patience: Duration::ZERO,
        request: Duration::from_secs(5),
        connect: Duration::from_secs(2),
        logins_per_minute: 100,
        ..Settings::default()
    }
}

pub(crate) fn binding(name: &str, path: &str, key: &str) -> wire::Binding {
    wire::Binding {
        name: name.to_owned(),
        vault: "main".to_owned(),
        mount: "secret".to_owned(),
        path: path.to_owned(),
        key: key.to_owned(),
        inject: wire::Inject::Bearer {},
        consumers: Vec::new(),
        destinations: Vec::new(),
    }
}

/// Waits until something holds. No time is asserted, beyond that it comes at all.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..600 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("never: {what}");
}
