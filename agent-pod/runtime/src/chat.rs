//! The API that callers see: OpenAI's chat completions, read strictly and written.
//!
//! What the brain cannot honour is refused by name rather than ignored: the caller's own tools, other answer formats,
//! several choices, images. Follows the OpenAI API reference, "Create chat completion".

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::failure::Failure;

/// Most messages of one request.
pub const MESSAGES_MAX: usize = 4096;

/// Settings that are handed to the model as they are.
const PASSED_ON: [&str; 11] = [
    "frequency_penalty",
    "max_completion_tokens",
    "max_tokens",
    "presence_penalty",
    "reasoning_effort",
    "seed",
    "service_tier",
    "stop",
    "temperature",
    "top_p",
    "user",
];

/// Settings that change nothing here.
const WITHOUT_EFFECT: [&str; 5] =
    ["metadata", "parallel_tool_calls", "prompt_cache_key", "safety_identifier", "store"];

/// A request for a completion, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatRequest {
    /// The conversation: objects with `role` and a `content` that is a string.
    pub messages: Vec<Value>,
    /// Settings for the model.
    pub settings: Map<String, Value>,
    /// Whether to answer as a stream.
    pub stream: bool,
    /// Whether to end the stream with the usage.
    pub include_usage: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    role: String,
    content: Content,
    #[serde(default)]
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    text: String,
}

impl ChatRequest {
    /// Reads a request to the agent called `agent`.
    ///
    /// # Errors
    /// When it is not a request, or asks for something that the brain does not do.
    pub fn parse(body: &[u8], agent: &str) -> Result<Self, Failure> {
        let given: Map<String, Value> = serde_json::from_slice(body).map_err(|error| {
            Failure::request("", format!("the body is not a JSON object: {error}"), "send a JSON object")
        })?;
        let mut request =
            Self { messages: Vec::new(), settings: Map::new(), stream: false, include_usage: false };
        for (name, value) in given {
            request.member(&name, value, agent)?;
        }
        if request.messages.is_empty() {
            return Err(Failure::request("messages", "there are no messages", "send at least one message"));
        }
        Ok(request)
    }

    fn member(&mut self, name: &str, value: Value, agent: &str) -> Result<(), Failure> {
        match (name, &value) {
            ("model", Value::String(model)) if model == agent => {}
            ("model", Value::Null) => {}
            ("model", _) => {
                let mut failure = Failure::request(
                    "model",
                    "there is no such model here",
                    &format!("ask for {agent:?}, the agent's name, or leave the model out"),
                );
                failure.status = http::StatusCode::NOT_FOUND;
                return Err(failure);
            }
            ("messages", Value::Array(messages)) => self.messages = checked(messages)?,
            ("stream", Value::Bool(stream)) => self.stream = *stream,
            ("stream_options", Value::Object(options)) => {
                self.include_usage = options.get("include_usage").is_some_and(|value| value == true);
            }
            ("n", Value::Number(n)) if n.as_u64() == Some(1) => {}
            (_, Value::Null) => {}
            (name, _) if WITHOUT_EFFECT.contains(&name) => {}
            (name, _) if PASSED_ON.contains(&name) => {
                self.settings.insert(name.to_owned(), value);
            }
            ("tools" | "tool_choice" | "functions" | "function_call", _) => {
                return Err(Failure::request(
                    name,
                    "an agent uses the tools of its Agent object, not those of a caller",
                    "leave them out; list Tools in the Agent's spec.tools",
                ));
            }
            _ => {
                return Err(Failure::request(
                    name,
                    "this member is unknown, not supported, or has a value of the wrong type",
                    "leave it out or correct it",
                ));
            }
        }
        Ok(())
    }
}

fn checked(messages: &[Value]) -> Result<Vec<Value>, Failure> {
    if messages.len() > MESSAGES_MAX {
        return Err(Failure::request("messages", "there are too many messages", "leave the oldest ones out"));
    }
    messages.iter().enumerate().map(|(index, message)| one(index, message)).collect()
}

fn one(index: usize, given: &Value) -> Result<Value, Failure> {
    let wrong = |field: &str, message: String, help| {
        Failure::request(&format!("messages[{index}]{field}"), message, help)
    };
    // SDKs send empty members of the messages they received.
    let mut given = given.clone();
    if let Some(members) = given.as_object_mut() {
        members.retain(|_, value| !value.is_null() && *value != json!([]));
    }
    let message: Message = serde_json::from_value(given).map_err(|_| {
        let help = "send role and content as text; tool calls and their results are the agent's own affair";
        wrong("", "the message is not one of text".to_owned(), help)
    })?;
    if !matches!(message.role.as_str(), "user" | "assistant" | "system" | "developer") {
        let help = "use one of user, assistant, system, developer";
        return Err(wrong(".role", format!("a caller cannot speak as {:?}", message.role), help));
    }
    let text = match message.content {
        Content::Text(text) => text,
        Content::Parts(parts) => {
            if parts.iter().any(|part| part.kind != "text") {
                return Err(wrong(".content", "a part is not text".to_owned(), "send text only"));
            }
            parts.into_iter().map(|part| part.text).collect::<Vec<_>>().join("\n")
        }
    };
    let mut out = json!({"role": message.role, "content": text});
    if let (Some(name), Some(members)) = (message.name, out.as_object_mut()) {
        members.insert("name".to_owned(), name.into());
    }
    Ok(out)
}

