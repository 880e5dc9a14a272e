//! Executes a call: finds the function, makes its request, sends it through the sidecar, bounds the response.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{HeaderName, Request, StatusCode};
use http_body_util::Full;
use redoubt_local::body::{Bounded, read_up_to, text};
use redoubt_local::{Client, reply};
use redoubt_policy::Refusal;
use redoubt_policy::template::FunctionRequest;

use crate::call::{Call, CallResult, Report};
use crate::catalog::{Catalog, Function};

/// Names the Tool to the sidecar, which takes the header from the hands' uid only and forwards it to nobody.
const TOOL: HeaderName = HeaderName::from_static("redoubt-tool");

/// Most bytes that are read of a refusal's body.
const REFUSAL_MAX: usize = 64 * 1024;

/// A call that gave no result: status of the answer, and why.
pub type Refused = (StatusCode, Refusal);

/// Executes `call`.
///
/// # Errors
/// When the call is not allowed or its request got no response. A response of the tool's server, whatever its status, is a
/// result.
pub async fn execute(egress: &Client, catalog: &Catalog, call: Call) -> Result<CallResult, Refused> {
    let function = catalog.find(&call.name).map_err(|refusal| match refusal.reason.as_str() {
        "UnknownFunction" => (StatusCode::NOT_FOUND, refusal),
        _ => (StatusCode::UNPROCESSABLE_ENTITY, refusal),
    })?;
    let request = function
        .request(&call.name, call.arguments)
        .map_err(|refusal| (StatusCode::UNPROCESSABLE_ENTITY, refusal))?;
    let request = http_request(function, request)?;
    let broken = |message: String| failed(function, "ToolUnavailable", StatusCode::BAD_GATEWAY, message);
    let response = egress.send(request).await.map_err(|error| {
        let message = format!("the sidecar did not answer: {error}");
        let help = "look at the log of the egress container";
        (
            StatusCode::BAD_GATEWAY,
            Refusal::new("EgressUnavailable", "Pod", "spec.initContainers[egress]", message, help),
        )
    })?;
    let (head, body) = response.into_parts();
    if head.headers.contains_key(reply::REFUSED) {
        let body =
            read_up_to(body, REFUSAL_MAX).await.unwrap_or(Bounded { bytes: Bytes::new(), truncated: true });
        let refusal =
            reply::refusal(&head.headers, &body.bytes).ok_or_else(|| broken("no refusal".to_owned()))?;
        let status = if head.status.is_success() { StatusCode::BAD_GATEWAY } else { head.status };
        return Err((status, refusal));
    }
    let body = read_up_to(body, function.max_response_bytes)
        .await
        .map_err(|error| broken(format!("the response broke off: {error}")))?;
    let content_type =
        head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    Ok(CallResult {
        status: head.status.as_u16(),
        content_type: content_type.to_owned(),
        body: text(&body),
        truncated: body.truncated,
    })
}

fn http_request(function: &Function, request: FunctionRequest) -> Result<Request<Full<Bytes>>, Refused> {
    let mut builder = Request::builder()
        .method(request.method.as_str())
        .uri(request.url())
        .header(ACCEPT, "application/json, text/*;q=0.9, */*;q=0.1")
        .header(USER_AGENT, concat!("redoubt-tools/", env!("CARGO_PKG_VERSION")))
        .header(TOOL, function.tool.as_str());
    let body = match request.body {
        Some(members) => {
            builder = builder.header(CONTENT_TYPE, "application/json");
            Bytes::from(serde_json::Value::Object(members).to_string())
        }
        None => Bytes::new(),
    };
    builder.body(Full::new(body)).map_err(|error| {
        let message = format!("the request could not be made: {error}");
        failed(function, "FunctionUnusable", StatusCode::UNPROCESSABLE_ENTITY, message)
    })
}

fn failed(function: &Function, reason: &str, status: StatusCode, message: String) -> Refused {
    let object = format!("Tool/{}", function.tool);
    let help = "try again; if it stays, look at the tool's server and the log of the egress container";
    (status, Refusal::new(reason, object, "spec.http.baseURL", message, help))
}

/// The refusal of a call that took too long.
#[must_use]
pub fn timed_out(name: &str, limit: Duration) -> Refused {
    let (tool, _) = name.split_once("__").unwrap_or((name, ""));
    let message = format!("the call took longer than {} s", limit.as_secs());
    let help = "whether the tool's server acted on it is not known; look before calling again";
    (
        StatusCode::GATEWAY_TIMEOUT,
        Refusal::new("ToolTimeout", format!("Tool/{}", crate::call::shown(tool)), "spec.http", message, help),
    )
}

/// Reports a call to the sidecar's audit.
///
/// # Errors
/// When the sidecar did not take the report. The result is then withheld: what is not recorded did not happen.
pub async fn report(egress: &Client, report: &Report) -> Result<(), Refused> {
    let lost = |message: String| {
        let help = "look at the log of the egress container";
        (StatusCode::SERVICE_UNAVAILABLE, Refusal::new("AuditUnavailable", "Pod", "", message, help))
    };
    let body = serde_json::to_vec(report).map_err(|error| lost(error.to_string()))?;
    let request = Request::post("/v1/audit/tool-call")
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| lost(error.to_string()))?;
    let response = egress
        .send(request)
        .await
        .map_err(|error| lost(format!("the call could not be recorded: {error}")))?;
    if response.status().is_success() {
        Ok(())
    } else {
        Err(lost(format!("the sidecar did not record the call: status {}", response.status())))
    }
}
