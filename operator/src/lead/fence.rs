//! What every write to the API server has to pass. There is no way around it but the two clients that are given out by
//! name: that of the Lease itself, and that of the signing key's first making.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::{Method, Request};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::retry::RetryPolicy;
use kube::client::{Body, ConfigExt as _};
use kube::{Client, Config};
use tokio::sync::watch;
use tower::retry::RetryLayer;
use tower::{BoxError, ServiceBuilder, ServiceExt as _};
use tracing::field::Empty;
use tracing::{Instrument as _, info_span};

use super::socket::Fenced;
use super::{Moment, UNACKNOWLEDGED};
use crate::metrics::Metrics;
use crate::traces::TARGET;

/// Longest wait for a connection, and for the answer to one write with all its repetitions.
const CONNECT_MAX: Duration = Duration::from_secs(5);
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Questions that the API server takes as POST. They write nothing.
const QUESTIONS: [&str; 2] = ["/apis/authentication.k8s.io/", "/apis/authorization.k8s.io/"];

/// Until when this process may write. Closed at first.
#[derive(Clone)]
pub struct Fence(Arc<watch::Sender<Moment>>);

/// Why a write was not sent.
#[derive(Debug, thiserror::Error)]
#[error("not written: this replica does not hold the Lease")]
pub struct NotLeading;

impl Default for Fence {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Moment::default())))
    }
}

impl Fence {
    /// Whether this process may write at this moment.
    #[must_use]
    pub fn holds(&self) -> bool {
        Moment::now() < *self.0.borrow()
    }

    /// This process may write until then.
    pub(crate) fn open_until(&self, end: Moment) {
        self.0.send_replace(end);
    }

    /// From now on this process may not write.
    pub(crate) fn close(&self) {
        self.0.send_replace(Moment::default());
    }

    /// Returns once this process may not write.
    pub async fn lapsed(&self) {
        let mut changes = self.0.subscribe();
        loop {
            let end = *changes.borrow_and_update();
            if end <= Moment::now() {
                return;
            }
            tokio::select! {
                () = end.come() => {}
                // The sender is in `self`.
                _ = changes.changed() => {}
            }
        }
    }

    /// The outcome of `write`, which is given up when this process may no longer write. It is asked before every step, so
    /// that a process that was stopped does not take one more.
    async fn within<T>(&self, write: impl Future<Output = Result<T, BoxError>>) -> Result<T, BoxError> {
        let mut write = pin!(write);
        let mut lapsed = pin!(self.lapsed());
        poll_fn(|cx| {
            if !self.holds() {
                return Poll::Ready(Err(NotLeading.into()));
            }
            match write.as_mut().poll(cx) {
                Poll::Pending => lapsed.as_mut().poll(cx).map(|()| Err(NotLeading.into())),
                done => done,
            }
        })
        .await
    }

    /// A client that reads through `reads`, and writes on connections of its own while this process may write. Writes are
    /// counted.
    ///
    /// # Errors
    /// When `config` cannot be used.
    pub fn client(&self, config: &Config, reads: Client, metrics: Arc<Metrics>) -> kube::Result<Client> {
        let fence = self.clone();
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_MAX));
        connector.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
        let connector = connector.map_response(move |io| Fenced { io, fence: fence.clone() });
        let connector = config.rustls_https_connector_with_connector(connector)?;
        let http = hyper_util::client::legacy::Builder::new(TokioExecutor::new()).build::<_, Body>(connector);
        let writes = ServiceBuilder::new()
            .layer(config.base_uri_layer())
            .layer(RetryLayer::new(RetryPolicy::server_retry()))
            .option_layer(config.auth_layer()?)
            .layer(config.extra_headers_layer()?)
            .map_err(BoxError::from)
            .service(http)
            .map_response(crate::client::shallow);
        let writes = Client::new(writes, config.default_namespace.clone());
        let fence = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let metrics = metrics.clone();
            let (fence, reads, writes) = (fence.clone(), reads.clone(), writes.clone());
            async move {
                if !is_write(request.method(), request.uri().path()) {
                    return reads.send(request).await.map_err(BoxError::from);
                }
                let (begun, method) = (Instant::now(), request.method().clone());
                let send = async {
                    tokio::time::timeout(ANSWER_MAX, writes.send(request)).await?.map_err(BoxError::from)
                };
                let span =
                    info_span!(target: TARGET, "write", otel.kind = "client", verb = %method, status = Empty);
                let answer = fence.within(send).instrument(span.clone()).await;
                let end = answer.as_ref().map(http::Response::status).map_err(|error| is_fenced(&**error));
                span.record("status", end.map_or(0, |status| status.as_u16()));
                metrics.written(&method, end, begun.elapsed());
                answer
            }
        });
        Ok(Client::new(service, config.default_namespace.clone()))
    }
}

