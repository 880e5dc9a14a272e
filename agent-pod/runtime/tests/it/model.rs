//! What a model's server sends: chunks of a completion as server-sent events.

use serde_json::{Value, json};

use crate::pod::Step;

fn delta(delta: Value) -> Value {
    json!({"id": "c", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
}

pub fn text(text: &str) -> Value {
    delta(json!({"content": text}))
}

pub fn call_head(index: u64, id: &str, name: &str) -> Value {
    delta(
        json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": ""}}]}),
    )
}

pub fn call_part(index: u64, arguments: &str) -> Value {
    delta(json!({"tool_calls": [{"index": index, "function": {"arguments": arguments}}]}))
}

/// A whole call.
pub fn call(index: u64, id: &str, name: &str, arguments: &str) -> Value {
    delta(json!({"tool_calls": [{"index": index, "id": id, "type": "function",
        "function": {"name": name, "arguments": arguments}}]}))
}

pub fn stop(reason: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
}

pub fn usage(prompt: u64, completion: u64) -> Value {
    json!({"choices": [], "usage":
        {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}})
}

const HEAD: &str = "HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// A whole stream.
pub fn stream(events: &[Value]) -> Vec<Step> {
    let mut bytes = HEAD.as_bytes().to_vec();
    for event in events {
        bytes.extend(chunk(format!("data: {event}\n\n").as_bytes()));
    }
    bytes.extend(chunk(b"data: [DONE]\n\n"));
    bytes.extend(b"0\r\n\r\n");
    vec![Step::Send(bytes)]
}

/// A stream that breaks off inside the first `inside`, or after the last event where that is empty.
pub fn cut(events: &[Value], inside: &str) -> Vec<Step> {
    let mut body: Vec<u8> =
        events.iter().flat_map(|event| format!("data: {event}\n\n").into_bytes()).collect();
    if !inside.is_empty() {
        let at = body.windows(inside.len()).position(|window| window == inside.as_bytes()).unwrap();
        body.truncate(at + 1);
    }
    vec![Step::Send([HEAD.as_bytes(), &chunk(&body)].concat())]
}
