//! What stands around hands and brain in tests: a directory with sockets, a server on loopback that does what a test says,
//! and a stand-in for the sidecar that forwards, refuses and records. The real sidecar is in the end-to-end tests.

use std::future::Future;
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
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

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

/// A request as the server received it.
#[derive(Clone, Debug)]
pub struct Received {
    /// Request line and headers, as they came.
    pub head: String,
    pub body: String,
}

impl Received {
    pub fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// What the server does with a request. The connection is closed after the last step.
#[derive(Clone, Debug)]
pub enum Step {
    Send(Vec<u8>),
    /// Nothing until the other side hangs up.
    Hang,
}

/// An HTTP server on loopback whose answers are raw bytes.
pub struct Upstream {
    pub url: String,
    received: Arc<Mutex<Vec<Received>>>,
    abandoned: Arc<AtomicU64>,
}

impl Upstream {
    pub async fn start(answer: impl Fn(usize, &Received) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (received, abandoned) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU64::new(0)));
        let (answer, record, hung_up) = (Arc::new(answer), received.clone(), abandoned.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, answer.clone(), record.clone(), hung_up.clone()));
            }
        });
        Self { url, received, abandoned }
    }

    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// How many hanging requests the other side gave up.
    pub fn abandoned(&self) -> u64 {
        self.abandoned.load(Ordering::SeqCst)
    }
}

async fn serve(
    mut stream: TcpStream,
    answer: Arc<impl Fn(usize, &Received) -> Vec<Step>>,
    record: Arc<Mutex<Vec<Received>>>,
    abandoned: Arc<AtomicU64>,
) {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let length: usize = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned))
        .map_or(0, |text| text.parse().unwrap());
    while bytes.len() < end + length {
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let request = Received { head, body: String::from_utf8(bytes[end..].to_vec()).unwrap() };
    let number = {
        let mut record = record.lock().unwrap();
        record.push(request.clone());
        record.len() - 1
    };
    for step in answer(number, &request) {
        match step {
            Step::Send(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
                let _ = stream.flush().await;
            }
            Step::Hang => {
                let mut rest = [0; 1];
                let _ = stream.read(&mut rest).await;
                abandoned.fetch_add(1, Ordering::SeqCst);
                return;
            }
        }
    }
}

/// A whole answer with a length.
pub fn whole(status: u16, content_type: &str, body: &str) -> Vec<Step> {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n");
    vec![Step::Send([head.as_bytes(), body.as_bytes()].concat())]
}

/// A stand-in for the sidecar. Requests to `refused.example` are refused.
pub struct Egress {
    pub socket: PathBuf,
    /// Targets of proxied requests, as they came, with the value of `Redoubt-Tool`.
    pub proxied: Arc<Mutex<Vec<(String, Option<String>)>>>,
    /// Reports of tool calls.
    pub audit: Arc<Mutex<Vec<Value>>>,
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
    proxied: Arc<Mutex<Vec<(String, Option<String>)>>>,
    audit: Arc<Mutex<Vec<Value>>>,
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

/// Waits until `ready` gives something; a test that waits in vain fails.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, ready: impl Fn() -> F) -> T {
    for _ in 0..600 {
        if let Some(value) = ready().await {
            return value;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("waited 30 s in vain: {what}");
}
