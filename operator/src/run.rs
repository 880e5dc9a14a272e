//! Puts the parts together: keys first, then the watches, then the Lease, then the visits while it is held; ends when it
//! is told to.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _, future};
use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use kube::Client;
use kube::runtime::controller::{Config, applier};
use kube::runtime::reflector::store::WriterDropped;
use kube::runtime::reflector::{ObjectRef, Store};
use redoubt_crds::names;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tracing::{debug, info, warn};

use crate::accept;
use crate::agent::{self, Context};
use crate::client::Connection;
use crate::events::Events;
use crate::glass;
use crate::health::{self, Health};
use crate::inbound::{self, InboundError, InboundKeys};
use crate::index::Change;
use crate::lead::Fence;
use crate::lead::keep::Keeper;
use crate::metrics::{self, Metrics};
use crate::signing::{self, Keys, SigningError};
use crate::stores::{self, World};
use crate::stream::{self, authority::AuthorityError};

/// Most Agents that are visited at a time.
pub const CONCURRENCY: u16 = 16;
/// Changes of one Agent within this time make one visit.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// How often the cluster's keys are asked for.
const KEYS_EVERY: Duration = Duration::from_secs(180);
/// Wait before keys are asked for again.
const KEYS_RETRY: Duration = Duration::from_secs(5);
/// Longest time that visits under way may take to end when the lead is handed over.
const LAST_VISITS: Duration = Duration::from_secs(1);

/// How to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The operator's own namespace, where its signing key and its Lease are.
    pub namespace: String,
    /// What this replica is called: the name of its pod.
    pub identity: String,
    /// Where to serve health.
    pub health: SocketAddr,
    /// Where to serve the policy stream.
    pub stream: SocketAddr,
    /// Where to serve metrics.
    pub metrics: SocketAddr,
    /// Who may scrape the metrics of agents' sidecars. If nobody may, they serve none.
    pub agent_scrapers: Vec<NetworkPolicyPeer>,
}

