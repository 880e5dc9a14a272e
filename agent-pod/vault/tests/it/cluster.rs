//! An API server, for service accounts and token reviews. No nodes: nothing runs on it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use crate::process::{Background, Folder, free_port, program, run, wait_for};

const ADMIN: &str = "admin-of-a-test";

/// The one API server of this test program.
pub(crate) static CLUSTER: LazyLock<Cluster> = LazyLock::new(Cluster::start);

pub(crate) struct Cluster {
    folder: Folder,
    port: u16,
    _programs: [Background; 2],
}

impl Cluster {
    fn start() -> Self {
        let folder = Folder::new("cluster");
        let at = |name: &str| folder.0.join(name);
        let show = |name: &str| at(name).display().to_string();
        let (client, peer, port) = (free_port(), free_port(), free_port());
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let etcd = [
            format!("--data-dir={}", show("etcd")),
            format!("--listen-client-urls={}", url(client)),
            format!("--advertise-client-urls={}", url(client)),
            format!("--listen-peer-urls={}", url(peer)),
            format!("--initial-advertise-peer-urls={}", url(peer)),
            format!("--initial-cluster=default={}", url(peer)),
            "--unsafe-no-fsync".to_owned(),
        ];
        let etcd = Background::start(&program("etcd"), &etcd, &at("etcd.log"));
        let key = rcgen::KeyPair::generate().unwrap();
        std::fs::write(at("sa.key"), key.serialize_pem()).unwrap();
        std::fs::write(at("sa.pub"), key.public_key_pem()).unwrap();
        std::fs::write(at("tokens.csv"), format!("{ADMIN},admin,admin,\"system:masters\"\n")).unwrap();
        let server = [
            format!("--etcd-servers={}", url(client)),
            format!("--secure-port={port}"),
            "--bind-address=127.0.0.1".to_owned(),
            "--advertise-address=192.0.2.1".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
            format!("--cert-dir={}", show("certificates")),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-signing-key-file={}", show("sa.key")),
            format!("--service-account-key-file={}", show("sa.pub")),
            "--service-cluster-ip-range=10.255.0.0/24".to_owned(),
            "--authorization-mode=RBAC".to_owned(),
            format!("--token-auth-file={}", show("tokens.csv")),
        ];
        let server = Background::start(&program("kube-apiserver"), &server, &at("kube-apiserver.log"));
        let log = at("kube-apiserver.log");
        let cluster = Self { folder, port, _programs: [etcd, server] };
        wait_for("the API server", &log, || cluster.kubectl(&["get", "--raw", "/readyz"]).is_ok());
        wait_for("namespaces", &log, || cluster.kubectl(&["create", "namespace", "team-a"]).is_ok());
        for name in ["redoubt-agent-x", "somebody-else"] {
            cluster.kubectl(&["-n", "team-a", "create", "serviceaccount", name]).unwrap();
        }
        cluster
    }

    /// `localhost` is in the certificate that the server made for itself; its address is not.
    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.0.join("certificates/apiserver.crt")
    }

    /// What Vault may show to ask for token reviews.
    pub(crate) fn reviewer(&self) -> &'static str {
        ADMIN
    }

    /// A token of a service account in `team-a`, as the kubelet would project it.
    pub(crate) fn token(&self, account: &str, audience: &str) -> String {
        self.kubectl(&[
            "-n",
            "team-a",
            "create",
            "token",
            account,
            "--audience",
            audience,
            "--duration",
            "10m",
        ])
        .unwrap()
    }

    fn kubectl(&self, args: &[&str]) -> Result<String, String> {
        let ca = format!("--certificate-authority={}", self.certificate().display());
        let server = format!("--server={}", self.url());
        let token = format!("--token={ADMIN}");
        run(Command::new(program("kubectl"))
            .env("KUBECONFIG", "/dev/null")
            .args([&ca, &server, &token])
            .args(args))
    }
}
