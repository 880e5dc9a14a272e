//! The double's API and control port.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::builtin;
use super::chat::Chat;
use super::choose::Scripts;
use super::render::{self, Frame};
use super::reply::{Answer, Refused};
use super::script;
use crate::control::Controls;
use crate::journal::{Journal, Recorded};
use crate::pieces::{self, Dropped, Piece};
use crate::serve::accept_each;

/// The largest request the double takes, in bytes.
const MAX_REQUEST: usize = 16 << 20;

/// What a double is started with.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Texts of scripts.
    pub scripts: Vec<String>,
    /// Further model names that follow directives as `scripted:say-and-call` does.
    pub models: Vec<String>,
    /// File with the API key to require; read at each request, so it can be rotated.
    pub api_key_file: Option<PathBuf>,
}

/// A model double.
pub struct ModelDouble {
    scripts: Mutex<Scripts>,
    models: Vec<String>,
    api_key_file: Option<PathBuf>,
    journal: Journal,
    completions: AtomicU64,
}

impl ModelDouble {
    /// Reads the scripts; the error names script and field.
    pub fn new(settings: Settings) -> Result<Self, String> {
        let mut scripts = Scripts::default();
        for text in &settings.scripts {
            scripts.add(script::parse(text)?);
        }
        let mut models = vec![builtin::SAY_AND_CALL.to_owned(), builtin::GULLIBLE.to_owned()];
        models.extend(settings.models);
        Ok(Self {
            scripts: Mutex::new(scripts),
            models,
            api_key_file: settings.api_key_file,
            journal: Journal::default(),
            completions: AtomicU64::new(0),
        })
    }

    fn scripts(&self) -> MutexGuard<'_, Scripts> {
        self.scripts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn models(&self) -> Vec<String> {
        let scripts = self.scripts();
        self.models.iter().cloned().chain(scripts.models().map(str::to_owned)).collect()
    }

    fn authorised(&self, headers: &http::HeaderMap) -> bool {
        let Some(file) = &self.api_key_file else { return true };
        let Ok(key) = std::fs::read_to_string(file) else { return false };
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let sent = values
            .next()
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "));
        values.next().is_none() && !key.trim_end().is_empty() && sent == Some(key.trim_end())
    }

    fn decide(&self, chat: &Chat) -> Result<Answer, Refused> {
        if let Some(answer) = self.scripts().answer(chat) {
            return answer;
        }
        if !self.models.contains(&chat.model) {
            return Err(Refused {
                status: 404,
                code: "model_not_found",
                message: format!("there is no model {:?}; there are {:?}", chat.model, self.models()),
            });
        }
        builtin::answer(chat, chat.model == builtin::GULLIBLE)
    }

    fn frame(&self, chat: &Chat, body: usize) -> Frame {
        let number = self.completions.fetch_add(1, Ordering::Relaxed) + 1;
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Frame {
            id: format!("chatcmpl-{number}"),
            created,
            model: chat.model.clone(),
            prompt_tokens: render::tokens(body),
        }
    }

    /// Status, headers and pieces of the answer; and a note for the journal.
    fn complete(&self, body: &[u8]) -> Result<(Head, Vec<Piece>, String), Refused> {
        let chat = Chat::parse(body).map_err(Refused::malformed)?;
        Ok(match self.decide(&chat)? {
            Answer::Hang { note } => (Head::json(200), vec![Piece::Hang], note),
            Answer::Status { code, headers, body, content_type, note } => {
                let stated = body.is_some();
                let body = body.unwrap_or_else(|| error_body(code, "scripted", &note));
                let kind = content_type.filter(|_| stated).unwrap_or_else(|| JSON.to_owned());
                (Head { status: code, content_type: kind, headers }, vec![Piece::data(body)], note)
            }
            Answer::Completion { completion, delivery, note } => {
                let frame = self.frame(&chat, body.len());
                let (head, events) = if chat.stream {
                    let head = Head {
                        content_type: "text/event-stream; charset=utf-8".to_owned(),
                        ..Head::json(200)
                    };
                    (head, render::events(&frame, &completion, chat.wants_usage()))
                } else {
                    (Head::json(200), vec![render::whole(&frame, &completion).to_string().into_bytes()])
                };
                let pieces = render::deliver(events, &delivery).map_err(Refused::unexpected)?;
                (head, pieces, note)
            }
        })
    }

