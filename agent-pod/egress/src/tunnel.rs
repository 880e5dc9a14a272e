//! `CONNECT`: TLS is ended here, with a certificate of the pod's own authority, and each request inside is judged alone.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use redoubt_policy::VerifiedPolicy;
use redoubt_policy::host::Host;
use redoubt_policy::method::Method;
use redoubt_policy::target::{Scheme, Source, Target};
use rustls::server::Acceptor;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;

use crate::audit::Record;
use crate::body::Body;
use crate::intake::connect_target;
use crate::peer::Peer;
use crate::proxy::{Origin, handle, scan_head, source, verified};
use crate::refuse::Refused;
use crate::serve::{self, Http1, Slot};
use crate::shared::Shared;

const HANDSHAKE: Duration = Duration::from_secs(10);
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Answers a `CONNECT`, and serves what follows.
pub(crate) async fn open(
    shared: &Arc<Shared>,
    peer: Peer,
    slot: &Arc<Slot>,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let begun = Record { source: Some(peer.name().to_owned()), ..Record::new("connect") };
    let mut entry = match shared.audit.begin(begun).await {
        Ok(entry) => entry,
        Err(refused) => return close(refused.response()),
    };
    let upgrade = hyper::upgrade::on(&mut request);
    match judge(shared, peer, &request.into_parts().0, &mut entry.record) {
        Ok(target) => {
            entry.record.status = Some(200);
            tokio::spawn(serve_tunnel(Arc::clone(shared), peer, Arc::clone(slot), target, upgrade));
            Response::new(http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync())
        }
        Err(refused) => {
            entry.record.refuse(&refused);
            close(refused.response())
        }
    }
}

/// What follows a refused `CONNECT` cannot be told from a tunnel's bytes.
fn close(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(http::header::CONNECTION, http::HeaderValue::from_static("close"));
    response
}

fn judge(
    shared: &Shared,
    peer: Peer,
    parts: &http::request::Parts,
    record: &mut Record,
) -> Result<Target, Refused> {
    let policy = shared.policy();
    record.epoch = Some(policy.epoch);
    scan_head(parts, &*shared.credentials.watchlist()?)?;
    let target = connect_target(parts)?;
    record.host = Some(target.host.to_string());
    record.port = Some(target.port);
    verified(shared, peer)?;
    let declared = match peer {
        Peer::Agent => {
            let source = source(parts, peer, &policy)?;
            record.source = Some(source.to_string());
            may_connect(&policy, &source, &target)
        }
        // The hands name the tool with each request inside; here any of them may be meant.
        Peer::Tools => any_tool(&policy, &target),
    };
    declared.map(|()| target)
}

/// Whether some rule allows `source` something at the target.
fn may_connect(policy: &VerifiedPolicy, source: &Source, target: &Target) -> Result<(), Refused> {
    let fits = |rule: &redoubt_policy::wire::Rule| {
        let scope = &rule.scope;
        scope.from == *source
            && scope.scheme == Scheme::Https
            && scope.port == target.port
            && scope.host.matches(&target.host)
    };
    if policy.rules.iter().any(fits) {
        return Ok(());
    }
    let refused = Refused::forbidden(
        "HostNotAllowed",
        format!("no rule allows {source} anything at {target}"),
        "If it is meant, declare it in a Tool or the Agent, and grant it in an EgressPolicy.",
    );
    // The engine explains requests; that for the root stands for the host.
    let Ok(path) = "/".parse() else { return Err(refused) };
    let asked = redoubt_policy::Request { source, target, method: Method::Get, path: &path };
    match policy.decide(&asked) {
        Err(refusal) => Err(refusal.into()),
        Ok(_) => Err(refused),
    }
}

fn any_tool(policy: &VerifiedPolicy, target: &Target) -> Result<(), Refused> {
    let mut last = None;
    for tool in &policy.tools {
        match may_connect(policy, &Source::Tool(tool.name.clone()), target) {
            Ok(()) => return Ok(()),
            Err(refused) => last = Some(refused),
        }
    }
    Err(last.unwrap_or_else(|| {
        Refused::forbidden(
            "NotDeclared",
            "the Agent has no tools",
            "Name the Tool in spec.tools of the Agent.",
        )
    }))
}

async fn serve_tunnel(shared: Arc<Shared>, peer: Peer, slot: Arc<Slot>, target: Target, upgrade: OnUpgrade) {
    let Ok(Ok(upgraded)) = timeout(HANDSHAKE, upgrade).await else { return };
    let hello = LazyConfigAcceptor::new(Acceptor::default(), TokioIo::new(upgraded));
    let start = match timeout(HANDSHAKE, hello).await {
        Ok(Ok(start)) => start,
        _ => {
            return refuse(&shared, peer, &target, "TunnelNotTLS", "the tunnel does not begin with TLS")
                .await;
        }
    };
    if !same_name(start.client_hello().server_name(), &target.host) {
        return refuse(&shared, peer, &target, "HostMismatch", "SNI names another host than CONNECT").await;
    }
    let name = match &target.host {
        Host::Ip(ip) => ip.to_string(),
        Host::Name(name) => name.as_str().to_owned(),
    };
    let config = match shared.authority.server(&[name], &ALPN) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!("no certificate for a tunnel: {error}");
            return refuse(
                &shared,
                peer,
                &target,
                "CertificateNotMade",
                "no certificate can be made for the host",
            )
            .await;
        }
    };
    let stream = match timeout(HANDSHAKE, start.into_stream(config)).await {
        Ok(Ok(stream)) => stream,
        // What a client does that believes other authorities only.
        _ => {
            return refuse(
                &shared,
                peer,
                &target,
                "CertificateNotTrusted",
                "the client ended the TLS handshake",
            )
            .await;
        }
    };
    let idle = shared.limits.idle;
    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = {
        let shared = Arc::clone(&shared);
        move |request: Request<Incoming>| {
            let (shared, target) = (Arc::clone(&shared), target.clone());
            async move { handle(&shared, Origin { peer, tunnel: Some(&target) }, request).await }
        }
    };
    if h2 {
        serve::http2(stream, idle, slot, service).await;
    } else {
        serve::http1(stream, Http1 { idle, connect: false }, slot, service).await;
    }
}

/// Whether the name in a client's hello is the host; for an address there is none.
fn same_name(name: Option<&str>, host: &Host) -> bool {
    match (name, host) {
        (Some(name), Host::Name(_)) => name.parse::<Host>().is_ok_and(|it| it == *host),
        (None, Host::Ip(_)) => true,
        _ => false,
    }
}

/// A tunnel that cannot be answered in HTTP is closed and recorded.
async fn refuse(shared: &Shared, peer: Peer, target: &Target, reason: &str, message: &str) {
    let refused = Refused::forbidden(reason, message, "");
    let mut record = Record {
        source: Some(peer.name().to_owned()),
        host: Some(target.host.to_string()),
        port: Some(target.port),
        ..Record::new("connect")
    };
    record.refuse(&refused);
    record.status = None;
    record.detail = Some(message.to_owned());
    let _unwritten = shared.audit.write(record).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_hellos() {
        let check = |name: Option<&str>, host: &str, expected: bool| {
            assert_eq!(same_name(name, &host.parse().unwrap()), expected, "{name:?} {host}");
        };
        check(Some("a.example"), "a.example", true);
        check(Some("A.Example"), "a.example", true);
        check(Some("b.example"), "a.example", false);
        check(None, "a.example", false);
        check(None, "192.0.2.1", true);
        check(Some("a.example"), "192.0.2.1", false);
    }
}
