//! One turn of the model, put together from the events of its stream. No IO.
//!
//! Fragments of several tool calls come interleaved and are told apart by their index. A turn counts only when the model
//! said why it stopped: what a broken connection cut off is never acted on.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::chat::Usage;

/// Most tool calls of one turn.
pub const CALLS_MAX: usize = 256;

/// Most bytes of the arguments of one call.
pub const ARGUMENTS_MAX: usize = 256 * 1024;

/// Most bytes that the model may say in one turn.
pub const TEXT_MAX: usize = 2 * 1024 * 1024;

/// Why a stream is not a turn.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TurnError {
    /// An event is not what the API promises.
    #[error("the model's answer does not follow the OpenAI chat completions API: {0}")]
    Protocol(String),
    /// The stream ended before the model said why it stopped.
    #[error("the model's answer was cut off")]
    Truncated,
    /// The model's server reported an error inside the stream.
    #[error("the model's server reported an error: {0}")]
    Reported(String),
    /// More than the brain takes.
    #[error("the model's answer is too large: more than {0}")]
    TooLarge(&'static str),
}

/// A tool call as the model asked for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// The model's identifier of the call, unique within a turn.
    pub id: String,
    /// Name of the function.
    pub name: String,
    /// Arguments: JSON, or what the model takes for it.
    pub arguments: String,
}

impl Call {
    /// The arguments as an object. No text at all is an empty object, as models without arguments to give say nothing.
    ///
    /// # Errors
    /// When they are not JSON, or not an object.
    pub fn arguments(&self) -> Result<Map<String, Value>, String> {
        if self.arguments.trim().is_empty() {
            return Ok(Map::new());
        }
        match serde_json::from_str(&self.arguments) {
            Ok(Value::Object(members)) => Ok(members),
            Ok(_) => Err("the arguments are not a JSON object".to_owned()),
            Err(error) => Err(format!("the arguments are not valid JSON: {error}")),
        }
    }
}

/// A whole turn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// What the model said.
    pub text: String,
    /// The calls it asks for, in the order of their index.
    pub calls: Vec<Call>,
    /// Why it stopped: `stop`, `tool_calls`, `length`, `content_filter`, or the server's own.
    pub finish_reason: String,
    /// What it cost.
    pub usage: Usage,
}

impl Turn {
    /// The turn as a message of the conversation that goes back to the model.
    #[must_use]
    pub fn message(&self) -> Value {
        let calls: Vec<_> = self
            .calls
            .iter()
            .map(|call| {
                // Servers parse the arguments of earlier calls and refuse the whole conversation if they cannot.
                let arguments = if call.arguments().is_ok() && !call.arguments.trim().is_empty() {
                    call.arguments.as_str()
                } else {
                    "{}"
                };
                json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}})
            })
            .collect();
        let content = if self.text.is_empty() { Value::Null } else { Value::from(self.text.as_str()) };
        json!({"role": "assistant", "content": content, "tool_calls": calls})
    }
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Option<Vec<Choice>>,
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: u64,
    #[serde(default)]
    delta: Delta,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Delta {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<CallDelta>>,
}

#[derive(Deserialize)]
struct CallDelta {
    #[serde(default)]
    index: Option<u64>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    function: Option<FunctionDelta>,
}

#[derive(Deserialize)]
struct FunctionDelta {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    arguments: Option<String>,
}

/// Collects the events of one stream.
#[derive(Default)]
pub struct Collector {
    turn: Turn,
    /// The index that the model gave each call of `turn.calls`.
    indices: Vec<u64>,
    finished: bool,
    done: bool,
}

impl Collector {
    /// Takes the data of one event and gives the text that it adds.
    ///
    /// # Errors
    /// When the event is not a chunk of a completion, or there is too much.
    pub fn push(&mut self, data: &str) -> Result<String, TurnError> {
        if self.done {
            return Ok(String::new());
        }
        if data.trim() == "[DONE]" {
            self.done = true;
            return Ok(String::new());
        }
        let chunk: Chunk = serde_json::from_str(data).map_err(|error| {
            TurnError::Protocol(format!("an event is not a chunk of a completion: {error}"))
        })?;
        if let Some(error) = chunk.error {
            let message = error.get("message").and_then(Value::as_str).unwrap_or("without a message");
            return Err(TurnError::Reported(excerpt(message)));
        }
        if let Some(usage) = chunk.usage {
            self.turn.usage = usage;
        }
        let mut said = String::new();
        for choice in chunk.choices.unwrap_or_default().into_iter().filter(|choice| choice.index == 0) {
            said.extend(choice.delta.content);
            said.extend(choice.delta.refusal);
            for delta in choice.delta.tool_calls.unwrap_or_default() {
                self.call(delta)?;
            }
            if let Some(reason) = choice.finish_reason {
                self.turn.finish_reason = reason;
                self.finished = true;
            }
        }
        if self.turn.text.len() + said.len() > TEXT_MAX {
            return Err(TurnError::TooLarge("2 MiB of text in one turn"));
        }
        self.turn.text.push_str(&said);
        Ok(said)
    }

