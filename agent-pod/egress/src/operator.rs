//! The sidecar's own connection to the operator: the policy stream. Nothing of the pod can use it, and what comes through
//! it counts only if it is signed.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use redoubt_policy::VerifiedPolicy;
use redoubt_policy::host::Host;
use redoubt_policy::target::{Scheme, Target};
use redoubt_policy::wire::PAYLOAD_TYPE;
use redoubt_stream::{Ack, Alive, FromSidecar, Hello, Policy, Status, from_operator, from_sidecar};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, timeout};
use tokio_rustls::TlsConnector;

use crate::control_plane::ControlPlane;
use crate::fresh::Freshness;
use crate::policy::PolicySource;
use crate::trust::provider;

/// How long a connection may take, until the operator answers the call.
const CONNECT: Duration = Duration::from_secs(10);
/// Wait before the first attempt after a connection ended.
const PAUSE: Duration = Duration::from_millis(250);
/// Longest wait between attempts.
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// Longest time between two questions whether the operator is there.
const ASK_MAX: Duration = Duration::from_secs(20);
/// How often the operator's name is looked up.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Most replicas that are followed.
const REPLICAS_MAX: usize = 8;
/// Longest token that is read, in bytes.
const TOKEN_MAX: u64 = 16 * 1024;

/// Where the operator is, and how the two know each other.
pub(crate) struct OperatorSource {
    /// Host and port.
    pub(crate) authority: String,
    /// The name that its certificate must be for.
    pub(crate) name: ServerName<'static>,
    /// Who must have signed the certificate.
    pub(crate) ca: CertificateDer<'static>,
    /// File with the token to show.
    pub(crate) token: PathBuf,
}

