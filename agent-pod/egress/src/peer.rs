//! Who is at the other end of a connection.

use std::sync::Arc;

use redoubt_policy::target::Source;
use redoubt_policy::wire::PodPolicy;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::refuse::Refused;

/// A container of the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Peer {
    /// The brain, and everything else in the agent's container.
    Agent,
    /// The hands.
    Tools,
}

/// The user ids of the containers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Uids {
    /// Of the agent's container.
    pub(crate) agent: u32,
    /// Of the tools' container.
    pub(crate) tools: u32,
}

impl Uids {
    /// Whose uid it is.
    pub(crate) fn peer(self, uid: u32) -> Option<Peer> {
        match uid {
            _ if uid == self.agent => Some(Peer::Agent),
            _ if uid == self.tools => Some(Peer::Tools),
            _ => None,
        }
    }
}

/// How many requests of each container are under way. A connection may carry many (HTTP/2), and each has places in the
/// audit log until it ends: without a bound the brain could take them all, and leave none for hands and callers.
pub(crate) struct UnderWay {
    most: usize,
    agent: Arc<Semaphore>,
    tools: Arc<Semaphore>,
}

impl UnderWay {
    /// At most so many of each.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, agent: Arc::new(Semaphore::new(most)), tools: Arc::new(Semaphore::new(most)) }
    }

    fn of(&self, peer: Peer) -> &Arc<Semaphore> {
        match peer {
            Peer::Agent => &self.agent,
            Peer::Tools => &self.tools,
        }
    }

    /// How many there are of a container.
    pub(crate) fn count(&self, peer: Peer) -> usize {
        self.most.saturating_sub(self.of(peer).available_permits())
    }

    /// A place, until it is dropped.
    ///
    /// # Errors
    /// 503 when too many are under way.
    pub(crate) fn begin(&self, peer: Peer) -> Result<OwnedSemaphorePermit, Refused> {
        Arc::clone(self.of(peer)).try_acquire_owned().map_err(|_| {
            Refused::by_pod(
                http::StatusCode::SERVICE_UNAVAILABLE,
                "TooManyRequests",
                format!("too many requests of the {} container are under way", peer.name()),
                "Wait until some have ended.",
            )
        })
    }
}

impl Peer {
    /// As in records.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Tools => "tools",
        }
    }

    /// For whom a request of this peer is, which may carry `tool` in `Redoubt-Tool`.
    ///
    /// # Errors
    /// When the hands do not name a tool of the policy, or somebody else names any.
    pub(crate) fn source(self, tool: Option<&str>, policy: &PodPolicy) -> Result<Source, Refused> {
        match (self, tool) {
            (Self::Agent, None) => Ok(Source::Agent),
            (Self::Tools, Some(tool)) if policy.tools.iter().any(|it| it.name == tool) => {
                Ok(Source::Tool(tool.to_owned()))
            }
            (Self::Agent, Some(_)) => Err(Refused::forbidden(
                "ToolNotAccepted",
                "only the tools' container acts for a tool",
                "Call the tool through the tools' socket.",
            )),
            (Self::Tools, Some(tool)) => Err(Refused::forbidden(
                "ToolUnknown",
                format!("the policy has no tool {tool:?}"),
                "Name the Tool in spec.tools of the Agent.",
            )
            .because_of(format!("Agent/{}", policy.agent.name), "spec.tools")),
            (Self::Tools, None) => Err(Refused::forbidden(
                "ToolMissing",
                "a request of the tools' container names no tool",
                "Send Redoubt-Tool: NAME.",
            )),
        }
    }
}
