//! The brain's HTTP API: `POST /v1/chat/completions` and `GET /v1/models`, as OpenAI's clients expect them.
//!
//! A task lives as long as its connection: when the caller goes away, it ends.

use std::hash::{BuildHasher, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame as BodyFrame, Incoming};
use redoubt_local::body::read_up_to;
use redoubt_local::reply::{self, Reply};
use redoubt_local::{Client, sse};
use redoubt_policy::Refusal;
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use crate::Args;
use crate::chat::{ChatRequest, Frame};
use crate::config::{self, Config};
use crate::failure::Failure;
use crate::hands::Hands;
use crate::task::{Event, Mouth, Task};

/// Most bytes of a request.
pub const REQUEST_MAX: usize = 4 * 1024 * 1024;

/// Most tasks at once; more are told to come back.
pub const TASKS_MAX: usize = 16;

/// How long a stream's head waits for the first event, so that an early failure gets a status of its own.
const FIRST_EVENT: Duration = Duration::from_secs(5);

/// Silence after which a stream gets a comment, so that nobody on the way takes it for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Tells OpenAI's own clients not to send a task again: it may have had effects.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Who calls, as the sidecar verified it.
const CALLER: &str = "redoubt-caller";

/// The server's state.
pub struct Brain {
    config: PathBuf,
    egress: PathBuf,
    hands: Hands,
    permits: Arc<Semaphore>,
    /// Random for each process, so that identifiers of tasks do not come again after a restart.
    process: u64,
    tasks: AtomicU64,
}

impl Brain {
    /// A brain with these sockets.
    #[must_use]
    pub fn new(args: &Args) -> Self {
        Self {
            config: args.config.clone(),
            egress: args.egress.clone(),
            hands: Hands::new(&args.tools),
            permits: Arc::new(Semaphore::new(TASKS_MAX)),
            process: std::hash::RandomState::new().build_hasher().finish(),
            tasks: AtomicU64::new(0),
        }
    }

    fn next_id(&self) -> String {
        format!("{:016x}{:x}", self.process, self.tasks.fetch_add(1, Ordering::Relaxed))
    }
}

/// Answers one request.
pub async fn answer(brain: Arc<Brain>, request: Request<Incoming>) -> Reply {
    match route(&brain, request).await {
        Ok(reply) => reply,
        Err(failure) => failed(&failure),
    }
}

async fn route(brain: &Brain, request: Request<Incoming>) -> Result<Reply, Failure> {
    let config = config::read(&brain.config)
        .map_err(|refusal| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, refusal))?;
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/v1/models") => Ok(reply::json(
            StatusCode::OK,
            &json!({"object": "list", "data": [
                {"id": config.agent, "object": "model", "created": 0, "owned_by": config.namespace},
            ]}),
        )),
        (&Method::POST, "/v1/chat/completions") => chat(brain, config, request).await,
        (_, "/v1/models" | "/v1/chat/completions") => Err(no_such(StatusCode::METHOD_NOT_ALLOWED)),
        _ => Err(no_such(StatusCode::NOT_FOUND)),
    }
}

fn no_such(status: StatusCode) -> Failure {
    let mut failure = Failure::request(
        "",
        "there is nothing here of that method and path",
        "use POST /v1/chat/completions or GET /v1/models",
    );
    failure.status = status;
    failure
}

