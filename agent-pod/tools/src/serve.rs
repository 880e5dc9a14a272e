//! The hands' HTTP API: `GET /v1/tools` and `POST /v1/call`.
//!
//! A call that was taken is carried to its end and reported, even when the brain hangs up in between.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use redoubt_local::Client;
use redoubt_local::body::read_up_to;
use redoubt_local::reply::{self, Reply};
use redoubt_policy::Refusal;
use serde_json::json;
use tokio::sync::{Semaphore, watch};

use crate::Args;
use crate::call::{Call, CallResult, Report};
use crate::catalog::Catalog;
use crate::execute::{self, Refused};
use crate::seen::Seen;

/// Most calls under way at once; more wait.
pub const CALLS_MAX: usize = 32;

/// Most calls that are taken and have not ended. More wait before they are read, and are forgotten if the brain hangs up
/// meanwhile; those that are taken stay, so without a bound they would pile up.
pub const TAKEN_MAX: usize = 2 * CALLS_MAX;

/// Most bytes of a call.
pub const CALL_BYTES_MAX: usize = 512 * 1024;

/// How many calls are remembered, so that none is executed twice.
pub const REMEMBERED: usize = 16384;

/// How long the sidecar may take to record a call.
const REPORT_LIMIT: Duration = Duration::from_secs(10);

/// The server's state.
pub struct Hands {
    catalog: watch::Receiver<Arc<Catalog>>,
    requests: Client,
    reports: Client,
    seen: Mutex<Seen>,
    permits: Semaphore,
    taken: Arc<Semaphore>,
    limit: Duration,
}

impl Hands {
    /// Hands with these functions.
    #[must_use]
    pub fn new(args: &Args, catalog: watch::Receiver<Arc<Catalog>>) -> Self {
        let limit = Duration::from_secs(args.call_timeout_seconds);
        Self {
            catalog,
            limit,
            // The limit on the whole call is the one that counts.
            requests: Client::new(&args.egress, limit * 2),
            reports: Client::new(&args.egress, REPORT_LIMIT),
            seen: Mutex::new(Seen::new(REMEMBERED)),
            permits: Semaphore::new(CALLS_MAX),
            taken: Arc::new(Semaphore::new(TAKEN_MAX)),
        }
    }

    fn catalog(&self) -> Arc<Catalog> {
        self.catalog.borrow().clone()
    }

    async fn call(&self, call: Call) -> Result<CallResult, Refused> {
        let (tool, function) = call.tool_and_function();
        let call_id = call.call_id.clone();
        let ended = self.once(call).await;
        let outcome =
            ended.as_ref().map_or_else(|(_, refusal)| refusal.reason.clone(), |_| "Executed".to_owned());
        tracing::info!(tool, function, call_id, outcome, "call");
        let reported = execute::report(&self.reports, &Report { tool, function, call_id, outcome }).await;
        match (ended, reported) {
            (Ok(_), Err(lost)) => Err(lost),
            // A refusal gives nothing away, so it need not be withheld.
            (Err(refused), Err((_, lost))) => {
                tracing::warn!(%lost, "a refused call was not recorded");
                Err(refused)
            }
            (ended, Ok(())) => ended,
        }
    }

    async fn once(&self, call: Call) -> Result<CallResult, Refused> {
        if !self.seen.lock().unwrap_or_else(PoisonError::into_inner).first(&call.call_id) {
            let message = "a call with this identifier was taken already";
            let help = "give each call an identifier of its own";
            return Err((
                StatusCode::CONFLICT,
                Refusal::new("DuplicateCall", "Call", "callId", message, help),
            ));
        }
        let name = call.name.clone();
        let catalog = self.catalog();
        let work = async {
            // The semaphore is never closed.
            let _permit = self.permits.acquire().await;
            execute::execute(&self.requests, &catalog, call).await
        };
        tokio::time::timeout(self.limit, work)
            .await
            .unwrap_or_else(|_| Err(execute::timed_out(&name, self.limit)))
    }
}

/// Answers one request.
pub async fn answer(hands: Arc<Hands>, request: Request<Incoming>) -> Reply {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/v1/tools") => {
            reply::json(StatusCode::OK, &json!({"tools": hands.catalog().descriptions()}))
        }
        (&Method::POST, "/v1/call") => match call(hands, request).await {
            Ok(result) => reply::json(StatusCode::OK, &json!({"result": result})),
            Err((status, refusal)) => reply::refuse(status, &refusal),
        },
        _ => reply::refuse(
            StatusCode::NOT_FOUND,
            &Refusal::new(
                "NotFound",
                "Pod",
                "",
                "there is nothing here",
                "use GET /v1/tools or POST /v1/call",
            ),
        ),
    }
}

async fn call(hands: Arc<Hands>, request: Request<Incoming>) -> Result<CallResult, Refused> {
    let invalid = |status, message: &str| {
        (status, Refusal::new("InvalidCall", "Call", "", message, "send it again, whole and smaller"))
    };
    // The semaphore is never closed.
    let place = Arc::clone(&hands.taken).acquire_owned().await;
    let body = read_up_to(request.into_body(), CALL_BYTES_MAX)
        .await
        .map_err(|_| invalid(StatusCode::BAD_REQUEST, "the call broke off"))?;
    if body.truncated {
        return Err(invalid(StatusCode::PAYLOAD_TOO_LARGE, "the call is too large"));
    }
    let call = Call::parse(&body.bytes).map_err(|refusal| (StatusCode::BAD_REQUEST, refusal))?;
    // In a task of its own: hanging up must not leave a call unrecorded.
    let task = async move {
        let _place = place;
        hands.call(call).await
    };
    tokio::spawn(task).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a call ended unexpectedly");
        let help = "look at the log of the tools container";
        Err((
            StatusCode::INTERNAL_SERVER_ERROR,
            Refusal::new("Internal", "Pod", "", "the call ended unexpectedly", help),
        ))
    })
}
