//! `/metrics` in plain HTTP, on a port of its own, so that whoever scrapes need not reach anything else.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use redoubt_metrics::Exposition;
use tracing::error;

use crate::plain::{self, Answer};

/// An answer is given again for so long: counting thousands of objects anew for everyone who asks would be work for others.
const GIVEN_AGAIN: Duration = Duration::from_secs(1);

/// Serves until the runtime ends. Returns where.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve(address: SocketAddr, exposition: Exposition) -> std::io::Result<SocketAddr> {
    let last: Mutex<Option<(Instant, Bytes)>> = Mutex::default();
    let answer = move |method: &Method, path: &str| match (method, path) {
        (&Method::GET | &Method::HEAD, "/metrics") => {
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, text)) = last.as_ref().filter(|(since, _)| since.elapsed() < GIVEN_AGAIN) {
                return told(text.clone());
            }
            match exposition.encode() {
                Ok(text) => {
                    let text = Bytes::from(text);
                    *last = Some((Instant::now(), text.clone()));
                    told(text)
                }
                Err(error) => {
                    error!(%error, "the metrics cannot be written");
                    plain::text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written\n")
                }
            }
        }
        _ => plain::text(StatusCode::NOT_FOUND, "not found\n"),
    };
    plain::serve(address, answer).await
}

fn told(text: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(text));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(redoubt_metrics::CONTENT_TYPE));
    answer
}
