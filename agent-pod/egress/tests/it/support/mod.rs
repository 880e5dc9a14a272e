//! One sidecar with everything around it.

mod client;
mod double;
mod issuer;

use std::collections::HashMap;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Parser as _;
use futures::future::BoxFuture;
use redoubt_egress::config::{Args, Config};
use redoubt_egress::net::{Dial, Resolve};
use redoubt_egress::{Clock, Egress, Seams};
use redoubt_policy::address::VettedAddress;
use redoubt_policy::{Refusal, SigningKey, sign};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) use client::{Answer, exchange, parse, tls_over};
pub(crate) use double::{Double, Step, ok, vault_double};
pub(crate) use issuer::{Issuer, TestCa};

/// The credential that agents may use and never see.
pub(crate) const SECRET: &str = "s3cr3t-Value-0123456789";
/// The one of the header binding.
pub(crate) const KEY_SECRET: &str = "other-Secret-abcdefghij";

/// Which container the test is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum As {
    Agent,
    Tools,
    Nobody,
}

/// What a test wants to be different.
pub(crate) struct Setup {
    pub(crate) me: As,
    pub(crate) verified: bool,
    pub(crate) timeout: u64,
    pub(crate) response_timeout: Option<u64>,
    pub(crate) policy_key: Option<String>,
    pub(crate) extra: Vec<String>,
    /// Address of the policy stream, and its authority.
    pub(crate) operator: Option<(String, String)>,
    pub(crate) key: Option<Arc<SigningKey>>,
    pub(crate) clock: Option<Clock>,
    pub(crate) api_server: Option<IpAddr>,
    /// Whether the test passes for someone outside of the pod, who scrapes.
    pub(crate) outside: bool,
    pub(crate) policy: Box<dyn Fn(&mut Value) + Send + Sync>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            me: As::Agent,
            verified: true,
            timeout: 20,
            response_timeout: None,
            policy_key: None,
            extra: Vec::new(),
            operator: None,
            key: None,
            clock: None,
            api_server: None,
            outside: false,
            policy: Box::new(|_| {}),
        }
    }
}

/// A sidecar, a Vault and destinations: `api.test` (bound, bearer), `keyed.test` (bound, header), `free.test` (not bound),
/// `plain.test` (no TLS), all at private addresses.
pub(crate) struct World {
    pub(crate) dir: PathBuf,
    pub(crate) ca: TestCa,
    pub(crate) api: Double,
    pub(crate) free: Double,
    pub(crate) plain: Double,
    pub(crate) vault: Double,
    pub(crate) vault_values: Arc<Mutex<HashMap<String, String>>>,
    pub(crate) names: Arc<Names>,
    pub(crate) audit: Log,
    pub(crate) issuer: Issuer,
    pub(crate) inbound: SocketAddr,
    pub(crate) health: SocketAddr,
    pub(crate) proxy: Option<SocketAddr>,
    pub(crate) metrics: Option<SocketAddr>,
    key: Arc<SigningKey>,
    stop: Option<oneshot::Sender<()>>,
    running: Option<JoinHandle<()>>,
}

/// Answers for names and connections.
#[derive(Default)]
pub(crate) struct Names {
    pub(crate) addresses: Mutex<HashMap<String, Vec<IpAddr>>>,
    pub(crate) ports: Mutex<HashMap<(IpAddr, u16), SocketAddr>>,
    pub(crate) dialled: Mutex<Vec<(IpAddr, u16)>>,
    pub(crate) asked: Mutex<Vec<String>>,
}

impl Resolve for Names {
    fn lookup<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, String>> {
        self.asked.lock().unwrap().push(name.to_owned());
        let found =
            self.addresses.lock().unwrap().get(name).cloned().ok_or_else(|| "no such name".to_owned());
        Box::pin(async move { found })
    }
}

struct Dialler(Arc<Names>);

