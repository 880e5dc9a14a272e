//! A chat completions request, checked as strictly as the real service does where clients go wrong.
//!
//! Follows the OpenAI API reference, "Create chat completion". Members the double has no use for are ignored.

use serde::Deserialize;

/// The request's body.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Chat {
    /// Model asked for.
    pub(super) model: String,
    /// The conversation so far.
    pub(super) messages: Vec<Message>,
    /// Functions offered.
    #[serde(default)]
    pub(super) tools: Vec<Tool>,
    /// Answer as a stream of server-sent events.
    #[serde(default)]
    pub(super) stream: bool,
    /// Settings of the stream.
    #[serde(default)]
    pub(super) stream_options: Option<StreamOptions>,
    /// Tells apart conversations that begin with the same words.
    #[serde(default)]
    pub(super) user: Option<String>,
}

/// `stream_options`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct StreamOptions {
    /// Send a last chunk with the usage.
    #[serde(default)]
    pub(super) include_usage: bool,
}

/// One message.
#[derive(Debug, Clone, Deserialize, Hash)]
pub(super) struct Message {
    /// `system`, `developer`, `user`, `assistant` or `tool`.
    pub(super) role: String,
    /// Text or parts.
    #[serde(default)]
    pub(super) content: Option<Content>,
    /// Calls of an assistant's message.
    #[serde(default)]
    pub(super) tool_calls: Option<Vec<ToolCall>>,
    /// The call a tool's message answers.
    #[serde(default)]
    pub(super) tool_call_id: Option<String>,
}

/// Content of a message.
#[derive(Debug, Clone, Deserialize, Hash)]
#[serde(untagged)]
pub(super) enum Content {
    /// Text.
    Text(String),
    /// Parts; those that are not text count as empty.
    Parts(Vec<Part>),
}

/// One part of a message.
#[derive(Debug, Clone, Deserialize, Hash)]
pub(super) struct Part {
    /// Text of a part of type `text`.
    #[serde(default)]
    pub(super) text: String,
}

/// A call in the history.
#[derive(Debug, Clone, Deserialize, Hash)]
pub(super) struct ToolCall {
    /// Identifier.
    pub(super) id: String,
    /// `function`.
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// What was called.
    pub(super) function: CalledFunction,
}

/// Function and arguments of a call.
#[derive(Debug, Clone, Deserialize, Hash)]
pub(super) struct CalledFunction {
    /// Name.
    pub(super) name: String,
    /// Arguments: JSON in a string.
    pub(super) arguments: String,
}

/// A function on offer.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Tool {
    /// `function`.
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// The function.
    pub(super) function: Function,
}

/// Name of a function on offer; its schema is not looked at.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Function {
    /// Name.
    pub(super) name: String,
}

impl Message {
    /// All text of the message.
    pub(super) fn text(&self) -> String {
        match &self.content {
            None => String::new(),
            Some(Content::Text(text)) => text.clone(),
            Some(Content::Parts(parts)) => parts.iter().map(|part| part.text.as_str()).collect(),
        }
    }
}

impl Chat {
    /// Parses and checks a body; the error is for the client's developer.
    pub(super) fn parse(body: &[u8]) -> Result<Self, String> {
        let chat: Self = serde_json::from_slice(body).map_err(|error| format!("request body: {error}"))?;
        chat.check()?;
        Ok(chat)
    }

