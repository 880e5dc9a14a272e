//! Asks the model for one turn, through the sidecar, and asks again where that can help.
//!
//! A turn is asked for again only while nothing of it was passed on to the caller. Nothing of a broken turn is acted on.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use redoubt_local::body::{read_up_to, text};
use redoubt_local::{Client, reply, sse};
use redoubt_policy::Refusal;

use crate::config::Config;
use crate::failure::Failure;
use crate::task::Mouth;
use crate::turn::{Collector, Turn, TurnError, excerpt};

/// How often a turn is asked for again after the model's server failed or its answer broke off.
pub const RETRIES: u32 = 2;

/// How often a turn is asked for again after the server said that there were too many requests (429).
pub const RATE_LIMIT_RETRIES: u32 = 5;

/// Longest wait that a server may ask for with `Retry-After`. Asked for more, the task fails at once.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// First wait where the server asks for none; doubled each time.
const BACK_OFF: Duration = Duration::from_millis(500);

/// Most bytes of one event of the stream.
const EVENT_MAX: usize = 1024 * 1024;

/// Most bytes that are read of an error's body.
const ERROR_BODY_MAX: usize = 64 * 1024;

/// Whether asking again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    Never,
    /// After a short wait.
    Soon,
    /// Too many requests; the server may have said for how many seconds.
    Later(Option<u64>),
}

struct Trouble {
    failure: Failure,
    again: Again,
}

/// How often was asked already.
#[derive(Debug, Default)]
struct Attempts {
    failures: u32,
    rate_limits: u32,
}

impl Attempts {
    /// How long to wait before asking again, unless it is enough.
    fn wait(&mut self, again: Again) -> Option<Duration> {
        match again {
            Again::Never => None,
            Again::Soon => {
                self.failures += 1;
                (self.failures <= RETRIES).then(|| BACK_OFF * 2_u32.pow(self.failures - 1))
            }
            Again::Later(seconds) => {
                self.rate_limits += 1;
                let wait = seconds
                    .map_or_else(|| BACK_OFF * 2_u32.pow(self.rate_limits.min(8)), Duration::from_secs);
                (self.rate_limits <= RATE_LIMIT_RETRIES && wait <= RETRY_AFTER_MAX).then_some(wait)
            }
        }
    }
}

/// Asks for one turn. Text goes to `mouth` as it comes.
///
/// # Errors
/// When the model does not give a whole turn, after the retries that are due.
pub async fn ask(egress: &Client, config: &Config, body: Bytes, mouth: &mut Mouth) -> Result<Turn, Failure> {
    let mut attempts = Attempts::default();
    mouth.begin_turn();
    loop {
        let trouble = match once(egress, config, body.clone(), mouth).await {
            Ok(turn) => return Ok(turn),
            Err(trouble) => trouble,
        };
        let reason = trouble.failure.refusal.reason.as_str();
        let wait = if mouth.said_this_turn() { None } else { attempts.wait(trouble.again) };
        let Some(wait) = wait else {
            tracing::warn!(reason, "the model gave no turn");
            return Err(trouble.failure);
        };
        tracing::info!(reason, wait_ms = wait.as_millis(), "asking the model again");
        tokio::time::sleep(wait).await;
    }
}

async fn once(egress: &Client, config: &Config, body: Bytes, mouth: &mut Mouth) -> Result<Turn, Trouble> {
    let request = Request::post(config.completions.clone())
        .header(CONTENT_TYPE, "application/json")
        .header(ACCEPT, "text/event-stream")
        .header(USER_AGENT, concat!("redoubt-agent/", env!("CARGO_PKG_VERSION")))
        .body(Full::new(body))
        .map_err(|error| {
            unavailable(config, &format!("the request could not be made: {error}"), Again::Never)
        })?;
    let response = egress.send(request).await.map_err(|error| {
        let refusal = Refusal::new(
            "EgressUnavailable",
            "Pod",
            "spec.initContainers[egress]",
            format!("the sidecar did not answer: {error}"),
            "look at the log of the egress container",
        );
        Trouble { failure: Failure::new(StatusCode::BAD_GATEWAY, refusal), again: Again::Soon }
    })?;
    let (head, body) = response.into_parts();
    if head.status != StatusCode::OK {
        let body = read_up_to(body, ERROR_BODY_MAX)
            .await
            .map_or_else(|_| Vec::new(), |read| text(&read).into_bytes());
        return Err(refused(config, head.status, &head.headers, &body));
    }
    let is_stream = head
        .headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.to_ascii_lowercase().starts_with("text/event-stream"));
    if !is_stream {
        let message = "the answer is not an event stream (text/event-stream)".to_owned();
        return Err(broken(config, &TurnError::Protocol(message)));
    }
    read(body, mouth).await.map_err(|error| broken(config, &error))
}

