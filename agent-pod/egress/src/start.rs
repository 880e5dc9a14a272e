//! From arguments to a running sidecar, and to its end.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use redoubt_policy::Refusal;
use redoubt_vault::{Resolver, Settings};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::audit::{Audit, Record};
use crate::ca::Authority;
use crate::config::Config;
use crate::control_plane::ControlPlane;
use crate::credentials::Credentials;
use crate::fresh::{Clock, Freshness, boot_clock};
use crate::metrics::{IsOwn, Metrics, is_own};
use crate::net::{Dial, Resolve, SystemDialer, SystemResolver};
use crate::peer::UnderWay;
use crate::pool::Pool;
use crate::serve::{Drain, Drainer, Slots};
use crate::shared::Shared;
use crate::trust::Trust;
use crate::upstream::Vaults;
use crate::verdict::Verdicts;
use crate::{health, inbound, listen, metrics, operator};

/// How often kept connections are looked at.
const PURGE: Duration = Duration::from_secs(5);
/// How often the age of the policy is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// What the sidecar asks of its surroundings. Addresses are judged between `resolve` and `dial`, whatever these are.
pub struct Seams {
    /// Looks up the names of destinations.
    pub resolve: Arc<dyn Resolve>,
    /// Connects to destinations.
    pub dial: Arc<dyn Dial>,
    /// Takes the audit log.
    pub audit: Box<dyn Write + Send>,
    /// Looks up the names of Vaults.
    pub vault: Arc<Resolver>,
    /// Tells how long no operator was heard.
    pub clock: Clock,
    /// Address of the API server.
    pub api_server: Option<IpAddr>,
    /// Whether a peer of the metrics' port is in this pod.
    pub is_own: IsOwn,
}

impl Seams {
    /// The pod's own network and standard output.
    ///
    /// # Errors
    /// When `/etc/resolv.conf` cannot be used.
    pub fn system() -> Result<Self, Refusal> {
        let resolver =
            Resolver::from_system().map_err(|error| fatal("ResolverUnusable", &error.to_string()))?;
        let resolver = Arc::new(resolver);
        Ok(Self {
            resolve: Arc::new(SystemResolver(Arc::clone(&resolver))),
            dial: Arc::new(SystemDialer),
            audit: Box::new(std::io::stdout()),
            vault: resolver,
            clock: boot_clock(),
            // The kubelet tells it every container.
            api_server: std::env::var("KUBERNETES_SERVICE_HOST").ok().and_then(|host| host.parse().ok()),
            is_own: Arc::new(is_own),
        })
    }
}

/// A sidecar that is started: policy verified, credentials held, ports bound.
pub struct Egress {
    shared: Arc<Shared>,
    health: SocketAddr,
    inbound: SocketAddr,
    metrics: Option<SocketAddr>,
    proxy: Option<SocketAddr>,
    listeners: JoinSet<()>,
    background: JoinSet<()>,
    drainer: Drainer,
}

