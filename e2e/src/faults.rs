//! A proxy in front of a real API server that lets a share of all requests fail, in the ways an API server or the network
//! before it does. What passes is the server's own; what a client has done is counted.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// Why the proxy does not start, or a connection through it ends.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failure(String);

impl Failure {
    fn of(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

type Answer = UnsyncBoxBody<Bytes, Failure>;

/// One way to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// 429 with `Retry-After`.
    TooMany,
    /// 500.
    Internal,
    /// 409, for what changes something that is there.
    Conflict,
    /// The connection ends before the request reaches the server.
    LostRequest,
    /// The server does what it is asked for, and the connection ends before the answer comes.
    LostAnswer,
    /// The answer comes late.
    Slow,
    /// A watch ends in the midst of it.
    CutWatch,
    /// A watch is told that its history is gone.
    Expired,
}

impl Fault {
    const OF_READS: [Self; 5] =
        [Self::TooMany, Self::Internal, Self::LostRequest, Self::LostAnswer, Self::Slow];
    const OF_WRITES: [Self; 6] =
        [Self::TooMany, Self::Internal, Self::Conflict, Self::LostRequest, Self::LostAnswer, Self::Slow];
    const OF_WATCHES: [Self; 6] =
        [Self::TooMany, Self::Internal, Self::LostRequest, Self::Slow, Self::CutWatch, Self::Expired];

    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::TooMany,
        Self::Internal,
        Self::Conflict,
        Self::LostRequest,
        Self::LostAnswer,
        Self::Slow,
        Self::CutWatch,
        Self::Expired,
    ];
}

/// What came through since the proxy was started.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Requests of any kind.
    pub requests: u64,
    /// Method and path of what changes something, but for Leases and reviews of tokens.
    pub writes: Vec<String>,
    /// Faults by their kind.
    pub faults: BTreeMap<Fault, u64>,
}

/// The proxy. It ends when it is dropped.
pub struct Faulty {
    shared: Arc<Shared>,
    address: SocketAddr,
    _runtime: Runtime,
}

struct Shared {
    client: Client,
    /// Of a hundred requests so many fail.
    share: AtomicU8,
    next: AtomicU64,
    seen: Mutex<Seen>,
}

