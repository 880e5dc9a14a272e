//! Whether a verified policy allows a request, and if not, which object and field stand in the way.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::Refusal;
use crate::address::{VettedAddress, vet};
use crate::envelope::VerifiedPolicy;
use crate::method::Method;
use crate::path::CanonicalPath;
use crate::target::{Scheme, Source, Target};
use crate::wire::{Binding, BoundDestination, Claim, Origin, PodPolicy, Rule, Scope};

/// A request, as far as policies speak of it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Who asks.
    pub source: &'a Source,
    /// Scheme, host and port.
    pub target: &'a Target,
    /// Method.
    pub method: Method,
    /// Path, without the query.
    pub path: &'a CanonicalPath,
}

impl fmt::Display for Request<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}{}", self.method, self.target, self.path)
    }
}

/// A request that the policy allows. Only [`VerifiedPolicy::decide`] makes one.
#[derive(Clone, Debug)]
pub struct Authorized<'p> {
    /// The first rule that allows it.
    pub rule: &'p Rule,
    /// The credential to inject, and the destination that says so.
    pub binding: Option<(&'p Binding, &'p BoundDestination)>,
    /// The ceiling or deny of a ClusterAgentPolicy in mode `Audit` that would refuse it.
    pub would_refuse: Option<&'p Origin>,
    /// All rules that allow it.
    rules: Vec<&'p Rule>,
}

impl<'p> Authorized<'p> {
    /// Trust anchors (PEM) to use in place of the public ones: those of the binding's destination if a credential is
    /// injected, else the first that a rule names.
    #[must_use]
    pub fn ca_bundle(&self) -> Option<&'p str> {
        match self.binding {
            Some((_, destination)) => destination.ca_bundle.as_deref(),
            None => self.rules.iter().find_map(|rule| rule.ca_bundle.as_deref()),
        }
    }

    /// Private ranges that any of the rules grants.
    #[must_use]
    pub fn private_cidrs(&self) -> Vec<IpNet> {
        self.rules.iter().flat_map(|rule| rule.private_cidrs.iter().copied()).collect()
    }

    /// `ip`, if the request may go to it.
    ///
    /// # Errors
    /// As [`vet`], with the grant as the object that refused, or the ceiling that took ranges away from it.
    pub fn vet(&self, ip: IpAddr) -> Result<VettedAddress, Refusal> {
        vet(ip, &self.private_cidrs()).map_err(|refusal| match &self.rule.private_cidrs_within {
            Some(ceiling) => {
                Refusal { object: ceiling.object.clone(), field: ceiling.field.clone(), ..refusal }
            }
            None => Refusal {
                object: self.rule.grant.object.clone(),
                field: format!("{}.privateCIDRs", self.rule.grant.field),
                ..refusal
            },
        })
    }
}

/// A part of a request that a scope can differ in, from what matters most to what matters least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Host,
    Scheme,
    Port,
    Method,
    Path,
}

impl Scope {
    /// Whether it speaks of the request.
    #[must_use]
    pub fn matches(&self, request: &Request<'_>) -> bool {
        self.from == *request.source && self.differences(request).next().is_none()
    }

    /// Where it differs from the request, whoever asks.
    fn differences<'a>(&'a self, request: &'a Request<'_>) -> impl Iterator<Item = Part> + 'a {
        [
            (Part::Host, self.host.matches(&request.target.host)),
            (Part::Scheme, self.scheme == request.target.scheme),
            (Part::Port, self.port == request.target.port),
            (Part::Method, self.methods.contains(request.method)),
            (Part::Path, self.path.matches(request.path)),
        ]
        .into_iter()
        .filter_map(|(part, same)| (!same).then_some(part))
    }

    /// How close it is to the request; greater is closer.
    fn closeness(&self, request: &Request<'_>) -> [bool; 5] {
        let mut same = [true; 5];
        for part in self.differences(request) {
            if let Some(entry) = same.get_mut(part as usize) {
                *entry = false;
            }
        }
        same
    }
}

