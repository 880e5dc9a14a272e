//! Clients of the sidecar that send exactly these bytes.

use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::World;

/// An answer, as its bytes say.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    /// With its chunks put together, if they are whole.
    pub(crate) body: Vec<u8>,
    /// Whether the body came to its end.
    pub(crate) whole: bool,
    /// What follows it on the connection.
    pub(crate) rest: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (own, value) = line.split_once(':')?;
            own.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    /// Status and reason of a refusal; `-` where it is none.
    pub(crate) fn refusal(&self) -> (u16, String) {
        let reason = self.header("redoubt-refused").unwrap_or("-").to_owned();
        if reason != "-" {
            assert_eq!(self.json()["error"]["reason"], reason, "{self:?}");
            assert_eq!(self.header("content-type"), Some("application/json"));
        }
        (self.status, reason)
    }
}

/// Reads one answer from bytes. None if there is no whole head.
pub(crate) fn parse(bytes: &[u8], to_head: bool) -> Option<Answer> {
    let end = bytes.windows(4).position(|it| it == b"\r\n\r\n")? + 4;
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status: u16 = head.get(9..12)?.parse().ok()?;
    if status == 100 {
        return parse(&bytes[end..], to_head);
    }
    let mut answer = Answer { status, head, body: Vec::new(), whole: true, rest: Vec::new() };
    let rest = &bytes[end..];
    if to_head {
        answer.rest = rest.to_vec();
    } else if answer.header("transfer-encoding").is_some() {
        let mut at = rest;
        answer.whole = false;
        while let Some(line) = at.windows(2).position(|it| it == b"\r\n") {
            let size = usize::from_str_radix(std::str::from_utf8(&at[..line]).unwrap(), 16).unwrap();
            let Some(data) = at.get(line + 2..line + 2 + size) else { break };
            answer.body.extend_from_slice(data);
            at = at.get(line + 4 + size..).unwrap_or_default();
            if size == 0 {
                answer.whole = true;
                answer.rest = at.to_vec();
                break;
            }
        }
    } else {
        let length = answer.header("content-length").map_or(rest.len(), |it| it.parse().unwrap());
        answer.whole = rest.len() >= length;
        answer.body = rest[..length.min(rest.len())].to_vec();
        answer.rest = rest[length.min(rest.len())..].to_vec();
    }
    Some(answer)
}

/// Sends bytes and reads until the other side closes.
pub(crate) async fn exchange<T: AsyncRead + AsyncWrite + Unpin>(stream: &mut T, bytes: &[u8]) -> Vec<u8> {
    let _refused_early = stream.write_all(bytes).await;
    let _flushed = stream.flush().await;
    let mut read = Vec::new();
    let _reset =
        timeout(Duration::from_secs(30), stream.read_to_end(&mut read)).await.expect("the sidecar hung");
    read
}

/// TLS that believes this authority.
pub(crate) async fn tls_over<T: AsyncRead + AsyncWrite + Unpin>(
    stream: T,
    ca: &str,
    name: &str,
    alpn: &[&[u8]],
) -> std::io::Result<tokio_rustls::client::TlsStream<T>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|it| it.to_vec()).collect();
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(name.to_owned()).unwrap(), stream).await
}

impl World {
    pub(crate) async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.dir.join("egress.sock")).await.unwrap()
    }

    /// Sends bytes on the socket and reads all that comes back.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        exchange(&mut self.connect().await, bytes).await
    }

    /// The same for one answer.
    pub(crate) async fn send(&self, text: &str) -> Answer {
        let bytes = self.raw(text.as_bytes()).await;
        parse(&bytes, false)
            .unwrap_or_else(|| panic!("no answer to {text:?}: {:?}", String::from_utf8_lossy(&bytes)))
    }

    /// A request with these header lines (each with its line end) and body.
    pub(crate) async fn request(&self, method: &str, url: &str, headers: &str, body: &str) -> Answer {
        let host = url.split('/').nth(2).unwrap();
        let length =
            if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        self.send(&format!(
            "{method} {url} HTTP/1.1\r\nHost: {host}\r\n{length}{headers}Connection: close\r\n\r\n{body}"
        ))
        .await
    }

    pub(crate) async fn get(&self, url: &str) -> Answer {
        self.request("GET", url, "", "").await
    }

    /// Status and reason of the answer to such a request.
    pub(crate) async fn refusal(&self, method: &str, url: &str, headers: &str, body: &str) -> (u16, String) {
        self.request(method, url, headers, body).await.refusal()
    }

    pub(crate) async fn ca_pem(&self) -> String {
        self.send("GET /v1/ca.pem HTTP/1.1\r\nHost: e\r\nConnection: close\r\n\r\n").await.text()
    }
}
