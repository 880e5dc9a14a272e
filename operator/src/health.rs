//! What the kubelet asks: `/healthz` while the process runs, `/readyz` once every kind was listed and the keys are there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{Method, StatusCode};

use crate::plain;

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
    let answer = move |method: &Method, path: &str| {
        let status = health.answer(method, path);
        plain::text(
            status,
            match status {
                StatusCode::OK => "ok\n",
                StatusCode::SERVICE_UNAVAILABLE => "not yet\n",
                _ => "not found\n",
            },
        )
    };
    plain::serve(address, answer).await.map(drop)
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
