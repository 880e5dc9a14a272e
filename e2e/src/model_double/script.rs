//! A scenario as data: what the double expects of each request, and what it answers.
//!
//! Written in YAML or JSON, one script per file:
//!
//! ```yaml
//! name: retry-then-call
//! model: scripted:retry
//! steps:
//! - reply: {status: {code: 429, headers: {retry-after: "2"}}}
//! - expect: {lastRole: user, lastContains: note 7, tools: [notes__get_note]}
//!   reply: {toolCalls: {fragments: 7, calls: [{name: notes__get_note, arguments: {id: "7"}}]}}
//! - expect: {toolResults: 1}
//!   reply: {text: {content: "It says: {{last}}", fragments: 3}}
//!   delivery: {delayMs: 20}
//! ```

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// One scenario.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Script {
    /// Its name, unique in the double; a script of the same name replaces it.
    pub name: String,
    /// The `model` of the requests it answers.
    pub model: String,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// One request and its answer.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Step {
    /// What the request must look like; without it anything does.
    #[serde(default)]
    pub expect: Expect,
    /// The answer.
    pub reply: Reply,
    /// How the answer is delivered; whole and at once unless stated.
    #[serde(default)]
    pub delivery: Delivery,
}

impl Step {
    /// The client has nothing it could keep from this answer, so it asks the same again: the turn goes on.
    pub fn fails(&self) -> bool {
        matches!(self.reply, Reply::Status { .. } | Reply::Hang {})
            || self.delivery.cut.is_some()
            || self.delivery.hang_after_events.is_some()
    }
}

/// What a request must look like. Every stated part must hold.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Expect {
    /// Role of the last message.
    pub last_role: Option<String>,
    /// Text the last message contains.
    pub last_contains: Option<String>,
    /// Text the system message contains.
    pub system_contains: Option<String>,
    /// Functions that must be offered; others may be.
    pub tools: Vec<String>,
    /// Functions that must not be offered.
    pub no_tools: Vec<String>,
    /// How many tool messages follow the last message of the assistant.
    pub tool_results: Option<usize>,
    /// Whether the answer is asked for as a stream.
    pub stream: Option<bool>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Reply {
    /// Text. `{{last}}` stands for the text of the last message, `{{lastUser}}` for that of the last user message.
    Text {
        /// The text.
        content: String,
        /// Into how many chunks a stream splits it.
        #[serde(default = "one")]
        fragments: usize,
    },
    /// Calls of functions, all in one turn.
    ToolCalls {
        /// The calls, in order.
        calls: Vec<Call>,
        /// Text beside the calls.
        content: Option<String>,
        /// Into how many chunks a stream splits the arguments of each call, the calls taking turns.
        #[serde(default = "one")]
        fragments: usize,
    },
    /// An error.
    Status {
        /// HTTP status.
        code: u16,
        /// Headers to add, such as `retry-after`.
        #[serde(default)]
        headers: BTreeMap<String, String>,
        /// Body; an error object in the API's form unless stated.
        body: Option<String>,
        /// Type of a stated body.
        content_type: Option<String>,
    },
    /// No answer, not even headers, until the client leaves.
    Hang {},
}

fn one() -> usize {
    1
}

/// One call of a function.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Call {
    /// Identifier; `call_<n>`, unique in the conversation, unless stated.
    pub id: Option<String>,
    /// Name of the function.
    pub name: String,
    /// Its arguments. Placeholders are filled in within strings.
    #[serde(default)]
    pub arguments: Option<Value>,
    /// The arguments as literal text instead, for instance broken JSON.
    #[serde(default)]
    pub raw_arguments: Option<String>,
}

/// How an answer is delivered.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Delivery {
    /// Milliseconds before each event of a stream, or before the body.
    pub delay_ms: u64,
    /// Where the answer is cut off.
    pub cut: Option<Cut>,
    /// After so many events nothing more comes, and the connection stays open.
    pub hang_after_events: Option<usize>,
}

/// Where an answer ends too early.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Cut {
    /// After so many bytes of the body.
    pub bytes: Option<usize>,
    /// After the first byte of the first place where this text stands in the body: inside a character of many bytes.
    pub inside: Option<String>,
    /// The HTTP message is ended properly, so that only the missing rest gives the cut away.
    pub clean: bool,
}

/// Reads one script and checks what types cannot.
pub fn parse(text: &str) -> Result<Script, String> {
    let script: Script = serde_saphyr::from_str(text).map_err(|error| format!("script: {error}"))?;
    let wrong = |field: &str, message: &str| Err(format!("script {:?}: {field}: {message}", script.name));
    if script.name.is_empty() || script.model.is_empty() {
        return wrong("name, model", "must not be empty");
    }
    if script.steps.last().is_none_or(Step::fails) {
        return wrong("steps", "must end with a step that answers, or no client could ever finish");
    }
    for (index, step) in script.steps.iter().enumerate() {
        let field = format!("steps[{index}]");
        match &step.reply {
            Reply::ToolCalls { calls, .. } if calls.is_empty() => {
                return wrong(&field, "toolCalls.calls must not be empty");
            }
            Reply::ToolCalls { calls, .. }
                if calls.iter().any(|call| call.arguments.is_some() == call.raw_arguments.is_some()) =>
            {
                return wrong(&field, "each call has either arguments or rawArguments");
            }
            Reply::Status { code, .. } if !(400..600).contains(code) => {
                return wrong(&field, "status.code must be 400 to 599");
            }
            _ => {}
        }
        if let Some(cut) = &step.delivery.cut
            && cut.bytes.is_some() == cut.inside.is_some()
        {
            return wrong(&field, "delivery.cut has either bytes or inside");
        }
    }
    Ok(script)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<usize, &str>) {
        match (parse(text), expected) {
            (Ok(script), Ok(steps)) => assert_eq!(script.steps.len(), steps, "{text}"),
            (Err(message), Err(part)) => assert!(message.contains(part), "{message}"),
            (got, _) => panic!("{text}: {got:?}"),
        }
    }

    #[test]
    fn scripts_are_checked() {
        check("{name: a, model: m, steps: [{reply: {text: {content: hi}}}]}", Ok(1));
        check(
            r#"{"name":"a","model":"m","steps":[{"reply":{"hang":{}}},{"reply":{"text":{"content":"x"}}}]}"#,
            Ok(2),
        );
        check("{name: a, model: m, steps: []}", Err("must end with a step that answers"));
        check("{name: a, model: m, steps: [{reply: {status: {code: 429}}}]}", Err("must end with a step"));
        check("{name: a, model: m, steps: [{reply: {text: {content: hi}}, expects: {}}]}", Err("expects"));
        check("{name: a, model: m, steps: [{reply: {toolCalls: {calls: []}}}]}", Err("steps[0]"));
        check(
            "{name: a, model: m, steps: [{reply: {toolCalls: {calls: [{name: x}]}}}]}",
            Err("either arguments"),
        );
        check(
            "{name: a, model: m, steps: [{reply: {status: {code: 200}}}, {reply: {text: {content: hi}}}]}",
            Err("400 to 599"),
        );
        check(
            "{name: a, model: m, steps: [{reply: {text: {content: a}}, delivery: {cut: {clean: true}}}, {reply: {text: {content: a}}}]}",
            Err("either bytes or inside"),
        );
    }
}
