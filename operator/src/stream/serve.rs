//! The server: TLS, one gRPC call per connection of a sidecar, bounded in number, size and time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::StreamExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::Client;
use kube::runtime::reflector::ObjectRef;
use redoubt_crds::names;
use redoubt_policy::envelope::ENVELOPE_KEY;
use redoubt_policy::envelope::keyring::ANNOUNCEMENTS_KEY;
use redoubt_policy::wire::PAYLOAD_TYPE;
use redoubt_stream::{
    Alive, Follow, FollowService, FromOperator, FromSidecar, Outgoing, Policy, Status, Streaming,
    from_operator, from_sidecar,
};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info, warn};

use super::hub::{Hub, Place, Report, STREAMS_MAX};
use super::identity::{Caller, Reviews};

/// How long a connection may take until its hello.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a sidecar may be silent.
const SILENCE: Duration = Duration::from_secs(120);
/// How long a stream lasts; then the sidecar calls again, and shows a token of that time.
const LASTS: Duration = Duration::from_secs(3600);
/// How often the API server is asked whether it is there.
const CONTACT_EVERY: Duration = Duration::from_secs(10);
/// After so long without an answer of the API server, sidecars are not told any more that all is as it was.
const CONTACT_LOST: Duration = Duration::from_secs(60);
/// A sidecar's epoch this far ahead of the clock is not believed, in milliseconds.
const AHEAD_MAX: u64 = 24 * 3600 * 1000;
/// Longest text of a sidecar that is kept.
const TEXT_MAX: usize = 512;

/// What the server knows of the cluster.
pub trait Known: Send + Sync + 'static {
    /// The pod of this name.
    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>>;
    /// The ConfigMap of this name.
    fn config_map(&self, namespace: &str, name: &str) -> Option<Arc<ConfigMap>>;
    /// An Agent's sidecar has said something new.
    fn reported(&self, namespace: &str, agent: &str);
    /// A sidecar's call came to this: one of [`CALL_RESULTS`](redoubt_metrics::operator::CALL_RESULTS).
    fn called(&self, _result: &'static str) {}
    /// The API server has answered.
    fn answered(&self) {}
}

/// Serves on `listener` until the runtime ends. Tokens are checked with `client`.
pub fn serve(listener: TcpListener, tls: ServerConfig, client: Client, hub: Arc<Hub>, known: Arc<dyn Known>) {
    let contact = Contact::default();
    tokio::spawn(contact.clone().keep(client.clone(), known.clone()));
    let service = FollowService::new(Server { reviews: Arc::new(Reviews::new(client)), hub, known, contact });
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let slots = Arc::new(Semaphore::new(STREAMS_MAX));
    tokio::spawn(async move {
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(%error, "the policy stream cannot accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (acceptor, service) = (acceptor.clone(), service.clone());
            tokio::spawn(async move {
                connection(stream, acceptor, service).await;
                drop(slot);
            });
        }
    });
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, service: FollowService<Server>) {
    // A peer that goes away is no concern of ours.
    let _ = stream.set_nodelay(true);
    let Ok(Ok(stream)) = timeout(HANDSHAKE, acceptor.accept(stream)).await else { return };
    let service = hyper::service::service_fn(move |request| {
        let service = service.clone();
        async move { service.answer(request).await }
    });
    let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(2)
        .max_header_list_size(16 * 1024)
        .initial_stream_window_size(32 * 1024)
        .initial_connection_window_size(64 * 1024)
        .max_send_buf_size(64 * 1024)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20))
        .serve_connection(TokioIo::new(stream), service);
    // A stream ends before this does.
    if let Ok(Err(error)) = timeout(LASTS * 2, served).await {
        debug!(%error, "a connection of the policy stream ended");
    }
}

/// When the API server last answered: one that does not hear it cannot know what has been forbidden since.
#[derive(Clone)]
struct Contact(Arc<Mutex<Instant>>);

impl Default for Contact {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }
}

impl Contact {
    async fn keep(self, client: Client, known: Arc<dyn Known>) {
        loop {
            match timeout(CONTACT_EVERY, client.apiserver_version()).await {
                Ok(Ok(_)) => {
                    *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
                    known.answered();
                }
                Ok(Err(error)) => warn!(%error, "the API server does not answer"),
                Err(_) => warn!("the API server does not answer in time"),
            }
            tokio::time::sleep(CONTACT_EVERY).await;
        }
    }

    fn is_there(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed() < CONTACT_LOST
    }
}

#[derive(Clone)]
struct Server {
    reviews: Arc<Reviews>,
    hub: Arc<Hub>,
    known: Arc<dyn Known>,
    contact: Contact,
}