async fn chat(brain: &Brain, config: Config, request: Request<Incoming>) -> Result<Reply, Failure> {
    let permit = brain.permits.clone().try_acquire_owned().map_err(|_| {
        let refusal = Refusal::new(
            "TooManyTasks",
            config.object(),
            "",
            format!("the agent has {TASKS_MAX} tasks under way"),
            "try again later",
        );
        Failure { status: StatusCode::TOO_MANY_REQUESTS, refusal, retry_after: Some(5) }
    })?;
    let caller =
        request.headers().get(CALLER).and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned();
    let body = read_up_to(request.into_body(), REQUEST_MAX)
        .await
        .map_err(|_| Failure::request("", "the request broke off", "send it again"))?;
    if body.truncated {
        let message = format!("the request is larger than {} MiB", REQUEST_MAX >> 20);
        let mut failure = Failure::request("", message, "leave the oldest messages out");
        failure.status = StatusCode::PAYLOAD_TOO_LARGE;
        return Err(failure);
    }
    let request = ChatRequest::parse(&body.bytes, &config.agent)?;
    let (streams, include_usage) = (request.stream, request.include_usage);
    let id = brain.next_id();
    tracing::info!(task = id, caller, "task begins");
    let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let frame = Frame { id: format!("chatcmpl-{id}"), created, model: config.agent.clone() };
    let egress = Client::new(&brain.egress, config.timeout);
    let task = Task { id, egress, hands: brain.hands.clone(), request, config };
    if streams {
        let (sender, receiver) = mpsc::channel(32);
        let run = tokio::spawn(async move {
            let _permit = permit;
            let ended = task.run(Mouth::new(Some(sender.clone()))).await;
            let _ = sender.send(Event::End(ended)).await;
        });
        Answering { receiver, _run: Run(run), frame, include_usage, over: false }.reply().await
    } else {
        let answer = task.run(Mouth::default()).await?;
        drop(permit);
        Ok(reply::json(StatusCode::OK, &frame.whole(&answer.text, &answer.finish_reason, answer.usage)))
    }
}

/// A task under way, which ends when nobody listens any more.
struct Run(JoinHandle<()>);

impl Drop for Run {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An answer that is being streamed.
struct Answering {
    receiver: mpsc::Receiver<Event>,
    _run: Run,
    frame: Frame,
    include_usage: bool,
    over: bool,
}

impl Answering {
    async fn reply(mut self) -> Result<Reply, Failure> {
        let mut first = sse::encode(&self.frame.begin()).to_vec();
        match tokio::time::timeout(FIRST_EVENT, self.receiver.recv()).await {
            Ok(Some(Event::End(Err(failure)))) => return Err(failure),
            Ok(event) => first.extend_from_slice(&self.told(event)),
            Err(_) => {}
        }
        let begin = stream::once(async move { Ok(BodyFrame::data(Bytes::from(first))) });
        let rest = stream::unfold(self, |mut answering| async move {
            let bytes = answering.next().await?;
            Some((Ok(BodyFrame::data(bytes)), answering))
        });
        let mut reply = Response::new(StreamBody::new(stream::StreamExt::chain(begin, rest)).boxed_unsync());
        let headers = reply.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        Ok(reply)
    }

    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        match tokio::time::timeout(KEEP_ALIVE, self.receiver.recv()).await {
            Ok(event) => Some(self.told(event)),
            Err(_) => Some(sse::KEEP_ALIVE),
        }
    }

    /// The bytes that tell of an event; `None` is a task that ended without a word, which only a defect can do.
    fn told(&mut self, event: Option<Event>) -> Bytes {
        let answer = match event {
            Some(Event::Text(text)) => return sse::encode(&self.frame.text(&text)),
            Some(Event::End(answer)) => answer,
            None => Err(Failure::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                Refusal::new(
                    "Internal",
                    "Pod",
                    "",
                    "the task ended unexpectedly",
                    "look at the log of the agent container",
                ),
            )),
        };
        self.over = true;
        match answer {
            // Clients know a failed stream by the member `error`, and it has no `[DONE]`.
            Err(failure) => sse::encode(&failure.body().to_string()),
            Ok(answer) => {
                let mut events = vec![self.frame.end(&answer.finish_reason)];
                events.extend(self.include_usage.then(|| self.frame.usage(answer.usage)));
                events.push("[DONE]".to_owned());
                events.iter().flat_map(|event| sse::encode(event)).collect()
            }
        }
    }
}

fn failed(failure: &Failure) -> Reply {
    let mut reply = reply::json(failure.status, &failure.body());
    let retry = if failure.refusal.reason == "TooManyTasks" { "true" } else { "false" };
    reply.headers_mut().insert(SHOULD_RETRY, HeaderValue::from_static(retry));
    if let Some(seconds) = failure.retry_after {
        reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    reply
}
