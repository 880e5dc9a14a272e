//! What EgressPolicies grant an agent, in scopes; and the fields of hosts, ports, methods and paths that grants and
//! destinations share.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use kube::ResourceExt as _;
use redoubt_crds::condition::Reason;
use redoubt_crds::{AllowRule, EgressPolicy, HostSet, HostSetReference, Protocol};

use crate::ceilings::denies;
use crate::compile::{EXPLAINED_MAX, GRANTS_MAX, Inputs, Problem, problem};
use crate::compose::Grant;
use crate::extent::{Deny, Extent};
use crate::host::{HostError, HostPattern};
use crate::method::MethodSet;
use crate::path::{PathError, PathPattern};
use crate::selector::selects;
use crate::target::{Party, Scheme, Source, party};
use crate::wire::{Claim, Origin, Scope};

/// What is wrong with an EgressPolicy, whomever it selects: empty if nothing is.
#[must_use]
pub fn check_egress_policy(policy: &EgressPolicy, sets: HostSets<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let object = object(policy);
    for (i, allow) in policy.spec.allow.iter().enumerate() {
        ParsedAllow::of(&object, i, allow, sets, &mut problems);
    }
    denies(&object, (&policy.spec.deny, "spec.deny"), &BTreeSet::new(), sets, &mut problems);
    problems
}

fn object(policy: &EgressPolicy) -> String {
    format!("EgressPolicy/{}", policy.name_any())
}

/// The EgressPolicies that select the agent, sorted by name, so that the same entry is blamed for too many whatever the
/// order.
pub(crate) fn selecting<'a>(inputs: &Inputs<'a>) -> Vec<&'a EgressPolicy> {
    let mut policies: Vec<&EgressPolicy> = inputs
        .egress_policies
        .iter()
        .filter(|policy| {
            policy.namespace() == inputs.agent.namespace()
                && selects(&policy.spec.agent_selector, inputs.agent.labels())
        })
        .collect();
    policies.sort_by_key(|policy| policy.name_any());
    policies
}

/// What the EgressPolicies that select the agent refuse, sorted.
pub(crate) fn own_denies(
    inputs: &Inputs<'_>,
    parties: &BTreeSet<Party>,
    problems: &mut Vec<Problem>,
) -> Vec<Deny> {
    let sets = HostSets(inputs.host_sets);
    let mut all = Vec::new();
    for policy in selecting(inputs) {
        all.extend(denies(&object(policy), (&policy.spec.deny, "spec.deny"), parties, sets, problems));
    }
    all
}

/// What the EgressPolicies that select the agent grant its sources, as far as the needs make a difference; sorted.
pub(crate) fn grants(
    inputs: &Inputs<'_>,
    parties: &BTreeSet<Party>,
    needs: &[Claim],
    problems: &mut Vec<Problem>,
) -> Vec<Grant> {
    let mut grants = BTreeSet::new();
    for policy in selecting(inputs) {
        for (i, allow) in policy.spec.allow.iter().enumerate() {
            let object = object(policy);
            let parsed = ParsedAllow::of(&object, i, allow, HostSets(inputs.host_sets), problems);
            let origin = Origin { object, field: format!("spec.allow[{i}]") };
            grants.extend(parsed.expand(parties, needs, &origin).take(GRANTS_MAX + 1));
            if grants.len() > GRANTS_MAX {
                problems.push(problem(
                    Reason::Invalid,
                    origin.object,
                    origin.field,
                    format!("this and the entries before it grant the agent more than {GRANTS_MAX} combinations of host, port and path"),
                    "Grant fewer single ports and paths; a pattern such as /v1/** stands for many.",
                ));
                return Vec::new();
            }
        }
    }
    grants.into_iter().collect()
}

/// The grants that are kept to explain refusals, sorted.
pub(crate) fn explained(grants: &[Grant], needs: &[Claim]) -> Vec<Claim> {
    let mut claims: Vec<Claim> = grants.iter().map(|grant| grant.claim.clone()).collect();
    claims.sort();
    claims.dedup();
    // Those that name a needed host come first, so that a limit takes away what explains least.
    let (mut near, far): (Vec<_>, Vec<_>) =
        claims.into_iter().partition(|claim| needs_host(needs, &claim.scope.from, &claim.scope.host));
    near.extend(far);
    near.truncate(EXPLAINED_MAX);
    near.sort();
    near
}

/// Whether `from` needs a host that `host` speaks of.
fn needs_host(needs: &[Claim], from: &Source, host: &HostPattern) -> bool {
    needs.iter().any(|need| need.scope.from == *from && need.scope.host.intersect(host).is_some())
}

/// The HostSets that there are.
#[derive(Clone, Copy, Debug)]
pub struct HostSets<'a>(pub &'a [HostSet]);

/// Which host patterns may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    /// Those of grants and destinations.
    Narrow,
    /// Those of ceilings and denies.
    Wide,
}