impl Follow for Server {
    async fn follow(&self, token: String, mut incoming: Streaming<FromSidecar>) -> Result<Outgoing, Status> {
        let caller = self.reviews.review(&token).await.map_err(|status| {
            let refused = status.code() == redoubt_stream::Code::Unauthenticated;
            self.refused(if refused { "token_refused" } else { "unavailable" }, status)
        })?;
        let name = names::child(&caller.agent);
        // A token of a pod that is gone, or that the watch has not told of yet.
        let pod = self.known.pod(&caller.namespace, &name);
        if pod.and_then(|pod| pod.metadata.uid.clone()).as_ref() != Some(&caller.pod_uid) {
            let status = Status::unavailable("the operator does not know this pod of the Agent yet");
            return Err(self.refused("pod_unknown", status));
        }
        let first = timeout(HANDSHAKE, incoming.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no hello came")).flatten();
        let first = first.map_err(|status| self.refused("malformed", status))?;
        let Some(from_sidecar::Kind::Hello(hello)) = first.and_then(|it| it.message) else {
            let status = Status::invalid_argument("the first message is not a hello");
            return Err(self.refused("malformed", status));
        };
        let report = Report { pod_uid: caller.pod_uid.clone(), epoch: hello.epoch, refused: None };
        if !hello.payload_types.iter().any(|kind| kind == PAYLOAD_TYPE) {
            let version = cut(&hello.version);
            let why = format!(
                "the sidecar is of version {version} and cannot read policies of type {PAYLOAD_TYPE}; the Agent keeps \
                 the policy it has until that is too old, so name images of the operator's version in its IsolationClass"
            );
            self.note(
                &caller,
                Report { refused: Some(("VersionUnsupported".to_owned(), why.clone())), ..report },
            );
            return Err(self.refused("version_unsupported", Status::failed_precondition(why)));
        }
        self.note(&caller, report);
        let present = || self.known.config_map(&caller.namespace, &name);
        let Some((place, offers)) = self.hub.open(&caller, present) else {
            let status = Status::resource_exhausted("there are too many streams");
            return Err(self.refused("too_many", status));
        };
        debug!(
            namespace = caller.namespace,
            agent = caller.agent,
            version = hello.version,
            "a sidecar follows"
        );
        self.known.called("opened");
        let (out, outgoing) = mpsc::channel(2);
        tokio::spawn(self.clone().converse(caller, place, offers, incoming, out));
        Ok(futures::stream::unfold(outgoing, |mut outgoing| async move {
            Some((outgoing.recv().await?, outgoing))
        })
        .boxed())
    }
}

impl Server {
    /// `status`, which is counted.
    fn refused(&self, result: &'static str, status: Status) -> Status {
        self.known.called(result);
        status
    }

    /// Sends what changes and takes down what the sidecar says, until one of both ends it.
    async fn converse(
        self,
        caller: Caller,
        _place: Place,
        mut offers: watch::Receiver<Option<Arc<ConfigMap>>>,
        mut incoming: Streaming<FromSidecar>,
        out: mpsc::Sender<Result<FromOperator, Status>>,
    ) {
        offers.mark_changed();
        let end = tokio::time::Instant::now() + LASTS;
        loop {
            let message = tokio::select! {
                changed = offers.changed() => {
                    // Another stream of the same Agent has taken this one's place.
                    if changed.is_err() {
                        return;
                    }
                    let offer = offers.borrow_and_update().clone();
                    match offer.as_deref().and_then(policy) {
                        Some(policy) => from_operator::Kind::Policy(policy),
                        None => continue,
                    }
                }
                said = timeout(SILENCE, incoming.message()) => match said {
                    Ok(Ok(Some(FromSidecar { message: Some(said) }))) => match said {
                        from_sidecar::Kind::Ack(ack) => {
                            let refused = ack.refused.map(|it| (cut(&it.reason), cut(&it.message)));
                            let pod_uid = caller.pod_uid.clone();
                            self.note(&caller, Report { pod_uid, epoch: ack.epoch, refused });
                            continue;
                        }
                        from_sidecar::Kind::Alive(_) if self.contact.is_there() => {
                            from_operator::Kind::Alive(Alive {})
                        }
                        from_sidecar::Kind::Alive(_) | from_sidecar::Kind::Hello(_) => continue,
                    },
                    // Of a newer peer.
                    Ok(Ok(Some(FromSidecar { message: None }))) => continue,
                    Ok(Ok(None) | Err(_)) | Err(_) => return,
                },
                () = tokio::time::sleep_until(end) => return,
            };
            // A sidecar that reads slowly holds up its own stream, and then gets the newest only.
            match timeout(SILENCE, out.send(Ok(message.into()))).await {
                Ok(Ok(())) => {}
                _ => return,
            }
        }
    }

    fn note(&self, caller: &Caller, report: Report) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        if report.epoch > now.saturating_add(AHEAD_MAX) {
            warn!(
                namespace = caller.namespace,
                agent = caller.agent,
                epoch = report.epoch,
                "no such epoch can be"
            );
            return;
        }
        if self.hub.report(caller, report.clone()) {
            info!(
                namespace = caller.namespace,
                agent = caller.agent,
                epoch = report.epoch,
                refused = report.refused.map(|(reason, _)| reason),
                "a sidecar reports"
            );
            self.known.reported(&caller.namespace, &caller.agent);
        }
    }
}

/// What a sidecar is sent of its Agent's ConfigMap.
fn policy(map: &ConfigMap) -> Option<Policy> {
    let data = map.data.as_ref()?;
    let envelope = data.get(ENVELOPE_KEY)?;
    let announcements = data.get(ANNOUNCEMENTS_KEY).cloned().unwrap_or_default();
    Some(Policy { envelope: envelope.clone().into(), announcements })
}

fn cut(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(TEXT_MAX).collect()
}

impl Known for crate::stores::World {
    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.pods.get(&ObjectRef::new(name).within(namespace))
    }

    fn config_map(&self, namespace: &str, name: &str) -> Option<Arc<ConfigMap>> {
        self.config_maps.get(&ObjectRef::new(name).within(namespace))
    }

    fn reported(&self, namespace: &str, agent: &str) {
        self.queues.agents.remind(ObjectRef::new(agent).within(namespace));
    }

    fn called(&self, result: &'static str) {
        self.metrics.called(result);
    }

    fn answered(&self) {
        self.metrics.answered();
    }
}
