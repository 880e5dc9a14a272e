//! What the brain asks of the hands: which functions there are, and to call them. The hands decide.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, StatusCode};
use http_body_util::Full;
use redoubt_local::Client;
use redoubt_local::body::read_up_to;
use redoubt_local::client::ClientError;
use redoubt_local::reply::RefusalBody;
use redoubt_policy::Refusal;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::failure::Failure;

/// How long the hands may take to answer. They end a call themselves before that.
const ANSWER_LIMIT: Duration = Duration::from_secs(90);

/// Most bytes of an answer: the largest response of a tool (1 MiB), each byte escaped in JSON.
const ANSWER_MAX: usize = 8 * 1024 * 1024;

/// The hands, behind their socket.
#[derive(Clone, Debug)]
pub struct Hands {
    client: Client,
}

#[derive(Deserialize)]
struct Listing {
    tools: Vec<Function>,
}

#[derive(Deserialize)]
struct Function {
    name: String,
    description: String,
    parameters: Value,
}

#[derive(Deserialize)]
struct Called {
    result: Value,
}

impl Hands {
    /// The hands at this socket.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self { client: Client::new(socket, ANSWER_LIMIT) }
    }

    /// The functions, as the model's API wants to be told of them.
    ///
    /// # Errors
    /// When the hands do not tell.
    pub async fn functions(&self) -> Result<Vec<Value>, Failure> {
        let request = Request::get("/v1/tools").body(Full::default()).map_err(|error| lost(&error))?;
        let (status, body) = self.exchange(request).await?;
        let listing: Listing = if status == StatusCode::OK {
            serde_json::from_slice(&body).map_err(|error| lost(&error))?
        } else {
            return Err(serde_json::from_slice::<RefusalBody>(&body).map_or_else(
                |error| lost(&error),
                |body| Failure::new(StatusCode::SERVICE_UNAVAILABLE, body.error),
            ));
        };
        Ok(listing
            .tools
            .into_iter()
            .map(|function| {
                let Function { name, description, parameters } = function;
                json!({"type": "function",
                    "function": {"name": name, "description": description, "parameters": parameters}})
            })
            .collect())
    }

    /// Calls a function. Whatever happens is told to the model: the result, or a refusal.
    pub async fn call(
        &self,
        name: &str,
        arguments: Map<String, Value>,
        call_id: &str,
    ) -> Result<Value, Refusal> {
        let body = json!({"name": name, "arguments": arguments, "callId": call_id}).to_string();
        let request = Request::post("/v1/call")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| lost(&error).refusal)?;
        let (status, body) = self.exchange(request).await.map_err(|failure| failure.refusal)?;
        if status == StatusCode::OK {
            serde_json::from_slice::<Called>(&body)
                .map(|body| body.result)
                .map_err(|error| lost(&error).refusal)
        } else {
            let refusal = serde_json::from_slice::<RefusalBody>(&body).map(|body| body.error);
            Err(refusal.unwrap_or_else(|error| lost(&error).refusal))
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), Failure> {
        let response = self.client.send(request).await.map_err(|error: ClientError| lost(&error))?;
        let (head, body) = response.into_parts();
        let body = read_up_to(body, ANSWER_MAX).await.map_err(|error| lost(&error))?;
        Ok((head.status, body.bytes))
    }
}

fn lost(error: &dyn std::error::Error) -> Failure {
    Failure::new(
        StatusCode::SERVICE_UNAVAILABLE,
        Refusal::new(
            "ToolsUnavailable",
            "Pod",
            "spec.initContainers[tools]",
            format!("the tools container did not answer: {error}"),
            "look at the log of the tools container; whether the call was executed is in its log",
        ),
    )
}