/// Tokens, as the model counts them, summed over all turns of a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(default)]
pub struct Usage {
    /// Tokens of what the model was sent.
    pub prompt_tokens: u64,
    /// Tokens of what it said.
    pub completion_tokens: u64,
    /// Both.
    pub total_tokens: u64,
}

impl Usage {
    /// Adds the usage of another turn.
    pub fn add(&mut self, other: Self) {
        self.prompt_tokens = self.prompt_tokens.saturating_add(other.prompt_tokens);
        self.completion_tokens = self.completion_tokens.saturating_add(other.completion_tokens);
        self.total_tokens = self.total_tokens.saturating_add(other.total_tokens);
    }
}

/// What all chunks of an answer, or the whole answer, have in common.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Identifier of the answer.
    pub id: String,
    /// Seconds since the Unix epoch.
    pub created: u64,
    /// The agent's name.
    pub model: String,
}

impl Frame {
    fn chunk(&self, choices: Value, usage: Option<Usage>) -> String {
        let mut chunk = json!({"id": self.id, "object": "chat.completion.chunk", "created": self.created,
            "model": self.model, "choices": choices});
        if let (Some(usage), Some(members)) = (usage, chunk.as_object_mut()) {
            members.insert("usage".to_owned(), json!(usage));
        }
        chunk.to_string()
    }

    /// The first chunk.
    #[must_use]
    pub fn begin(&self) -> String {
        let delta = json!({"role": "assistant", "content": ""});
        self.chunk(json!([{"index": 0, "delta": delta, "finish_reason": null}]), None)
    }

    /// A chunk of text.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        self.chunk(json!([{"index": 0, "delta": {"content": text}, "finish_reason": null}]), None)
    }

    /// The chunk that ends the answer.
    #[must_use]
    pub fn end(&self, finish_reason: &str) -> String {
        self.chunk(json!([{"index": 0, "delta": {}, "finish_reason": finish_reason}]), None)
    }

    /// The chunk with the usage, after the end.
    #[must_use]
    pub fn usage(&self, usage: Usage) -> String {
        self.chunk(json!([]), Some(usage))
    }

    /// The whole answer.
    #[must_use]
    pub fn whole(&self, text: &str, finish_reason: &str, usage: Usage) -> Value {
        let message = json!({"role": "assistant", "content": text, "refusal": null});
        json!({"id": self.id, "object": "chat.completion", "created": self.created, "model": self.model,
            "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": finish_reason}],
            "usage": usage})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: Value) -> (String, u16) {
        let failure = ChatRequest::parse(body.to_string().as_bytes(), "a").unwrap_err();
        (failure.refusal.field, failure.status.as_u16())
    }

    #[test]
    fn accepted() {
        let body = json!({"model": "a", "stream": true, "stream_options": {"include_usage": true}, "temperature": 0.5,
        "store": true, "n": 1, "tools": null, "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "text", "text": "y"}]},
            {"role": "assistant", "content": "b", "tool_calls": null, "refusal": null},
        ]});
        let request = ChatRequest::parse(body.to_string().as_bytes(), "a").unwrap();
        assert!(request.stream && request.include_usage);
        assert_eq!(Value::Object(request.settings), json!({"temperature": 0.5}));
        assert_eq!(
            Value::Array(request.messages),
            json!([
                {"role": "system", "content": "s"},
                {"role": "user", "content": "x\ny"},
                {"role": "assistant", "content": "b"},
            ])
        );
    }

    #[test]
    fn refusals_name_the_field() {
        let user = json!([{"role": "user", "content": "x"}]);
        for (body, field, status) in [
            (json!({"messages": []}), "messages", 400),
            (json!({}), "messages", 400),
            (json!({"messages": user, "model": "b"}), "model", 404),
            (json!({"messages": user, "tools": [{}]}), "tools", 400),
            (json!({"messages": user, "n": 2}), "n", 400),
            (json!({"messages": user, "response_format": {"type": "json_object"}}), "response_format", 400),
            (json!({"messages": user, "stream": "yes"}), "stream", 400),
            (json!({"messages": user, "surprise": 1}), "surprise", 400),
            (
                json!({"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]}),
                "messages[0]",
                400,
            ),
            (json!({"messages": [{"role": "tool", "content": "x"}]}), "messages[0].role", 400),
            (json!({"messages": [{"role": "user", "content": 7}]}), "messages[0]", 400),
            (
                json!({"messages": [{"role": "assistant", "content": "x", "tool_calls": [{"id": "1"}]}]}),
                "messages[0]",
                400,
            ),
            (
                json!({"messages": [{"role": "user", "content": [{"type": "image_url", "text": "x"}]}]}),
                "messages[0].content",
                400,
            ),
        ] {
            assert_eq!(refused(body), (field.to_owned(), status));
        }
        assert!(ChatRequest::parse(b"[]", "a").is_err());
        assert!(ChatRequest::parse(b"{", "a").is_err());
    }
}
