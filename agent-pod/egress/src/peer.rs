//! Who is at the other end of a connection.

use redoubt_policy::target::Source;
use redoubt_policy::wire::PodPolicy;

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
