//! What can go wrong with an upstream, as data.
//!
//! Asked for by path, `/v1/misbehave/<kind>?at=3&bytes=100`, or for the next requests by `POST /control/misbehave`
//! with `{"kind": "...", "at": 3, "times": 2, "pathPrefix": "/v1/notes"}`.

use serde::{Deserialize, Serialize};

/// Every way to misbehave. "The credential" is the value that arrived in the credential's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The credential in the response header `x-reflected`.
    ReflectHeader,
    /// The credential in the body.
    ReflectBody,
    /// The credential in a chunked body, cut after `at` of its bytes, the parts in separate writes `ms` apart.
    ReflectChunks,
    /// As `reflect-chunks`, one byte per chunk.
    ReflectBytes,
    /// The credential in a gzip body.
    ReflectGzip,
    /// The credential in the trailer `x-reflected` of a chunked body.
    ReflectTrailer,
    /// The credential in the reason phrase of the status line.
    ReflectReason,
    /// The credential in the header of a 103 response before the real one.
    ReflectEarlyHints,
    /// The credential in the `Location` of a redirect to `to`.
    ReflectLocation,
    /// 100 and 103 responses before the real one.
    Interim,
    /// Nothing at all.
    HangBeforeHeaders,
    /// `bytes` of a body that should be longer, then nothing.
    HangMidBody,
    /// `bytes` of a body that should be longer, then the connection is closed.
    DropMidBody,
    /// `status` (302) to `to`.
    Redirect,
    /// A body of `bytes` (64 MiB) bytes.
    HugeBody,
    /// A head of `bytes` (1 MiB) bytes of headers.
    HugeHeaders,
    /// A body of `bytes` (20) bytes, one every `ms` (500) milliseconds.
    SlowBody,
    /// The head of the response, one byte every `ms` (500) milliseconds.
    SlowHeaders,
    /// `status` with a body that is not JSON.
    Status,
    /// Both Content-Length and Transfer-Encoding, with a second response in what is left over.
    ClTe,
    /// Two Content-Length headers that differ.
    TwoLengths,
    /// Content-Length smaller than the body: a second response in what is left over.
    ShortLength,
    /// Content-Length greater than the body, then the connection is closed.
    LongLength,
    /// A chunk size that is not hexadecimal.
    BadChunk,
    /// Lines of the head end in a bare line feed.
    BareLf,
    /// A header line folded onto the next one, which RFC 9112 forbids to send.
    Folded,
    /// Not HTTP at all.
    NotHttp,
    /// Exactly the bytes of `raw`, in which `{{credential}}` stands for the credential, then the connection is closed.
    Raw,
}

impl Kind {
    /// The kind of a name in kebab case.
    pub fn named(name: &str) -> Option<Self> {
        serde_json::from_value(serde_json::Value::from(name)).ok()
    }
}

/// One way to misbehave, with its settings. Those a kind has no use for are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Misbehaviour {
    /// What goes wrong.
    pub kind: Kind,
    /// After how many bytes of the credential it is cut.
    pub at: Option<usize>,
    /// A number of bytes.
    pub bytes: Option<usize>,
    /// A pause in milliseconds.
    pub ms: Option<u64>,
    /// A status.
    pub status: Option<u16>,
    /// An address.
    pub to: Option<String>,
    /// The credential is reflected as `plain`, `base64`, `hex`, `percent` or `reversed`.
    pub form: Option<String>,
    /// Bytes of an answer.
    pub raw: Option<String>,
    /// For how many requests (control port only); 1 unless stated.
    pub times: Option<usize>,
    /// Only for requests whose path begins like this (control port only).
    pub path_prefix: Option<String>,
}

impl Misbehaviour {
    /// A kind with every setting at its default.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            at: None,
            bytes: None,
            ms: None,
            status: None,
            to: None,
            form: None,
            raw: None,
            times: None,
            path_prefix: None,
        }
    }

    /// What a path and query ask for; `None` for other paths.
    pub fn from_target(path: &str, query: &str) -> Option<Result<Self, String>> {
        let name = path.strip_prefix("/v1/misbehave/")?;
        Some(Kind::named(name).ok_or_else(|| format!("no misbehaviour {name:?}")).and_then(|kind| {
            let mut found = Self::new(kind);
            for (key, value) in url_pairs(query) {
                let wrong = || format!("{key}={value}: not a number");
                match key.as_str() {
                    "at" => found.at = Some(value.parse().map_err(|_| wrong())?),
                    "bytes" => found.bytes = Some(value.parse().map_err(|_| wrong())?),
                    "ms" => found.ms = Some(value.parse().map_err(|_| wrong())?),
                    "status" => found.status = Some(value.parse().map_err(|_| wrong())?),
                    "to" => found.to = Some(value),
                    "form" => found.form = Some(value),
                    "raw" => found.raw = Some(value),
                    _ => return Err(format!("no setting {key:?}")),
                }
            }
            found.checked()
        }))
    }

    /// What a body of the control port asks for.
    pub fn from_json(body: &[u8]) -> Result<Self, String> {
        serde_json::from_slice::<Self>(body).map_err(|error| error.to_string())?.checked()
    }

    fn checked(self) -> Result<Self, String> {
        if let Some(form) = &self.form
            && !["plain", "base64", "hex", "percent", "reversed"].contains(&form.as_str())
        {
            return Err(format!("form: {form:?} is not plain, base64, hex, percent or reversed"));
        }
        if matches!(self.kind, Kind::Redirect | Kind::ReflectLocation) && self.to.is_none() {
            return Err("to: a redirect needs an address".to_owned());
        }
        if self.kind == Kind::Raw && self.raw.is_none() {
            return Err("raw: the bytes to send are missing".to_owned());
        }
        Ok(self)
    }

    /// Whether it applies to a path.
    pub fn applies(&self, path: &str) -> bool {
        self.path_prefix.as_ref().is_none_or(|prefix| path.starts_with(prefix.as_str()))
    }
}

fn url_pairs(query: &str) -> Vec<(String, String)> {
    let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(k, v)| (decode(k), decode(v)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_parsed() {
        let check = |path: &str, query: &str, expected: Option<Result<Kind, &str>>| {
            let got = Misbehaviour::from_target(path, query);
            match (got, expected) {
                (None, None) => {}
                (Some(Ok(got)), Some(Ok(kind))) => assert_eq!(got.kind, kind),
                (Some(Err(got)), Some(Err(part))) => assert!(got.contains(part), "{got}"),
                (got, _) => panic!("{path}?{query}: {got:?}"),
            }
        };
        check("/v1/notes/1", "", None);
        check("/v1/misbehave/cl-te", "", Some(Ok(Kind::ClTe)));
        check("/v1/misbehave/reflect-chunks", "at=3&ms=5", Some(Ok(Kind::ReflectChunks)));
        check("/v1/misbehave/redirect", "to=https%3A%2F%2Fa.example%2F", Some(Ok(Kind::Redirect)));
        check("/v1/misbehave/redirect", "", Some(Err("needs an address")));
        check("/v1/misbehave/nothing", "", Some(Err("no misbehaviour")));
        check("/v1/misbehave/cl-te", "at=x", Some(Err("not a number")));
        check("/v1/misbehave/reflect-body", "form=rot13", Some(Err("rot13")));
    }
}
