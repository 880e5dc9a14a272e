//! Which step of a script answers a request.
//!
//! The history says where a conversation stands: the number of assistant messages in it is the number of the turn. Steps
//! that fail (`Step::fails`) belong to the turn of the step that follows them, and asking the same again moves on within
//! the turn. After the last step of a turn the count begins again, so a second run of the same words meets the same
//! failures. Conversations that run at the same time and begin with the same words are told apart by `user`.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde_json::Value;

use super::chat::Chat;
use super::reply::{Answer, Completion, MadeCall, Refused, placeholders};
use super::script::{Call, Expect, Reply, Script, Step};

/// The scripts of a double, and how often each request came.
#[derive(Default)]
pub(super) struct Scripts {
    scripts: Vec<Script>,
    asked: HashMap<u64, usize>,
}

impl Scripts {
    /// Adds a script; one of the same name or for the same model is replaced.
    pub(super) fn add(&mut self, script: Script) {
        self.scripts.retain(|other| other.name != script.name && other.model != script.model);
        self.scripts.push(script);
        self.asked.clear();
    }

    /// Forgets all scripts.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Starts all conversations anew.
    pub(super) fn rewind(&mut self) {
        self.asked.clear();
    }

    /// Models that have a script.
    pub(super) fn models(&self) -> impl Iterator<Item = &str> {
        self.scripts.iter().map(|script| script.model.as_str())
    }

    /// The answer of the script for the request's model; `None` when there is no such script.
    pub(super) fn answer(&mut self, chat: &Chat) -> Option<Result<Answer, Refused>> {
        let script = self.scripts.iter().find(|script| script.model == chat.model)?;
        let key = key(chat);
        let asked = self.asked.get(&key).copied().unwrap_or(0);
        let chosen = pick(script, chat.turn(), asked);
        Some(chosen.and_then(|(index, step)| {
            let note = format!("script {:?}, step {index}", script.name);
            let wrong = differences(&step.expect, chat);
            if !wrong.is_empty() {
                return Err(Refused::unexpected(format!("{note}: {}", wrong.join("; "))));
            }
            self.asked.insert(key, asked + 1);
            Ok(answer(step, chat, note))
        }))
    }
}

fn key(chat: &Chat) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&chat.model, &chat.messages, &chat.user).hash(&mut hasher);
    hasher.finish()
}

/// The step for a turn that was asked for `asked` times before, with its index.
fn pick(script: &Script, turn: usize, asked: usize) -> Result<(usize, &Step), Refused> {
    let mut steps: Vec<(usize, &Step)> = Vec::new();
    let mut turns = 0;
    for (index, step) in script.steps.iter().enumerate() {
        if turns == turn {
            steps.push((index, step));
        }
        if !step.fails() {
            turns += 1;
        }
    }
    let place = asked.checked_rem(steps.len()).unwrap_or(0);
    steps.get(place).copied().ok_or_else(|| {
        Refused::unexpected(format!(
            "script {:?} has {turns} turns, and the assistant has spoken {turn} times already",
            script.name
        ))
    })
}

/// All ways in which a request is not what the step expects.
fn differences(expect: &Expect, chat: &Chat) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut check = |holds: bool, text: &dyn Fn() -> String| {
        if !holds {
            wrong.push(text());
        }
    };
    let last = chat.last();
    let role = chat.messages.last().map(|message| message.role.as_str()).unwrap_or_default();
    let offered: Vec<&str> = chat.tools.iter().map(|tool| tool.function.name.as_str()).collect();
    let system: String = chat
        .messages
        .iter()
        .filter(|message| matches!(message.role.as_str(), "system" | "developer"))
        .map(|message| message.text())
        .collect();
    if let Some(expected) = &expect.last_role {
        check(role == expected, &|| {
            format!("the last message should be of role {expected:?}, it is of {role:?}")
        });
    }
    if let Some(expected) = &expect.last_contains {
        check(last.contains(expected), &|| {
            format!("the last message should contain {expected:?}, it is {last:?}")
        });
    }
    if let Some(expected) = &expect.system_contains {
        check(system.contains(expected), &|| {
            format!("the system message should contain {expected:?}, it is {system:?}")
        });
    }
    for name in &expect.tools {
        check(offered.contains(&name.as_str()), &|| {
            format!("tool {name:?} should be offered, there are {offered:?}")
        });
    }
    for name in &expect.no_tools {
        check(!offered.contains(&name.as_str()), &|| format!("tool {name:?} should not be offered"));
    }
    if let Some(expected) = expect.tool_results {
        let results = chat.results();
        check(results == expected, &|| {
            format!("{expected} tool results should end the history, there are {results}")
        });
    }
    if let Some(expected) = expect.stream {
        check(chat.stream == expected, &|| format!("stream should be {expected}"));
    }
    wrong
}

