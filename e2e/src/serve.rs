//! Listening for the doubles: TCP with or without TLS, one task per connection, all ended together.

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// Why a double could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address could not be bound.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// Address as given.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file named on the command line could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The certificate or its key is not PEM, or the two do not belong together.
    #[error("certificate and key cannot be used: {0}")]
    Tls(String),
    /// One of certificate and key was given without the other.
    #[error("--tls-cert and --tls-key belong together: give both, or none for plain HTTP")]
    HalfTls,
    /// A script or a setting is wrong.
    #[error("{0}")]
    Setting(String),
}

/// A connection, encrypted or not.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// Reads a whole file, naming it in the error.
pub fn read(path: &Path) -> Result<Vec<u8>, ServeError> {
    std::fs::read(path).map_err(|source| ServeError::Read { path: path.to_owned(), source })
}

/// TLS from PEM files; `None` when neither was given.
pub fn tls_from_files(
    cert: Option<&Path>,
    key: Option<&Path>,
    alpn: &[&str],
) -> Result<Option<TlsAcceptor>, ServeError> {
    match (cert, key) {
        (Some(cert), Some(key)) => tls_from_pem(&read(cert)?, &read(key)?, alpn).map(Some),
        (None, None) => Ok(None),
        _ => Err(ServeError::HalfTls),
    }
}

/// TLS from PEM text: the chain, leaf first, and its key. `alpn` in the server's order of preference.
pub fn tls_from_pem(cert: &[u8], key: &[u8], alpn: &[&str]) -> Result<TlsAcceptor, ServeError> {
    let wrong = |error: &dyn std::fmt::Display| ServeError::Tls(error.to_string());
    let chain =
        CertificateDer::pem_slice_iter(cert).collect::<Result<Vec<_>, _>>().map_err(|error| wrong(&error))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| wrong(&error))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| wrong(&error))?;
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Binds an address.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| ServeError::Bind { address, source })
}

/// Hands every connection to `handle` in a task of its own. Never returns; dropping the future ends all connections.
pub async fn accept_each<H, F>(listener: TcpListener, tls: Option<TlsAcceptor>, handle: H)
where
    H: Fn(Box<dyn Connection>) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else {
                    // Out of descriptors, or the peer is gone already: let others go on.
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                    continue;
                };
                // Pieces of an answer are sent when they are due, not gathered.
                let _ = stream.set_nodelay(true);
                let (tls, handle) = (tls.clone(), handle.clone());
                connections.spawn(async move {
                    match tls {
                        None => handle(Box::new(stream)).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => handle(Box::new(stream)).await,
                            Err(error) => tracing::warn!(%error, "TLS handshake failed"),
                        },
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Resolves when the process is asked to end (SIGTERM or SIGINT); as process 1 of a container nothing else would.
pub async fn asked_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        }
        Err(_) => std::future::pending().await,
    }
}
