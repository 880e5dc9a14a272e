//! Who connects to the sidecar from inside the pod, and what they may ask for.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response};
use hyper::body::Incoming;
use tokio::net::{TcpListener, UnixListener};

use crate::body::Body;
use crate::http1::MALFORMED_HEADER;
use crate::peer::Peer;
use crate::proxy::{Origin, handle};
use crate::refuse::Refused;
use crate::serve::{self, Http1, Slot, Slots};
use crate::shared::Shared;
use crate::{local, tunnel};

/// Opens the socket for the pod's own processes. Everybody may connect; peers are told apart by their uid.
pub(crate) fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

/// Serves the socket until the drain begins.
pub(crate) async fn socket(shared: Arc<Shared>, listener: UnixListener, agent: Slots, tools: Slots) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = agent.drain().begun() => return,
        };
        let Ok((stream, _)) = accepted else {
            pause().await;
            continue;
        };
        let peer = stream.peer_cred().ok().and_then(|credentials| shared.uids.peer(credentials.uid()));
        let slots = match peer {
            Some(Peer::Agent) => &agent,
            Some(Peer::Tools) => &tools,
            None => {
                tracing::warn!("a process of another user connected to the socket; it was not answered");
                continue;
            }
        };
        let (Some(peer), Some(slot)) = (peer, slots.take()) else {
            tracing::warn!("too many connections at once; one was not answered");
            continue;
        };
        tokio::spawn(connection(Arc::clone(&shared), stream, peer, slot, true));
    }
}

/// Serves the HTTP proxy for any other client, which counts as the agent.
pub(crate) async fn proxy(shared: Arc<Shared>, listener: TcpListener, slots: Slots) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = slots.drain().begun() => return,
        };
        let Ok((stream, _)) = accepted else {
            pause().await;
            continue;
        };
        let Some(slot) = slots.take() else { continue };
        let _delayed = stream.set_nodelay(true);
        tokio::spawn(connection(Arc::clone(&shared), stream, Peer::Agent, slot, false));
    }
}

/// Accepting fails when descriptors run out; they come back.
pub(crate) async fn pause() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}

async fn connection<T>(shared: Arc<Shared>, stream: T, peer: Peer, slot: Arc<Slot>, with_api: bool)
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let for_tunnels = Arc::clone(&slot);
    let service = |request: Request<Incoming>| {
        let (shared, slot) = (Arc::clone(&shared), Arc::clone(&for_tunnels));
        async move { answer(&shared, peer, &slot, with_api, request).await }
    };
    serve::http1(stream, Http1 { idle: shared.limits.idle, connect: true }, slot, service).await;
}

async fn answer(
    shared: &Arc<Shared>,
    peer: Peer,
    slot: &Arc<Slot>,
    with_api: bool,
    request: Request<Incoming>,
) -> Response<Body> {
    if request.method() == Method::CONNECT {
        return tunnel::open(shared, peer, slot, request).await;
    }
    if request.uri().scheme().is_some() || request.headers().contains_key(MALFORMED_HEADER) {
        return handle(shared, Origin { peer, tunnel: None }, request).await;
    }
    if !with_api && request.uri().path() != "/v1/ca.pem" {
        return Refused::forbidden(
            "SocketOnly",
            "this is answered on the sidecar's unix socket only",
            "Use the socket.",
        )
        .response();
    }
    local::handle(shared, peer, request).await
}
