//! One request from the pod to the outside, from its head to the last byte of the answer.

use std::sync::Arc;

use http::header::{CONTENT_LENGTH, HOST, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use percent_encoding::percent_decode_str;
use redoubt_policy::method::Method;
use redoubt_policy::target::{Scheme, Source, Target};
use redoubt_policy::wire::{Inject, PodPolicy};
use redoubt_policy::{Authorized, VerifiedPolicy};
use redoubt_scan::Redactor;
use tokio::sync::oneshot;

use crate::audit::Record;
use crate::body::{Body, Exchange, Progress, RequestBody, ResponseBody};
use crate::credentials::Watchlist;
use crate::fault::{Fault, credential_in_request, policy_changed};
use crate::fresh;
use crate::headers;
use crate::intake::{self, TOOL_HEADER, Wanted};
use crate::peer::Peer;
use crate::pool::Lease;
use crate::refuse::Refused;
use crate::shared::Shared;
use crate::upstream::{self, Route};

/// Where a request comes from.
#[derive(Clone, Copy)]
pub(crate) struct Origin<'a> {
    pub(crate) peer: Peer,
    /// The destination of the tunnel it came through.
    pub(crate) tunnel: Option<&'a Target>,
}

/// Answers a request: with the destination's answer or a refusal, and records it either way.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    origin: Origin<'_>,
    request: Request<Incoming>,
) -> Response<Body> {
    let begun = Record { source: Some(origin.peer.name().to_owned()), ..Record::new("request") };
    let mut entry = match shared.audit.begin(begun).await {
        Ok(entry) => entry,
        Err(refused) => return refused.response(),
    };
    let place = match shared.under_way.begin(origin.peer) {
        Ok(place) => place,
        Err(refused) => {
            entry.record.refuse(&refused);
            return refused.response();
        }
    };
    entry.record.detail = Some("given up by the client".to_owned());
    let redaction = match shared.audit.begin(Record::new("redaction")).await {
        Ok(redaction) => redaction,
        Err(refused) => return refused.response(),
    };
    let forwarded = forward(shared, origin, request, &mut entry.record).await;
    entry.record.detail = None;
    let Answer { response, lease, watchlist, fault, revoked, progress, method, readable } = match forwarded {
        Ok(answer) => answer,
        Err(refused) => {
            redaction.cancel();
            entry.record.refuse(&refused);
            return refused.response();
        }
    };
    let (mut parts, body) = response.into_parts();
    if readable && let Some(why) = headers::unreadable(parts.status, &parts.headers) {
        let refused = Refused::by_pod(
            StatusCode::BAD_GATEWAY,
            "ResponseUnreadable",
            format!("the destination has a credential, and its answer cannot be looked into: {why}"),
            "This is for those who run the destination to correct.",
        );
        redaction.cancel();
        entry.record.refuse(&refused);
        return refused.response();
    }
    headers::strip(&mut parts.headers);
    parts.headers.remove("alt-svc");
    // Where there is a body its own length counts.
    if method != Method::Head && parts.status != StatusCode::NOT_MODIFIED {
        parts.headers.remove(CONTENT_LENGTH);
    }
    let mut redaction = redaction;
    let hits = redact_headers(&mut parts.headers, &watchlist, &mut redaction.record);
    entry.record.status = Some(parts.status.as_u16());
    redaction.record.host.clone_from(&entry.record.host);
    redaction.record.path.clone_from(&entry.record.path);
    redaction.record.source.clone_from(&entry.record.source);
    redaction.record.status = entry.record.status;
    let idle = shared.limits.idle;
    let credentials = Arc::clone(&shared.credentials);
    let exchange =
        Exchange { place, credentials, watchlist, idle, fault, revoked, progress, lease, entry, redaction };
    let mut response = Response::new(ResponseBody::new(body, exchange, hits).boxed_unsync());
    *response.status_mut() = parts.status;
    *response.headers_mut() = parts.headers;
    response
}

/// An answer's head has come.
struct Answer {
    response: Response<Incoming>,
    lease: Lease,
    watchlist: Arc<Watchlist>,
    fault: Fault,
    revoked: oneshot::Receiver<Refused>,
    progress: Progress,
    method: Method,
    /// Whether it must be possible to look into the answer.
    readable: bool,
}

