//! Responses of a server in the pod, and the refusal format that all of them share.

use std::convert::Infallible;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use redoubt_policy::Refusal;
use serde::{Deserialize, Serialize};

/// Body of a response.
pub type ReplyBody = UnsyncBoxBody<Bytes, Infallible>;

/// A response.
pub type Reply = Response<ReplyBody>;

/// Header that tells a refusal by a part of the pod from an answer of the destination. Its value is the reason.
pub const REFUSED: HeaderName = HeaderName::from_static("redoubt-refused");

/// Body of a refusal.
#[derive(Debug, Serialize, Deserialize)]
pub struct RefusalBody {
    /// The refusal.
    pub error: Refusal,
}

/// A response with a JSON body.
pub fn json<T: Serialize>(status: StatusCode, value: &T) -> Reply {
    let (status, bytes) = match serde_json::to_vec(value) {
        Ok(bytes) => (status, bytes),
        // Only a map whose keys are no strings can fail, and none of the pod's types has one.
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, b"{}".to_vec()),
    };
    let mut reply = Response::new(Full::new(Bytes::from(bytes)).boxed_unsync());
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

/// A refusal.
#[must_use]
pub fn refuse(status: StatusCode, refusal: &Refusal) -> Reply {
    let mut reply = json(status, &RefusalBody { error: refusal.clone() });
    if let Ok(reason) = HeaderValue::from_str(&refusal.reason) {
        reply.headers_mut().insert(REFUSED, reason);
    }
    reply
}

/// The refusal that a response carries, if a part of the pod refused rather than the destination answered.
///
/// A refusal whose body cannot be read is still one: the header alone says so.
#[must_use]
pub fn refusal(headers: &HeaderMap, body: &[u8]) -> Option<Refusal> {
    let reason = headers.get(REFUSED)?;
    Some(serde_json::from_slice::<RefusalBody>(body).map(|body| body.error).unwrap_or_else(|_| {
        Refusal::new(
            String::from_utf8_lossy(reason.as_bytes()),
            "Pod",
            "",
            "the request was refused without a readable explanation",
            "look at the log of the egress container",
        )
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn refusal_survives_the_wire() {
        let given = Refusal::new("NotGranted", "EgressPolicy/a", "spec.allow[0]", "no", "grant it");
        let (head, body) = refuse(StatusCode::FORBIDDEN, &given).into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        assert_eq!(head.status, 403);
        assert_eq!(refusal(&head.headers, &body), Some(given));
        // A destination that forges the body is no refusal, one whose body is cut still is.
        assert_eq!(refusal(&HeaderMap::new(), &body), None);
        assert_eq!(refusal(&head.headers, b"{").unwrap().reason, "NotGranted");
    }
}
