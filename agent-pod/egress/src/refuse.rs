//! How the sidecar says no: a [`Refusal`] with an HTTP status.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use redoubt_policy::Refusal;

use crate::body::Body;

/// Header of every refusal, with its reason. Answers of others never carry it.
pub(crate) const REFUSED_HEADER: HeaderName = HeaderName::from_static("redoubt-refused");

/// A request that is not answered as asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    pub(crate) refusal: Box<Refusal>,
}

impl Refused {
    /// Refused by the sidecar on its own account, and not by an object.
    pub(crate) fn by_pod(status: StatusCode, reason: &str, message: impl Into<String>, help: &str) -> Self {
        Self { status, refusal: Box::new(Refusal::new(reason, "Pod", "", message, help)) }
    }

    /// A request that cannot be read in one way only.
    pub(crate) fn bad(reason: &str, message: impl Into<String>, help: &str) -> Self {
        Self::by_pod(StatusCode::BAD_REQUEST, reason, message, help)
    }

    /// A request that can be read and may not be.
    pub(crate) fn forbidden(reason: &str, message: impl Into<String>, help: &str) -> Self {
        Self::by_pod(StatusCode::FORBIDDEN, reason, message, help)
    }

    /// The same, with an object and field to blame.
    pub(crate) fn because_of(mut self, object: impl Into<String>, field: impl Into<String>) -> Self {
        self.refusal.object = object.into();
        self.refusal.field = field.into();
        self
    }

    /// The answer.
    pub(crate) fn response(&self) -> Response<Body> {
        let body = serde_json::json!({ "error": self.refusal }).to_string();
        let mut response = json(self.status, body);
        if let Ok(reason) = HeaderValue::from_str(&self.refusal.reason) {
            response.headers_mut().insert(REFUSED_HEADER, reason);
        }
        response
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { status: StatusCode::FORBIDDEN, refusal: Box::new(refusal) }
    }
}

/// A JSON answer.
pub(crate) fn json(status: StatusCode, body: String) -> Response<Body> {
    plain(status, "application/json", body)
}

/// An answer with a whole body.
pub(crate) fn plain(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
