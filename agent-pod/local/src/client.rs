//! An HTTP/1.1 client over a unix socket.
//!
//! A request with a whole URL goes out in absolute form (RFC 9112 section 3.2.2), which the sidecar takes as a request to
//! forward; a request with only a path goes out in origin form. One connection per request: a connection that broke
//! is nobody else's problem, and dropping the future or the response closes it, so that the other side stops too.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens at the socket.
    #[error("cannot connect to {path}")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No response head within the time limit.
    #[error("{path} did not answer within {} s", limit.as_secs())]
    Timeout {
        /// The socket.
        path: PathBuf,
        /// The limit.
        limit: Duration,
    },
    /// The exchange broke.
    #[error("the connection to {path} broke")]
    Http {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: hyper::Error,
    },
}

/// Where to send requests, and how long to wait for the head of a response.
#[derive(Clone, Debug)]
pub struct Client {
    path: PathBuf,
    limit: Duration,
}

impl Client {
    /// A client of the socket at `path`. `limit` bounds connecting and waiting for the head of the response, not the body.
    #[must_use]
    pub fn new(path: &Path, limit: Duration) -> Self {
        Self { path: path.to_owned(), limit }
    }

    /// Sends one request and gives the response once its head is there.
    ///
    /// # Errors
    /// When there is no connection, no answer in time, or the answer is not HTTP.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, ClientError> {
        tokio::time::timeout(self.limit, self.exchange(request))
            .await
            .unwrap_or_else(|_| Err(ClientError::Timeout { path: self.path.clone(), limit: self.limit }))
    }

    async fn exchange(&self, mut request: Request<Full<Bytes>>) -> Result<Response<Incoming>, ClientError> {
        let stream = UnixStream::connect(&self.path)
            .await
            .map_err(|source| ClientError::Connect { path: self.path.clone(), source })?;
        let broke = |source| ClientError::Http { path: self.path.clone(), source };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broke)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
        });
        // RFC 9112 section 3.2: every request has a Host, the authority of the URL where there is one.
        let host =
            request.uri().authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
        request.headers_mut().insert(HOST, host.unwrap_or(HeaderValue::from_static("localhost")));
        sender.send_request(request).await.map_err(broke)
    }
}
