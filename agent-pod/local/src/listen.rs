//! A unix socket that serves HTTP/1.1 to some uids and refuses all others.
//!
//! The kernel tells who connected (`SO_PEERCRED`), so the socket file itself can be open to all.

use std::future::Future;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use redoubt_policy::Refusal;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::reply::{self, Reply};

/// Most connections served at once; more wait.
pub const CONNECTIONS_MAX: usize = 128;

/// How long a client may take to send the head of a request, or a stranger to read its refusal.
const HEAD_LIMIT: Duration = Duration::from_secs(30);

/// How long connections may go on after the process was told to stop.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// A bound socket and the uids it serves.
pub struct Listener {
    socket: UnixListener,
    peers: Vec<u32>,
}

impl Listener {
    /// Binds `path`, in place of a socket that an earlier container left there, for these uids.
    ///
    /// # Errors
    /// When the path cannot be bound.
    pub fn bind(path: &Path, peers: &[u32]) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
        Ok(Self { socket, peers: peers.to_vec() })
    }

    /// Answers requests with `handler` until `stop` is ready, then lets those under way end, for ten seconds at most.
    pub async fn serve<H, F>(self, handler: H, stop: impl Future<Output = ()>)
    where
        H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
        F: Future<Output = Reply> + Send + 'static,
    {
        let handler = Arc::new(handler);
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let (stopping, stopped) = watch::channel(false);
        let mut connections = JoinSet::new();
        tokio::pin!(stop);
        loop {
            let permit = tokio::select! {
                () = &mut stop => break,
                Some(_) = connections.join_next() => continue,
                Ok(permit) = permits.clone().acquire_owned() => permit,
            };
            let stream = tokio::select! {
                () = &mut stop => break,
                accepted = self.socket.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        // Out of descriptors, most likely: better late than in a busy loop.
                        tracing::warn!(%error, "accept failed");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
            };
            let uid = stream.peer_cred().ok().map(|peer| peer.uid());
            match uid.filter(|uid| self.peers.contains(uid)) {
                Some(_) => {
                    let (handler, stopped) = (handler.clone(), stopped.clone());
                    connections.spawn(async move {
                        connection(stream, handler, stopped).await;
                        drop(permit);
                    });
                }
                None => {
                    tracing::warn!(?uid, "refused a peer");
                    connections.spawn(stranger(stream));
                }
            }
        }
        let _ = stopping.send(true);
        let drain = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_LIMIT, drain).await.is_err() {
            tracing::warn!("connections were still open at the end");
        }
    }
}

async fn connection<H, F>(stream: UnixStream, handler: Arc<H>, mut stopped: watch::Receiver<bool>)
where
    H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Reply> + Send + 'static,
{
    let service = service_fn(move |request| {
        let reply = handler(request);
        async move { Ok::<_, std::convert::Infallible>(reply.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = async { let _ = stopped.wait_for(|stop| *stop).await; } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

async fn stranger(stream: UnixStream) {
    let service = service_fn(|_: Request<Incoming>| async {
        Ok::<_, std::convert::Infallible>(reply::refuse(
            StatusCode::FORBIDDEN,
            &Refusal::new(
                "PeerNotAllowed",
                "Pod",
                "",
                "this socket does not serve processes of this uid",
                "each socket of the pod serves one container; use the one that is meant for yours",
            ),
        ))
    });
    let connection = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service);
    let _ = tokio::time::timeout(HEAD_LIMIT, connection).await;
}

/// Ready when the process is told to stop. As first process of its container nothing ends it but a handler of its own.
pub async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        tracing::warn!("no signal handler: the process ends when it is killed");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
