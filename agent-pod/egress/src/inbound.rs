//! The agent's callers: their tokens are verified here, and what is left of their requests goes to the agent's socket.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE, HOST, HeaderName, HeaderValue, PROXY_AUTHORIZATION};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use redoubt_policy::wire::Inbound;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::audit::{Entry, Record};
use crate::body::Body;
use crate::fault::Ended;
use crate::headers;
use crate::http1::ResponseGuard;
use crate::intake;
use crate::listen::pause;
use crate::peer::Peer;
use crate::refuse::Refused;
use crate::serve::{self, Http1, Slot, Slots};
use crate::shared::Shared;
use crate::strangers::{Stranger, Strangers};
use crate::token;

/// Second place for a caller's token: the API server's proxy takes the first one out.
const OWN_AUTHORIZATION: HeaderName = HeaderName::from_static("redoubt-authorization");
/// Tells the agent who calls.
const CALLER: HeaderName = HeaderName::from_static("redoubt-caller");
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a caller may take to send a head: nothing is known about them before it.
const HEAD: Duration = Duration::from_secs(30);
/// How long the agent may take before it answers: a task may need many turns.
const ANSWER: Duration = Duration::from_secs(3600);
const ALPN: [&[u8]; 1] = [b"http/1.1"];

/// Serves the agent's callers until the drain begins.
pub(crate) async fn serve(shared: Arc<Shared>, listener: TcpListener, slots: Slots) {
    let names = names(&shared);
    let strangers = Strangers::new(shared.limits.connections);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = slots.drain().begun() => return,
        };
        let Ok((stream, _)) = accepted else {
            pause().await;
            continue;
        };
        let _delayed = stream.set_nodelay(true);
        let shared = Arc::clone(&shared);
        let Ok(config) = shared
            .authority
            .server(&names, &ALPN)
            .inspect_err(|error| tracing::error!("no certificate: {error}"))
        else {
            continue;
        };
        let (stranger, has_to_leave) = strangers.admit();
        let connection = Arc::new(Connection { stranger, slot: slots.without(), slots: slots.clone() });
        tokio::spawn(async move {
            tokio::select! {
                () = serve_one(shared, config, stream, connection) => {}
                () = has_to_leave => {}
            }
        });
    }
}

/// A connection and its place among others.
struct Connection {
    stranger: Stranger,
    slot: Arc<Slot>,
    slots: Slots,
}

impl Connection {
    /// Somebody who may call has shown a token on it.
    fn known(&self) -> Result<(), Refused> {
        if !self.slots.grant(&self.slot) {
            return Err(unavailable("too many callers at once"));
        }
        self.stranger.known();
        Ok(())
    }
}

async fn serve_one(
    shared: Arc<Shared>,
    config: Arc<rustls::ServerConfig>,
    stream: TcpStream,
    connection: Arc<Connection>,
) {
    let Ok(Ok(stream)) = timeout(HANDSHAKE, TlsAcceptor::from(config).accept(stream)).await else {
        return;
    };
    let slot = Arc::clone(&connection.slot);
    let service = |request: Request<Incoming>| {
        let (shared, connection) = (Arc::clone(&shared), Arc::clone(&connection));
        async move { answer(&shared, &connection, request).await }
    };
    serve::http1(stream, Http1 { idle: HEAD, connect: false }, slot, service).await;
}

/// Names of the agent's Service.
fn names(shared: &Shared) -> Vec<String> {
    let agent = &shared.policy().agent;
    let service = redoubt_crds::names::child(&agent.name);
    ["", ".svc", ".svc.cluster.local"]
        .iter()
        .map(|suffix| format!("{service}.{}{suffix}", agent.namespace))
        .chain([service.clone()])
        .collect()
}

async fn answer(shared: &Arc<Shared>, connection: &Connection, request: Request<Incoming>) -> Response<Body> {
    let mut entry = match shared.audit.begin(Record::new("inbound")).await {
        Ok(entry) => entry,
        Err(refused) => return refused.response(),
    };
    match forward(shared, connection, request, &mut entry.record).await {
        Ok((response, task)) => {
            let (mut parts, inner) = response.into_parts();
            headers::strip(&mut parts.headers);
            if parts.status != StatusCode::NOT_MODIFIED {
                parts.headers.remove(http::header::CONTENT_LENGTH);
            }
            entry.record.status = Some(parts.status.as_u16());
            let mut response = Response::new(Relayed { inner, entry, received: 0, task }.boxed_unsync());
            *response.status_mut() = parts.status;
            *response.headers_mut() = parts.headers;
            response
        }
        Err(refused) => {
            entry.record.refuse(&refused);
            let mut response = refused.response();
            if refused.status == StatusCode::UNAUTHORIZED {
                let scheme = HeaderValue::from_static("Bearer");
                response.headers_mut().insert(http::header::WWW_AUTHENTICATE, scheme);
            }
            response
        }
    }
}