impl Width {
    fn parse(self, text: &str) -> Result<HostPattern, HostError> {
        match self {
            Self::Narrow => HostPattern::written(text),
            Self::Wide => HostPattern::parse_wide(text),
        }
    }

    fn help(self) -> &'static str {
        match self {
            Self::Narrow => redoubt_crds::grammar::HOSTS_MESSAGE,
            Self::Wide => redoubt_crds::grammar::WIDE_HOSTS_MESSAGE,
        }
    }
}

/// Hosts, ports, methods and paths of a grant, a destination, a ceiling or a deny, as the API has them.
pub(crate) struct Fields<'a> {
    pub(crate) hosts: &'a [String],
    pub(crate) host_sets: &'a [HostSetReference],
    pub(crate) ports: &'a [i32],
    pub(crate) methods: &'a [String],
    pub(crate) paths: &'a [String],
}

/// The same, parsed; each once.
#[derive(Default)]
pub(crate) struct Parsed {
    hosts: BTreeSet<HostPattern>,
    ports: BTreeSet<u16>,
    pub(crate) methods: MethodSet,
    paths: BTreeSet<PathPattern>,
}

impl Parsed {
    /// From the fields of the object; what cannot be read is a problem and left out.
    pub(crate) fn of(
        object: &str,
        field: &str,
        fields: &Fields<'_>,
        (sets, width): (HostSets<'_>, Width),
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut parsed = Self::default();
        parsed.add_sets(object, field, fields.host_sets, sets, problems);
        let mut note =
            |name: String, text: &dyn std::fmt::Debug, error: &dyn std::fmt::Display, help: &str| {
                let (field, message) = (format!("{field}.{name}"), format!("{text:?}: {error}"));
                problems.push(problem(Reason::Invalid, object, field, message, help));
            };
        for (i, text) in fields.hosts.iter().enumerate() {
            match width.parse(text) {
                Ok(host) => parsed.hosts.extend([host]),
                Err(error) => note(format!("hosts[{i}]"), text, &error, width.help()),
            }
        }
        for (i, port) in fields.ports.iter().enumerate() {
            match u16::try_from(*port) {
                Ok(port) if port > 0 => parsed.ports.extend([port]),
                _ => note(format!("ports[{i}]"), port, &"not a TCP port", "Give a number from 1 to 65535."),
            }
        }
        match MethodSet::parse(fields.methods) {
            Ok(set) => parsed.methods = set,
            Err(error) => {
                note("methods".to_owned(), &fields.methods, &error, redoubt_crds::grammar::METHODS_MESSAGE);
            }
        }
        for (i, text) in fields.paths.iter().enumerate() {
            match text.parse::<PathPattern>() {
                Ok(path) => parsed.paths.extend([path]),
                Err(error) => {
                    let error: PathError = error;
                    note(format!("paths[{i}]"), text, &error, redoubt_crds::grammar::PATHS_MESSAGE);
                }
            }
        }
        parsed
    }

    /// Adds the hosts of the HostSets; one that does not exist is a problem.
    fn add_sets(
        &mut self,
        object: &str,
        field: &str,
        references: &[HostSetReference],
        sets: HostSets<'_>,
        problems: &mut Vec<Problem>,
    ) {
        for (i, reference) in references.iter().enumerate() {
            match sets.0.iter().find(|set| set.name_any() == reference.name) {
                Some(set) => self.hosts.extend(hosts_of(set, problems)),
                None => problems.push(problem(
                    Reason::ReferenceNotFound,
                    object,
                    format!("{field}.hostSets[{i}].name"),
                    format!("HostSet/{} does not exist", reference.name),
                    "Name a HostSet that `kubectl get hostsets` lists, or ask the platform team for this one to be made.",
                )),
            }
        }
    }

    /// As an extent. Ports that are not there are none.
    pub(crate) fn extent(self, from: Option<BTreeSet<Source>>, scheme: Option<Scheme>) -> Extent {
        Extent {
            from,
            scheme,
            hosts: self.hosts,
            ports: Some(self.ports),
            methods: self.methods,
            paths: self.paths,
        }
    }

    /// How many combinations of a host, a port and a path there are.
    pub(crate) fn size(&self) -> usize {
        self.hosts.len().saturating_mul(self.ports.len()).saturating_mul(self.paths.len())
    }

    /// Every combination of a port, a path and a host that `wanted` says yes to.
    pub(crate) fn product<'a>(
        &'a self,
        wanted: impl Fn(&HostPattern) -> bool + 'a,
    ) -> impl Iterator<Item = (&'a HostPattern, u16, &'a PathPattern)> {
        self.hosts.iter().filter(move |host| wanted(host)).flat_map(move |host| {
            self.ports.iter().flat_map(move |port| self.paths.iter().map(move |path| (host, *port, path)))
        })
    }
}

/// What is wrong with a HostSet: empty if nothing is.
#[must_use]
pub fn check_host_set(set: &HostSet) -> Vec<Problem> {
    let mut problems = Vec::new();
    hosts_of(set, &mut problems);
    problems
}

