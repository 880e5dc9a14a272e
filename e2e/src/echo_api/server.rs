//! Connections of the echo API, its credential and its control port.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::broken;
use super::misbehaviour::Misbehaviour;
use super::notes::Notes;
use super::wire::{Message, Reader, WireError, response};
use crate::control::Controls;
use crate::journal::{Journal, Recorded};
use crate::pieces::Piece;
use crate::serve::{Connection, accept_each};

/// How the value is known.
#[derive(Debug, Clone)]
pub enum Known {
    /// By a file with the value; read at each request, so it can be rotated. White space at its end is ignored.
    File(PathBuf),
    /// By the SHA-256 of the value, so that the value is nowhere where the API runs or is configured.
    Sha256(Vec<u8>),
}

/// What a request must carry.
#[derive(Debug, Clone)]
pub struct Credential {
    /// How the value is known.
    pub known: Known,
    /// Header that carries it. `authorization` carries it after `Bearer `, others carry the value alone.
    pub header: String,
}

impl Credential {
    /// The value that arrived in the header; `None` unless there is exactly one.
    fn sent<'a>(&'a self, request: &'a Message) -> Option<&'a str> {
        let mut values = request.values(&self.header);
        let value = values.next().filter(|_| values.next().is_none())?;
        if self.header.eq_ignore_ascii_case("authorization") {
            value.strip_prefix("Bearer ")
        } else {
            Some(value)
        }
    }

    fn holds(&self, request: &Message) -> Result<bool, String> {
        let Some(sent) = self.sent(request) else { return Ok(false) };
        match &self.known {
            Known::File(file) => {
                let value =
                    std::fs::read_to_string(file).map_err(|error| format!("credential file: {error}"))?;
                Ok(!value.trim_end().is_empty() && sent == value.trim_end())
            }
            Known::Sha256(hash) => {
                Ok(ring::digest::digest(&ring::digest::SHA256, sent.as_bytes()).as_ref() == hash)
            }
        }
    }
}

/// An echo API.
pub struct EchoApi {
    credential: Credential,
    notes: Mutex<Notes>,
    planned: Mutex<VecDeque<Misbehaviour>>,
    journal: Journal,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl EchoApi {
    /// An API that asks for a credential.
    pub fn new(credential: Credential) -> Self {
        Self { credential, notes: Mutex::default(), planned: Mutex::default(), journal: Journal::default() }
    }

    /// The next planned misbehaviour for a path; it is used up when its times are over.
    fn planned(&self, path: &str) -> Option<Misbehaviour> {
        let mut planned = locked(&self.planned);
        let place = planned.iter().position(|one| one.applies(path))?;
        let one = planned.get_mut(place)?;
        let left = one.times.unwrap_or(1).saturating_sub(1);
        if left > 0 {
            one.times = Some(left);
            Some(one.clone())
        } else {
            planned.remove(place)
        }
    }

    /// Pieces to send, and whether the connection goes on.
    fn answer(&self, request: &Message) -> (Vec<Piece>, bool) {
        let mut recorded = Recorded {
            method: request.method.clone(),
            path: request.path().to_owned(),
            query: request.query().to_owned(),
            headers: request.headers.clone(),
            ..Recorded::default()
        };
        recorded.set_body(&request.body);
        let holds = self.credential.holds(request);
        recorded.authorised = holds == Ok(true);
        let asked = Misbehaviour::from_target(request.path(), request.query());
        let (status, note, answer) = match holds {
            Err(error) => (500, error.clone(), plain(500, &json!({"error": error}))),
            Ok(false) => {
                let body = json!({"error": format!("{}: the credential is missing or wrong", self.credential.header)});
                (401, "unauthorised".to_owned(), plain(401, &body))
            }
            Ok(true) => match asked.or_else(|| self.planned(request.path()).map(Ok)) {
                Some(Ok(misbehaviour)) => {
                    let sent = self.credential.sent(request).unwrap_or_default();
                    let pieces = broken::pieces(&misbehaviour, sent);
                    (0, format!("misbehaves: {:?}", misbehaviour.kind), (pieces, false))
                }
                Some(Err(message)) => (400, message.clone(), plain(400, &json!({"error": message}))),
                None => {
                    let (status, value) = locked(&self.notes).answer(request);
                    (status, String::new(), plain(status, &value))
                }
            },
        };
        recorded.status = status;
        recorded.note = note;
        self.journal.add(recorded);
        let close = request.values("connection").any(|value| value.eq_ignore_ascii_case("close"));
        (answer.0, answer.1 && !close)
    }

    async fn connection(&self, mut stream: Box<dyn Connection>) -> Result<(), WireError> {
        let mut reader = Reader::default();
        loop {
            match reader.next(&mut *stream).await {
                Ok(None) => break,
                Ok(Some(request)) => {
                    let (pieces, goes_on) = self.answer(&request);
                    if !send(&mut *stream, pieces).await? {
                        return Ok(());
                    }
                    if !goes_on {
                        break;
                    }
                }
                Err(WireError::Malformed(message)) => {
                    let note = format!("malformed: {message}");
                    self.journal.add(Recorded { status: 400, note, ..Recorded::default() });
                    stream.write_all(&response(400, &[], message.as_bytes())).await?;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        stream.shutdown().await?;
        Ok(())
    }
}

fn plain(status: u16, body: &Value) -> (Vec<Piece>, bool) {
    let mut headers = vec![("content-type", "application/json")];
    if status == 401 {
        headers.push(("www-authenticate", "Bearer"));
    }
    (vec![Piece::data(response(status, &headers, body.to_string().as_bytes()))], true)
}

/// Sends the pieces; false when the connection was given up on purpose.
async fn send(stream: &mut dyn Connection, pieces: Vec<Piece>) -> Result<bool, WireError> {
    for piece in pieces {
        match piece {
            Piece::Data(bytes) => {
                stream.write_all(&bytes).await?;
                stream.flush().await?;
            }
            Piece::PauseMs(ms) => tokio::time::sleep(std::time::Duration::from_millis(ms)).await,
            // Until the peer leaves; what it still sends is thrown away.
            Piece::Hang => {
                let mut space = [0; 1024];
                while stream.read(&mut space).await? > 0 {}
                return Ok(false);
            }
            Piece::Abort => return Ok(false),
        }
    }
    Ok(true)
}

impl Controls for EchoApi {
    fn journal(&self) -> &Journal {
        &self.journal
    }

    fn control(&self, method: &Method, path: &str, body: &[u8]) -> Option<Result<Value, String>> {
        match (method, path) {
            (&Method::POST, "/control/misbehave") => {
                Some(Misbehaviour::from_json(body).map(|misbehaviour| {
                    let planned = json!(misbehaviour);
                    locked(&self.planned).push_back(misbehaviour);
                    planned
                }))
            }
            (&Method::DELETE, "/control/misbehave") => {
                locked(&self.planned).clear();
                Some(Ok(json!({"ok": true})))
            }
            (&Method::POST, "/control/notes") => Some(locked(&self.notes).put(body).map(|note| json!(note))),
            _ => None,
        }
    }
}

/// Serves the API (HTTP/1.1) until dropped.
pub async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, api: Arc<EchoApi>) {
    accept_each(listener, tls, move |stream| {
        let api = api.clone();
        async move {
            if let Err(error) = api.connection(stream).await {
                tracing::info!(%error, "connection ended");
            }
        }
    })
    .await;
}
