//! Where a request goes: scheme, host and port, and who sends it.

use std::fmt;
use std::str::FromStr;

use redoubt_crds::SourceKind;
use serde::{Deserialize, Serialize};

use crate::host::{Host, HostError};

/// URL scheme of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// HTTP over TLS.
    Https,
    /// HTTP in the clear.
    Http,
}

impl Scheme {
    /// The scheme as in a URL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
        }
    }

    /// The port where a URL gives none.
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Self::Https => 443,
            Self::Http => 80,
        }
    }
}

/// Who in the pod sends a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// The agent's own process, the brain.
    Agent,
    /// The tool with this name, executed by the hands.
    Tool(String),
}

/// A source and which kind of object it is: the names of an agent's tools are unique, whichever kind they are of.
pub type Party = (Source, SourceKind);

/// The party that a kind of the API names; `None` when a tool has no name, or the agent one.
#[must_use]
pub fn party(source: &redoubt_crds::Source) -> Option<Party> {
    match (source.kind, &source.name) {
        (SourceKind::Agent, None) => Some((Source::Agent, SourceKind::Agent)),
        (kind @ (SourceKind::Tool | SourceKind::ClusterTool), Some(name)) => {
            Some((Source::Tool(name.clone()), kind))
        }
        _ => None,
    }
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent => out.write_str("Agent"),
            Self::Tool(name) => write!(out, "Tool/{name}"),
        }
    }
}

/// A destination in canonical form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// Scheme.
    pub scheme: Scheme,
    /// Host.
    pub host: Host,
    /// TCP port, never 0.
    pub port: u16,
}

/// Why a text is not a destination.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// The host is not one.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The port is empty, not a number, out of range, zero, or has leading zeros.
    #[error("the port is a number from 1 to 65535 without leading zeros")]
    Port,
    /// User information before the host.
    #[error("an authority has no user information")]
    UserInformation,
}

impl Target {
    /// The destination that `authority` (`HOST` or `HOST:PORT`) names under `scheme`.
    ///
    /// # Errors
    /// When host or port are not valid, or there is user information.
    pub fn parse(scheme: Scheme, authority: &str) -> Result<Self, TargetError> {
        if authority.contains('@') {
            return Err(TargetError::UserInformation);
        }
        let split = match authority.rfind(']') {
            Some(end) => authority.split_at(end + 1),
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let port = match split.1 {
            "" => scheme.default_port(),
            text => text
                .strip_prefix(':')
                .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0'))
                .and_then(|digits| digits.parse::<u16>().ok())
                .ok_or(TargetError::Port)?,
        };
        Ok(Self { scheme, host: Host::from_str(split.0)?, port })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}://{}:{}", self.scheme.as_str(), self.host, self.port)
    }
}