impl VerifiedPolicy {
    /// Whether the policy allows the request, and with which credential.
    ///
    /// # Errors
    /// A [`Refusal`] whose reason is one of `NotDeclared`, `NotGranted`, `HostNotAllowed`, `SchemeNotAllowed`,
    /// `PortNotAllowed`, `MethodNotAllowed`, `PathNotAllowed`, `AmbiguousBinding`, and whose object and field are the
    /// closest need or grant; or `ExceedsPolicy` or `Denied`, whose object and field are the ceiling or deny.
    pub fn decide<'p>(&'p self, request: &Request<'_>) -> Result<Authorized<'p>, Refusal> {
        let rules: Vec<&Rule> = self.rules.iter().filter(|rule| rule.scope.matches(request)).collect();
        let Some(rule) = rules.first().copied() else {
            return Err(explain(self, request));
        };
        if let Some(deny) = self.denies.iter().find(|deny| deny.extent.matches(request)) {
            return Err(denied(request, &deny.origin));
        }
        let would_refuse = self.would_refuse(request);
        Ok(Authorized { rule, binding: self.binding_for(request)?, would_refuse, rules })
    }

    fn would_refuse(&self, request: &Request<'_>) -> Option<&Origin> {
        let over = self.audit.ceilings.iter().find(|ceiling| !ceiling.matches(request));
        let denied = || self.audit.denies.iter().find(|deny| deny.extent.matches(request));
        over.map(|ceiling| &ceiling.origin).or_else(|| denied().map(|deny| &deny.origin))
    }

    /// Whether some binding names host and port of `target`, whatever its scheme, method or path. A credential-like header
    /// of the pod's own is refused there.
    #[must_use]
    pub fn is_bound(&self, target: &Target) -> bool {
        self.bindings
            .iter()
            .flat_map(|binding| &binding.destinations)
            .any(|to| to.port == target.port && to.host.matches(&target.host))
    }

    fn binding_for<'p>(
        &'p self,
        request: &Request<'_>,
    ) -> Result<Option<(&'p Binding, &'p BoundDestination)>, Refusal> {
        let mut found = self.bindings.iter().filter_map(|binding| {
            let destination = binding.destinations.iter().find(|to| to.matches(request))?;
            binding.consumers.contains(request.source).then_some((binding, destination))
        });
        match (found.next(), found.next()) {
            (first, None) => Ok(first),
            (_, Some((other, destination))) => Err(Refusal::new(
                "AmbiguousBinding",
                format!("SecretBinding/{}", other.name),
                destination.field.clone(),
                format!("more than one SecretBinding has a credential for {request}"),
                "Narrow the destinations or consumers of one of them.",
            )),
        }
    }
}

impl BoundDestination {
    /// Whether the credential may go with the request: never in the clear.
    fn matches(&self, request: &Request<'_>) -> bool {
        request.target.scheme == Scheme::Https
            && self.port == request.target.port
            && self.host.matches(&request.target.host)
            && self.methods.contains(request.method)
            && self.path.matches(request.path)
    }
}

fn explain(policy: &PodPolicy, request: &Request<'_>) -> Refusal {
    match closest(&policy.explanation.needs, request) {
        None => undeclared(policy, request, &source_origin(policy, request.source)),
        Some((need, Some(Part::Host))) => undeclared(policy, request, &need.origin),
        Some((need, Some(part))) => Refusal::new(
            part.reason(),
            need.origin.object.clone(),
            part.field_of_need(&need.origin),
            format!("{request} is not what {} declares: {}", request.source, need.scope),
            format!(
                "If it is meant, declare it in {} and grant it in an EgressPolicy.",
                part.field_of_need(&need.origin)
            ),
        ),
        Some((need, None)) => ungranted(policy, request, need),
    }
}

fn denied(request: &Request<'_>, deny: &Origin) -> Refusal {
    Refusal::new(
        "Denied",
        deny.object.clone(),
        deny.field.clone(),
        format!("{request} is denied by {deny}, whatever grants it"),
        format!("If it is meant, ask those who keep {} to change it.", deny.object),
    )
}

fn over(request: &Request<'_>, ceiling: &Origin) -> Refusal {
    Refusal::new(
        "ExceedsPolicy",
        ceiling.object.clone(),
        ceiling.field.clone(),
        format!("{request} is granted, and {ceiling} leaves it out"),
        format!("If it is meant, ask the platform team to let it pass in {}.", ceiling.object),
    )
}

