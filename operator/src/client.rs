//! The client of the API server. What it reads was written by people whom the operator does not trust.
//!
//! One object that cannot be parsed must not hide all others: a list, or a watch, is one JSON document for all namespaces,
//! and its parser gives up on nesting beyond 127 levels, and on a time that it cannot hold. Both can be put where the API
//! server does not look: into a Tool's `parameters`, and into `metadata.managedFields`, which the operator never reads.
//! So [`Shallow`] takes them out of every response on its way in.

use bytes::Bytes;
use http::Response;
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use kube::client::ClientBuilder;
use kube::{Client, Config};
use tower::BoxError;
use tower::util::MapResponseLayer;

/// Deepest nesting that is read; what is deeper is read as `null`. A Tool's `parameters` begin at level 8 of a list, and
/// the compiler refuses them from 32 levels on, so nothing that was cut is ever used.
pub const DEPTH_MAX: usize = 100;

/// `metadata.managedFields` of an object, of an object in a watch event, and of one in a list are no deeper than this.
const METADATA_DEPTH: usize = 4;

/// The way to the API server.
#[derive(Clone)]
pub struct Connection {
    /// Where it is and who asks.
    pub config: Config,
    /// A client that any replica may write with. It is for the Lease and the signing key; all else goes through
    /// [`Fence::client`](crate::lead::Fence::client).
    pub unfenced: Client,
}

/// The way to the API server from the environment: the pod's service account, or a kubeconfig.
///
/// # Errors
/// When there is no usable configuration.
pub async fn connect() -> Result<Connection, BoxError> {
    let config = Config::infer().await?;
    let unfenced =
        ClientBuilder::try_from(config.clone())?.with_layer(&MapResponseLayer::new(shallow)).build();
    Ok(Connection { config, unfenced })
}

/// Takes out of every response what may not be read.
pub(crate) fn shallow<B>(response: Response<B>) -> Response<UnsyncBoxBody<Bytes, BoxError>>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let json = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    response.map(|body| {
        let body = body.map_err(Into::into);
        if !json {
            return body.boxed_unsync();
        }
        let mut filter = Shallow::default();
        body.map_frame(move |frame| frame.map_data(|bytes| filter.pass(&bytes))).boxed_unsync()
    })
}

/// Takes deep nesting and `managedFields` out of JSON as it passes, in pieces of any size. Text that is not JSON comes out
/// as something else that is not JSON.
#[derive(Default)]
pub struct Shallow {
    /// How many arrays and objects are open.
    depth: usize,
    /// What is being left out ends when the nesting is back at this depth.
    cut: Option<usize>,
    in_string: bool,
    escaped: bool,
    /// The beginning of the last string, for keys.
    string: Vec<u8>,
    /// By depth: whether the value that is read next, or is open, is that of `metadata`, and that of `managedFields` in it.
    keys: [Key; METADATA_DEPTH + 1],
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Key {
    #[default]
    Other,
    Metadata,
    ManagedFields,
}

impl Shallow {
    /// The next piece of the document, as it may be read.
    pub fn pass(&mut self, piece: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(piece.len());
        for byte in piece {
            self.step(*byte, &mut out);
        }
        out.into()
    }

    fn step(&mut self, byte: u8, out: &mut Vec<u8>) {
        let kept = self.cut.is_none();
        if self.in_string {
            self.inside_string(byte);
        } else {
            match byte {
                b'"' => {
                    self.in_string = true;
                    self.string.clear();
                }
                b':' => self.key(),
                b',' => self.set_key(Key::Other),
                b'{' | b'[' => {
                    if kept && (self.depth >= DEPTH_MAX || self.get_key(self.depth) == Key::ManagedFields) {
                        self.cut = Some(self.depth);
                        out.extend_from_slice(b"null");
                    }
                    self.depth = self.depth.saturating_add(1);
                    self.set_key(Key::Other);
                }
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.cut == Some(self.depth) {
                        self.cut = None;
                        return;
                    }
                }
                _ => {}
            }
        }
        if kept && self.cut.is_none() {
            out.push(byte);
        }
    }

    fn inside_string(&mut self, byte: u8) {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = true,
            b'"' => self.in_string = false,
            _ => {}
        }
        if self.in_string && self.string.len() <= b"managedFields".len() {
            self.string.push(byte);
        }
    }

    /// The last string was a key.
    fn key(&mut self) {
        let parent = self.depth.checked_sub(1).map(|parent| self.get_key(parent));
        let key = match self.string.as_slice() {
            b"metadata" => Key::Metadata,
            b"managedFields" if parent == Some(Key::Metadata) => Key::ManagedFields,
            _ => Key::Other,
        };
        self.set_key(key);
    }

    fn get_key(&self, depth: usize) -> Key {
        self.keys.get(depth).copied().unwrap_or_default()
    }

    fn set_key(&mut self, key: Key) {
        if let Some(place) = self.keys.get_mut(self.depth) {
            *place = key;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn nested(levels: usize) -> String {
        format!("{}1{}", "{\"a\":[".repeat(levels / 2), "]}".repeat(levels / 2))
    }

    #[test]
    fn what_is_read() {
        let check = |given: &str, expected: &str| {
            let whole = Shallow::default().pass(given.as_bytes());
            assert_eq!(String::from_utf8_lossy(&whole), expected);
            let mut filter = Shallow::default();
            let bytes: Vec<u8> = given.bytes().flat_map(|byte| filter.pass(&[byte])).collect();
            assert_eq!(String::from_utf8_lossy(&bytes), expected, "byte by byte");
        };
        let fields = r#"[{"time":"9999-12-31T23:59:59Z","x":"]}\"{"}]"#;
        let metadata = |fields: &str| format!(r#"{{"name":"a","managedFields": {fields} ,"uid":"u"}}"#);
        for around in [
            r#"{"metadata":M,"spec":{"a":"\"}"}}"#,
            r#"{"type":"ADDED","object":{"metadata":M}}"#,
            r#"{"metadata":{},"items":[{"metadata":M},{"metadata":M}]}"#,
        ] {
            let with = |fields: &str| around.replace(":M", &format!(":{}", metadata(fields)));
            check(&with(fields), &with("null"));
        }
        for same in [
            r#"{"data":{"managedFields":[1]}}"#,
            r#"{"metadata":{"annotations":{"managedFields":"[1]"}}}"#,
            r#"{"metadata":{"annotations":{"a":"\"managedFields\":["}}}"#,
            r#"{"metadata":{"name":"managedFields","b":[1]}}"#,
            r#"{"spec":["metadata",{"managedFields":{}}]}"#,
            &nested(DEPTH_MAX),
        ] {
            check(same, same);
        }
        // Watches are many documents, one after the other.
        check(
            "{\"a\":1}\n{\"metadata\":{\"managedFields\":[]}}\n",
            "{\"a\":1}\n{\"metadata\":{\"managedFields\":null}}\n",
        );
    }

    #[test]
    fn depth_is_bounded_for_that_object_alone() {
        let list = format!(r#"{{"items":[{},{}]}}"#, nested(400), r#"{"b":"after"}"#);
        assert!(serde_json::from_str::<Value>(&list).is_err(), "the parser gives up");
        let read: Value = serde_json::from_slice(&Shallow::default().pass(list.as_bytes())).unwrap();
        assert_eq!(read["items"][1], json!({"b": "after"}));
        let text = read["items"][0].to_string();
        assert_eq!(text.matches(['{', '[']).count(), DEPTH_MAX - 2);
        assert!(text.contains("null"));
    }
}