impl Egress {
    /// Starts: first the probes, then the policy, the credentials, the other ports.
    ///
    /// # Errors
    /// The reason why it cannot run, for the termination log.
    pub async fn start(config: Config, seams: Seams) -> Result<Self, Refusal> {
        let mut background = JoinSet::new();
        let probes = bind_tcp(config.health).await?;
        let health = local_addr(&probes)?;
        let started: health::Started = Arc::new(OnceLock::new());
        background.spawn(health::serve(probes, Arc::clone(&started)));

        let (counted, exposition) = Metrics::new();
        let policy = config.policy.load(config.policy.min_epoch).await?;
        let fresh = Arc::new(Freshness::new(seams.clock));
        let audit = Audit::start(seams.audit, Arc::clone(&counted))
            .map_err(|error| fatal("AuditUnavailable", &error.to_string()))?;
        let settings = Settings { start_patience: config.limits.vault, ..Settings::default() };
        let credentials = Credentials::start(&policy, config.vault_tokens, seams.vault, settings).await?;
        let credentials = Arc::new(credentials);
        let authority =
            Authority::new(&format!("Redoubt egress of {}/{}", policy.agent.namespace, policy.agent.name))
                .map_err(|error| fatal("CertificateNotMade", &error.to_string()))?;
        let control_plane = Arc::new(ControlPlane::new(config.operator.host(), seams.api_server));
        let (publish, feed) = watch::channel(Arc::new(policy));
        let shared = Arc::new(Shared {
            limits: config.limits,
            uids: config.uids,
            agent_socket: config.agent_socket,
            feed: feed.clone(),
            fresh: Arc::clone(&fresh),
            credentials: Arc::clone(&credentials),
            verdicts: Verdicts::default(),
            under_way: UnderWay::new(config.limits.connections),
            resolver: seams.resolve,
            dialer: seams.dial,
            trust: Trust::default(),
            vaults: Vaults::default(),
            control_plane: Arc::clone(&control_plane),
            pool: Pool::default(),
            authority,
            audit,
        });
        counted.know(&shared);
        let (policy, publish) = (Arc::new(config.policy), Arc::new(publish));
        background.spawn(Arc::clone(&policy).follow(Arc::clone(&publish)));
        background.spawn(operator::follow(config.operator, policy, publish, fresh, control_plane));
        background.spawn(Arc::clone(&credentials).follow(feed));
        background.spawn(housekeeping(Arc::clone(&shared)));
        background.spawn(ageing(Arc::clone(&shared)));

        let (drain, drainer) = Drain::new();
        let slots = || Slots::new(config.limits.connections, drain.clone());
        let mut listeners = JoinSet::new();
        let socket = bind_unix(&config.socket)?;
        listeners.spawn(listen::socket(Arc::clone(&shared), socket, slots(), slots()));
        let callers = bind_tcp(config.inbound).await?;
        let inbound = local_addr(&callers)?;
        listeners.spawn(inbound::serve(Arc::clone(&shared), callers, slots()));
        let metrics = match config.metrics {
            None => None,
            Some(address) => {
                let listener = bind_tcp(address).await?;
                let bound = local_addr(&listener)?;
                background.spawn(metrics::serve(listener, exposition, seams.is_own));
                Some(bound)
            }
        };
        let proxy = match config.proxy {
            None => None,
            Some(address) => {
                let listener = bind_tcp(address).await?;
                let bound = local_addr(&listener)?;
                listeners.spawn(listen::proxy(Arc::clone(&shared), listener, slots()));
                Some(bound)
            }
        };
        drop(drain);
        let _first = started.set(Arc::clone(&shared));
        tracing::info!(epoch = shared.policy().epoch, %inbound, %health, "ready to judge requests");
        Ok(Self { shared, health, inbound, metrics, proxy, listeners, background, drainer })
    }

    /// Where probes are answered.
    #[must_use]
    pub fn health(&self) -> SocketAddr {
        self.health
    }

    /// Where callers are answered.
    #[must_use]
    pub fn inbound(&self) -> SocketAddr {
        self.inbound
    }

    /// Where metrics are scraped.
    #[must_use]
    pub fn metrics(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// Where the HTTP proxy for other clients is.
    #[must_use]
    pub fn proxy(&self) -> Option<SocketAddr> {
        self.proxy
    }

    /// Runs until `end`, then lets requests finish for a while, gives the logins back and writes the rest of the log.
    pub async fn run(mut self, end: impl Future<Output = ()>) {
        end.await;
        tracing::info!("draining");
        self.drainer.begin();
        while self.listeners.join_next().await.is_some() {}
        let patience = self.shared.limits.drain;
        if !self.drainer.drain(patience).await {
            tracing::warn!("some requests did not finish in time");
        }
        self.background.shutdown().await;
        self.shared.credentials.shutdown().await;
        let audit = self.shared.audit.clone();
        drop(self.shared);
        if tokio::time::timeout(Duration::from_secs(5), tokio::task::spawn_blocking(|| audit.close()))
            .await
            .is_err()
        {
            tracing::warn!("the rest of the audit log could not be written in time");
        }
    }
}

/// Closes connections that are too old or of an older policy, and records newer policies.
async fn housekeeping(shared: Arc<Shared>) {
    let mut feed = shared.feed.clone();
    loop {
        let newer = tokio::select! {
            changed = feed.changed() => match changed {
                Ok(()) => true,
                Err(_) => return,
            },
            () = tokio::time::sleep(PURGE) => false,
        };
        let epoch = feed.borrow_and_update().epoch;
        shared.pool.purge(epoch);
        if newer {
            let _unwritten = shared.audit.write(Record { epoch: Some(epoch), ..Record::new("policy") }).await;
        }
    }
}

/// Ends what is under way when no operator was heard for too long.
async fn ageing(shared: Arc<Shared>) {
    loop {
        shared.fresh.look(&shared.policy());
        tokio::time::sleep(LOOK).await;
    }
}

async fn bind_tcp(address: SocketAddr) -> Result<TcpListener, Refusal> {
    TcpListener::bind(address).await.map_err(|error| fatal("PortUnavailable", &format!("{address}: {error}")))
}

fn bind_unix(path: &Path) -> Result<UnixListener, Refusal> {
    listen::bind(path).map_err(|error| fatal("SocketUnavailable", &format!("{}: {error}", path.display())))
}

fn local_addr(listener: &TcpListener) -> Result<SocketAddr, Refusal> {
    listener.local_addr().map_err(|error| fatal("PortUnavailable", &error.to_string()))
}

fn fatal(reason: &str, message: &str) -> Refusal {
    Refusal::new(reason, "Pod", "", message, "Look at the log of the egress container.")
}