    fn check(&self) -> Result<(), String> {
        if self.messages.is_empty() {
            return Err("messages: must not be empty".to_owned());
        }
        for (index, tool) in self.tools.iter().enumerate() {
            let name = &tool.function.name;
            let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            if tool.kind != "function" || name.is_empty() || name.len() > 64 || !name.chars().all(fits) {
                return Err(format!(
                    "tools[{index}]: needs type \"function\" and a name of 1 to 64 letters, digits, _ and -"
                ));
            }
        }
        let mut open: Vec<&str> = Vec::new();
        for (index, message) in self.messages.iter().enumerate() {
            let at = |text: String| Err(format!("messages[{index}]: {text}"));
            if message.role == "tool" {
                let id = message.tool_call_id.as_deref().unwrap_or_default();
                match open.iter().position(|open| *open == id) {
                    Some(place) => drop(open.remove(place)),
                    None => return at(format!("tool_call_id {id:?} answers no call of the message before")),
                }
                continue;
            }
            if !open.is_empty() {
                return at(format!("the calls {open:?} have no tool message yet"));
            }
            match message.role.as_str() {
                "assistant" => {
                    let calls = message.tool_calls.as_deref().unwrap_or_default();
                    if let Some(call) = calls.iter().find(|call| call.kind != "function") {
                        return at(format!(
                            "tool call {:?} has type {:?}, not \"function\"",
                            call.id, call.kind
                        ));
                    }
                    if message.content.is_none() && calls.is_empty() {
                        return at("an assistant message needs content or tool_calls".to_owned());
                    }
                    open = calls.iter().map(|call| call.id.as_str()).collect();
                }
                "system" | "developer" | "user" if message.content.is_some() => {}
                "system" | "developer" | "user" => return at("content is missing".to_owned()),
                other => return at(format!("unknown role {other:?}")),
            }
        }
        if open.is_empty() {
            Ok(())
        } else {
            Err(format!("messages: the calls {open:?} have no tool message"))
        }
    }

    /// How many times the assistant has spoken: the number of the turn asked for now, from 0.
    pub(super) fn turn(&self) -> usize {
        self.messages.iter().filter(|message| message.role == "assistant").count()
    }

    /// How many calls the history holds; the next call's number.
    pub(super) fn calls_so_far(&self) -> usize {
        self.messages.iter().filter_map(|message| message.tool_calls.as_ref()).map(Vec::len).sum()
    }

    /// Text of the last message.
    pub(super) fn last(&self) -> String {
        self.messages.last().map(Message::text).unwrap_or_default()
    }

    /// Text of the last user message.
    pub(super) fn last_user(&self) -> String {
        self.messages
            .iter()
            .rev()
            .find(|message| message.role == "user")
            .map(Message::text)
            .unwrap_or_default()
    }

    /// The messages from the last user message on.
    pub(super) fn since_last_user(&self) -> &[Message] {
        let start = self.messages.iter().rposition(|message| message.role == "user").unwrap_or(0);
        self.messages.get(start..).unwrap_or_default()
    }

    /// The tool messages that follow the assistant's last message.
    pub(super) fn results(&self) -> usize {
        self.messages.iter().rev().take_while(|message| message.role == "tool").count()
    }

    /// Whether a chunk with the usage was asked for.
    pub(super) fn wants_usage(&self) -> bool {
        self.stream_options.as_ref().is_some_and(|options| options.include_usage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(messages: &str, expected: Result<usize, &str>) {
        let body = format!(r#"{{"model":"m","messages":{messages}}}"#);
        match (Chat::parse(body.as_bytes()), expected) {
            (Ok(chat), Ok(turn)) => assert_eq!(chat.turn(), turn, "{messages}"),
            (Err(message), Err(part)) => assert!(message.contains(part), "{message}"),
            (got, _) => panic!("{messages}: {got:?}"),
        }
    }

    #[test]
    fn histories_are_checked() {
        const CALL: &str = r#"{"role":"assistant","content":null,"tool_calls":[
            {"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]}"#;
        check(r#"[{"role":"user","content":"hi"}]"#, Ok(0));
        check(r#"[{"role":"user","content":[{"type":"text","text":"hi"}]}]"#, Ok(0));
        check(
            &format!(
                r#"[{{"role":"user","content":"x"}},{CALL},{{"role":"tool","tool_call_id":"a","content":"r"}}]"#
            ),
            Ok(1),
        );
        check(&format!(r#"[{{"role":"user","content":"x"}},{CALL}]"#), Err("have no tool message"));
        check(&format!(r#"[{CALL},{{"role":"user","content":"x"}}]"#), Err("have no tool message yet"));
        check(r#"[{"role":"tool","tool_call_id":"a","content":"r"}]"#, Err("answers no call"));
        check(r#"[{"role":"robot","content":"r"}]"#, Err("unknown role"));
        check(r#"[{"role":"user"}]"#, Err("content is missing"));
        check(r#"[{"role":"assistant"}]"#, Err("needs content or tool_calls"));
        check("[]", Err("must not be empty"));
    }
}