fn answer(step: &Step, chat: &Chat, note: String) -> Answer {
    let fill = |text: &str| placeholders(text, chat);
    match &step.reply {
        Reply::Hang {} => Answer::Hang { note },
        Reply::Status { code, headers, body, content_type } => Answer::Status {
            code: *code,
            headers: headers.clone(),
            body: body.clone(),
            content_type: content_type.clone(),
            note,
        },
        Reply::Text { content, fragments } => Answer::Completion {
            completion: Completion { content: Some(fill(content)), calls: Vec::new(), fragments: *fragments },
            delivery: step.delivery.clone(),
            note,
        },
        Reply::ToolCalls { calls, content, fragments } => {
            let first = chat.calls_so_far();
            let calls =
                calls.iter().enumerate().map(|(index, call)| made(call, first + index, chat)).collect();
            Answer::Completion {
                completion: Completion {
                    content: content.as_deref().map(fill),
                    calls,
                    fragments: *fragments,
                },
                delivery: step.delivery.clone(),
                note,
            }
        }
    }
}

fn made(call: &Call, number: usize, chat: &Chat) -> MadeCall {
    let arguments = match (&call.raw_arguments, &call.arguments) {
        (Some(raw), _) => raw.clone(),
        (None, Some(value)) => filled(value, chat).to_string(),
        (None, None) => "{}".to_owned(),
    };
    MadeCall {
        id: call.id.clone().unwrap_or_else(|| format!("call_{number}")),
        name: call.name.clone(),
        arguments,
    }
}

/// The value with placeholders filled in within its strings.
fn filled(value: &Value, chat: &Chat) -> Value {
    match value {
        Value::String(text) => Value::String(placeholders(text, chat)),
        Value::Array(items) => items.iter().map(|item| filled(item, chat)).collect(),
        Value::Object(members) => {
            Value::Object(members.iter().map(|(name, value)| (name.clone(), filled(value, chat))).collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::script;
    use super::*;

    const SCRIPT: &str = r#"
name: s
model: m
steps:
- reply: {status: {code: 429, headers: {retry-after: "2"}}}
- reply: {text: {content: never finished}}
  delivery: {cut: {bytes: 3}}
- expect: {lastRole: user, lastContains: seven, tools: [f], noTools: [g]}
  reply: {toolCalls: {calls: [{name: f, arguments: {q: "{{last}}"}}, {name: f, rawArguments: "{broken"}]}}
- expect: {toolResults: 2}
  reply: {text: {content: "{{last}}!"}}
"#;

    fn chat(messages: &str, tool: &str) -> Chat {
        let body = format!(
            r#"{{"model":"m","messages":{messages},"tools":[{{"type":"function","function":{{"name":"{tool}"}}}}]}}"#
        );
        Chat::parse(body.as_bytes()).unwrap()
    }

    fn scripts() -> Scripts {
        let mut scripts = Scripts::default();
        scripts.add(script::parse(SCRIPT).unwrap());
        scripts
    }

    fn summary(answer: Option<Result<Answer, Refused>>) -> String {
        match answer {
            None => "none".to_owned(),
            Some(Err(refused)) => refused.message,
            Some(Ok(Answer::Hang { .. })) => "hang".to_owned(),
            Some(Ok(Answer::Status { code, .. })) => code.to_string(),
            Some(Ok(Answer::Completion { completion, delivery, .. })) => {
                let calls: Vec<_> = completion
                    .calls
                    .iter()
                    .map(|call| format!("{} {} {}", call.id, call.name, call.arguments))
                    .collect();
                format!("{:?} {calls:?} cut={}", completion.content, delivery.cut.is_some())
            }
        }
    }

    #[test]
    fn a_conversation_follows_its_script_and_meets_the_same_failures_again() {
        const USER: &str = r#"[{"role":"user","content":"seven"}]"#;
        let mut scripts = scripts();
        for _ in 0..2 {
            assert_eq!(summary(scripts.answer(&chat(USER, "f"))), "429");
            assert!(summary(scripts.answer(&chat(USER, "f"))).ends_with("cut=true"));
            let calls = summary(scripts.answer(&chat(USER, "f")));
            assert!(calls.contains(r#"call_0 f {\"q\":\"seven\"}"#), "{calls}");
            assert!(calls.contains(r"call_1 f {broken"), "{calls}");
        }
        let history = r#"[{"role":"user","content":"seven"},{"role":"assistant","tool_calls":[
            {"id":"call_0","type":"function","function":{"name":"f","arguments":"{}"}},
            {"id":"call_1","type":"function","function":{"name":"f","arguments":"{"}}]},
            {"role":"tool","tool_call_id":"call_0","content":"one"},
            {"role":"tool","tool_call_id":"call_1","content":"two"}]"#;
        assert_eq!(summary(scripts.answer(&chat(history, "f"))), r#"Some("two!") [] cut=false"#);
    }

    #[test]
    fn a_request_that_is_not_expected_is_refused_with_each_difference() {
        let mut scripts = scripts();
        let wrong = chat(r#"[{"role":"user","content":"eight"}]"#, "g");
        scripts.answer(&wrong);
        scripts.answer(&wrong);
        let message = summary(scripts.answer(&wrong));
        for part in ["step 2", "should contain \"seven\"", "\"f\" should be offered", "\"g\" should not be"] {
            assert!(message.contains(part), "{message}");
        }
        let over = r#"[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c"},
            {"role":"assistant","content":"d"},{"role":"user","content":"e"}]"#;
        assert!(summary(scripts.answer(&chat(over, "f"))).contains("has 2 turns"));
    }
}
