//! A completion as the API writes it: one JSON object, or server-sent events.
//!
//! OpenAI API reference, "The chat completion object" and "The chat completion chunk object".

use serde_json::{Value, json};

use super::reply::Completion;
use super::script::{Cut, Delivery};
use crate::pieces::Piece;

/// What stands around a completion.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    /// Identifier of the completion.
    pub(super) id: String,
    /// Seconds since 1970.
    pub(super) created: u64,
    /// Model that answers.
    pub(super) model: String,
    /// Tokens of the request.
    pub(super) prompt_tokens: usize,
}

/// Tokens of a text, as this double counts: four bytes each, begun ones counted.
pub(super) fn tokens(bytes: usize) -> usize {
    bytes.div_ceil(4)
}

fn usage(frame: &Frame, completion: &Completion) -> Value {
    let calls: usize = completion.calls.iter().map(|call| call.name.len() + call.arguments.len()).sum();
    let said = tokens(completion.content.as_ref().map_or(0, String::len) + calls);
    json!({"prompt_tokens": frame.prompt_tokens, "completion_tokens": said, "total_tokens": frame.prompt_tokens + said})
}

fn finish(completion: &Completion) -> &'static str {
    if completion.calls.is_empty() { "stop" } else { "tool_calls" }
}

/// The whole completion.
pub(super) fn whole(frame: &Frame, completion: &Completion) -> Value {
    let mut message = json!({"role": "assistant", "content": completion.content, "refusal": null});
    if !completion.calls.is_empty() {
        let calls = completion.calls.iter().map(|call| {
            json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}})
        });
        if let Some(members) = message.as_object_mut() {
            members.insert("tool_calls".to_owned(), calls.collect());
        }
    }
    json!({
        "id": frame.id, "object": "chat.completion", "created": frame.created, "model": frame.model,
        "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": finish(completion)}],
        "usage": usage(frame, completion),
    })
}

/// The completion as events, `[DONE]` last. The fragments of several calls take turns.
pub(super) fn events(frame: &Frame, completion: &Completion, with_usage: bool) -> Vec<Vec<u8>> {
    let chunk = |choices: Value, usage: Option<Value>| {
        let mut chunk = json!({"id": frame.id, "object": "chat.completion.chunk", "created": frame.created,
            "model": frame.model, "choices": choices});
        if with_usage && let Some(members) = chunk.as_object_mut() {
            members.insert("usage".to_owned(), usage.unwrap_or(Value::Null));
        }
        format!("data: {chunk}\n\n").into_bytes()
    };
    let delta = |delta: Value, finish: Option<&str>| {
        chunk(json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]), None)
    };
    let mut events =
        vec![delta(json!({"role": "assistant", "content": completion.content.as_ref().map(|_| "")}), None)];
    if let Some(content) = &completion.content {
        let parts = split(content, completion.fragments);
        events.extend(parts.iter().map(|part| delta(json!({"content": part}), None)));
    }
    for (index, call) in completion.calls.iter().enumerate() {
        events.push(delta(
            json!({"tool_calls": [{"index": index, "id": call.id, "type": "function",
                "function": {"name": call.name, "arguments": ""}}]}),
            None,
        ));
    }
    let arguments: Vec<_> =
        completion.calls.iter().map(|call| split(&call.arguments, completion.fragments)).collect();
    for place in 0..arguments.iter().map(Vec::len).max().unwrap_or(0) {
        for (index, parts) in arguments.iter().enumerate() {
            if let Some(part) = parts.get(place) {
                events.push(delta(
                    json!({"tool_calls": [{"index": index, "function": {"arguments": part}}]}),
                    None,
                ));
            }
        }
    }
    events.push(delta(json!({}), Some(finish(completion))));
    if with_usage {
        events.push(chunk(json!([]), Some(usage(frame, completion))));
    }
    events.push(b"data: [DONE]\n\n".to_vec());
    events
}

/// The text in `count` parts of about the same number of characters; fewer when it has fewer characters.
fn split(text: &str, count: usize) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    let size = characters.len().div_ceil(count.max(1)).max(1);
    let mut parts: Vec<String> = Vec::new();
    let mut rest = characters.as_slice();
    let mut left = count.max(1);
    while !rest.is_empty() {
        let take = rest.len().div_ceil(left.max(1)).clamp(1, size).min(rest.len());
        let (part, others) = rest.split_at(take);
        parts.push(part.iter().collect());
        rest = others;
        left = left.saturating_sub(1);
    }
    parts
}

