//! The well-behaved part: notes that can be read and written, and an echo of the request.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::wire::Message;

/// So many notes are kept.
pub(super) const MAX_NOTES: usize = 10_000;

/// A note.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Note {
    /// Identifier; the next number unless stated.
    #[serde(default)]
    pub(super) id: String,
    /// Text.
    pub(super) text: String,
}

/// All notes. One that was never written has a text made from its identifier.
#[derive(Default)]
pub(super) struct Notes(BTreeMap<String, Note>);

impl Notes {
    /// Reads a note from JSON and keeps it.
    pub(super) fn put(&mut self, body: &[u8]) -> Result<Note, String> {
        let mut note: Note = serde_json::from_slice(body).map_err(|error| format!("note: {error}"))?;
        if note.id.is_empty() {
            note.id = format!("new-{}", self.0.len() + 1);
        }
        if self.0.len() == MAX_NOTES && !self.0.contains_key(&note.id) {
            return Err(format!("there are {MAX_NOTES} notes already"));
        }
        self.0.insert(note.id.clone(), note.clone());
        Ok(note)
    }

    fn get(&self, id: &str) -> Note {
        let made = || Note { id: id.to_owned(), text: format!("This is the text of note {id}.") };
        self.0.get(id).cloned().unwrap_or_else(made)
    }

    /// Status and body for a request that carries the credential.
    pub(super) fn answer(&mut self, request: &Message) -> (u16, Value) {
        match (request.method.as_str(), request.path()) {
            ("GET", "/v1/echo") => (200, echo(request)),
            ("POST", "/v1/notes") => match self.put(&request.body) {
                Ok(note) => (201, json!(note)),
                Err(message) => (400, json!({"error": message})),
            },
            ("GET", path) => match path.strip_prefix("/v1/notes/") {
                Some(id) if !id.is_empty() && !id.contains('/') => {
                    let id = percent_encoding::percent_decode_str(id).decode_utf8_lossy();
                    (200, json!(self.get(&id)))
                }
                _ => (404, json!({"error": format!("no {path} here")})),
            },
            (method, path) => (404, json!({"error": format!("no {method} {path} here")})),
        }
    }
}

/// The request as JSON. Header values are shown, the credential among them: reflecting it is this answer's point.
fn echo(request: &Message) -> Value {
    json!({
        "method": request.method, "path": request.path(), "query": request.query(), "headers": request.headers,
        "body": String::from_utf8_lossy(&request.body),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(notes: &mut Notes, method: &str, target: &str, body: &str, expected: (u16, &str)) {
        let request = Message {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: vec![("A".to_owned(), "b".to_owned())],
            body: body.as_bytes().to_vec(),
        };
        let (status, value) = notes.answer(&request);
        assert_eq!(status, expected.0, "{target}: {value}");
        assert!(value.to_string().contains(expected.1), "{target}: {value}");
    }

    #[test]
    fn routes() {
        let mut notes = Notes::default();
        check(
            &mut notes,
            "GET",
            "/v1/notes/7",
            "",
            (200, r#"{"id":"7","text":"This is the text of note 7."}"#),
        );
        check(&mut notes, "POST", "/v1/notes", r#"{"id":"7","text":"mine"}"#, (201, "mine"));
        check(&mut notes, "GET", "/v1/notes/7?x=y", "", (200, "mine"));
        check(&mut notes, "POST", "/v1/notes", r#"{"text":"a"}"#, (201, "new-2"));
        check(&mut notes, "POST", "/v1/notes", r#"{"test":"a"}"#, (400, "unknown field"));
        check(&mut notes, "GET", "/v1/notes/", "", (404, "no /v1/notes/ here"));
        check(&mut notes, "DELETE", "/v1/notes/7", "", (404, "no DELETE"));
        check(&mut notes, "GET", "/v1/echo?q=1", "", (200, r#"[["A","b"]]"#));
    }
}
