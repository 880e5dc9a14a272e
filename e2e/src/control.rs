//! The control port of a double: plain HTTP on an address of its own, so that whoever uses the double cannot reach it.
//!
//! For every double: `GET /healthz`, `GET /control/requests`, `DELETE /control/requests`; the rest is the double's own.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::journal::Journal;
use crate::serve::accept_each;

/// The largest body the control port takes, in bytes.
pub const MAX_CONTROL_BODY: usize = 8 << 20;

/// What a double lets be controlled.
pub trait Controls: Send + Sync + 'static {
    /// Its requests.
    fn journal(&self) -> &Journal;
    /// Its own routes: `None` where there is no such route, `Err` with what is wrong with the body.
    fn control(&self, method: &Method, path: &str, body: &[u8]) -> Option<Result<Value, String>>;
}

/// Serves the control port until dropped.
pub async fn serve<C: Controls>(listener: TcpListener, controls: Arc<C>) {
    accept_each(listener, None, move |stream| {
        let controls = controls.clone();
        async move {
            let service = hyper::service::service_fn(move |request| answer(controls.clone(), request));
            let io = TokioIo::new(stream);
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
        }
    })
    .await;
}

async fn answer<C: Controls>(
    controls: Arc<C>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let (status, value) = match Limited::new(body, MAX_CONTROL_BODY).collect().await {
        Ok(body) => route(controls.as_ref(), &head.method, head.uri.path(), &body.to_bytes()),
        Err(error) => (StatusCode::BAD_REQUEST, json!({"error": format!("body: {error}")})),
    };
    let mut response = Response::new(Full::from(format!("{value}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    Ok(response)
}

fn route<C: Controls>(controls: &C, method: &Method, path: &str, body: &[u8]) -> (StatusCode, Value) {
    match (method, path) {
        (&Method::GET, "/healthz") => (StatusCode::OK, json!({"ok": true})),
        (&Method::GET, "/control/requests") => match serde_json::to_value(controls.journal().page()) {
            Ok(page) => (StatusCode::OK, page),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, json!({"error": error.to_string()})),
        },
        (&Method::DELETE, "/control/requests") => {
            controls.journal().clear();
            (StatusCode::OK, json!({"ok": true}))
        }
        _ => match controls.control(method, path, body) {
            Some(Ok(value)) => (StatusCode::OK, value),
            Some(Err(message)) => (StatusCode::BAD_REQUEST, json!({"error": message})),
            None => {
                (StatusCode::NOT_FOUND, json!({"error": format!("no {method} {path} on the control port")}))
            }
        },
    }
}