async fn read(mut body: Incoming, mouth: &mut Mouth) -> Result<Turn, TurnError> {
    let mut events = sse::Reader::new(EVENT_MAX);
    let mut collector = Collector::default();
    while !collector.is_done() {
        // However the stream ends, the collector knows whether the model had finished.
        let Some(Ok(frame)) = body.frame().await else { break };
        let Ok(bytes) = frame.into_data() else { continue };
        let complete = events.push(&bytes).map_err(|error| match error {
            sse::SseError::TooLarge => TurnError::TooLarge("1 MiB in one event"),
            sse::SseError::NotUtf8 => TurnError::Protocol(error.to_string()),
        })?;
        for event in complete {
            let said = collector.push(&event.data)?;
            mouth.say(&said).await;
        }
    }
    collector.finish()
}

/// What an answer other than 200 means.
fn refused(config: &Config, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Trouble {
    let overloaded = status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT;
    if let Some(refusal) = reply::refusal(headers, body) {
        // The sidecar's own 5xx pass (Vault or the destination is away); its other refusals are the policy's.
        let again = if overloaded { Again::Soon } else { Again::Never };
        let status = if overloaded { status } else { StatusCode::BAD_GATEWAY };
        return Trouble { failure: Failure::new(status, refusal), again };
    }
    let said = serde_json::from_slice::<serde_json::Value>(body)
        .ok()
        .and_then(|value| value.pointer("/error/message").and_then(|text| text.as_str()).map(excerpt))
        .map_or_else(String::new, |text| format!(": {text}"));
    if status == StatusCode::TOO_MANY_REQUESTS {
        let seconds = headers
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.trim().parse().ok());
        let refusal = Refusal::new(
            "ModelRateLimited",
            config.object(),
            "spec.runtime.model",
            format!("the model's server takes no more requests for now{said}"),
            "try again later, or ask its operator for a higher limit",
        );
        let failure = Failure { status, refusal, retry_after: seconds };
        return Trouble { failure, again: Again::Later(seconds) };
    }
    if overloaded {
        return unavailable(
            config,
            &format!("the model's server failed with status {status}{said}"),
            Again::Soon,
        );
    }
    let refusal = Refusal::new(
        "ModelRefused",
        config.object(),
        "spec.runtime.model",
        format!("the model's server refused the request with status {status}{said}"),
        "check baseURL and name of the model, and that a SecretBinding injects its key",
    );
    Trouble { failure: Failure::new(StatusCode::BAD_GATEWAY, refusal), again: Again::Never }
}

fn unavailable(config: &Config, message: &str, again: Again) -> Trouble {
    let refusal = Refusal::new(
        "ModelUnavailable",
        config.object(),
        "spec.runtime.model.baseURL",
        message,
        "try again; if it stays, look at the model's server",
    );
    Trouble { failure: Failure::new(StatusCode::BAD_GATEWAY, refusal), again }
}

/// What a stream that is no turn means.
fn broken(config: &Config, error: &TurnError) -> Trouble {
    let (reason, again, help) = match error {
        TurnError::Truncated => {
            ("ModelStreamTruncated", Again::Soon, "try again; nothing of the cut turn was done")
        }
        TurnError::Reported(_) => {
            ("ModelUnavailable", Again::Soon, "try again; if it stays, look at the model's server")
        }
        TurnError::Protocol(_) => (
            "ModelProtocol",
            Again::Never,
            "spec.runtime.model.baseURL has to be that of an OpenAI-compatible API with streaming",
        ),
        TurnError::TooLarge(_) => ("ModelAnswerTooLarge", Again::Never, "ask for less at a time"),
    };
    let refusal = Refusal::new(reason, config.object(), "spec.runtime.model", error.to_string(), help);
    Trouble { failure: Failure::new(StatusCode::BAD_GATEWAY, refusal), again }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_end() {
        let mut attempts = Attempts::default();
        assert_eq!(attempts.wait(Again::Never), None);
        let soon: Vec<_> = (0..4).map(|_| attempts.wait(Again::Soon).map(|wait| wait.as_millis())).collect();
        assert_eq!(soon, [Some(500), Some(1000), None, None]);
        let later: Vec<_> =
            (0..6).map(|_| attempts.wait(Again::Later(Some(2))).map(|wait| wait.as_secs())).collect();
        assert_eq!(later, [Some(2), Some(2), Some(2), Some(2), Some(2), None]);
        assert_eq!(Attempts::default().wait(Again::Later(Some(61))), None);
        assert_eq!(Attempts::default().wait(Again::Later(None)), Some(Duration::from_secs(1)));
    }
}
