//! A call as the brain hands it in, and what is reported of it.

use redoubt_policy::Refusal;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Longest identifier of a call and longest name of a function, in bytes.
pub const NAME_MAX: usize = 128;

/// A call.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Call {
    /// `TOOL__FUNCTION`.
    pub name: String,
    /// Arguments.
    pub arguments: Map<String, Value>,
    /// Chosen by the brain; each is executed once.
    pub call_id: String,
}

impl Call {
    /// Reads a call.
    ///
    /// # Errors
    /// When it is not one.
    pub fn parse(body: &[u8]) -> Result<Self, Refusal> {
        let invalid = |field: &str, message: String| {
            Refusal::new("InvalidCall", "Call", field, message, "send {\"name\", \"arguments\", \"callId\"}")
        };
        let call: Self = serde_json::from_slice(body)
            .map_err(|error| invalid("", format!("the body is not a call: {error}")))?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '-');
        if call.call_id.is_empty() || call.call_id.len() > NAME_MAX || !call.call_id.chars().all(plain) {
            let message = format!("it has 1 to {NAME_MAX} letters, digits, '.', '_', ':' and '-'");
            return Err(invalid("callId", message));
        }
        Ok(call)
    }

    /// Tool and function that the name stands for, as they are reported. Whether they exist is another question.
    #[must_use]
    pub fn tool_and_function(&self) -> (String, String) {
        let (tool, function) = self.name.split_once("__").unwrap_or((self.name.as_str(), ""));
        (shown(tool), shown(function))
    }
}

/// A name from the brain, as it is shown: bounded, and with everything but printable ASCII escaped, so that a look-alike shows.
#[must_use]
pub fn shown(name: &str) -> String {
    name.chars().take(NAME_MAX).flat_map(char::escape_default).take(2 * NAME_MAX).collect()
}

/// What is reported to the sidecar.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Name of the Tool.
    pub tool: String,
    /// Name of the function.
    pub function: String,
    /// The brain's identifier.
    pub call_id: String,
    /// `Executed`, or the reason of the refusal.
    pub outcome: String,
}

/// What a call gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CallResult {
    /// Status of the tool's response.
    pub status: u16,
    /// Its `Content-Type`, empty where it had none.
    pub content_type: String,
    /// Its body as text; bytes that are not UTF-8 are replaced.
    pub body: String,
    /// Whether the body was longer.
    pub truncated: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parsing() {
        let good = json!({"name": "a__b", "arguments": {}, "callId": "t-1.2:x_y"});
        assert!(Call::parse(good.to_string().as_bytes()).is_ok());
        for (name, value) in [
            ("callId", json!("")),
            ("callId", json!("a b")),
            ("callId", json!("x".repeat(NAME_MAX + 1))),
            ("arguments", json!([])),
            ("arguments", json!("{}")),
            ("name", json!(7)),
            ("surprise", json!(1)),
        ] {
            let mut call = good.clone();
            call[name] = value;
            assert_eq!(Call::parse(call.to_string().as_bytes()).unwrap_err().reason, "InvalidCall", "{call}");
        }
    }

    #[test]
    fn look_alikes_show() {
        assert_eq!(shown("sh\u{43e}p\n"), "sh\\u{43e}p\\n");
        assert!(shown(&"\u{43e}".repeat(1000)).len() <= 2 * NAME_MAX);
    }
}