/// Why the operator cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no way to the API server.
    #[error("no way to the API server: {0}")]
    Client(#[from] kube::Error),
    /// The health endpoint cannot be served.
    #[error("health endpoint at {0}: {1}")]
    Health(SocketAddr, #[source] std::io::Error),
    /// The metrics cannot be served.
    #[error("metrics at {0}: {1}")]
    Metrics(SocketAddr, #[source] std::io::Error),
    /// The policy stream cannot be served.
    #[error("policy stream at {0}: {1}")]
    Stream(SocketAddr, #[source] std::io::Error),
    /// There is no certificate for the policy stream.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// There is no signing key.
    #[error(transparent)]
    Signing(#[from] SigningError),
    /// The API server did not tell how callers are verified.
    #[error(transparent)]
    Inbound(#[from] InboundError),
    /// There is no randomness to be had.
    #[error("no random number from the kernel")]
    Random,
    /// A watch ended.
    #[error("a watch ended")]
    Watch(#[from] WriterDropped),
}

/// Runs until `shutdown`, and then finishes the visits it has begun and gives the Lease back.
///
/// # Errors
/// When it cannot start.
pub async fn run(
    connection: Connection,
    options: Options,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), RunError> {
    let health = Health::default();
    health::serve(options.health, health.clone())
        .await
        .map_err(|error| RunError::Health(options.health, error))?;
    let (metrics, exposition) = Metrics::new();
    metrics::serve(options.metrics, exposition)
        .await
        .map_err(|error| RunError::Metrics(options.metrics, error))?;
    let shutdown = shutdown.shared();
    let fence = Fence::default();
    let client = fence.client(&connection.config, connection.unfenced.clone(), metrics.clone())?;
    tokio::select! {
        () = shutdown.clone() => Ok(()),
        prepared = prepare(&client, connection.unfenced.clone(), &fence, &options, metrics.clone()) => {
            let context = Arc::new(prepared?);
            metrics.know(&context.world, &fence);
            health.set_ready();
            // Only from now on: one that leads before it knows everything would keep the others waiting.
            let me = format!("{}_{}", options.identity, random()?);
            let keeper = Keeper::new(connection.unfenced, &options.namespace, me, fence, metrics);
            let leading = keeper.leading();
            let (stop, stopped) = oneshot::channel::<()>();
            let kept = tokio::spawn(keeper.run(stopped));
            let world = context.world.clone();
            tokio::spawn(context.keys.clone().keep(leading.clone(), move || world.touch(Change::Everything)));
            lead(&client, &context, leading, shutdown).await;
            drop(stop);
            // It has told what went wrong.
            let _ = kept.await;
            info!("stopped");
            Ok(())
        }
    }
}

/// Visits while this replica leads, until `shutdown`.
async fn lead(
    client: &Client,
    context: &Arc<Context>,
    mut leading: watch::Receiver<bool>,
    shutdown: future::Shared<impl Future<Output = ()> + Send + 'static>,
) {
    loop {
        tokio::select! {
            () = shutdown.clone() => return,
            told = leading.wait_for(|leading| *leading) => if told.is_err() { return },
        }
        info!("at work");
        let mut lost = leading.clone();
        let lost = async move {
            let _ = lost.wait_for(|leading| !*leading).await;
        };
        let end = shutdown.clone();
        let ended = async move {
            tokio::select! {
                () = end => {}
                () = lost => {}
            }
        };
        let ended = ended.boxed().shared();
        let late = ended.clone().then(|()| tokio::time::sleep(LAST_VISITS));
        let visits = async {
            context.keys.settle().await;
            visits(client.clone(), context.clone(), ended).await;
        };
        tokio::select! {
            () = visits => {}
            () = late => warn!("visits under way are given up"),
        }
        // Another has led meanwhile when this replica leads again.
        context.forget_attempts();
        context.world.withdraw();
        context.world.metrics.forget_queued();
    }
}

fn random() -> Result<String, RunError> {
    let mut bytes = [0; 4];
    SystemRandom::new().fill(&mut bytes).map_err(|_| RunError::Random)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

async fn prepare(
    client: &Client,
    unfenced: Client,
    fence: &Fence,
    options: &Options,
    metrics: Arc<Metrics>,
) -> Result<Context, RunError> {
    let (signer, authority) = signing::load(unfenced.clone(), &options.namespace).await?;
    let certificates = authority.server(&format!("{}.{}.svc", names::POLICY_SERVICE, options.namespace))?;
    let keys = Arc::new(inbound::fetch(client).await?);
    info!(policy_key = %signer.public(), issuer = keys.issuer, "keys loaded");
    let (sender, inbound) = watch::channel(keys);
    let world = stores::watch(client, metrics);
    world.ready().await?;
    tokio::spawn(refresh(client.clone(), world.clone(), sender));
    let failed = |error| RunError::Stream(options.stream, error);
    let listener = TcpListener::bind(options.stream).await.map_err(failed)?;
    // Whoever does not lead serves too: it asks about tokens, and writes nothing.
    stream::serve::serve(listener, certificates, unfenced, world.hub.clone(), world.clone());
    Ok(Context {
        client: client.clone(),
        world,
        keys: Arc::new(Keys::new(client, &options.namespace, signer)),
        inbound,
        fence: fence.clone(),
        events: Events::new(client.clone()),
        scrapers: options.agent_scrapers.clone(),
        attempts: Default::default(),
        records: Default::default(),
    })
}

/// Asks for the cluster's keys again and again, so that a rotation reaches the policies.
async fn refresh(client: Client, world: Arc<World>, keys: watch::Sender<Arc<InboundKeys>>) {
    let mut wait = KEYS_EVERY;
    loop {
        tokio::time::sleep(wait).await;
        let fetched = inbound::fetch(&client).await;
        world.metrics.keys_fetched(fetched.is_ok());
        wait = match fetched {
            Ok(fetched) if fetched != **keys.borrow() => {
                info!("the cluster's keys have changed");
                keys.send_replace(Arc::new(fetched));
                world.touch(Change::Everything);
                KEYS_EVERY
            }
            Ok(_) => KEYS_EVERY,
            Err(error) => {
                warn!(%error, "the cluster's keys cannot be asked for; the known ones stay");
                KEYS_RETRY
            }
        };
    }
}

async fn visits(
    client: Client,
    context: Arc<Context>,
    shutdown: future::Shared<impl Future<Output = ()> + Send + 'static>,
) {
    let world = context.world.clone();
    // What was waiting when another took over is not known any more.
    world.touch(Change::Everything);
    let events = Arc::new(Events::new(client.clone()));
    let policies = agent::issue(context.clone(), shutdown.clone());
    let metrics = &world.metrics;
    let queued = world.queues.agents.stream().inspect(|reference| metrics.queued(reference));
    let queue = queued.map(Ok::<_, Infallible>).take_until(shutdown.clone());
    let agents = applier(
        |watched, context| {
            Box::pin(async move {
                let (metrics, reference) = (context.world.metrics.clone(), ObjectRef::from_obj(&*watched));
                metrics.visit(reference, agent::visit(watched, context), agent::visited).await
            })
        },
        agent::after_error,
        context,
        Store::clone(&world.agents),
        Box::pin(queue),
        Config::default().concurrency(CONCURRENCY).debounce(DEBOUNCE),
    )
    .for_each(|outcome| {
        world.queues.agents.visited(&outcome);
        if let Err(error) = outcome {
            metrics.not_visited(&error);
            debug!(%error, "visit");
        }
        future::ready(())
    });
    let w = &world;
    let other = (
        accept::run(
            client.clone(),
            w.clone(),
            events.clone(),
            w.tools.clone(),
            w.queues.tools.clone(),
            shutdown.clone(),
        ),
        accept::run(
            client.clone(),
            w.clone(),
            events.clone(),
            Store::clone(&w.egress_policies),
            w.queues.egress_policies.clone(),
            shutdown.clone(),
        ),
        accept::run(
            client.clone(),
            w.clone(),
            events.clone(),
            w.bindings.clone(),
            w.queues.bindings.clone(),
            shutdown.clone(),
        ),
        accept::run(
            client.clone(),
            w.clone(),
            events.clone(),
            w.vaults.clone(),
            w.queues.vaults.clone(),
            shutdown.clone(),
        ),
        accept::run(
            client.clone(),
            w.clone(),
            events.clone(),
            w.classes.clone(),
            w.queues.classes.clone(),
            shutdown.clone(),
        ),
    );
    let platform = (
        accept::run(
            client.clone(),
            w.clone(),
            events.clone(),
            w.cluster_tools.clone(),
            w.queues.cluster_tools.clone(),
            shutdown.clone(),
        ),
        accept::run(
            client.clone(),
            w.clone(),
            events.clone(),
            w.cluster_policies.clone(),
            w.queues.cluster_policies.clone(),
            shutdown.clone(),
        ),
        accept::run(
            client.clone(),
            w.clone(),
            events.clone(),
            w.host_sets.clone(),
            w.queues.host_sets.clone(),
            shutdown.clone(),
        ),
    );
    future::join5(
        agents,
        policies,
        future::join5(other.0, other.1, other.2, other.3, other.4),
        future::join3(platform.0, platform.1, platform.2),
        glass::run(client, w.clone(), events, shutdown),
    )
    .await;
}