impl Faulty {
    /// Starts one on loopback, in plain HTTP, in front of the server of `kubeconfig` (JSON or YAML); every request reaches that
    /// server with the credentials of `kubeconfig`. `seed` begins the row of faults. At first none is made.
    ///
    /// # Errors
    /// When the kubeconfig cannot be used, or no port be had.
    pub fn start(kubeconfig: &str, seed: u64) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(Failure::of)?;
        let (shared, listener) = runtime.block_on(async {
            let options = KubeConfigOptions::default();
            let kubeconfig = Kubeconfig::from_yaml(kubeconfig).map_err(Failure::of)?;
            let mut config =
                Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(Failure::of)?;
            // What a client gets is the answer to its own request.
            config.default_retry = false;
            let shared = Shared {
                client: Client::try_from(config).map_err(Failure::of)?,
                share: AtomicU8::new(0),
                next: AtomicU64::new(seed),
                seen: Mutex::default(),
            };
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(Failure::of)?;
            Ok::<_, Failure>((Arc::new(shared), listener))
        })?;
        let address = listener.local_addr().map_err(Failure::of)?;
        runtime.spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { shared, address, _runtime: runtime })
    }

    /// A kubeconfig for clients of the proxy.
    #[must_use]
    pub fn kubeconfig(&self) -> String {
        json!({"apiVersion": "v1", "kind": "Config", "current-context": "faulty",
            "contexts": [{"name": "faulty", "context": {"cluster": "faulty", "user": "faulty"}}],
            "clusters": [{"name": "faulty", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "faulty", "user": {}}]})
        .to_string()
    }

    /// From now on, of a hundred requests so many fail.
    pub fn set(&self, share: u8) {
        self.shared.share.store(share, Ordering::SeqCst);
    }

    /// What came through.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.shared.seen().clone()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let shared = Arc::clone(&shared);
                async move { shared.answer(request).await }
            });
            // A client that goes away, and a connection that is to be lost, end here.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next number of a fixed row (SplitMix64).
    fn random(&self) -> u64 {
        let mut z = self.next.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// What becomes of this request, and counts it.
    fn plan(&self, method: &Method, path: &str, query: &str) -> Option<Fault> {
        let write = method != Method::GET;
        let watch = query.split('&').any(|part| part == "watch=true" || part == "watch=1");
        let own = path.contains("/leases") || path.ends_with("/tokenreviews");
        let share = u64::from(self.share.load(Ordering::SeqCst));
        let fault = (self.random() % 100 < share).then(|| {
            let of: &[Fault] = match (write, watch) {
                (true, _) => &Fault::OF_WRITES,
                (false, true) => &Fault::OF_WATCHES,
                (false, false) => &Fault::OF_READS,
            };
            let index = usize::try_from(self.random() % of.len().max(1) as u64).unwrap_or_default();
            of.get(index).copied().unwrap_or(Fault::Internal)
        });
        // A watch lasts so long that there are few; while anything fails, none lasts.
        let fault = fault.or((watch && share > 0).then_some(Fault::CutWatch));
        // A conflict is with something that is there.
        let fault = match fault {
            Some(Fault::Conflict) if method == Method::POST => Some(Fault::Internal),
            other => other,
        };
        let mut seen = self.seen();
        seen.requests += 1;
        if write && !own {
            seen.writes.push(format!("{method} {path}"));
        }
        if let Some(fault) = fault {
            *seen.faults.entry(fault).or_default() += 1;
        }
        fault
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Answer>, Failure> {
        let (parts, body) = request.into_parts();
        let fault = self.plan(&parts.method, parts.uri.path(), parts.uri.query().unwrap_or_default());
        match fault {
            Some(Fault::TooMany) => return refuse(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"),
            Some(Fault::Internal) => return refuse(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
            Some(Fault::Conflict) => return refuse(StatusCode::CONFLICT, "Conflict"),
            Some(Fault::Expired) => return expired(),
            Some(Fault::LostRequest) => return Err(Failure::of("the request is lost")),
            Some(Fault::Slow) => tokio::time::sleep(Duration::from_millis(200 + self.random() % 1300)).await,
            Some(Fault::LostAnswer | Fault::CutWatch) | None => {}
        }
        let body = body.collect().await.map_err(Failure::of)?.to_bytes();
        let mut sent = Request::from_parts(parts, Body::from(body));
        // They are of this connection alone.
        for name in [http::header::HOST, http::header::CONNECTION, http::header::CONTENT_LENGTH] {
            sent.headers_mut().remove(name);
        }
        let answer = self.client.send(sent).await.map_err(Failure::of)?;
        if fault == Some(Fault::LostAnswer) {
            // It has been done by now.
            let _ = answer.into_body().collect().await;
            return Err(Failure::of("the answer is lost"));
        }
        let (mut parts, body) = answer.into_parts();
        parts.headers.remove(http::header::TRANSFER_ENCODING);
        parts.headers.remove(http::header::CONNECTION);
        let data = body.into_data_stream().map_err(Failure::of);
        let frames = if fault == Some(Fault::CutWatch) {
            let end = tokio::time::sleep(Duration::from_millis(self.random() % 8000));
            let cut = stream::once(async { Err(Failure::of("the watch is cut")) });
            data.take_until(end).chain(cut).map_ok(Frame::data).boxed()
        } else {
            data.map_ok(Frame::data).boxed()
        };
        Ok(Response::from_parts(parts, StreamBody::new(frames).boxed_unsync()))
    }
}

/// As an API server refuses.
fn refuse(code: StatusCode, reason: &str) -> Result<Response<Answer>, Failure> {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason,
        "message": format!("{reason}, made by the proxy of a test"), "code": code.as_u16(),
        "details": {"retryAfterSeconds": 1}});
    let mut answer = Response::builder().status(code).header(http::header::CONTENT_TYPE, "application/json");
    if code == StatusCode::TOO_MANY_REQUESTS {
        answer = answer.header(http::header::RETRY_AFTER, "1");
    }
    answer.body(whole(status.to_string())).map_err(Failure::of)
}

/// As an API server ends a watch whose history was compacted.
fn expired() -> Result<Response<Answer>, Failure> {
    let event = json!({"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1", "metadata": {},
        "status": "Failure", "reason": "Expired", "message": "too old resource version", "code": 410}});
    let answer = Response::builder().header(http::header::CONTENT_TYPE, "application/json");
    answer.body(whole(format!("{event}\n"))).map_err(Failure::of)
}

fn whole(text: String) -> Answer {
    Full::new(Bytes::from(text)).map_err(|never: Infallible| match never {}).boxed_unsync()
}
