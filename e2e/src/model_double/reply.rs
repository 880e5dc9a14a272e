//! What the double says, before it is written as JSON or as events.

use std::collections::BTreeMap;

use super::chat::Chat;
use super::script::Delivery;

/// An answer, decided.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    /// The model speaks.
    Completion {
        /// What it says.
        completion: Completion,
        /// How that is delivered.
        delivery: Delivery,
        /// Where the answer comes from, for the journal.
        note: String,
    },
    /// An error, on purpose.
    Status {
        /// HTTP status.
        code: u16,
        /// Headers to add.
        headers: BTreeMap<String, String>,
        /// Body; an error object unless stated.
        body: Option<String>,
        /// Type of a stated body.
        content_type: Option<String>,
        /// Where the answer comes from.
        note: String,
    },
    /// Nothing.
    Hang {
        /// Where the answer comes from.
        note: String,
    },
}

/// One message of the assistant.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Completion {
    /// Text.
    pub(super) content: Option<String>,
    /// Calls.
    pub(super) calls: Vec<MadeCall>,
    /// Into how many chunks a stream splits the text and the arguments of each call.
    pub(super) fragments: usize,
}

/// One call.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct MadeCall {
    /// Identifier.
    pub(super) id: String,
    /// Function.
    pub(super) name: String,
    /// Arguments as text, which need not be JSON.
    pub(super) arguments: String,
}

/// The request is not one the double answers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Refused {
    /// HTTP status.
    pub(super) status: u16,
    /// `code` of the error object.
    pub(super) code: &'static str,
    /// What is wrong.
    pub(super) message: String,
}

impl Refused {
    /// The request is malformed.
    pub(super) fn malformed(message: String) -> Self {
        Self { status: 400, code: "invalid_request", message }
    }

    /// The request is not what the scenario expects now.
    pub(super) fn unexpected(message: String) -> Self {
        Self { status: 400, code: "unexpected_request", message }
    }
}

/// Fills in `{{last}}` and `{{lastUser}}`, in one pass: what is filled in is not looked at again.
pub(super) fn placeholders(text: &str, chat: &Chat) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        rest = match after.split_once("}}") {
            Some(("last", after)) => {
                out.push_str(&chat.last());
                after
            }
            Some(("lastUser", after)) => {
                out.push_str(&chat.last_user());
                after
            }
            _ => {
                out.push_str("{{");
                after
            }
        };
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_in_once() {
        let chat =
            Chat::parse(br#"{"model":"m","messages":[{"role":"user","content":"{{lastUser}}"}]}"#).unwrap();
        for (text, expected) in [
            ("a {{last}} b", "a {{lastUser}} b"),
            ("{{other}} {{", "{{other}} {{"),
            ("{{lastUser}}{{last}}", "{{lastUser}}{{lastUser}}"),
            ("none", "none"),
        ] {
            assert_eq!(placeholders(text, &chat), expected);
        }
    }
}
