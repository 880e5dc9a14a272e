//! One question to the agent, through the API server's service proxy, and the answer as it comes.

use http::header::CONTENT_TYPE;
use http::{HeaderName, Request};
use http_body_util::BodyExt;
use kube::client::Body;
use redoubt_crds::names;
use redoubt_local::body::read_up_to;
use redoubt_local::sse;
use serde_json::{Value, json};

use super::token::Caller;
use crate::cluster::Cluster;
use crate::error::Error;

/// Header for the caller's token.
const AUTHORIZATION: HeaderName = HeaderName::from_static("redoubt-authorization");

/// Port of the agent's Service.
const PORT: u16 = 8443;

/// Most bytes of one event of an answer.
const EVENT_MAX: usize = 4 * 1024 * 1024;

/// Most bytes that are read of an error.
const ERROR_MAX: usize = 64 * 1024;

/// Path of the agent's chat API, as the API server proxies it.
fn path(namespace: &str, agent: &str) -> String {
    let service = names::child(agent);
    format!("/api/v1/namespaces/{namespace}/services/https:{service}:{PORT}/proxy/v1/chat/completions")
}

/// Sends the conversation and gives each piece of the answer to `say`.
pub(super) async fn ask(
    cluster: &Cluster,
    agent: &str,
    caller: &mut Caller,
    messages: &[Value],
    mut say: impl FnMut(&str) -> Result<(), Error>,
) -> Result<(), Error> {
    let body = json!({"model": agent, "messages": messages, "stream": true}).to_string();
    let request = Request::post(path(&cluster.namespace, agent))
        .header(CONTENT_TYPE, "application/json")
        .header(AUTHORIZATION, caller.authorization(cluster).await?)
        .body(Body::from(body.into_bytes()))
        .map_err(|error| Error::Protocol(error.to_string()))?;
    let response = cluster
        .client
        .send(request)
        .await
        .map_err(|error| Error::cluster(format!("reach agent {}/{agent}", cluster.namespace), &error))?;
    let (head, mut body) = response.into_parts();
    if !head.status.is_success() {
        let bytes = read_up_to(body, ERROR_MAX).await.map(|read| read.bytes).unwrap_or_default();
        return Err(refused(agent, head.status.as_u16(), &bytes));
    }
    let mut events = sse::Reader::new(EVENT_MAX);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Error::Cut(Some(Box::new(error))))?;
        let Ok(bytes) = frame.into_data() else { continue };
        for event in events.push(&bytes).map_err(|error| Error::Protocol(error.to_string()))? {
            if event.data.trim() == "[DONE]" {
                return Ok(());
            }
            let chunk: Value =
                serde_json::from_str(&event.data).map_err(|error| Error::Protocol(error.to_string()))?;
            if chunk.get("error").is_some() {
                return Err(refused(agent, 0, event.data.as_bytes()));
            }
            if let Some(text) = chunk.pointer("/choices/0/delta/content").and_then(Value::as_str) {
                say(text)?;
            }
        }
    }
    Err(Error::Cut(None))
}

/// What an answer that is an error says: as the agent (OpenAI's error object), its sidecar (a refusal) or the API server
/// (a Status) writes it.
fn refused(agent: &str, status: u16, body: &[u8]) -> Error {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
    let said = match (text("/error/reason"), text("/error/message"), text("/message")) {
        (Some(reason), Some(message), _) => {
            let part = |pointer| text(pointer).unwrap_or_default();
            let (object, field) = (part("/error/object"), part("/error/field"));
            format!("{reason}: {message} ({object}, {field}). {}", part("/error/help"))
        }
        (None, Some(message), _) | (_, None, Some(message)) => message.to_owned(),
        _ => format!("status {status}, and no explanation"),
    };
    Error::Refused { status, said, agent: agent.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to() {
        assert_eq!(
            path("team", "helper"),
            "/api/v1/namespaces/team/services/https:redoubt-agent-helper:8443/proxy/v1/chat/completions"
        );
    }

    #[test]
    fn errors_are_told_whoever_wrote_them() {
        for (body, expected) in [
            (
                json!({"error": {"reason": "R", "object": "O/x", "field": "f", "message": "m", "help": "h."}}),
                "R: m (O/x, f). h.",
            ),
            (json!({"error": {"message": "R: m", "type": "t", "code": "R"}}), "R: m"),
            (json!({"kind": "Status", "message": "services is forbidden"}), "services is forbidden"),
            (json!(7), "status 500, and no explanation"),
        ] {
            assert_eq!(refused("a", 500, body.to_string().as_bytes()).to_string(), expected);
        }
    }
}
