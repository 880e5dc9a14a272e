//! One request that is asked about, and what a policy says of it, for `explain` and `test`.

use redoubt_policy::decide::Request;
use redoubt_policy::host::Host;
use redoubt_policy::method::Method;
use redoubt_policy::path::CanonicalPath;
use redoubt_policy::target::{Scheme, Source, Target};
use redoubt_policy::wire::Inject;
use redoubt_policy::{Refusal, VerifiedPolicy};
use serde::Serialize;

use crate::error::Error;

/// What the policy says of a request.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// Who asks: `Agent`, or `Tool/NAME`.
    pub from: String,
    /// Method, URL and path in their canonical form.
    pub request: String,
    /// Whether it goes out.
    pub allowed: bool,
    /// Object and field that declares it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub needed_by: Option<String>,
    /// Object and field that grants it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub granted_by: Option<String>,
    /// Ceilings that it passes under.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub within: Vec<String>,
    /// The credential that goes with it, and how.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// Ranges, besides the public ones, that the host may be in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub private_ranges: Vec<String>,
    /// The ceiling or deny in mode `Audit` that would refuse it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub would_be_refused_by: Option<String>,
    /// Why it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
}

/// A request that is asked about.
#[derive(Debug)]
pub struct Asked {
    method: Method,
    target: Target,
    path: CanonicalPath,
}

impl Asked {
    /// From what a person writes. The query is not looked at: no policy speaks of it.
    ///
    /// # Errors
    /// When it cannot be a request.
    pub fn parse(method: &str, url: &str) -> Result<Self, Error> {
        let bad = |error: &dyn std::fmt::Display| Error::Request(format!("{url}: {error}"));
        let method = method
            .to_ascii_uppercase()
            .parse()
            .map_err(|error| Error::Request(format!("{method:?}: {error}")))?;
        let (scheme, rest) = match url.split_once("://") {
            Some(("https", rest)) => (Scheme::Https, rest),
            Some(("http", rest)) => (Scheme::Http, rest),
            _ => return Err(bad(&"a URL starts with https:// or http://")),
        };
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        Ok(Self {
            method,
            target: Target::parse(scheme, authority).map_err(|error| bad(&error))?,
            path: if path.is_empty() { "/" } else { path }.parse().map_err(|error| bad(&error))?,
        })
    }

    /// What the policy says of it when the agent's own process sends it, or the Tool of this name. A host that is an address
    /// is judged as such; a name is not resolved.
    #[must_use]
    pub fn decide(&self, from: Option<&str>, policy: &VerifiedPolicy) -> Decision {
        let source = from.map_or(Source::Agent, |name| Source::Tool(name.to_owned()));
        let request =
            Request { source: &source, target: &self.target, method: self.method, path: &self.path };
        let mut decision = Decision {
            from: source.to_string(),
            request: request.to_string(),
            allowed: false,
            needed_by: None,
            granted_by: None,
            within: Vec::new(),
            credential: None,
            private_ranges: Vec::new(),
            would_be_refused_by: None,
            refusal: None,
        };
        let decided = policy.decide(&request).and_then(|authorized| {
            if let Host::Ip(address) = self.target.host {
                authorized.vet(address)?;
            }
            Ok(authorized)
        });
        match decided {
            Err(refusal) => decision.refusal = Some(refusal),
            Ok(authorized) => {
                decision.allowed = true;
                decision.needed_by = Some(authorized.rule.need.to_string());
                decision.granted_by = Some(authorized.rule.grant.to_string());
                let ceilings = policy.explanation.ceilings.iter();
                decision.within = ceilings.map(|ceiling| ceiling.origin.to_string()).collect();
                decision.private_ranges =
                    authorized.private_cidrs().iter().map(ToString::to_string).collect();
                decision.would_be_refused_by = authorized.would_refuse.map(ToString::to_string);
                decision.credential = authorized.binding.map(|(binding, destination)| {
                    let how = match &binding.inject {
                        Inject::Bearer {} => "as bearer token".to_owned(),
                        Inject::Header { name, .. } => format!("in header {name}"),
                    };
                    format!("SecretBinding/{} {} {how}", binding.name, destination.field)
                });
            }
        }
        decision
    }
}

/// A decision for a person.
#[must_use]
pub fn told(decision: &Decision) -> String {
    let verdict = if decision.allowed { "allowed" } else { "refused" };
    let mut text = format!("{verdict}: {} from {}\n", decision.request, decision.from);
    let joined = |texts: &[String]| (!texts.is_empty()).then(|| texts.join(", "));
    let addresses = joined(&decision.private_ranges).map(|ranges| format!("public ones, and {ranges}"));
    for (head, value) in [
        ("needed by", &decision.needed_by),
        ("granted by", &decision.granted_by),
        ("within", &joined(&decision.within)),
        ("credential", &decision.credential),
        ("addresses", &addresses),
        ("audit: would be refused by", &decision.would_be_refused_by),
    ] {
        if let Some(value) = value {
            text.push_str(&format!("  {head}: {value}\n"));
        }
    }
    if let Some(refusal) = &decision.refusal {
        text.push_str(&format!("  {}: {}\n", refusal.reason, refusal.message));
        text.push_str(&format!("  decided by: {} {}\n", refusal.object, refusal.field));
        text.push_str(&format!("  way out: {}\n", refusal.help));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        for (method, url, expected) in [
            ("get", "https://a.example.com", "GET https://a.example.com:443/"),
            ("POST", "http://a.example.com:8080/x?y=1#z", "POST http://a.example.com:8080/x"),
        ] {
            let asked = Asked::parse(method, url).unwrap();
            let source = Source::Agent;
            let request =
                Request { source: &source, target: &asked.target, method: asked.method, path: &asked.path };
            assert_eq!(request.to_string(), expected);
        }
        for (method, url) in [
            ("TRACE", "https://a.example.com/"),
            ("GET", "a.example.com/"),
            ("GET", "ftp://a.example.com/"),
            ("GET", "https://u@a.example.com/"),
            ("GET", "https://a.example.com/../x"),
            ("GET", "https:///x"),
        ] {
            Asked::parse(method, url).unwrap_err();
        }
    }
}