fn undeclared(policy: &PodPolicy, request: &Request<'_>, origin: &Origin) -> Refusal {
    Refusal::new(
        "NotDeclared",
        origin.object.clone(),
        Part::Host.field_of_need(origin),
        format!("neither Agent/{} nor its tools declare {request} for {}", policy.agent.name, request.source),
        "If it is meant, put it into a Tool that the Agent uses, and grant it in an EgressPolicy that selects the Agent.",
    )
}

fn ungranted(policy: &PodPolicy, request: &Request<'_>, need: &Claim) -> Refusal {
    let entry = format!(
        "allow from {}, hosts [{}], ports [{}], protocol {}, methods [{}], paths [{}]",
        request.source,
        request.target.host,
        request.target.port,
        request.target.scheme.as_str().to_uppercase(),
        request.method,
        request.path
    );
    match closest(&policy.explanation.grants, request) {
        Some((grant, Some(part))) => Refusal::new(
            part.reason(),
            grant.origin.object.clone(),
            part.field_of_grant(&grant.origin),
            format!(
                "{request} is declared by {} and not granted: the closest grant is {}",
                need.origin.object, grant.scope
            ),
            format!(
                "If it is meant, extend {} in {}, or {entry}.",
                part.field_of_grant(&grant.origin),
                grant.origin.object
            ),
        ),
        // A grant that fits with a need that fits makes a rule, unless a ceiling leaves it out.
        Some((_, None)) if let Some(ceiling) = ceiling_over(policy, request) => over(request, ceiling),
        _ => Refusal::new(
            "NotGranted",
            need.origin.object.clone(),
            need.origin.field.clone(),
            format!(
                "{request} is declared by {} and no EgressPolicy that selects Agent/{} grants {} anything",
                need.origin.object, policy.agent.name, request.source
            ),
            format!("If it is meant, add to an EgressPolicy that selects the Agent: {entry}."),
        ),
    }
}

/// The first ceiling that leaves the request out.
fn ceiling_over<'p>(policy: &'p PodPolicy, request: &Request<'_>) -> Option<&'p Origin> {
    let ceiling = policy.explanation.ceilings.iter().find(|ceiling| !ceiling.matches(request))?;
    Some(&ceiling.origin)
}

/// The claim of the same source that is closest to the request, and the first part in which it differs.
fn closest<'c>(claims: &'c [Claim], request: &Request<'_>) -> Option<(&'c Claim, Option<Part>)> {
    let own = claims.iter().filter(|claim| claim.scope.from == *request.source);
    // `max_by_key` takes the last of equals; reversed, the first.
    let claim = own.rev().max_by_key(|claim| claim.scope.closeness(request))?;
    Some((claim, claim.scope.differences(request).next()))
}

/// Where the agent would have to name the source.
fn source_origin(policy: &PodPolicy, source: &Source) -> Origin {
    let field = match source {
        Source::Agent => "spec.runtime.model.baseURL",
        Source::Tool(_) => "spec.tools",
    };
    Origin { object: format!("Agent/{}", policy.agent.name), field: field.to_owned() }
}

impl Part {
    fn reason(self) -> &'static str {
        match self {
            Self::Host => "HostNotAllowed",
            Self::Scheme => "SchemeNotAllowed",
            Self::Port => "PortNotAllowed",
            Self::Method => "MethodNotAllowed",
            Self::Path => "PathNotAllowed",
        }
    }

    /// The field of an EgressPolicy's rule that says it.
    fn field_of_grant(self, grant: &Origin) -> String {
        let name = match self {
            Self::Host => "hosts",
            Self::Scheme => "protocol",
            Self::Port => "ports",
            Self::Method => "methods",
            Self::Path => "paths",
        };
        format!("{}.{name}", grant.field)
    }

    /// The field of a Tool or Agent that says it.
    fn field_of_need(self, need: &Origin) -> String {
        if !need.object.starts_with("Tool/") && !need.object.starts_with("ClusterTool/") {
            return need.field.clone();
        }
        match self {
            Self::Host | Self::Scheme | Self::Port => "spec.http.baseURL".to_owned(),
            Self::Method => format!("{}.method", need.field),
            Self::Path => format!("{}.path", need.field),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}://{}", self.methods, self.scheme.as_str(), self.host.authority())?;
        if self.port != self.scheme.default_port() {
            write!(out, ":{}", self.port)?;
        }
        self.path.fmt(out)
    }
}
