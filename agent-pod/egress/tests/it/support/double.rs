//! A server on loopback that records what arrives and answers by script, byte by byte.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::TestCa;

/// What a server does after a request.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Write(Vec<u8>),
    /// Each byte in a record of its own.
    Bytewise(Vec<u8>),
    Pause(u64),
    /// Goes on when the test says so.
    Await(Arc<tokio::sync::Notify>),
    /// Says nothing more.
    Hang,
    /// Closes the connection.
    Close,
}

/// What arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// Whether the body came to its end.
    pub(crate) whole: bool,
    pub(crate) connection: usize,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let own =
            |line: &'_ str| line.split_once(':').filter(|(it, _)| it.eq_ignore_ascii_case(name)).is_some();
        self.head
            .lines()
            .find(|line| own(line))
            .and_then(|line| line.split_once(':'))
            .map(|(_, value)| value.trim())
    }
}

pub(crate) type Script = Arc<dyn Fn(&Seen) -> Vec<Step> + Send + Sync>;

/// A 200 with this body.
pub(crate) fn ok(body: &str) -> Vec<Step> {
    vec![Step::Write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes())]
}

#[derive(Clone)]
pub(crate) struct Double {
    pub(crate) address: SocketAddr,
    script: Arc<Mutex<Script>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Double {
    pub(crate) async fn plain() -> Self {
        Self::start(None).await
    }

    pub(crate) async fn tls(ca: &TestCa, hosts: &[&str]) -> Self {
        Self::start(Some(TlsAcceptor::from(ca.server(hosts)))).await
    }

    pub(crate) async fn start(acceptor: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let script: Script = Arc::new(|_| ok("fine"));
        let double = Self {
            address: listener.local_addr().unwrap(),
            script: Arc::new(Mutex::new(script)),
            seen: Arc::default(),
        };
        let own = double.clone();
        tokio::spawn(async move {
            let mut number = 0;
            while let Ok((stream, _)) = listener.accept().await {
                number += 1;
                let (own, acceptor) = (own.clone(), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => own.serve(stream, number).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                own.serve(stream, number).await;
                            }
                        }
                    }
                });
            }
        });
        double
    }

    pub(crate) fn answer(&self, script: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static) {
        *self.script.lock().unwrap() = Arc::new(script);
    }

    pub(crate) fn answer_raw(&self, raw: impl Into<Vec<u8>>) {
        let raw = raw.into();
        self.answer(move |_| vec![Step::Write(raw.clone()), Step::Close]);
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    async fn serve<T: AsyncRead + AsyncWrite + Unpin>(&self, mut stream: T, connection: usize) {
        let mut buffer = Vec::new();
        while let Some(mut seen) = read(&mut stream, &mut buffer).await {
            seen.connection = connection;
            let whole = seen.whole;
            let steps = self.script.lock().unwrap().clone()(&seen);
            self.seen.lock().unwrap().push(seen);
            if !whole {
                return;
            }
            for step in steps {
                match step {
                    Step::Write(bytes) => {
                        if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
                            return;
                        }
                    }
                    Step::Bytewise(bytes) => {
                        for byte in bytes {
                            if stream.write_all(&[byte]).await.is_err() || stream.flush().await.is_err() {
                                return;
                            }
                            tokio::time::sleep(Duration::from_millis(1)).await;
                        }
                    }
                    Step::Pause(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
                    Step::Await(word) => word.notified().await,
                    Step::Hang => std::future::pending().await,
                    Step::Close => {
                        let _closed = stream.shutdown().await;
                        return;
                    }
                }
            }
        }
    }
}

/// Reads one request. None if the connection ended before one.
async fn read<T: AsyncRead + Unpin>(stream: &mut T, buffer: &mut Vec<u8>) -> Option<Seen> {
    let mut space = [0; 4096];
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|it| it == b"\r\n\r\n") {
            break at + 4;
        }
        match stream.read(&mut space).await {
            Ok(n) if n > 0 => buffer.extend_from_slice(&space[..n]),
            _ => return None,
        }
    };
    let head = String::from_utf8(buffer.drain(..end).collect()).unwrap();
    let mut seen = Seen { head, body: Vec::new(), whole: true, connection: 0 };
    let chunked = seen.header("transfer-encoding").is_some();
    let length: usize = seen.header("content-length").map_or(0, |it| it.parse().unwrap());
    loop {
        let done = if chunked { buffer.ends_with(b"0\r\n\r\n") } else { buffer.len() >= length };
        if done {
            break;
        }
        match stream.read(&mut space).await {
            Ok(n) if n > 0 => buffer.extend_from_slice(&space[..n]),
            _ => {
                seen.whole = false;
                break;
            }
        }
    }
    let end = if chunked { buffer.len() } else { length.min(buffer.len()) };
    seen.body = buffer.drain(..end).collect();
    Some(seen)
}

/// A Vault with these values under `secret/PATH`, key `token`.
pub(crate) fn vault(
    values: Arc<Mutex<HashMap<String, String>>>,
) -> impl Fn(&Seen) -> Vec<Step> + Send + Sync {
    move |seen| {
        let path = seen.head.split(' ').nth(1).unwrap_or_default();
        if path == "/v1/auth/kubernetes/login" {
            return ok(
                &json!({"auth": {"client_token": "hvs.double", "lease_duration": 3600, "renewable": true}})
                    .to_string(),
            );
        }
        match path.strip_prefix("/v1/secret/data/").and_then(|it| values.lock().unwrap().get(it).cloned()) {
            Some(value) => {
                ok(&json!({"data": {"data": {"token": value}, "metadata": {"version": 1}}}).to_string())
            }
            None if path.starts_with("/v1/auth/token/") => ok("{}"),
            None => vec![Step::Write(
                b"HTTP/1.1 404 Not Found\r\nContent-Length: 13\r\n\r\n{\"errors\":[]}".to_vec(),
            )],
        }
    }
}

/// The same with values that stay.
pub(crate) fn vault_double(values: HashMap<String, String>) -> impl Fn(&Seen) -> Vec<Step> + Send + Sync {
    vault(Arc::new(Mutex::new(values)))
}
