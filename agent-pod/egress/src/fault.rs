//! What went wrong in one exchange, for whoever answers or records it.

use std::sync::{Arc, Mutex, PoisonError};

use http::StatusCode;

use crate::refuse::Refused;

/// The first thing that went wrong in one exchange, shared by its two directions.
#[derive(Clone, Default)]
pub(crate) struct Fault(Arc<Mutex<Option<Refused>>>);

/// Ends a body's stream. What went wrong is in the [`Fault`].
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the exchange was ended")]
pub(crate) struct Ended;

impl Fault {
    /// Notes what went wrong, unless something did before.
    pub(crate) fn set(&self, refused: Refused) -> Ended {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(refused);
        Ended
    }

    pub(crate) fn get(&self) -> Option<Refused> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A credential of the pod is in the request.
pub(crate) fn credential_in_request(place: &str, binding: Option<&str>) -> Refused {
    let refused = Refused::forbidden(
        "CredentialInRequest",
        format!("the {place} of the request holds the value of a credential"),
        "Send the request without it; the sidecar adds the credential where the SecretBinding says.",
    );
    match binding {
        Some(binding) => refused.because_of(format!("SecretBinding/{binding}"), "spec.destinations"),
        None => refused,
    }
}

pub(crate) fn body_malformed() -> Refused {
    Refused::bad(
        "RequestMalformed",
        "the body of the request is not framed as HTTP says, or ended early",
        "Send a whole body.",
    )
}

pub(crate) fn body_silent() -> Refused {
    Refused::by_pod(
        StatusCode::REQUEST_TIMEOUT,
        "RequestTimeout",
        "the body of the request did not go on",
        "Send the body at once.",
    )
}

pub(crate) fn upstream_malformed(detail: &str) -> Refused {
    Refused::by_pod(
        StatusCode::BAD_GATEWAY,
        "UpstreamMalformed",
        format!("the destination's answer is not HTTP as it should be: {detail}"),
        "This is for those who run the destination to correct.",
    )
}

pub(crate) fn upstream_silent() -> Refused {
    Refused::by_pod(
        StatusCode::GATEWAY_TIMEOUT,
        "UpstreamTimeout",
        "the destination did not answer in time",
        "Try again later.",
    )
}

pub(crate) fn credentials_changed() -> Refused {
    Refused::by_pod(
        StatusCode::SERVICE_UNAVAILABLE,
        "CredentialsChanged",
        "credentials were replaced too often during this answer",
        "Ask again.",
    )
}

pub(crate) fn policy_changed() -> Refused {
    Refused::forbidden(
        "PolicyChanged",
        "a newer policy does not allow this request any more",
        "Ask again to learn which object and field refuse it.",
    )
}