    fn call(&mut self, delta: CallDelta) -> Result<(), TurnError> {
        let id = delta.id.filter(|id| !id.is_empty());
        let known = match (delta.index, &id) {
            (Some(index), _) => self.indices.iter().position(|known| *known == index),
            // A server without indices begins a call by a new identifier.
            (None, Some(id)) => self.turn.calls.iter().position(|call| call.id == *id),
            (None, None) => self.turn.calls.len().checked_sub(1),
        };
        let position = known.unwrap_or(self.turn.calls.len());
        if known.is_none() {
            if position >= CALLS_MAX {
                return Err(TurnError::TooLarge("256 tool calls in one turn"));
            }
            let next = self.indices.iter().max().map_or(0, |highest| highest.saturating_add(1));
            self.indices.push(delta.index.unwrap_or(next));
            self.turn.calls.push(Call::default());
        }
        let Some(call) = self.turn.calls.get_mut(position) else { return Ok(()) };
        if let Some(id) = id.filter(|_| call.id.is_empty()) {
            call.id = id;
        }
        if let Some(function) = delta.function {
            call.name.extend(function.name);
            call.arguments.extend(function.arguments);
        }
        if call.arguments.len() + call.name.len() > ARGUMENTS_MAX {
            return Err(TurnError::TooLarge("256 KiB of arguments of one tool call"));
        }
        Ok(())
    }

    /// Whether the model said that nothing more comes.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// The turn, once the stream ended.
    ///
    /// # Errors
    /// When the model did not say why it stopped, or a call has no name.
    pub fn finish(self) -> Result<Turn, TurnError> {
        if !self.finished {
            return Err(TurnError::Truncated);
        }
        let mut turn = self.turn;
        let mut order: Vec<_> = self.indices.into_iter().zip(turn.calls).collect();
        order.sort_by_key(|(index, _)| *index);
        turn.calls = order.into_iter().map(|(_, call)| call).collect();
        let mut seen = std::collections::BTreeSet::new();
        for (position, call) in turn.calls.iter_mut().enumerate() {
            if call.name.is_empty() {
                return Err(TurnError::Protocol("a tool call has no name".to_owned()));
            }
            // Results are matched by identifier, so each call needs its own.
            let mut attempt = 0;
            while call.id.is_empty() || !seen.insert(call.id.clone()) {
                call.id = format!("call_{position}_{attempt}");
                attempt += 1;
            }
        }
        Ok(turn)
    }
}

