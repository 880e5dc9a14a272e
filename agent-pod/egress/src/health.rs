//! What the kubelet asks: whether the process lives, whether it may be relied on, whether the pod may get requests.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use redoubt_policy::Refusal;
use tokio::net::TcpListener;

use crate::body::Body;
use crate::listen::pause;
use crate::peer::Peer;
use crate::refuse::{json, plain};
use crate::shared::Shared;
use crate::strangers::Strangers;

/// Most connections at once. The kubelet needs one.
const CONNECTIONS: usize = 64;

/// The state that probes look at; empty until the start is over.
pub(crate) type Started = Arc<OnceLock<Arc<Shared>>>;

/// Serves the probes for ever.
pub(crate) async fn serve(listener: TcpListener, started: Started) {
    let strangers = Strangers::new(CONNECTIONS);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            pause().await;
            continue;
        };
        let started = Arc::clone(&started);
        let (stranger, has_to_leave) = strangers.admit();
        tokio::spawn(async move {
            let _among = stranger;
            let service = service_fn(|request: Request<Incoming>| {
                let answer = answer(request.uri().path(), &started);
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(5))
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                _ended = connection => {}
                () = has_to_leave => {}
            }
        });
    }
}

fn answer(path: &str, started: &Started) -> Response<Body> {
    let missing = match path {
        "/livez" => started.get().map(|shared| audit(shared)).unwrap_or_default(),
        "/startupz" => startup(started),
        "/readyz" => ready(started),
        _ => return plain(StatusCode::NOT_FOUND, "text/plain", "no such probe"),
    };
    let status = if missing.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, serde_json::to_string(&missing).unwrap_or_else(|_| "[]".to_owned()))
}

fn startup(started: &Started) -> Vec<Refusal> {
    match started.get() {
        Some(shared) => shared.credentials.missing(&shared.policy()),
        None => vec![Refusal::new(
            "Starting",
            "Pod",
            "",
            "the policy is being verified and credentials are being read",
            "Wait; if it takes long, look at the conditions of Agent and SecretBindings.",
        )],
    }
}

fn ready(started: &Started) -> Vec<Refusal> {
    let mut missing = startup(started);
    let Some(shared) = started.get() else { return missing };
    missing.extend(audit(shared));
    for peer in [Peer::Agent, Peer::Tools] {
        if !shared.verdicts.passed(peer) {
            missing.push(Refusal::new(
                "NotVerified",
                "Pod",
                "",
                format!("the jail of the {} container has not passed its self-test", peer.name()),
                "Look at the log of that container.",
            ));
        }
    }
    missing
}

fn audit(shared: &Shared) -> Vec<Refusal> {
    if shared.audit.is_open() {
        return Vec::new();
    }
    let help = "Look at what reads the standard output of the egress container.";
    vec![Refusal::new("AuditUnavailable", "Pod", "", "the audit log cannot be written", help)]
}