async fn forward(
    shared: &Arc<Shared>,
    origin: Origin<'_>,
    request: Request<Incoming>,
    record: &mut Record,
) -> Result<Answer, Refused> {
    let (parts, body) = request.into_parts();
    if let Some(refused) = intake::malformed(&parts) {
        return Err(refused);
    }
    let policy = shared.policy();
    record.epoch = Some(policy.epoch);
    scan_head(&parts, &*shared.credentials.watchlist()?)?;
    let wanted = intake::read(&parts, origin.tunnel)?;
    describe(record, &wanted);
    let source = source(&parts, origin.peer, &policy)?;
    record.source = Some(source.to_string());
    verified(shared, origin.peer)?;
    if matches!(wanted.method, Method::Get | Method::Head) && !body.is_end_stream() {
        return Err(Refused::bad(
            "BodyNotAllowed",
            format!("{} has a body", wanted.method),
            "Send it without one.",
        ));
    }
    shared.fresh.check(&policy)?;
    let asked = redoubt_policy::Request {
        source: &source,
        target: &wanted.target,
        method: wanted.method,
        path: &wanted.path,
    };
    let authorized = policy.decide(&asked)?;
    record.would_refuse = authorized.would_refuse.map(ToString::to_string);
    record.object = Some(authorized.rule.grant.object.clone());
    record.field = Some(authorized.rule.grant.field.clone());
    let bound = policy.is_bound(&wanted.target);
    if bound {
        refuse_credentials(&parts, &wanted, &policy)?;
    }
    let addresses = upstream::addresses(shared, &wanted.target, &authorized, &policy).await?;
    let mut sent = outgoing(&parts, &wanted, bound)?;
    lease(shared, &authorized, &wanted, &policy, record, sent.headers_mut()).await?;

    let fault = Fault::default();
    // After the lease, so that the leased value is among those looked for.
    let watchlist = shared.credentials.watchlist()?;
    let body = RequestBody::new(body, Arc::clone(&watchlist), shared.limits.idle, fault.clone());
    let progress = body.progress();
    if body.is_end_stream() && matches!(wanted.method, Method::Post | Method::Put | Method::Patch) {
        sent.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    let route = Route {
        source: &source,
        target: &wanted.target,
        addresses: &addresses,
        ca_bundle: authorized.ca_bundle(),
        epoch: policy.epoch,
        fault: &fault,
        progress: &progress,
    };
    let mut revoked = watch_policy(shared, &source, &wanted, &authorized);
    let (response, leased) = tokio::select! {
        answer = upstream::send(shared, &route, sent.map(|()| body)) => answer?,
        Ok(refused) = &mut revoked => return Err(refused),
    };
    record.address = Some(leased.key.address.to_string());
    if let Some(refused) = fault.get() {
        return Err(refused);
    }
    let method = wanted.method;
    Ok(Answer { response, lease: leased, watchlist, fault, revoked, progress, method, readable: bound })
}

fn describe(record: &mut Record, wanted: &Wanted) {
    record.method = Some(wanted.method.to_string());
    record.scheme = Some(wanted.target.scheme.as_str());
    record.host = Some(wanted.target.host.to_string());
    record.port = Some(wanted.target.port);
    record.path = Some(wanted.path.to_string());
}

/// No request of a container goes anywhere before its jail has proven itself.
pub(crate) fn verified(shared: &Shared, peer: Peer) -> Result<(), Refused> {
    if shared.verdicts.passed(peer) {
        return Ok(());
    }
    Err(Refused::forbidden(
        "NotVerified",
        format!("the jail of the {} container has not passed its self-test", peer.name()),
        "Wait until it has; if it stays so, look at the condition PolicyEnforced of the Agent.",
    ))
}

/// For whom the request is.
pub(crate) fn source(parts: &Parts, peer: Peer, policy: &PodPolicy) -> Result<Source, Refused> {
    let mut named = parts.headers.get_all(TOOL_HEADER).iter();
    let tool = match (named.next(), named.next()) {
        (None, _) => None,
        (Some(name), None) => Some(name.to_str().unwrap_or("?")),
        (Some(_), Some(_)) => {
            return Err(Refused::bad("ToolMalformed", "Redoubt-Tool is there twice", "Name one tool."));
        }
    };
    peer.source(tool, policy)
}

/// Looks for credentials in everything that will be recorded or sent before the body.
pub(crate) fn scan_head(parts: &Parts, watchlist: &Watchlist) -> Result<(), Refused> {
    let check = |place, bytes: &[u8]| match watchlist.needles.find(bytes) {
        Some(index) => Err(credential_in_request(place, watchlist.binding(index))),
        None => Ok(()),
    };
    let url = parts.uri.to_string();
    check("URL", url.as_bytes())?;
    check("URL", &percent_decode_str(&url).collect::<Vec<_>>())?;
    for (name, value) in &parts.headers {
        if let Some(index) = watchlist.in_name(name) {
            return Err(credential_in_request("header", watchlist.binding(index)));
        }
        check("header", value.as_bytes())?;
    }
    Ok(())
}

/// On a host that a binding names, only the sidecar shows credentials.
fn refuse_credentials(parts: &Parts, wanted: &Wanted, policy: &PodPolicy) -> Result<(), Refused> {
    let here: Vec<_> = policy
        .bindings
        .iter()
        .filter(|it| {
            it.destinations
                .iter()
                .any(|to| to.port == wanted.target.port && to.host.matches(&wanted.target.host))
        })
        .collect();
    let is_slot = |header: &str| {
        here.iter()
            .any(|it| matches!(&it.inject, Inject::Header { name, .. } if name.replace('_', "-").eq_ignore_ascii_case(header)))
    };
    let found = headers::credential(&parts.headers, is_slot)
        .map(|name| ("CredentialHeader", format!("the header {name}")))
        .or_else(|| {
            let name = headers::credential_parameter(wanted.query.as_deref()?)?;
            Some(("CredentialParameter", format!("the query parameter {name}")))
        });
    let Some((reason, what)) = found else { return Ok(()) };
    let refused = Refused::forbidden(
        reason,
        format!(
            "{what} looks like a credential, and {} takes those of SecretBindings only",
            wanted.target.host
        ),
        "Send the request without it; the sidecar adds the credential where the SecretBinding says.",
    );
    Err(match here.first() {
        Some(binding) => refused.because_of(format!("SecretBinding/{}", binding.name), "spec.destinations"),
        None => refused,
    })
}

/// The head that is sent: the same but for what is of this connection only.
fn outgoing(parts: &Parts, wanted: &Wanted, bound: bool) -> Result<Request<()>, Refused> {
    let malformed =
        |_| Refused::bad("PathMalformed", "the path or query cannot be sent", "Send it in its plain form.");
    let mut request = Request::new(());
    *request.method_mut() = parts.method.clone();
    *request.version_mut() = Version::HTTP_11;
    *request.uri_mut() = wanted.path_and_query().parse().map_err(malformed)?;
    let mut sent = parts.headers.clone();
    headers::strip(&mut sent);
    // Hop by hop too, but looked at as a credential before.
    sent.remove(http::header::PROXY_AUTHORIZATION);
    sent.remove(CONTENT_LENGTH);
    if bound {
        headers::make_readable(&mut sent);
    }
    let Target { scheme, host, port } = &wanted.target;
    let authority = if *port == scheme.default_port() { host.to_string() } else { format!("{host}:{port}") };
    sent.insert(
        HOST,
        authority
            .parse()
            .map_err(|_| Refused::bad("HostMalformed", "the host cannot be sent", "Name another."))?,
    );
    *request.headers_mut() = sent;
    Ok(request)
}

/// Puts the credential in, if one is bound to this very request.
async fn lease(
    shared: &Shared,
    authorized: &Authorized<'_>,
    wanted: &Wanted,
    policy: &PodPolicy,
    record: &mut Record,
    headers: &mut HeaderMap,
) -> Result<(), Refused> {
    let Some((binding, _)) = authorized.binding else { return Ok(()) };
    if wanted.target.scheme != Scheme::Https {
        return Ok(());
    }
    let (name, value) = shared.credentials.lease(binding, policy)?;
    record.binding = Some(binding.name.clone());
    shared.audit.write(Record { event: "lease", detail: None, ..record.clone() }).await?;
    headers.insert(name, value);
    Ok(())
}

/// Fires when a newer policy would decide otherwise about this request, or when no policy holds any more.
fn watch_policy(
    shared: &Shared,
    source: &Source,
    wanted: &Wanted,
    authorized: &Authorized<'_>,
) -> oneshot::Receiver<Refused> {
    let (mut revoke, revoked) = oneshot::channel();
    let (source, wanted) = (source.clone(), wanted.clone());
    let binding = authorized.binding.map(|(binding, _)| binding.name.clone());
    let still_allowed = move |policy: &VerifiedPolicy| {
        let asked = redoubt_policy::Request {
            source: &source,
            target: &wanted.target,
            method: wanted.method,
            path: &wanted.path,
        };
        policy.decide(&asked).is_ok_and(|it| it.binding.map(|(binding, _)| &binding.name) == binding.as_ref())
    };
    let mut feed = shared.feed.clone();
    let mut stale = shared.fresh.watch();
    // Whatever came in force since the request was judged counts.
    feed.mark_changed();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = revoke.closed() => return,
                Ok(()) = feed.changed() => {}
                Ok(_) = stale.wait_for(|stale| *stale) => {
                    let _gone = revoke.send(fresh::stale(&feed.borrow()));
                    return;
                }
                else => return,
            }
            let policy = Arc::clone(&feed.borrow_and_update());
            if !still_allowed(&policy) {
                let _gone = revoke.send(policy_changed());
                return;
            }
        }
    });
    revoked
}

/// Overwrites credentials in headers, and leaves out headers that have one in their name. Returns how many there were.
fn redact_headers(headers: &mut HeaderMap, watchlist: &Watchlist, record: &mut Record) -> u64 {
    let mut hits = 0;
    let named: Vec<_> = headers.keys().filter_map(|it| Some((it.clone(), watchlist.in_name(it)?))).collect();
    for (name, index) in named {
        headers.remove(name);
        hits += 1;
        record.binding = watchlist.binding(index).map(str::to_owned);
    }
    for value in headers.values_mut() {
        if !watchlist.needles.contains(value.as_bytes()) {
            continue;
        }
        let mut redactor = Redactor::new(Arc::clone(&watchlist.needles));
        let mut text = redactor.push(bytes::Bytes::copy_from_slice(value.as_bytes())).to_vec();
        text.extend_from_slice(&redactor.finish());
        hits += redactor.hits();
        record.binding = redactor.found().find_map(|index| watchlist.binding(index)).map(str::to_owned);
        *value = HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("*"));
    }
    hits
}