    fn answer(
        &self,
        method: &Method,
        path: &str,
        body: &[u8],
    ) -> Result<(Head, Vec<Piece>, String), Refused> {
        match (method, path) {
            (&Method::POST, "/v1/chat/completions") => self.complete(body),
            (&Method::GET, "/v1/models") => {
                let data = self.models().into_iter().map(|id| {
                    json!({"id": id, "object": "model", "created": 0, "owned_by": "redoubt-model-double"})
                });
                let list = json!({"object": "list", "data": data.collect::<Vec<_>>()});
                Ok((Head::json(200), vec![Piece::data(list.to_string())], "models".to_owned()))
            }
            _ => {
                Err(Refused { status: 404, code: "unknown_url", message: format!("no {method} {path} here") })
            }
        }
    }

    async fn handle(&self, request: Request<Incoming>) -> Response<UnsyncBoxBody<bytes::Bytes, Dropped>> {
        let (parts, body) = request.into_parts();
        let mut recorded = Recorded {
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            headers: parts
                .headers
                .iter()
                .map(|(name, value)| {
                    (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
                })
                .collect(),
            authorised: self.authorised(&parts.headers),
            ..Recorded::default()
        };
        let answer = match Limited::new(body, MAX_REQUEST).collect().await {
            Err(error) => {
                Err(Refused { status: 413, code: "too_large", message: format!("request body: {error}") })
            }
            Ok(body) => {
                let body = body.to_bytes();
                recorded.set_body(&body);
                if recorded.authorised {
                    self.answer(&parts.method, parts.uri.path(), &body)
                } else {
                    let message = "the API key is missing or wrong".to_owned();
                    Err(Refused { status: 401, code: "invalid_api_key", message })
                }
            }
        };
        let (head, pieces, note) = answer.unwrap_or_else(|refused| {
            let body = error_body(refused.status, refused.code, &refused.message);
            (Head::json(refused.status), vec![Piece::data(body)], refused.message)
        });
        let silent = matches!(pieces.as_slice(), [Piece::Hang]);
        recorded.status = if silent { 0 } else { head.status };
        recorded.note = note;
        self.journal.add(recorded);
        if silent {
            std::future::pending::<()>().await;
        }
        head.response(pieces)
    }
}

const JSON: &str = "application/json";

struct Head {
    status: u16,
    content_type: String,
    headers: BTreeMap<String, String>,
}

impl Head {
    fn json(status: u16) -> Self {
        Self { status, content_type: JSON.to_owned(), headers: BTreeMap::new() }
    }

    fn response(self, pieces: Vec<Piece>) -> Response<UnsyncBoxBody<bytes::Bytes, Dropped>> {
        let mut response = Response::new(StreamBody::new(pieces::body(pieces)).boxed_unsync());
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let stated = [("content-type".to_owned(), self.content_type)];
        for (name, value) in stated.into_iter().chain(self.headers) {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

fn error_body(status: u16, code: &str, message: &str) -> String {
    let kind = match status {
        401 => "authentication_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    };
    json!({"error": {"message": message, "type": kind, "param": null, "code": code}}).to_string()
}

impl Controls for ModelDouble {
    fn journal(&self) -> &Journal {
        &self.journal
    }

    fn control(&self, method: &Method, path: &str, body: &[u8]) -> Option<Result<Value, String>> {
        match (method, path) {
            (&Method::POST, "/control/script") => Some(
                std::str::from_utf8(body).map_err(|error| error.to_string()).and_then(script::parse).map(
                    |script| {
                        let added =
                            json!({"name": script.name, "model": script.model, "steps": script.steps.len()});
                        self.scripts().add(script);
                        added
                    },
                ),
            ),
            (&Method::DELETE, "/control/script") => {
                self.scripts().clear();
                Some(Ok(json!({"ok": true})))
            }
            (&Method::POST, "/control/rewind") => {
                self.scripts().rewind();
                Some(Ok(json!({"ok": true})))
            }
            _ => None,
        }
    }
}

/// Serves the API (HTTP/1.1 and, where TLS agrees on it, HTTP/2) until dropped.
pub async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, double: Arc<ModelDouble>) {
    accept_each(listener, tls, move |stream| {
        let double = double.clone();
        async move {
            let service = hyper::service::service_fn(move |request| {
                let double = double.clone();
                async move { Ok::<_, Infallible>(double.handle(request).await) }
            });
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        }
    })
    .await;
}