async fn forward(
    shared: &Shared,
    connection: &Connection,
    request: Request<Incoming>,
    record: &mut Record,
) -> Result<(Response<Incoming>, AbortHandle), Refused> {
    let (mut parts, body) = request.into_parts();
    if let Some(refused) = intake::malformed(&parts) {
        return Err(refused);
    }
    let policy = shared.policy();
    record.epoch = Some(policy.epoch);
    let caller = authenticate(&parts.headers, &policy.inbound)?;
    record.caller = Some(caller.clone());
    if !policy.inbound.callers.contains(&caller) {
        return Err(Refused::forbidden(
            "CallerNotAllowed",
            format!("{caller} is not among those who may call this agent"),
            "Add it to the callers of the Agent.",
        )
        .because_of(format!("Agent/{}", policy.agent.name), "spec.callers"));
    }
    connection.known()?;
    let path = match (&parts.method, parts.uri.path()) {
        (&Method::POST, "/v1/chat/completions") => "/v1/chat/completions",
        (&Method::GET, "/v1/models") => "/v1/models",
        _ => {
            return Err(Refused::by_pod(
                StatusCode::NOT_FOUND,
                "NoSuchPath",
                "the agent has no such resource",
                "Use POST /v1/chat/completions or GET /v1/models.",
            ));
        }
    };
    record.method = Some(parts.method.to_string());
    record.path = Some(path.to_owned());
    if headers::is_upgrade(&parts.headers) {
        return Err(Refused::forbidden(
            "UpgradeNotAllowed",
            "the agent speaks no other protocol",
            "Use plain requests.",
        ));
    }
    if !shared.verdicts.passed(Peer::Agent) {
        return Err(unavailable("its jail has not passed the self-test"));
    }
    headers::strip(&mut parts.headers);
    for name in [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE, http::header::CONTENT_LENGTH] {
        parts.headers.remove(name);
    }
    parts.headers.insert(HOST, HeaderValue::from_static("agent"));
    let name =
        HeaderValue::from_str(&caller).map_err(|_| unauthorized("the caller's name cannot be passed on"))?;
    parts.headers.insert(CALLER, name);
    parts.uri = http::Uri::from_static(path);
    parts.version = Version::HTTP_11;
    send(shared, Request::from_parts(parts, body)).await
}

fn authenticate(headers: &HeaderMap, inbound: &Inbound) -> Result<String, Refused> {
    let name = if headers.contains_key(OWN_AUTHORIZATION) { OWN_AUTHORIZATION } else { AUTHORIZATION };
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(unauthorized("there is no token, or more than one"));
    };
    let token = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .ok_or_else(|| unauthorized("there is no bearer token"))?;
    token::verify(token, inbound).map_err(|error| unauthorized(&error.to_string()))
}

fn unauthorized(message: &str) -> Refused {
    Refused::by_pod(
        StatusCode::UNAUTHORIZED,
        "CallerNotAuthenticated",
        message,
        "Send a service-account token whose audience names this agent in Authorization or Redoubt-Authorization.",
    )
}

fn unavailable(detail: &str) -> Refused {
    Refused::by_pod(
        StatusCode::SERVICE_UNAVAILABLE,
        "AgentUnavailable",
        format!("the agent cannot be reached: {detail}"),
        "Try again when the Agent is Ready.",
    )
}

/// Sends a request to the agent's process, and to nobody else who may have taken its socket.
async fn send(
    shared: &Shared,
    request: Request<Incoming>,
) -> Result<(Response<Incoming>, AbortHandle), Refused> {
    let connect = timeout(shared.limits.connect, UnixStream::connect(&shared.agent_socket)).await;
    let stream =
        connect.ok().and_then(Result::ok).ok_or_else(|| unavailable("nobody answers at its socket"))?;
    let peer = stream.peer_cred().ok().and_then(|it| shared.uids.peer(it.uid()));
    if peer != Some(Peer::Agent) {
        return Err(unavailable("somebody else answers at its socket"));
    }
    let (guard, _one_request) = ResponseGuard::new(stream);
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(guard)).await.map_err(|_| unavailable("it does not speak HTTP"))?;
    let task = tokio::spawn(async move {
        let _ended = connection.await;
    })
    .abort_handle();
    match timeout(ANSWER, sender.send_request(request)).await {
        Ok(Ok(response)) => Ok((response, task)),
        Ok(Err(_)) => {
            Err(Refused { status: StatusCode::BAD_GATEWAY, ..unavailable("it did not answer as HTTP says") })
        }
        Err(_) => {
            Err(Refused { status: StatusCode::GATEWAY_TIMEOUT, ..unavailable("it did not answer in time") })
        }
    }
}

/// The agent's answer on its way to the caller, frame by frame.
struct Relayed {
    inner: Incoming,
    entry: Entry,
    received: u64,
    task: AbortHandle,
}

impl HttpBody for Relayed {
    type Data = Bytes;
    type Error = Ended;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Ended>>> {
        let this = self.get_mut();
        Pin::new(&mut this.inner).poll_frame(cx).map(|frame| match frame {
            Some(Ok(frame)) => {
                this.received += frame.data_ref().map_or(0, |data| data.len() as u64);
                Some(Ok(frame))
            }
            Some(Err(_)) => {
                this.entry.record.detail = Some("the agent's answer ended early".to_owned());
                Some(Err(Ended))
            }
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Relayed {
    fn drop(&mut self) {
        self.entry.record.bytes_received = Some(self.received);
        self.task.abort();
    }
}