/// Whether a write failed because this process may not write: before it was sent, or when its bytes were to leave.
fn is_fenced(error: &(dyn std::error::Error + 'static)) -> bool {
    let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    error.is::<NotLeading>()
        || inner.is_some_and(|inner| is_fenced(inner))
        || error.source().is_some_and(is_fenced)
}

/// Whether the request may change something in the cluster.
fn is_write(method: &Method, path: &str) -> bool {
    match *method {
        Method::GET | Method::HEAD | Method::OPTIONS => false,
        Method::POST => !QUESTIONS.iter().any(|prefix| path.starts_with(prefix)),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::{Patch, PatchParams};
    use kube::{Api, api::PostParams};
    use serde_json::json;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn what_is_a_write() {
        let check = |method: Method, path: &str, expected: bool| {
            assert_eq!(is_write(&method, path), expected, "{method} {path}");
        };
        let pods = "/api/v1/namespaces/team/pods";
        check(Method::GET, pods, false);
        check(Method::POST, pods, true);
        check(Method::PATCH, pods, true);
        check(Method::PUT, pods, true);
        check(Method::DELETE, pods, true);
        check(Method::POST, "/apis/authentication.k8s.io/v1/tokenreviews", false);
        check(Method::POST, "/apis/authorization.k8s.io/v1/subjectaccessreviews", false);
        check(Method::POST, "/apis/coordination.k8s.io/v1/namespaces/redoubt-system/leases", true);
        check(Method::DELETE, "/apis/authentication.k8s.io/v1/tokenreviews", true);
        check(Method::POST, "/apis/x/apis/authentication.k8s.io/", true);
    }

    /// A server that answers every request with an empty ConfigMap, or with nothing, and keeps the first lines.
    async fn server(answers: bool) -> (Config, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = Config::new(format!("http://{}", listener.local_addr().unwrap()).parse().unwrap());
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = lines.clone();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let kept = kept.clone();
                tokio::spawn(async move {
                    let mut space = [0; 4096];
                    while let Ok(read @ 1..) = stream.read(&mut space).await {
                        let text = String::from_utf8_lossy(&space[..read]).into_owned();
                        kept.lock().unwrap().extend(text.lines().next().map(str::to_owned));
                        if answers {
                            let body = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}"#;
                            let head = format!(
                                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                                body.len()
                            );
                            stream.write_all((head + body).as_bytes()).await.unwrap();
                        }
                    }
                });
            }
        });
        (config, lines)
    }

    fn api(fence: &Fence, config: &Config) -> Api<ConfigMap> {
        let reads = Client::try_from(config.clone()).unwrap();
        Api::namespaced(fence.client(config, reads, Metrics::new().0).unwrap(), "team")
    }

    async fn write(api: &Api<ConfigMap>) -> kube::Result<ConfigMap> {
        api.patch("a", &PatchParams::default(), &Patch::Merge(json!({}))).await
    }

    fn is_refused<T: std::fmt::Debug>(answer: &kube::Result<T>) -> bool {
        let Err(kube::Error::Service(error)) = answer else { return false };
        error.is::<NotLeading>()
    }

    #[tokio::test]
    async fn nothing_is_written_without_the_lead() {
        let (config, lines) = server(true).await;
        let fence = Fence::default();
        let api = api(&fence, &config);
        let create = || async { api.create(&PostParams::default(), &ConfigMap::default()).await };
        assert!(api.get("a").await.is_ok(), "a follower reads");
        assert!(is_refused(&write(&api).await) && is_refused(&create().await));
        assert!(is_refused(&api.delete("a", &Default::default()).await));
        fence.open_until(Moment::now().after(Duration::from_secs(60)));
        write(&api).await.unwrap();
        fence.open_until(Moment::now());
        assert!(is_refused(&write(&api).await), "its time is up");
        fence.open_until(Moment::now().after(Duration::from_secs(60)));
        write(&api).await.unwrap();
        fence.close();
        assert!(is_refused(&write(&api).await), "it has given the lead back");
        let methods: Vec<_> =
            lines.lock().unwrap().iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
        assert_eq!(methods, ["GET", "PATCH", "PATCH"]);
    }

    #[tokio::test]
    async fn what_became_of_writes_is_counted() {
        let (config, _lines) = server(true).await;
        let (metrics, out) = Metrics::new();
        let fence = Fence::default();
        let reads = Client::try_from(config.clone()).unwrap();
        let api: Api<ConfigMap> = Api::namespaced(fence.client(&config, reads, metrics).unwrap(), "team");
        let check = |result: &str, expected: u8| {
            let line = format!(
                "redoubt_operator_api_writes_total{{verb=\"patch\",result=\"{result}\"}} {expected}\n"
            );
            let text = out.encode().unwrap();
            assert!(text.contains(&line), "{line}{text}");
        };
        api.get("a").await.unwrap();
        assert!(is_refused(&write(&api).await));
        check("fenced", 1);
        fence.open_until(Moment::now().after(Duration::from_secs(60)));
        write(&api).await.unwrap();
        check("done", 1);
        check("fenced", 1);
        // As it comes from the socket.
        let late: BoxError = std::io::Error::other(NotLeading).into();
        assert!(is_fenced(&*late));
        assert!(!is_fenced(&*BoxError::from(std::io::Error::other("broken"))));
    }

    #[tokio::test]
    async fn a_write_under_way_ends_with_the_lead() {
        let (config, lines) = server(false).await;
        let fence = Fence::default();
        let api = api(&fence, &config);
        fence.open_until(Moment::now().after(Duration::from_millis(300)));
        assert!(is_refused(&write(&api).await));
        assert_eq!(lines.lock().unwrap().len(), 1, "it was sent");
    }

    /// As after a stop of the process: the next step of the write is due, and so is the end of the lead.
    #[tokio::test]
    async fn the_fence_is_asked_before_every_step() {
        let fence = Fence::default();
        fence.open_until(Moment::now().after(Duration::from_secs(60)));
        let (go, gone) = oneshot::channel();
        let sent = Arc::new(Mutex::new(false));
        let write = {
            let (fence, sent) = (fence.clone(), sent.clone());
            tokio::spawn(async move {
                fence
                    .within(async {
                        gone.await?;
                        *sent.lock().unwrap() = true;
                        Ok(())
                    })
                    .await
            })
        };
        tokio::task::yield_now().await;
        fence.close();
        go.send(()).unwrap();
        assert!(write.await.unwrap().unwrap_err().is::<NotLeading>());
        assert!(!*sent.lock().unwrap());
    }

    /// What waits for the socket is not written once the lead is lost.
    #[tokio::test]
    async fn the_socket_asks_too() {
        use hyper::rt::Write as _;
        use hyper_util::rt::TokioIo;
        let (near, mut far) = tokio::io::duplex(64);
        let fence = Fence::default();
        let mut io = Fenced { io: TokioIo::new(near), fence: fence.clone() };
        fence.open_until(Moment::now().after(Duration::from_secs(60)));
        poll_fn(|cx| std::pin::Pin::new(&mut io).poll_write(cx, b"a")).await.unwrap();
        fence.close();
        let error = poll_fn(|cx| std::pin::Pin::new(&mut io).poll_write(cx, b"b")).await.unwrap_err();
        assert!(error.get_ref().unwrap().is::<NotLeading>());
        let slices = [std::io::IoSlice::new(b"c")];
        assert!(poll_fn(|cx| std::pin::Pin::new(&mut io).poll_write_vectored(cx, &slices)).await.is_err());
        drop(io);
        let mut read = Vec::new();
        far.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"a");
    }
}
