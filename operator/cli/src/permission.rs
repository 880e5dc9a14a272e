//! What an Agent may do, in pieces that can be compared: a piece that no piece of another policy covers is a widening.

use ipnet::IpNet;
use kube::ResourceExt as _;
use redoubt_operator::agent::validate::ValidatedAgent;
use redoubt_policy::method::MethodSet;
use redoubt_policy::target::Source;
use redoubt_policy::wire::{Inject, PodPolicy, Scope};
use serde::Serialize;

use crate::output::count;

/// One piece of what an Agent may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    what: What,
    /// Which requests it speaks of; of none for a caller or a runtime.
    scope: Option<Scope>,
    /// Object and field that grants it.
    decided_by: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Request,
    /// The host may be at addresses of a private range.
    Range(IpNet),
    /// The server is known by other trust anchors than the public ones.
    Anchors(String),
    /// A credential goes with it.
    Credential(String),
    /// Someone may call the agent.
    Caller(String),
    /// The RuntimeClass that the pod runs under.
    Runtime(String),
}

/// A piece, told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// Who: `Agent`, `Tool/NAME`; empty for a caller or a runtime.
    pub from: String,
    /// What.
    pub what: String,
    /// Object and field that grants it.
    pub decided_by: String,
}

/// All pieces of what an Agent may do.
#[derive(Debug, Default)]
pub struct Permissions {
    pieces: Vec<Permission>,
    denies: Vec<redoubt_policy::extent::Deny>,
}

impl Permissions {
    /// Those of an Agent that can be built.
    #[must_use]
    pub fn of(agent: &ValidatedAgent) -> Self {
        let policy = agent.policy();
        let mut pieces = requests(policy);
        pieces.extend(credentials(policy));
        let object = format!("Agent/{}", agent.agent().name_any());
        let piece =
            |what, field: &str| Permission { what, scope: None, decided_by: format!("{object} {field}") };
        let callers = policy.inbound.callers.iter();
        pieces.extend(callers.map(|caller| piece(What::Caller(caller.clone()), "spec.callers")));
        pieces.push(piece(What::Runtime(agent.runtime_class().to_owned()), "spec.isolationClassName"));
        Self { pieces, denies: policy.denies.clone() }
    }

    /// What is in these and not in `other`, each line once.
    #[must_use]
    pub fn beyond(&self, other: &Self) -> Vec<Line> {
        let mut lines: Vec<Line> = self.pieces.iter().flat_map(|piece| self.rest(piece, other)).collect();
        lines.sort();
        lines.dedup();
        lines
    }

    /// What of `piece` the other does not allow.
    fn rest(&self, piece: &Permission, other: &Self) -> Vec<Line> {
        let Some(scope) = &piece.scope else {
            let same = other.pieces.iter().any(|before| before.what == piece.what);
            return if same { Vec::new() } else { vec![piece.line(None)] };
        };
        if self.denies.iter().any(|deny| deny.extent.covers(scope)) {
            return Vec::new();
        }
        let mut new = Vec::new();
        let mut lines = Vec::new();
        for method in scope.methods.iter() {
            let one = Scope { methods: MethodSet::from(method), ..scope.clone() };
            if !other.pieces.iter().any(|before| before.covers(&piece.what, &one)) {
                new.push(method.as_str());
                continue;
            }
            // What was denied and is no longer. Of credentials and ranges nothing is left where the request is not.
            let lost =
                other.denies.iter().filter(|_| piece.what == What::Request).flat_map(|deny| {
                    deny.extent.intersect(&one).map(|scope| (scope, deny)).collect::<Vec<_>>()
                });
            for (scope, deny) in lost {
                if !self.denies.iter().any(|own| own.extent.covers(&scope)) {
                    let mut line = piece.line(Some(&scope));
                    line.what.push_str(&format!(", which {} denies on the other side", deny.origin));
                    lines.push(line);
                }
            }
        }
        if let (false, Ok(methods)) = (new.is_empty(), MethodSet::parse(&new)) {
            lines.push(piece.line(Some(&Scope { methods, ..scope.clone() })));
        }
        lines
    }
}

impl Permission {
    fn covers(&self, what: &What, scope: &Scope) -> bool {
        let same = match (&self.what, what) {
            (What::Range(own), What::Range(other)) => own.contains(other),
            (own, other) => own == other,
        };
        same && self.scope.as_ref().and_then(|own| own.intersect(scope)).as_ref() == Some(scope)
    }

    fn line(&self, scope: Option<&Scope>) -> Line {
        let scope = scope.or(self.scope.as_ref());
        let request = scope.map(ToString::to_string).unwrap_or_default();
        let what = match &self.what {
            What::Request => request,
            What::Range(range) => format!("{request} at addresses in {range}"),
            What::Anchors(bundle) => {
                let number = bundle.matches("-----BEGIN CERTIFICATE-----").count();
                format!("{request} to a server known by {} of its own", count(number, "trust anchor"))
            }
            What::Credential(name) => format!("{request} with {name}"),
            What::Caller(name) => format!("called by {name}"),
            What::Runtime(name) => format!("runs under RuntimeClass/{name}"),
        };
        let from = scope.map(|scope| scope.from.to_string()).unwrap_or_default();
        Line { from, what, decided_by: self.decided_by.clone() }
    }
}

/// What the rules allow: the requests, and where they may go.
fn requests(policy: &PodPolicy) -> Vec<Permission> {
    let mut pieces = Vec::new();
    for rule in &policy.rules {
        let piece =
            |what| Permission { what, scope: Some(rule.scope.clone()), decided_by: rule.grant.to_string() };
        pieces.push(piece(What::Request));
        pieces.extend(rule.private_cidrs.iter().map(|range| piece(What::Range(*range))));
        pieces.extend(rule.ca_bundle.iter().map(|bundle| piece(What::Anchors(bundle.clone()))));
    }
    pieces
}

/// Which credentials go with which requests, as far as those are allowed.
fn credentials(policy: &PodPolicy) -> Vec<Permission> {
    let mut pieces = Vec::new();
    for binding in &policy.bindings {
        let inject = match &binding.inject {
            Inject::Bearer {} => "as bearer token".to_owned(),
            Inject::Header { name, prefix } => format!("in header {name} after {prefix:?}"),
        };
        let name = format!(
            "key {} of {}/{} in VaultConnection/{} {inject}",
            binding.key, binding.mount, binding.path, binding.vault
        );
        for destination in &binding.destinations {
            for from in &binding.consumers {
                let bound = destination.scope(Source::clone(from));
                for scope in policy.rules.iter().filter_map(|rule| rule.scope.intersect(&bound)) {
                    pieces.push(Permission {
                        what: What::Credential(name.clone()),
                        scope: Some(scope),
                        decided_by: format!("SecretBinding/{} {}", binding.name, destination.field),
                    });
                }
            }
        }
    }
    pieces
}