/// How the events (or the one body) are delivered.
pub(super) fn deliver(events: Vec<Vec<u8>>, delivery: &Delivery) -> Result<Vec<Piece>, String> {
    let end = match &delivery.cut {
        None => None,
        Some(cut) => Some(cut_at(&events.concat(), cut)?),
    };
    let mut pieces = Vec::new();
    let mut sent = 0;
    for (index, mut event) in events.into_iter().enumerate() {
        if delivery.hang_after_events == Some(index) {
            pieces.push(Piece::Hang);
            return Ok(pieces);
        }
        if delivery.delay_ms > 0 {
            pieces.push(Piece::PauseMs(delivery.delay_ms));
        }
        if let Some(end) = end {
            event.truncate(end - sent);
        }
        sent += event.len();
        pieces.push(Piece::data(event));
        if end == Some(sent) {
            if !delivery.cut.as_ref().is_some_and(|cut| cut.clean) {
                pieces.push(Piece::Abort);
            }
            return Ok(pieces);
        }
    }
    Ok(pieces)
}

fn cut_at(body: &[u8], cut: &Cut) -> Result<usize, String> {
    let place = match (&cut.inside, cut.bytes) {
        (Some(text), _) => body
            .windows(text.len().max(1))
            .position(|window| window == text.as_bytes())
            .map(|start| start + 1)
            .ok_or_else(|| format!("delivery.cut.inside: {text:?} is not in one piece in the answer"))?,
        (None, bytes) => bytes.unwrap_or(0),
    };
    if place < body.len() {
        Ok(place)
    } else {
        Err(format!("delivery.cut: byte {place} is not before the end ({} bytes)", body.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::reply::MadeCall;
    use super::*;

    fn frame() -> Frame {
        Frame { id: "c".to_owned(), created: 1, model: "m".to_owned(), prompt_tokens: 2 }
    }

    fn two_calls() -> Completion {
        let call = |id: &str, arguments: &str| MadeCall {
            id: id.to_owned(),
            name: "f".to_owned(),
            arguments: arguments.to_owned(),
        };
        Completion {
            content: None,
            calls: vec![call("a", "{\"x\":\"öö\"}"), call("b", "{\"y\":22}")],
            fragments: 7,
        }
    }

    fn argument_parts(events: &[Vec<u8>]) -> Vec<(u64, String)> {
        let mut parts = Vec::new();
        for event in events {
            let text = std::str::from_utf8(event).unwrap().trim().strip_prefix("data: ").unwrap();
            if let Ok(value) = serde_json::from_str::<Value>(text) {
                let call = &value["choices"][0]["delta"]["tool_calls"][0];
                if let Some(part) = call["function"]["arguments"].as_str().filter(|part| !part.is_empty()) {
                    parts.push((call["index"].as_u64().unwrap(), part.to_owned()));
                }
            }
        }
        parts
    }

    #[test]
    fn fragments_of_two_calls_take_turns_and_make_the_whole() {
        let completion = two_calls();
        let parts = argument_parts(&events(&frame(), &completion, false));
        let order: Vec<u64> = parts.iter().map(|part| part.0).collect();
        assert_eq!(order, [0, 1].repeat(7));
        for (index, call) in completion.calls.iter().enumerate() {
            let whole: String =
                parts.iter().filter(|part| part.0 == index as u64).map(|part| part.1.as_str()).collect();
            assert_eq!(whole, call.arguments);
        }
    }

    #[test]
    fn texts_are_split_evenly() {
        for (text, count, expected) in [
            ("abcdefgh", 3, vec!["abc", "def", "gh"]),
            ("ab", 7, vec!["a", "b"]),
            ("", 3, vec![]),
            ("öä", 0, vec!["öä"]),
        ] {
            assert_eq!(split(text, count), expected);
        }
        assert_eq!(split("abcdefgh", 7).len(), 7);
    }

    #[test]
    fn deliveries_are_cut_where_stated() {
        let events = || vec![b"one ".to_vec(), "zwö drei".as_bytes().to_vec()];
        let check = |delivery: Delivery, expected: &[Piece]| {
            assert_eq!(deliver(events(), &delivery).unwrap(), expected);
        };
        let cut = |bytes: Option<usize>, inside: Option<&str>, clean: bool| Delivery {
            cut: Some(Cut { bytes, inside: inside.map(str::to_owned), clean }),
            ..Delivery::default()
        };
        check(
            Delivery { delay_ms: 5, ..Delivery::default() },
            &[Piece::PauseMs(5), Piece::data("one "), Piece::PauseMs(5), Piece::data("zwö drei")],
        );
        check(cut(Some(2), None, false), &[Piece::data("on"), Piece::Abort]);
        check(cut(None, Some("ö"), true), &[Piece::data("one "), Piece::data(b"zw\xc3".to_vec())]);
        check(
            Delivery { hang_after_events: Some(1), ..Delivery::default() },
            &[Piece::data("one "), Piece::Hang],
        );
        assert!(deliver(events(), &cut(Some(99), None, false)).is_err());
        assert!(deliver(events(), &cut(None, Some("?"), false)).is_err());
    }
}
