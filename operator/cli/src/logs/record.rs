//! A line of the sidecar's audit log, told for a person: docs/egress.md says what each event is.

use redoubt_policy::decide::Request;
use redoubt_policy::method::Method;
use redoubt_policy::path::CanonicalPath;
use redoubt_policy::target::{Scheme, Source, Target};
use serde::Deserialize;

/// What is read of a record. Unknown members are newer sidecars'.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Record {
    time: String,
    event: String,
    decision: String,
    reason: Option<String>,
    source: Option<String>,
    tool: Option<String>,
    function: Option<String>,
    caller: Option<String>,
    method: Option<String>,
    scheme: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    path: Option<String>,
    address: Option<String>,
    status: Option<u16>,
    duration_ms: Option<u64>,
    binding: Option<String>,
    redactions: Option<u64>,
    epoch: Option<u64>,
    would_refuse: Option<String>,
    object: Option<String>,
    field: Option<String>,
    detail: Option<String>,
}

impl Record {
    /// The record that a line is; `None` if it is something else.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let record: Self = serde_json::from_str(line).ok()?;
        (!record.event.is_empty() && !record.decision.is_empty()).then_some(record)
    }

    pub(crate) fn is_refusal(&self) -> bool {
        self.decision == "refuse"
    }

    pub(crate) fn time(&self) -> &str {
        &self.time
    }

    /// What was asked, if this is the record of a request that was allowed.
    pub(crate) fn allowed_request(&self) -> Option<AllowedRequest> {
        if self.event != "request" || self.is_refusal() {
            return None;
        }
        let source = match self.source.as_deref()? {
            "Agent" => Source::Agent,
            other => Source::Tool(other.strip_prefix("Tool/")?.to_owned()),
        };
        let scheme = match self.scheme.as_deref()? {
            "https" => Scheme::Https,
            "http" => Scheme::Http,
            _ => return None,
        };
        Some(AllowedRequest {
            source,
            target: Target { scheme, host: self.host.as_ref()?.parse().ok()?, port: self.port? },
            method: self.method.as_ref()?.parse().ok()?,
            path: self.path.as_ref()?.parse().ok()?,
        })
    }

    /// One line for a person. Parts of it were chosen by the agent: it still has to be made fit for a terminal.
    pub(crate) fn told(&self) -> String {
        let verdict = if self.is_refusal() { "REFUSED" } else { "allowed" };
        let mut text = format!("{} {verdict} {}", self.time, self.what());
        if let Some(status) = self.status.filter(|_| !self.is_refusal()) {
            text.push_str(&format!(" -> {status}"));
        }
        if let Some(reason) = &self.reason {
            text.push_str(&format!(": {reason}"));
        }
        let decided = match (&self.object, &self.field) {
            (Some(object), Some(field)) if !field.is_empty() => Some(format!("by {object} {field}")),
            (Some(object), _) => Some(format!("by {object}")),
            _ => None,
        };
        let more: Vec<String> = [
            decided,
            self.binding.as_ref().map(|name| format!("with SecretBinding/{name}")),
            self.would_refuse.as_ref().map(|origin| format!("audit: {origin} would refuse it")),
            self.redactions.filter(|count| *count > 0).map(|count| format!("{count} redacted")),
            self.address.as_ref().map(|address| format!("at {address}")),
            self.duration_ms.filter(|_| !self.is_refusal()).map(|time| format!("{time} ms")),
            self.detail.clone(),
        ]
        .into_iter()
        .flatten()
        .collect();
        if !more.is_empty() {
            text.push_str(&format!(" ({})", more.join(", ")));
        }
        text
    }

    fn what(&self) -> String {
        let source = self.source.as_deref().unwrap_or("somebody");
        match self.event.as_str() {
            "request" => format!("{source} {}", self.request()),
            "connect" => format!("{source} CONNECT {}", self.authority()),
            "lease" => format!("{source} gets a credential for {}", self.request()),
            "redaction" => {
                format!("{source} answer of {}{}", self.authority(), self.path.as_deref().unwrap_or(""))
            }
            "inbound" => {
                let caller = self.caller.as_deref().unwrap_or("somebody unknown");
                format!("call of {caller}")
            }
            "tool-call" => {
                let name = |text: &Option<String>| text.clone().unwrap_or_default();
                format!("{source} runs {:?} of {:?}", name(&self.function), name(&self.tool))
            }
            "verdict" => format!("self-test of {source}"),
            "policy" => format!("policy of epoch {}", self.epoch.unwrap_or_default()),
            other => format!("{other} {source}"),
        }
    }

    fn request(&self) -> String {
        let method = self.method.as_deref().unwrap_or("a request");
        if self.host.is_none() {
            return format!("{method} that is not recorded further");
        }
        let scheme = self.scheme.as_deref().unwrap_or("https");
        format!("{method} {scheme}://{}{}", self.authority(), self.path.as_deref().unwrap_or(""))
    }

    fn authority(&self) -> String {
        let host = self.host.as_deref().unwrap_or("an unknown host");
        self.port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }
}

/// A request that was allowed.
pub(crate) struct AllowedRequest {
    source: Source,
    target: Target,
    method: Method,
    path: CanonicalPath,
}

impl AllowedRequest {
    /// As the engine is asked about it.
    pub(crate) fn request(&self) -> Request<'_> {
        Request { source: &self.source, target: &self.target, method: self.method, path: &self.path }
    }
}