impl Dial for Dialler {
    fn dial(&self, address: VettedAddress, port: u16) -> BoxFuture<'static, std::io::Result<TcpStream>> {
        self.0.dialled.lock().unwrap().push((address.ip(), port));
        let to = self.0.ports.lock().unwrap().get(&(address.ip(), port)).copied();
        Box::pin(async move { TcpStream::connect(to.ok_or(std::io::ErrorKind::ConnectionRefused)?).await })
    }
}

/// The audit log in memory.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// Waits for a record that fits; the log is written by a thread of its own.
    pub(crate) async fn record(&self, fits: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..500 {
            let found =
                self.text().lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).find(&fits);
            if let Some(found) = found {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no such record in {}", self.text());
    }
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn identity() -> Value {
    json!({"namespace": "team", "name": "helper", "uid": "0000-1111"})
}

fn rule(from: &Value, scheme: &str, host: &str, port: u16, path: &str, ca: Option<&str>) -> Value {
    json!({
        "scope": {"from": from, "scheme": scheme, "host": host, "port": port, "methods": ["GET", "HEAD", "POST"], "path": path},
        "privateCIDRs": ["10.0.0.0/8"], "caBundle": ca,
        "need": {"object": "Tool/need", "field": "spec.http"},
        "grant": {"object": "EgressPolicy/grant", "field": "spec.allow[0]"},
    })
}

/// The policy that tests begin with.
pub(crate) fn policy(ca: &str, vault: &str, vault_ca: &str, inbound: &Value, epoch: u64) -> Value {
    let (agent, tool) = (json!("agent"), json!({"tool": "weather"}));
    let rules = json!([
        rule(&agent, "https", "api.test", 443, "/v1/**", Some(ca)),
        rule(&agent, "https", "keyed.test", 443, "/**", Some(ca)),
        rule(&agent, "https", "free.test", 443, "/**", Some(ca)),
        rule(&agent, "https", "*.wild.test", 443, "/**", Some(ca)),
        rule(&agent, "https", "10.0.0.2", 443, "/**", Some(ca)),
        rule(&agent, "http", "plain.test", 80, "/**", None),
        rule(&agent, "https", "vault.test", 8200, "/**", Some(ca)),
        rule(&tool, "https", "api.test", 443, "/v1/**", Some(ca)),
        rule(&tool, "https", "tools-only.test", 443, "/**", Some(ca)),
    ]);
    let claims: Vec<Value> = rules
        .as_array()
        .unwrap()
        .iter()
        .map(|it| json!({"scope": it["scope"], "origin": it["need"]}))
        .collect();
    let grants: Vec<Value> = rules
        .as_array()
        .unwrap()
        .iter()
        .map(|it| json!({"scope": it["scope"], "origin": it["grant"]}))
        .collect();
    let destination = |host: &str, path: &str| {
        json!({
            "host": host, "port": 443, "methods": ["GET", "HEAD", "POST"], "path": path, "caBundle": ca, "field": "spec.destinations[0]",
        })
    };
    let binding = |name: &str, path: &str, inject: Value, destinations: Value| {
        json!({
            "name": name, "vault": "main", "mount": "secret", "path": path, "key": "token", "inject": inject,
            "consumers": ["agent"], "destinations": destinations,
        })
    };
    json!({
        "agent": identity(), "epoch": epoch, "rules": rules, "denies": [],
        "audit": {"ceilings": [], "denies": []},
        "explanation": {"needs": claims, "grants": grants, "ceilings": [], "selectedBy": []},
        "bindings": [
            binding("echo", "echo", json!({"bearer": {}}), json!([destination("api.test", "/v1/**")])),
            binding("keyed", "keyed", json!({"header": {"name": "x-service-key", "prefix": "Key "}}), json!([destination("keyed.test", "/in/**")])),
        ],
        "vaults": [{"name": "main", "address": vault, "caBundle": vault_ca, "authMount": "kubernetes", "role": "agents"}],
        "inbound": inbound,
        "tools": [{"name": "weather", "http": {"baseURL": "https://api.test/v1", "functions": []}}],
    })
}

pub(crate) fn new_key() -> Arc<SigningKey> {
    Arc::new(SigningKey::from_pkcs8(&SigningKey::generate().unwrap()).unwrap())
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl World {
    /// Everything as it is meant to be, and the test is the agent.
    pub(crate) async fn new() -> Self {
        Self::with(Setup::default()).await
    }

    pub(crate) async fn with(setup: Setup) -> Self {
        Self::try_with(setup).await.unwrap()
    }

    pub(crate) async fn try_with(setup: Setup) -> Result<Self, Refusal> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("redoubt-egress-{}-{number}", std::process::id()));
        std::fs::create_dir_all(dir.join("tokens/main")).unwrap();
        std::fs::write(dir.join("tokens/main/token"), "a.pod.token").unwrap();
        let ca = TestCa::new();
        let hosts = ["api.test", "keyed.test", "free.test", "tools-only.test", "a.wild.test", "10.0.0.2"];
        let api = Double::tls(&ca, &hosts).await;
        let free = Double::tls(&ca, &hosts).await;
        let plain = Double::plain().await;
        let vault = Double::tls(&ca, &["127.0.0.1"]).await;
        let values: HashMap<String, String> =
            [("echo", SECRET), ("keyed", KEY_SECRET)].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let vault_values = Arc::new(Mutex::new(values));
        vault.answer(double::vault(Arc::clone(&vault_values)));
        let names = Arc::new(Names::default());
        for (name, address, port, double) in [
            ("api.test", "10.0.0.1", 443, &api),
            ("keyed.test", "10.0.0.1", 443, &api),
            ("tools-only.test", "10.0.0.1", 443, &api),
            ("free.test", "10.0.0.2", 443, &free),
            ("a.wild.test", "10.0.0.2", 443, &free),
            ("plain.test", "10.0.0.3", 80, &plain),
            ("vault.test", "10.0.0.4", 8200, &vault),
        ] {
            names.addresses.lock().unwrap().insert(name.to_owned(), vec![ip(address)]);
            names.ports.lock().unwrap().insert((ip(address), port), double.address);
        }
        let issuer = Issuer::new();
        let key = setup.key.unwrap_or_else(new_key);
        let mut wanted = policy(
            &ca.pem,
            &format!("https://127.0.0.1:{}", vault.address.port()),
            &ca.pem,
            &issuer.inbound(),
            100,
        );
        (setup.policy)(&mut wanted);
        std::fs::write(
            dir.join("policy.json"),
            sign(&serde_json::from_value(wanted).unwrap(), &key).unwrap(),
        )
        .unwrap();

        let own = rustix::process::getuid().as_raw();
        let (agent, tools) = match setup.me {
            As::Agent => (own, own + 1),
            As::Tools => (own + 1, own),
            As::Nobody => (own + 1, own + 2),
        };
        let path = |name: &str| dir.join(name).display().to_string();
        let mut args: Vec<String> = [
            "redoubt-egress",
            "--policy",
            &path("policy.json"),
            "--policy-key",
            &setup.policy_key.unwrap_or_else(|| key.public().to_string()),
            "--agent-namespace",
            "team",
            "--agent-name",
            "helper",
            "--agent-uid",
            "0000-1111",
            "--min-epoch",
            "100",
            "--operator",
            setup.operator.as_ref().map_or("127.0.0.1:1", |it| it.0.as_str()),
            "--operator-ca",
            setup.operator.as_ref().map_or(ca.der.as_str(), |it| it.1.as_str()),
            "--operator-token",
            &path("tokens/main/token"),
            "--socket",
            &path("egress.sock"),
            "--inbound",
            "127.0.0.1:0",
            "--health",
            "127.0.0.1:0",
            "--agent-socket",
            &path("agent.sock"),
            "--vault-tokens",
            &path("tokens"),
            "--tools-uid",
            &tools.to_string(),
            "--agent-process-uid",
            &agent.to_string(),
            "--connect-timeout",
            &setup.timeout.to_string(),
            "--response-timeout",
            &setup.response_timeout.unwrap_or(setup.timeout).to_string(),
            "--idle-timeout",
            &setup.timeout.to_string(),
            "--vault-patience",
            "1",
            "--drain-timeout",
            "5",
        ]
        .map(str::to_owned)
        .into();
        args.extend(setup.extra);
        let config = Config::try_from(Args::try_parse_from(args).unwrap()).unwrap();
        let audit = Log::default();
        let seams = Seams {
            resolve: Arc::clone(&names) as Arc<dyn Resolve>,
            dial: Arc::new(Dialler(Arc::clone(&names))),
            audit: Box::new(audit.clone()),
            vault: Seams::system()?.vault,
            clock: setup.clock.unwrap_or_else(|| Seams::system().unwrap().clock),
            api_server: setup.api_server,
            is_own: if setup.outside { Arc::new(|_| false) } else { Seams::system()?.is_own },
        };
        let egress = Egress::start(config, seams).await?;
        let (inbound, health, proxy) = (egress.inbound(), egress.health(), egress.proxy());
        let metrics = egress.metrics();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(egress.run(async {
            let _asked = stopped.await;
        }));
        let world = Self {
            dir,
            ca,
            api,
            free,
            plain,
            vault,
            vault_values,
            names,
            audit,
            issuer,
            inbound,
            health,
            proxy,
            metrics,
            key,
            stop: Some(stop),
            running: Some(running),
        };
        if setup.verified {
            world.verify().await;
        }
        Ok(world)
    }

    /// The policy that it began with, of another epoch and after a change, signed.
    pub(crate) fn signed(&self, epoch: u64, change: impl Fn(&mut Value)) -> String {
        self.signed_by(&self.key, epoch, change)
    }

    /// The same, signed by another key.
    pub(crate) fn signed_by(&self, key: &SigningKey, epoch: u64, change: impl Fn(&mut Value)) -> String {
        let vault = format!("https://127.0.0.1:{}", self.vault.address.port());
        let mut wanted = policy(&self.ca.pem, &vault, &self.ca.pem, &self.issuer.inbound(), epoch);
        change(&mut wanted);
        sign(&serde_json::from_value(wanted).unwrap(), key).unwrap()
    }

    /// A policy of this epoch takes the place of the one that is mounted.
    pub(crate) fn mount(&self, epoch: u64, change: impl Fn(&mut Value)) {
        let signed = self.signed(epoch, change);
        std::fs::write(self.dir.join("policy.new"), signed).unwrap();
        std::fs::rename(self.dir.join("policy.new"), self.dir.join("policy.json")).unwrap();
    }

    /// The jail's part.
    pub(crate) async fn verify(&self) {
        let nonce: Value =
            self.send("GET /v1/jail/nonce HTTP/1.1\r\nHost: e\r\nConnection: close\r\n\r\n").await.json();
        let verdict = json!({"nonce": nonce["nonce"], "passed": true, "checks": [{"name": "tcp", "passed": true, "detail": ""}]});
        assert_eq!(self.post_local("/v1/jail/verdict", &verdict).await.status, 200);
    }

    pub(crate) async fn post_local(&self, path: &str, body: &Value) -> Answer {
        let body = body.to_string();
        self.send(&format!(
            "POST {path} HTTP/1.1\r\nHost: e\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ))
        .await
    }

    /// Stops the sidecar and waits for its end.
    pub(crate) async fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(running) = self.running.take() {
            running.await.unwrap();
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
        }
        let _gone = std::fs::remove_dir_all(&self.dir);
    }
}
