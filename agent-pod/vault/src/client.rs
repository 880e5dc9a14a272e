//! One request to Vault: a fresh TLS connection, bounded in time and size, no redirect followed.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

use crate::address::Address;
use crate::dns::Resolver;
use crate::error::VaultError;
use crate::token::ClientToken;
use crate::trust::client_config;

/// A larger answer is refused.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// At most this many of a name's addresses are tried.
const MAX_ADDRESSES: usize = 4;

/// How long things may take.
#[derive(Clone, Copy)]
pub(crate) struct Timeouts {
    /// For each address: TCP and TLS.
    pub(crate) connect: Duration,
    /// For the whole request.
    pub(crate) request: Duration,
}

/// What Vault answered.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Zeroizing<Vec<u8>>,
}

/// A request failed before Vault answered: the field it has to do with, and what happened.
struct Trouble(&'static str, String);

/// Speaks to one Vault server.
pub(crate) struct Client {
    vault: String,
    address: Address,
    tls: TlsConnector,
    resolver: Arc<Resolver>,
    timeouts: Timeouts,
}

impl Client {
    pub(crate) fn new(
        vault: &redoubt_policy::wire::Vault,
        resolver: Arc<Resolver>,
        timeouts: Timeouts,
    ) -> Result<Self, VaultError> {
        let failed = |field, detail| VaultError::Unavailable { vault: vault.name.clone(), field, detail };
        let address = Address::parse(&vault.address).map_err(|detail| failed("spec.address", detail))?;
        let tls =
            client_config(vault.ca_bundle.as_deref()).map_err(|detail| failed("spec.caBundle", detail))?;
        Ok(Self { vault: vault.name.clone(), address, tls: TlsConnector::from(tls), resolver, timeouts })
    }

    /// Name of the VaultConnection.
    pub(crate) fn vault(&self) -> &str {
        &self.vault
    }

    /// An answer that fits nothing Vault documents for the request.
    pub(crate) fn unavailable(&self, detail: String) -> VaultError {
        VaultError::Unavailable { vault: self.vault.clone(), field: "spec.address", detail }
    }

    /// Vault is sealed.
    pub(crate) fn sealed(&self) -> VaultError {
        VaultError::Sealed { vault: self.vault.clone(), address: self.address.text.clone() }
    }

    /// Sends a request to `/v1/PATH`. The body is JSON, and wiped by its owner.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        token: Option<&ClientToken>,
        body: Bytes,
    ) -> Result<Answer, VaultError> {
        let exchange = async {
            let request = self.request(method, path, token, body)?;
            let stream = self.connect().await?;
            exchange(stream, request).await.map_err(|detail| Trouble("spec.address", detail))
        };
        let outcome = timeout(self.timeouts.request, exchange).await.unwrap_or_else(|_| {
            Err(Trouble("spec.address", format!("no answer within {} s", self.timeouts.request.as_secs())))
        });
        outcome.map_err(|Trouble(field, detail)| VaultError::Unavailable {
            vault: self.vault.clone(),
            field,
            detail: format!("{}: {detail}", self.address.text),
        })
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        token: Option<&ClientToken>,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, Trouble> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/v1/{path}"))
            .header(HOST, self.address.authority.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            // Vault's protection against requests forged through proxies and forms.
            .header("x-vault-request", HeaderValue::from_static("true"));
        if let Some(token) = token {
            request = request.header("x-vault-token", token.header());
        }
        request.body(Full::new(body)).map_err(|error| Trouble("spec.address", error.to_string()))
    }

    async fn connect(&self) -> Result<TlsStream<TcpStream>, Trouble> {
        let addresses = self.resolver.lookup(&self.address.host).await;
        let addresses = addresses.map_err(|error| Trouble("spec.address", error.to_string()))?;
        let mut last = Trouble("spec.address", "its name has no address".to_owned());
        for address in addresses.into_iter().take(MAX_ADDRESSES) {
            match timeout(self.timeouts.connect, self.connect_to(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(trouble)) => last = trouble,
                Err(_) => last = Trouble("spec.address", format!("no connection to {address} in time")),
            }
        }
        Err(last)
    }

    async fn connect_to(&self, address: IpAddr) -> Result<TlsStream<TcpStream>, Trouble> {
        let socket = SocketAddr::new(address, self.address.port);
        let stream = TcpStream::connect(socket)
            .await
            .map_err(|error| Trouble("spec.address", format!("no connection to {socket}: {error}")))?;
        self.tls.connect(self.address.server_name.clone(), stream).await.map_err(|error| {
            let certificate = error
                .get_ref()
                .and_then(|inner| inner.downcast_ref::<rustls::Error>())
                .is_some_and(|inner| matches!(inner, rustls::Error::InvalidCertificate(_)));
            let field = if certificate { "spec.caBundle" } else { "spec.address" };
            Trouble(field, format!("no TLS with {socket}: {error}"))
        })
    }
}

async fn exchange(stream: TlsStream<TcpStream>, request: Request<Full<Bytes>>) -> Result<Answer, String> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| format!("no HTTP: {error}"))?;
    let conversation = async {
        let answer = sender.send_request(request).await.map_err(|error| format!("no answer: {error}"))?;
        let status = answer.status();
        let body = read(answer.into_body()).await?;
        Ok(Answer { status, body })
    };
    // The connection is driven here, not in a task of its own, so that it ends with this request.
    let mut conversation = std::pin::pin!(conversation);
    tokio::select! {
        answer = &mut conversation => answer,
        end = connection => match end {
            Ok(()) => conversation.await,
            Err(error) => Err(format!("the connection broke: {error}")),
        },
    }
}

/// The whole body, in memory that is wiped and was never moved.
async fn read(mut body: hyper::body::Incoming) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut whole = Zeroizing::new(Vec::with_capacity(16 * 1024));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("the answer broke off: {error}"))?;
        let Ok(data) = frame.into_data() else { continue };
        let needed = whole.len() + data.len();
        if needed > MAX_ANSWER_BYTES {
            return Err(format!("the answer is larger than {MAX_ANSWER_BYTES} bytes"));
        }
        if needed > whole.capacity() {
            // A vector that grows leaves its old bytes behind, so the copy is made by hand and the old one wiped.
            let mut larger = Zeroizing::new(Vec::with_capacity((needed * 2).min(MAX_ANSWER_BYTES)));
            larger.extend_from_slice(&whole);
            whole = larger;
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole)
}
