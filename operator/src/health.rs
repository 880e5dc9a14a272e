//! Plain HTTP for the kubelet: `/healthz` while the process runs, `/readyz` once every kind was listed and the keys are there.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing::warn;

const CONNECTIONS_MAX: usize = 32;
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether the operator is at work.
#[derive(Clone, Default)]
pub struct Health(Arc<AtomicBool>);

impl Health {
    /// From now on the operator is at work.
    pub fn set_ready(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn answer(&self, method: &Method, path: &str) -> StatusCode {
        match (method, path) {
            (&Method::GET | &Method::HEAD, "/healthz") => StatusCode::OK,
            (&Method::GET | &Method::HEAD, "/readyz") if self.0.load(Ordering::Acquire) => StatusCode::OK,
            (&Method::GET | &Method::HEAD, "/readyz") => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::NOT_FOUND,
        }
    }
}

/// Serves until the runtime ends.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve(address: SocketAddr, health: Health) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    tokio::spawn(async move {
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(%error, "health endpoint cannot accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let health = health.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                    let status = health.answer(request.method(), request.uri().path());
                    async move {
                        let mut response = Response::new(Full::new(Bytes::from_static(match status {
                            StatusCode::OK => b"ok\n",
                            StatusCode::SERVICE_UNAVAILABLE => b"not yet\n",
                            _ => b"not found\n",
                        })));
                        *response.status_mut() = status;
                        Ok::<_, Infallible>(response)
                    }
                });
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADER_TIMEOUT)
                    .keep_alive(false)
                    .serve_connection(TokioIo::new(stream), service);
                // A peer that goes away is no concern of ours.
                let _ = connection.await;
                drop(slot);
            });
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_only_when_told() {
        let health = Health::default();
        let check = |path: &str, expected: u16| {
            assert_eq!(health.answer(&Method::GET, path).as_u16(), expected, "{path}");
        };
        check("/healthz", 200);
        check("/readyz", 503);
        check("/", 404);
        health.set_ready();
        check("/readyz", 200);
        assert_eq!(health.answer(&Method::POST, "/readyz"), StatusCode::NOT_FOUND);
    }
}