impl OperatorSource {
    /// The name or address that it is looked up by.
    pub(crate) fn host(&self) -> Option<Host> {
        Some(Target::parse(Scheme::Https, &self.authority).ok()?.host)
    }
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error("the token cannot be read: {0}")]
    Token(#[source] std::io::Error),
    #[error("no connection: {0}")]
    Connect(#[source] std::io::Error),
    #[error("the connection took too long")]
    Slow,
    #[error("the authority in the arguments cannot be used: {0}")]
    Authority(#[source] rustls::Error),
    #[error("no HTTP/2: {0}")]
    Http(#[source] hyper::Error),
    #[error("{0}")]
    Call(#[from] Box<Status>),
    #[error("the operator does not answer")]
    Silent,
}

/// Follows every replica of the operator for as long as somebody listens: whichever leads hears what the sidecar says, and
/// one that goes leaves the others. The name is looked up again and again, as replicas come and go.
pub(crate) async fn follow(
    operator: OperatorSource,
    source: Arc<PolicySource>,
    feed: Arc<watch::Sender<Arc<VerifiedPolicy>>>,
    fresh: Arc<Freshness>,
    control_plane: Arc<ControlPlane>,
) {
    let operator = Arc::new(operator);
    let mut replicas: HashMap<SocketAddr, Follower> = HashMap::new();
    let mut pause = PAUSE;
    while !feed.is_closed() {
        let found = timeout(CONNECT, tokio::net::lookup_host(&operator.authority)).await;
        match found.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())) {
            Ok(found) => {
                let found: HashSet<SocketAddr> = found.take(REPLICAS_MAX).collect();
                control_plane.replicas_are(found.iter().map(SocketAddr::ip));
                replicas.retain(|address, _| found.contains(address));
                for address in found {
                    replicas.entry(address).or_insert_with(|| {
                        let (operator, source) = (Arc::clone(&operator), Arc::clone(&source));
                        let (feed, fresh) = (Arc::clone(&feed), Arc::clone(&fresh));
                        Follower(tokio::spawn(follow_one(operator, address, source, feed, fresh)))
                    });
                }
            }
            Err(error) => tracing::warn!("{} cannot be looked up: {error}", operator.authority),
        }
        pause = if replicas.is_empty() { (pause * 2).min(PAUSE_MAX).min(asks(&feed)) } else { LOOK_AGAIN };
        tokio::time::sleep(jittered(pause)).await;
    }
}

/// Follows one replica; it ends when it is dropped.
struct Follower(JoinHandle<()>);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn follow_one(
    operator: Arc<OperatorSource>,
    address: SocketAddr,
    source: Arc<PolicySource>,
    feed: Arc<watch::Sender<Arc<VerifiedPolicy>>>,
    fresh: Arc<Freshness>,
) {
    let mut pause = PAUSE;
    let mut last = String::new();
    while !feed.is_closed() {
        let mut heard = false;
        match stream(&operator, address, &source, &feed, &fresh, &mut heard).await {
            Ok(()) => last.clear(),
            Err(error) => {
                let told = error.to_string();
                if told != last {
                    tracing::warn!("no policy stream from {} ({address}): {told}", operator.authority);
                }
                last = told;
            }
        }
        pause = if heard { PAUSE } else { (pause * 2).min(PAUSE_MAX).min(asks(&feed)) };
        tokio::time::sleep(jittered(pause)).await;
    }
}

/// Between a half and the whole of it, so that pods do not come all at once.
fn jittered(pause: Duration) -> Duration {
    let mut random = [0; 1];
    let _unchanged = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut random);
    let [random] = random;
    pause / 2 + pause / 2 * u32::from(random) / 255
}

/// How often to ask whether the operator is there: several times before the policy gets stale.
fn asks(feed: &watch::Sender<Arc<VerifiedPolicy>>) -> Duration {
    let ttl = Duration::from_secs(feed.borrow().policy_ttl_seconds);
    (ttl / 4).clamp(Duration::from_millis(250), ASK_MAX)
}

async fn stream(
    operator: &OperatorSource,
    address: SocketAddr,
    source: &PolicySource,
    feed: &watch::Sender<Arc<VerifiedPolicy>>,
    fresh: &Freshness,
    heard: &mut bool,
) -> Result<(), StreamError> {
    let token = read_token(operator).await?;
    let (say, said) = mpsc::channel::<FromSidecar>(8);
    let outgoing = futures::stream::unfold(said, |mut said| async move { Some((said.recv().await?, said)) });
    let held = Arc::clone(&feed.borrow());
    let hello = Hello {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        payload_types: vec![PAYLOAD_TYPE.to_owned()],
        epoch: held.epoch,
        digest: redoubt_policy::digest(&held),
    };
    // There is room for it.
    let _first = say.try_send(from_sidecar::Kind::Hello(hello).into());
    let connecting = async {
        let sender = connect(operator, address).await?;
        redoubt_stream::call(sender, &operator.authority, &token, outgoing)
            .await
            .map_err(|status| StreamError::Call(Box::new(status)))
    };
    let mut incoming = timeout(CONNECT, connecting).await.map_err(|_| StreamError::Slow)??;
    tracing::info!("the policy stream is open");
    let _open = fresh.open();
    let mut ticks = tokio::time::interval(asks(feed));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut silent_since = tokio::time::Instant::now();
    loop {
        let every = asks(feed);
        if ticks.period() != every {
            ticks = tokio::time::interval(every);
        }
        let reply = tokio::select! {
            message = incoming.message() => {
                let message = message.map_err(|status| StreamError::Call(Box::new(status)))?;
                let Some(message) = message else { return Ok(()) };
                // A kind that is not known is of a newer operator, and it is there too.
                *heard = true;
                silent_since = tokio::time::Instant::now();
                fresh.hear();
                match message.message {
                    Some(from_operator::Kind::Policy(policy)) => {
                        from_sidecar::Kind::Ack(take(source, feed, &policy))
                    }
                    Some(from_operator::Kind::Alive(_)) | None => continue,
                }
            }
            _ = ticks.tick() => {
                if silent_since.elapsed() > every * 4 + CONNECT {
                    return Err(StreamError::Silent);
                }
                from_sidecar::Kind::Alive(Alive {})
            }
        };
        // An operator that does not read is not there either.
        match timeout(CONNECT, say.send(reply.into())).await {
            Ok(Ok(())) => {}
            _ => return Err(StreamError::Silent),
        }
    }
}

/// Brings a policy into force if it may be, and says what is in force then.
fn take(source: &PolicySource, feed: &watch::Sender<Arc<VerifiedPolicy>>, policy: &Policy) -> Ack {
    let refused = source.offer(&policy.envelope, &policy.announcements, feed).err().map(|refusal| {
        tracing::error!(reason = refusal.reason, "a policy of the stream is refused: {}", refusal.message);
        redoubt_stream::Refused { reason: refusal.reason, message: refusal.message }
    });
    let held = feed.borrow();
    Ack { epoch: held.epoch, digest: redoubt_policy::digest(&held), refused }
}

async fn read_token(operator: &OperatorSource) -> Result<String, StreamError> {
    let mut token = String::new();
    let file = tokio::fs::File::open(&operator.token).await.map_err(StreamError::Token)?;
    file.take(TOKEN_MAX).read_to_string(&mut token).await.map_err(StreamError::Token)?;
    Ok(token.trim().to_owned())
}

async fn connect(
    operator: &OperatorSource,
    address: SocketAddr,
) -> Result<hyper::client::conn::http2::SendRequest<redoubt_stream::Body>, StreamError> {
    let stream = TcpStream::connect(address).await.map_err(StreamError::Connect)?;
    stream.set_nodelay(true).map_err(StreamError::Connect)?;
    let mut roots = RootCertStore::empty();
    roots.add(operator.ca.clone()).map_err(StreamError::Authority)?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(StreamError::Authority)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![redoubt_stream::ALPN.to_vec()];
    let stream = TlsConnector::from(Arc::new(config))
        .connect(operator.name.clone(), stream)
        .await
        .map_err(StreamError::Connect)?;
    let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20))
        .handshake(TokioIo::new(stream))
        .await
        .map_err(StreamError::Http)?;
    tokio::spawn(async move {
        let _ended = connection.await;
    });
    Ok(sender)
}