/// The beginning of a text from outside, for a message: one line, without control characters.
#[must_use]
pub fn excerpt(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(delta: Value, finish: Option<&str>) -> String {
        json!({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}).to_string()
    }

    fn collect(events: &[String]) -> Result<Turn, TurnError> {
        let mut collector = Collector::default();
        let mut said = String::new();
        for event in events {
            said.push_str(&collector.push(event)?);
        }
        let turn = collector.finish()?;
        assert_eq!(said, turn.text, "what is streamed is what is kept");
        Ok(turn)
    }

    fn part(index: u64, arguments: &str) -> String {
        chunk(json!({"tool_calls": [{"index": index, "function": {"arguments": arguments}}]}), None)
    }

    fn head(index: u64, id: &str, name: &str) -> String {
        chunk(
            json!({"tool_calls": [{"index": index, "id": id, "function": {"name": name, "arguments": ""}}]}),
            None,
        )
    }

    #[test]
    fn interleaved_calls() {
        let mut events = vec![head(1, "y", "g"), head(0, "x", "f")];
        let (a, b) = (["{\"", "a", "\":", " ", "1", "", "}"], ["{\"", "b", "\"", ":\"", "ö", "\"", "}"]);
        for (left, right) in a.iter().zip(b) {
            events.extend([part(0, left), part(1, right)]);
        }
        events.push(chunk(json!({}), Some("tool_calls")));
        events.push(
            json!({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}})
                .to_string(),
        );
        events.push("[DONE]".to_owned());
        let turn = collect(&events).unwrap();
        let call = |id: &str, name: &str, arguments: &str| Call {
            id: id.to_owned(),
            name: name.to_owned(),
            arguments: arguments.to_owned(),
        };
        assert_eq!(turn.calls, [call("x", "f", "{\"a\": 1}"), call("y", "g", "{\"b\":\"ö\"}")]);
        assert_eq!(turn.usage.total_tokens, 5);
    }

    #[test]
    fn text_and_dialects() {
        let turn = collect(&[
            chunk(json!({"role": "assistant", "content": null}), None),
            chunk(json!({"content": "Hel"}), None),
            chunk(json!({"content": "lo"}), Some("stop")),
        ]);
        assert_eq!(turn.unwrap().text, "Hello");
        // Without indices; identifiers tell the calls apart, and missing or repeated ones are made.
        let turn = collect(&[
            chunk(json!({"tool_calls": [{"id": "p", "function": {"name": "f", "arguments": "{}"}}]}), None),
            chunk(json!({"tool_calls": [{"id": "q", "function": {"name": "g", "arguments": "{"}}]}), None),
            chunk(json!({"tool_calls": [{"function": {"arguments": "}"}}]}), Some("tool_calls")),
        ])
        .unwrap();
        let ids: Vec<_> = turn.calls.iter().map(|c| (c.id.as_str(), c.arguments.as_str())).collect();
        assert_eq!(ids, [("p", "{}"), ("q", "{}")]);
        let turn = collect(&[head(0, "s", "f"), head(1, "s", "g"), chunk(json!({}), Some("stop"))]).unwrap();
        assert_ne!(turn.calls[0].id, turn.calls[1].id);
    }

    #[test]
    fn what_is_no_turn() {
        let cut = collect(&[chunk(json!({"content": "Hel"}), None)]);
        assert_eq!(cut, Err(TurnError::Truncated));
        assert_eq!(
            collect(&[chunk(json!({"content": "Hel"}), None), "[DONE]".to_owned()]),
            Err(TurnError::Truncated)
        );
        assert_eq!(collect(&[]), Err(TurnError::Truncated));
        assert!(matches!(collect(&["<html>".to_owned()]), Err(TurnError::Protocol(_))));
        assert!(matches!(collect(&["{\"choices\": 7}".to_owned()]), Err(TurnError::Protocol(_))));
        let nameless = collect(&[part(0, "{}"), chunk(json!({}), Some("tool_calls"))]);
        assert!(matches!(nameless, Err(TurnError::Protocol(_))));
        let reported = collect(&["{\"error\": {\"message\": \"over\\nloaded\"}}".to_owned()]);
        assert_eq!(reported, Err(TurnError::Reported("over loaded".to_owned())));
    }

    #[test]
    fn bounds() {
        let many: Vec<_> = (0..=CALLS_MAX as u64).map(|index| head(index, "", "f")).collect();
        assert!(matches!(collect(&many), Err(TurnError::TooLarge(_))));
        assert!(matches!(collect(&[part(0, &"x".repeat(ARGUMENTS_MAX + 1))]), Err(TurnError::TooLarge(_))));
        let long = chunk(json!({"content": "x".repeat(TEXT_MAX + 1)}), None);
        assert!(matches!(collect(&[long]), Err(TurnError::TooLarge(_))));
    }

    #[test]
    fn arguments() {
        let call = |arguments: &str| Call { arguments: arguments.to_owned(), ..Call::default() };
        assert_eq!(call("{\"a\":1}").arguments().unwrap().len(), 1);
        assert!(call(" ").arguments().unwrap().is_empty());
        for broken in ["{", "[]", "7", "{\"a\":1} trailing", "{\"a\":"] {
            assert!(call(broken).arguments().is_err(), "{broken}");
        }
        let turn = Turn { calls: vec![call("{broken")], ..Turn::default() };
        assert_eq!(turn.message()["tool_calls"][0]["function"]["arguments"], "{}");
    }
}
