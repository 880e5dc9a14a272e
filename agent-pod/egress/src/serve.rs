//! Listeners and connections: how many at once, how long idle, and how they end.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::Instant;

use crate::body::Body;
use crate::http1::{Guard, HEAD_MAX, HEADER_LINES_MAX};

/// Most requests at once in one HTTP/2 connection.
const STREAMS_MAX: u32 = 64;

/// Most bytes under way in one stream of HTTP/2, each way.
const WINDOW: u32 = 64 * 1024;

/// Tells connections to end, and knows when they have.
#[derive(Clone)]
pub(crate) struct Drain {
    begun: watch::Receiver<bool>,
    /// Never sent on: the other side hears when all are gone.
    _alive: mpsc::Sender<()>,
}

/// The other side of [`Drain`].
pub(crate) struct Drainer {
    begin: watch::Sender<bool>,
    gone: mpsc::Receiver<()>,
}

impl Drain {
    pub(crate) fn new() -> (Self, Drainer) {
        let (begin, begun) = watch::channel(false);
        let (alive, gone) = mpsc::channel(1);
        (Self { begun, _alive: alive }, Drainer { begin, gone })
    }

    /// Returns when connections are to end.
    pub(crate) async fn begun(&self) {
        let mut begun = self.begun.clone();
        let _closed = begun.wait_for(|begun| *begun).await;
    }
}

impl Drainer {
    /// Tells all connections to end, and waits until they have, at most this long. All [`Drain`]s of listeners must be gone.
    pub(crate) async fn drain(mut self, patience: Duration) -> bool {
        self.begin.send_replace(true);
        tokio::time::timeout(patience, self.gone.recv()).await.is_ok()
    }

    pub(crate) fn begin(&self) {
        self.begin.send_replace(true);
    }
}

/// A place among the connections of one kind. It is free again when the connection and its tunnel have ended.
pub(crate) struct Slot {
    /// None as long as it is a stranger's.
    permit: OnceLock<OwnedSemaphorePermit>,
    drain: Drain,
}

/// The places of one kind of connections.
#[derive(Clone)]
pub(crate) struct Slots {
    free: Arc<Semaphore>,
    drain: Drain,
}

impl Slots {
    pub(crate) fn new(count: usize, drain: Drain) -> Self {
        Self { free: Arc::new(Semaphore::new(count)), drain }
    }

    /// A place, if one is free.
    pub(crate) fn take(&self) -> Option<Arc<Slot>> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        Some(Arc::new(Slot { permit: permit.into(), drain: self.drain.clone() }))
    }

    /// For a connection that has no place until [`Slots::grant`] gives it one.
    pub(crate) fn without(&self) -> Arc<Slot> {
        Arc::new(Slot { permit: OnceLock::new(), drain: self.drain.clone() })
    }

    /// Gives the connection a place if it has none. False if none is free.
    pub(crate) fn grant(&self, slot: &Slot) -> bool {
        if slot.permit.get().is_some() {
            return true;
        }
        let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() else { return false };
        let _second = slot.permit.set(permit);
        true
    }

    pub(crate) fn drain(&self) -> &Drain {
        &self.drain
    }
}

/// Requests under way in one connection, and when the last one ended.
struct Activity {
    running: AtomicUsize,
    started: Instant,
    last_ms: AtomicU64,
}

impl Activity {
    fn new() -> Arc<Self> {
        Arc::new(Self { running: AtomicUsize::new(0), started: Instant::now(), last_ms: AtomicU64::new(0) })
    }

    fn begin(self: &Arc<Self>) -> Running {
        self.running.fetch_add(1, Ordering::AcqRel);
        Running(Arc::clone(self))
    }

    fn touch(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(now, Ordering::Release);
    }

    /// Returns when nothing was under way for `limit`.
    async fn idle(&self, limit: Duration) {
        loop {
            let last = self.started + Duration::from_millis(self.last_ms.load(Ordering::Acquire));
            let busy = self.running.load(Ordering::Acquire) > 0;
            let until = if busy { Instant::now() + limit } else { last + limit };
            if !busy && until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

struct Running(Arc<Activity>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.touch();
        self.0.running.fetch_sub(1, Ordering::AcqRel);
    }
}

/// How HTTP/1.1 is served.
#[derive(Clone, Copy)]
pub(crate) struct Http1 {
    /// How long a connection may wait for the head of a request.
    pub(crate) idle: Duration,
    /// Whether `CONNECT` is answered.
    pub(crate) connect: bool,
}

/// Serves HTTP/1.1 with the framing guard in front, until the client, idleness or the drain ends it.
pub(crate) async fn http1<T, S, F>(stream: T, rules: Http1, slot: Arc<Slot>, service: S)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<Body>>,
{
    let service = service_fn(|request| {
        let answer = service(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(rules.idle)
        .max_headers(HEADER_LINES_MAX)
        .max_buf_size(HEAD_MAX + 32 * 1024)
        .serve_connection(TokioIo::new(Guard::new(stream, rules.connect)), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    tokio::select! {
        _ended = connection.as_mut() => return,
        () = slot.drain.begun() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ended = connection.await;
}

/// The same for HTTP/2, whose framing the library checks.
pub(crate) async fn http2<T, S, F>(stream: T, idle: Duration, slot: Arc<Slot>, service: S)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let activity = Activity::new();
    let of_service = Arc::clone(&activity);
    let service = service_fn(move |request| {
        let (running, answer) = (of_service.begin(), service(request));
        async move {
            let answer = answer.await;
            drop(running);
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        // What a client may have the sidecar hold for it: hyper's own bounds add up to more than the container has.
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(4 * WINDOW)
        .max_send_buf_size(WINDOW as usize)
        .max_header_list_size(u32::try_from(HEAD_MAX).unwrap_or(u32::MAX))
        .keep_alive_interval(Duration::from_secs(60))
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        _ended = connection.as_mut() => return,
        () = slot.drain.begun() => {}
        () = activity.idle(idle) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ended = connection.await;
}
