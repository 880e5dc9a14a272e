//! How a task fails: as data, with a stable reason, and its form in the OpenAI API.

use http::StatusCode;
use redoubt_policy::Refusal;
use serde_json::{Value, json};

/// Why a task did not end with an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{refusal}")]
pub struct Failure {
    /// Status of the response, if it is not under way yet.
    pub status: StatusCode,
    /// Reason, object, field, message and the way out.
    pub refusal: Refusal,
    /// Seconds after which the caller may try again.
    pub retry_after: Option<u64>,
}

impl Failure {
    /// A failure with this status.
    #[must_use]
    pub fn new(status: StatusCode, refusal: Refusal) -> Self {
        Self { status, refusal, retry_after: None }
    }

    /// The caller's request is at fault, in this field of it.
    #[must_use]
    pub fn request(field: &str, message: impl Into<String>, help: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Refusal::new("InvalidRequest", "Request", field, message, help))
    }

    /// The error object of the OpenAI API, with the object that is to blame and the way out beside its usual members.
    #[must_use]
    pub fn body(&self) -> Value {
        let Refusal { reason, object, field, message, help } = &self.refusal;
        let kind = match self.status {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_client_error() => "invalid_request_error",
            _ => "api_error",
        };
        // Clients show `message` alone, so it has to say everything.
        let whole = format!("{reason}: {message} ({object}, {field}). {help}");
        json!({"error": {
            "message": whole, "type": kind, "param": field, "code": reason,
            "object": object, "field": field, "help": help,
        }})
    }
}