fn hosts_of(set: &HostSet, problems: &mut Vec<Problem>) -> BTreeSet<HostPattern> {
    let mut hosts = BTreeSet::new();
    for (i, text) in set.spec.hosts.iter().enumerate() {
        match Width::Narrow.parse(text) {
            Ok(host) => hosts.extend([host]),
            Err(error) => problems.push(problem(
                Reason::Invalid,
                format!("HostSet/{}", set.name_any()),
                format!("spec.hosts[{i}]"),
                format!("{text:?}: {error}"),
                Width::Narrow.help(),
            )),
        }
    }
    hosts
}

/// One entry of `spec.allow`.
struct ParsedAllow {
    from: BTreeSet<Party>,
    scheme: Scheme,
    scopes: Parsed,
    private_cidrs: Vec<IpNet>,
    ca_bundle: Option<Arc<str>>,
}

impl ParsedAllow {
    fn of(
        object: &str,
        index: usize,
        allow: &AllowRule,
        sets: HostSets<'_>,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let field = format!("spec.allow[{index}]");
        let from = parties(object, &format!("{field}.from"), &allow.from, problems);
        let private_cidrs =
            parse_ranges(object, &format!("{field}.privateCIDRs"), &allow.private_cidrs, problems);
        let fields = Fields {
            hosts: &allow.hosts,
            host_sets: &allow.host_sets,
            ports: &allow.ports,
            methods: &allow.methods,
            paths: &allow.paths,
        };
        Self {
            from,
            scheme: match allow.protocol {
                Protocol::HTTPS => Scheme::Https,
                Protocol::HTTP => Scheme::Http,
            },
            scopes: Parsed::of(object, &field, &fields, (sets, Width::Narrow), problems),
            private_cidrs: private_cidrs.into_iter().collect(),
            ca_bundle: allow.ca_bundle.as_deref().map(Arc::from),
        }
    }

    /// The grants to the agent's parties. Of those that name no needed host only the first is made: it can allow nothing and is there
    /// to be named in a refusal.
    fn expand<'a>(
        &'a self,
        parties: &'a BTreeSet<Party>,
        needs: &'a [Claim],
        origin: &'a Origin,
    ) -> impl Iterator<Item = Grant> + 'a {
        let combinations = self.from.intersection(parties).flat_map(move |(from, _)| {
            let any = self.scopes.hosts.iter().any(|host| needs_host(needs, from, host));
            let combinations = self.scopes.product(move |host| !any || needs_host(needs, from, host));
            combinations.take(if any { usize::MAX } else { 1 }).map(move |combination| (from, combination))
        });
        combinations.map(move |(from, (host, port, path))| Grant {
            claim: Claim {
                scope: Scope {
                    from: from.clone(),
                    scheme: self.scheme,
                    host: host.clone(),
                    port,
                    methods: self.scopes.methods.clone(),
                    path: path.clone(),
                },
                origin: origin.clone(),
            },
            private_cidrs: self.private_cidrs.clone(),
            ca_bundle: self.ca_bundle.clone(),
        })
    }
}

/// The parties in the list at `field`.
pub(crate) fn parties(
    object: &str,
    field: &str,
    list: &[redoubt_crds::Source],
    problems: &mut Vec<Problem>,
) -> BTreeSet<Party> {
    let mut found = BTreeSet::new();
    for (i, source) in list.iter().enumerate() {
        match party(source) {
            Some(party) => found.extend([party]),
            None => problems.push(problem(
                Reason::Invalid,
                object,
                format!("{field}[{i}]"),
                "an entry of kind Tool or ClusterTool has a name, and one of kind Agent has none",
                "Name the tool, or leave the name out.",
            )),
        }
    }
    found
}

/// The ranges in the list at `field`.
pub(crate) fn parse_ranges(
    object: &str,
    field: &str,
    list: &[String],
    problems: &mut Vec<Problem>,
) -> BTreeSet<IpNet> {
    let mut ranges = BTreeSet::new();
    for (i, text) in list.iter().enumerate() {
        match parse_range(text) {
            Some(range) => ranges.extend([range]),
            None => problems.push(problem(
                Reason::Invalid,
                object,
                format!("{field}[{i}]"),
                format!("{text:?} is not a CIDR"),
                "Give an address and a prefix length, for example 10.96.0.0/16.",
            )),
        }
    }
    ranges
}

/// A range of addresses in CIDR notation (RFC 4632), without the bits beyond its prefix. An IPv4 range is not written as
/// IPv4-mapped IPv6, and no number has leading zeros (which the parser of [`IpNet`] would take).
fn parse_range(text: &str) -> Option<IpNet> {
    let (address, length) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    let plain = length == "0" || !length.starts_with(['0', '+']);
    if mapped || !plain {
        return None;
    }
    Some(IpNet::new(address, length.parse().ok()?).ok()?.trunc())
}
