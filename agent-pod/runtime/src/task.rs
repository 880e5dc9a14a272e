//! One task: the model is asked, its calls are executed, it is told the results, until it answers.

use bytes::Bytes;
use futures::StreamExt;
use http::StatusCode;
use redoubt_local::Client;
use redoubt_policy::Refusal;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use crate::chat::{ChatRequest, Usage};
use crate::config::Config;
use crate::failure::Failure;
use crate::hands::Hands;
use crate::model;
use crate::turn::{Call, Turn};

/// Most bytes of a conversation, as it is sent to the model.
pub const CONVERSATION_MAX: usize = 16 * 1024 * 1024;

/// How many calls of one turn are under way at once.
pub const PARALLEL_CALLS: usize = 8;

/// What a task tells while it runs, and how it ends.
#[derive(Debug)]
pub enum Event {
    /// More text of the answer.
    Text(String),
    /// The end. Nothing comes after it.
    End(Result<Answer, Failure>),
}

/// The answer of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// All that the model said, turns apart by a blank line.
    pub text: String,
    /// Why the model stopped, as it said.
    pub finish_reason: String,
    /// Tokens of all turns.
    pub usage: Usage,
}

/// Passes text on to the caller as it comes, if the caller wants it so.
#[derive(Debug, Default)]
pub struct Mouth {
    live: Option<mpsc::Sender<Event>>,
    said_before: bool,
    said_this_turn: bool,
}

impl Mouth {
    /// A mouth that speaks to `live`, or keeps silent.
    #[must_use]
    pub fn new(live: Option<mpsc::Sender<Event>>) -> Self {
        Self { live, said_before: false, said_this_turn: false }
    }

    /// A new turn begins.
    pub fn begin_turn(&mut self) {
        self.said_before |= self.said_this_turn;
        self.said_this_turn = false;
    }

    /// Whether the caller heard something of this turn, so that it cannot be taken back.
    #[must_use]
    pub fn said_this_turn(&self) -> bool {
        self.said_this_turn
    }

    /// Passes text on.
    pub async fn say(&mut self, text: &str) {
        let Some(live) = self.live.as_ref().filter(|_| !text.is_empty()) else { return };
        let apart = if self.said_before && !self.said_this_turn { "\n\n" } else { "" };
        self.said_this_turn = true;
        // A caller that is gone ends the whole task; there is nothing to do about it here.
        let _ = live.send(Event::Text(format!("{apart}{text}"))).await;
    }
}

/// A task and what it is done with.
#[derive(Debug)]
pub struct Task {
    /// Names the task in calls and logs; unique in the life of the process.
    pub id: String,
    /// Configuration at its start.
    pub config: Config,
    /// The way to the model.
    pub egress: Client,
    /// The way to the tools.
    pub hands: Hands,
    /// What was asked.
    pub request: ChatRequest,
}

impl Task {
    /// Runs the task, for as long as the Agent's limits allow.
    ///
    /// # Errors
    /// When there is no answer; the failure says why.
    pub async fn run(self, mut mouth: Mouth) -> Result<Answer, Failure> {
        let (object, limit) = (self.config.object(), self.config.timeout);
        let ended = tokio::time::timeout(limit, self.turns(&mut mouth)).await;
        ended.unwrap_or_else(|_| {
            let refusal = Refusal::new(
                "TaskTimeout",
                object,
                "spec.runtime.limits.timeoutSeconds",
                format!("the task took longer than {} s", limit.as_secs()),
                "ask for less, or raise the limit",
            );
            Err(Failure::new(StatusCode::GATEWAY_TIMEOUT, refusal))
        })
    }

    async fn turns(&self, mouth: &mut Mouth) -> Result<Answer, Failure> {
        let tools = self.hands.functions().await?;
        let mut conversation = Vec::new();
        if !self.config.instructions.is_empty() {
            conversation.push(json!({"role": "system", "content": self.config.instructions}));
        }
        conversation.extend(self.request.messages.iter().cloned());
        let mut answer =
            Answer { text: String::new(), finish_reason: String::new(), usage: Usage::default() };
        for number in 1..=self.config.max_turns {
            let body = self.body(&conversation, &tools)?;
            let turn = model::ask(&self.egress, &self.config, body, mouth).await?;
            answer.usage.add(turn.usage);
            if !answer.text.is_empty() && !turn.text.is_empty() {
                answer.text.push_str("\n\n");
            }
            answer.text.push_str(&turn.text);
            if turn.calls.is_empty() {
                answer.finish_reason = turn.finish_reason;
                return Ok(answer);
            }
            if number == self.config.max_turns {
                break;
            }
            conversation.push(turn.message());
            conversation.extend(self.results(number, &turn).await);
        }
        let refusal = Refusal::new(
            "TurnLimit",
            self.config.object(),
            "spec.runtime.limits.maxTurns",
            format!("the model asked for more tools after {} turns", self.config.max_turns),
            "ask for less, or raise the limit; the last turn's calls were not executed",
        );
        Err(Failure::new(StatusCode::UNPROCESSABLE_ENTITY, refusal))
    }

    fn body(&self, conversation: &[Value], tools: &[Value]) -> Result<Bytes, Failure> {
        let mut body = Value::Object(self.request.settings.clone());
        let members = [
            ("model", Value::from(self.config.model.as_str())),
            ("messages", Value::from(conversation)),
            ("stream", Value::from(true)),
            ("stream_options", json!({"include_usage": true})),
        ];
        if let Some(body) = body.as_object_mut() {
            body.extend(members.map(|(name, value)| (name.to_owned(), value)));
            if !tools.is_empty() {
                body.insert("tools".to_owned(), Value::from(tools));
            }
        }
        let bytes = Bytes::from(body.to_string());
        if bytes.len() > CONVERSATION_MAX {
            let refusal = Refusal::new(
                "ConversationTooLarge",
                self.config.object(),
                "spec.runtime",
                format!("the conversation is larger than {} MiB", CONVERSATION_MAX >> 20),
                "start a new conversation, or give the tools a smaller maxResponseBytes",
            );
            return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, refusal));
        }
        Ok(bytes)
    }

    /// The results of a turn's calls, in their order, as messages.
    async fn results(&self, number: u32, turn: &Turn) -> Vec<Value> {
        // A model that was stopped had not said all: what it asked for may be half of what it meant.
        let stopped = matches!(turn.finish_reason.as_str(), "length" | "content_filter");
        futures::stream::iter(turn.calls.clone().into_iter().enumerate())
            .map(|(position, call)| async move {
                let result = if stopped {
                    Err(told("the turn was stopped before it was complete, so the call was not executed"))
                } else {
                    self.call(&format!("{}-{number}-{position}", self.id), &call).await
                };
                let content = match result {
                    Ok(result) => result,
                    Err(refusal) => json!({"error": refusal}),
                };
                json!({"role": "tool", "tool_call_id": call.id, "content": content.to_string()})
            })
            .buffered(PARALLEL_CALLS)
            .collect()
            .await
    }

    async fn call(&self, call_id: &str, call: &Call) -> Result<Value, Refusal> {
        let arguments: Map<String, Value> = call.arguments().map_err(|message| told(&message))?;
        self.hands.call(&call.name, arguments, call_id).await
    }
}

/// Tells the model that its call is no good.
fn told(message: &str) -> Refusal {
    Refusal::new("InvalidCall", "Call", "arguments", message, "call again with a JSON object of arguments")
}
