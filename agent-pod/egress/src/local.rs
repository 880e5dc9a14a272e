//! The sidecar's own small API on its socket: the authority's certificate, the jails' verdicts, reports of tool calls.

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::audit::Record;
use crate::body::Body;
use crate::peer::Peer;
use crate::refuse::{Refused, json, plain};
use crate::shared::Shared;
use crate::verdict::Verdict;

/// Longest body, in bytes.
const BODY_MAX: usize = 64 * 1024;
/// Outcome of a call that was executed; any other is the reason why it was not.
const EXECUTED: &str = "Executed";
/// Longest text of a report that is recorded, in characters.
const TEXT_MAX: usize = 256;

/// What the hands report of each call.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ToolCall {
    tool: String,
    function: String,
    call_id: String,
    outcome: String,
}

/// Answers a request to the sidecar itself.
pub(crate) async fn handle(shared: &Shared, peer: Peer, request: Request<Incoming>) -> Response<Body> {
    let route = format!("{} {}", request.method(), request.uri().path());
    let answer = match route.as_str() {
        "GET /v1/ca.pem" => {
            Ok(plain(StatusCode::OK, "application/x-pem-file", shared.authority.pem().to_owned()))
        }
        "GET /v1/jail/nonce" => nonce(shared, peer),
        "POST /v1/jail/verdict" => verdict(shared, peer, request).await,
        "POST /v1/audit/tool-call" => tool_call(shared, peer, request).await,
        _ => Err(Refused::by_pod(
            StatusCode::NOT_FOUND,
            "NoSuchPath",
            "the sidecar has no such resource",
            "To reach a host, send the whole URL in the first line, as to a proxy.",
        )),
    };
    answer.unwrap_or_else(|refused| refused.response())
}

fn nonce(shared: &Shared, peer: Peer) -> Result<Response<Body>, Refused> {
    let nonce = shared.verdicts.ask(peer)?;
    Ok(json(StatusCode::OK, serde_json::json!({ "nonce": nonce }).to_string()))
}

async fn verdict(shared: &Shared, peer: Peer, request: Request<Incoming>) -> Result<Response<Body>, Refused> {
    let verdict: Verdict = read(request).await?;
    let taken = shared.verdicts.take(peer, &verdict);
    let failed: Vec<&str> =
        verdict.checks.iter().filter(|it| !it.passed).map(|it| it.name.as_str()).collect();
    let mut record = Record {
        source: Some(peer.name().to_owned()),
        detail: Some(short(&format!("{} checks, failed: {}", verdict.checks.len(), failed.join(", ")))),
        ..Record::new("verdict")
    };
    match &taken {
        Err(refused) => record.refuse(refused),
        Ok(()) if shared.verdicts.passed(peer) => {}
        Ok(()) => {
            record.decision = "refuse";
            record.reason = Some("SelfTestFailed".to_owned());
        }
    }
    shared.audit.write(record).await?;
    taken.map(|()| json(StatusCode::OK, "{}".to_owned()))
}

async fn tool_call(
    shared: &Shared,
    peer: Peer,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refused> {
    if peer != Peer::Tools {
        return Err(Refused::forbidden(
            "NotTools",
            "only the tools' container reports tool calls",
            "Leave it to it.",
        ));
    }
    let call: ToolCall = read(request).await?;
    // A name that no policy knows is recorded as claimed: the refused call is what the record is for.
    let source = peer.source(Some(&call.tool), &shared.policy());
    // Each in a field of its own: tool and function are the brain's words, which must not look like an outcome.
    let mut record = Record {
        source: Some(source.map_or_else(|_| peer.name().to_owned(), |tool| tool.to_string())),
        tool: Some(short(&call.tool)),
        function: Some(short(&call.function)),
        call_id: Some(short(&call.call_id)),
        ..Record::new("tool-call")
    };
    if call.outcome != EXECUTED {
        record.decision = "refuse";
        record.reason = Some(short(&call.outcome));
    }
    shared.audit.write(record).await?;
    Ok(json(StatusCode::OK, "{}".to_owned()))
}

async fn read<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Refused> {
    let too_large = |_| Refused {
        status: StatusCode::PAYLOAD_TOO_LARGE,
        ..Refused::bad(
            "BodyTooLarge",
            format!("the body is not whole or has more than {BODY_MAX} bytes"),
            "Send less.",
        )
    };
    let body = Limited::new(request.into_body(), BODY_MAX).collect().await.map_err(too_large)?.to_bytes();
    serde_json::from_slice(&body).map_err(|error| {
        Refused::bad(
            "BodyMalformed",
            format!("the body is not what is expected here: {error}"),
            "See the contract of this path.",
        )
    })
}

fn short(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}
