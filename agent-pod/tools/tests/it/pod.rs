//! What stands around hands and brain in tests: a directory with sockets, and a stand-in for the sidecar that forwards,
//! refuses and records. The real sidecar is in the end-to-end tests.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use redoubt_local::reply::{self, Reply};
use redoubt_local::{Client, Listener};
use redoubt_policy::Refusal;
use serde_json::Value;
use tokio::net::TcpStream;

/// The uid that the tests run under.
pub fn own_uid() -> u32 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").unwrap().uid()
}

/// A directory that is removed with its owner.
pub struct Dir(pub PathBuf);

impl Dir {
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("redoubt-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What is kept in order, for the test to look at.
pub type Log<T> = Arc<Mutex<Vec<T>>>;

/// A stand-in for the sidecar. Requests to `refused.example` are refused.
pub struct Egress {
    pub socket: PathBuf,
    /// Targets of proxied requests, as they came, with the value of `Redoubt-Tool`.
    pub proxied: Log<(String, Option<String>)>,
    /// Reports of tool calls.
    pub audit: Log<Value>,
    /// Whether reports are taken.
    pub records: Arc<std::sync::atomic::AtomicBool>,
}

impl Egress {
    pub fn start(dir: &Dir) -> Self {
        let socket = dir.join("egress.sock");
        let egress = Self {
            socket: socket.clone(),
            proxied: Arc::default(),
            audit: Arc::default(),
            records: Arc::new(true.into()),
        };
        let listener = Listener::bind(&socket, &[own_uid()]).unwrap();
        let (proxied, audit, records) =
            (egress.proxied.clone(), egress.audit.clone(), egress.records.clone());
        let handler = move |request| forward(request, proxied.clone(), audit.clone(), records.clone());
        tokio::spawn(listener.serve(handler, std::future::pending()));
        egress
    }

    pub fn audit(&self) -> Vec<Value> {
        self.audit.lock().unwrap().clone()
    }
}

async fn forward(
    request: Request<Incoming>,
    proxied: Log<(String, Option<String>)>,
    audit: Log<Value>,
    records: Arc<std::sync::atomic::AtomicBool>,
) -> Reply {
    let (mut head, body) = request.into_parts();
    let Some(authority) = head.uri.authority().cloned() else {
        if !records.load(Ordering::SeqCst) {
            return reply::json(StatusCode::INTERNAL_SERVER_ERROR, &());
        }
        assert_eq!((head.method.as_str(), head.uri.path()), ("POST", "/v1/audit/tool-call"));
        let body = body.collect().await.unwrap().to_bytes();
        audit.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
        return reply::json(StatusCode::OK, &());
    };
    let tool = head.headers.remove("redoubt-tool").map(|value| value.to_str().unwrap().to_owned());
    proxied.lock().unwrap().push((head.uri.to_string(), tool));
    if authority.host() == "refused.example" {
        let refusal =
            Refusal::new("NotGranted", "EgressPolicy/base", "spec.allow[0]", "not granted", "grant it");
        return reply::refuse(StatusCode::FORBIDDEN, &refusal);
    }
    let stream = TcpStream::connect(authority.as_str()).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    head.uri = head.uri.path_and_query().unwrap().as_str().parse().unwrap();
    match sender.send_request(Request::from_parts(head, body)).await {
        Ok(response) => {
            // A body that breaks off has to break off here too, so it is not turned into an error.
            let (head, body) = response.into_parts();
            let body = body.map_err(|error| -> std::convert::Infallible { panic!("{error}") });
            http::Response::from_parts(head, body.boxed_unsync())
        }
        Err(error) => reply::refuse(
            StatusCode::BAD_GATEWAY,
            &Refusal::new("UpstreamUnavailable", "Pod", "", error.to_string(), "try again"),
        ),
    }
}

/// Sends a request to a unix socket and gives status, headers and the whole body.
pub async fn exchange(
    socket: &Path,
    method: &str,
    path: &str,
    body: &str,
) -> (StatusCode, http::HeaderMap, String) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body.to_owned())))
        .unwrap();
    let response = Client::new(socket, Duration::from_secs(60)).send(request).await.unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status, head.headers, String::from_utf8(body.to_vec()).unwrap())
}
