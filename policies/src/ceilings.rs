//! What ClusterAgentPolicies say of an agent. Those that select it all hold at once: lists are intersected, of scalars the
//! most restrictive counts, and denies add up. The order does not matter.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt as _;
use redoubt_crds::condition::Reason;
use redoubt_crds::{
    AgentResources, CeilingRule, ClusterAgentPolicy, DenyRule, Limits, PolicyMode, Protocol, SourceKind,
};

use crate::compile::{Inputs, Problem, problem};
use crate::extent::{Ceiling, Deny, Extent};
use crate::grants::{Fields, HostSets, Parsed, Width, parse_ranges};
use crate::host::HostPattern;
use crate::method::MethodSet;
use crate::quantity;
use crate::selector::selects;
use crate::target::{Party, Scheme, Source};
use crate::wire::{Audit, Origin};

/// Seconds that a sidecar goes on without hearing from an operator, where no policy says less.
pub const POLICY_TTL_SECONDS: i32 = 3600;

/// Most hosts and paths that the ceilings and denies of one agent name together.
pub const PATTERNS_MAX: usize = 16_384;

/// The enforced and the audited policies that select an agent, each sorted by name.
#[derive(Debug)]
pub struct Selecting<'a> {
    enforced: Vec<&'a ClusterAgentPolicy>,
    audited: Vec<&'a ClusterAgentPolicy>,
}

impl<'a> Selecting<'a> {
    /// Those that select the agent of `inputs`.
    #[must_use]
    pub fn of(inputs: &Inputs<'a>) -> Self {
        Self::sorted(inputs.cluster_policies.iter().filter(|policy| {
            selects(&policy.spec.namespace_selector, inputs.namespace_labels)
                && selects(&policy.spec.agent_selector, inputs.agent.labels())
        }))
    }

    /// Those that select every Agent of a namespace with these labels.
    #[must_use]
    pub fn every_agent(policies: &'a [ClusterAgentPolicy], labels: &BTreeMap<String, String>) -> Self {
        Self::sorted(policies.iter().filter(|policy| {
            selects(&policy.spec.namespace_selector, labels)
                && policy.spec.agent_selector == LabelSelector::default()
        }))
    }

    fn sorted(policies: impl Iterator<Item = &'a ClusterAgentPolicy>) -> Self {
        let (mut enforced, mut audited): (Vec<_>, Vec<_>) =
            policies.partition(|policy| policy.spec.mode == PolicyMode::Enforce);
        for list in [&mut enforced, &mut audited] {
            list.sort_by_key(|policy| policy.name_any());
        }
        Self { enforced, audited }
    }

    /// `ClusterAgentPolicy/NAME` of all of them, those in mode `Audit` too.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.enforced.iter().chain(&self.audited).map(|policy| object(policy)).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Ceilings and denies that hold, and those that are only recorded.
    pub(crate) fn rules(
        &self,
        parties: &BTreeSet<Party>,
        sets: HostSets<'_>,
        problems: &mut Vec<Problem>,
    ) -> (Audit, Audit) {
        let mut rules = |policies: &[&ClusterAgentPolicy]| {
            let mut all = Audit::default();
            for policy in policies {
                ceilings(policy, parties, sets, &mut all.ceilings, problems);
                let list = (&*policy.spec.denies, "spec.denies");
                all.denies.extend(denies(&object(policy), list, parties, sets, problems));
            }
            all.ceilings.sort();
            all.ceilings.dedup();
            all.denies.sort();
            all.denies.dedup();
            all
        };
        (rules(&self.enforced), rules(&self.audited))
    }

    /// The ceilings on private ranges, one list for each policy that has one.
    pub(crate) fn private_ranges(&self, problems: &mut Vec<Problem>) -> Vec<(Origin, Vec<IpNet>)> {
        let of = |policy: &&ClusterAgentPolicy| {
            let list = policy.spec.ceilings.private_cidrs.as_ref()?;
            let field = "spec.ceilings.privateCIDRs";
            let origin = Origin { object: object(policy), field: field.to_owned() };
            let ranges = parse_ranges(&origin.object, field, list, problems);
            Some((origin, ranges.into_iter().collect()))
        };
        self.enforced.iter().filter_map(of).collect()
    }

    /// Whether the IsolationClass of this name may be used.
    ///
    /// # Errors
    /// `ExceedsPolicy`, naming the ceiling.
    pub fn isolation_class(&self, agent: &str, name: &str) -> Result<(), Problem> {
        self.listed(
            |policy| policy.spec.ceilings.isolation_class_names.as_deref(),
            name,
            ("IsolationClass", "spec.ceilings.isolationClassNames"),
            (agent.to_owned(), "spec.isolationClassName".to_owned()),
        )
    }

    /// Whether the VaultConnection of this name may be bound by the SecretBinding called `binding`.
    ///
    /// # Errors
    /// `ExceedsPolicy`, naming the ceiling.
    pub fn vault_connection(&self, binding: &str, name: &str) -> Result<(), Problem> {
        self.listed(
            |policy| policy.spec.ceilings.vault_connection_names.as_deref(),
            name,
            ("VaultConnection", "spec.ceilings.vaultConnectionNames"),
            (binding.to_owned(), "spec.vault.connectionName".to_owned()),
        )
    }

    fn listed(
        &self,
        list: impl Fn(&ClusterAgentPolicy) -> Option<&[String]>,
        name: &str,
        (kind, ceiling): (&str, &str),
        (object_of, field): (String, String),
    ) -> Result<(), Problem> {
        let Some((policy, allowed)) = self
            .enforced
            .iter()
            .filter_map(|policy| Some((policy, list(policy)?)))
            .find(|(_, allowed)| !allowed.iter().any(|allowed| allowed == name))
        else {
            return Ok(());
        };
        let allowed = if allowed.is_empty() { "none".to_owned() } else { allowed.join(", ") };
        Err(problem(
            Reason::ExceedsPolicy,
            object_of,
            field,
            format!("{} {ceiling} leaves out {kind}/{name}; it allows {allowed}", object(policy)),
            format!("Use a {kind} that it allows, or ask the platform team to change it."),
        ))
    }

    /// Bounds of one task, lowered to the ceilings.
    #[must_use]
    pub fn limits(&self, wanted: &Limits) -> Limits {
        let mut limits = wanted.clone();
        for ceiling in self.enforced.iter().filter_map(|policy| policy.spec.ceilings.limits.as_ref()) {
            limits.max_turns = limits.max_turns.min(ceiling.max_turns.unwrap_or(i32::MAX));
            limits.timeout_seconds = limits.timeout_seconds.min(ceiling.timeout_seconds.unwrap_or(i32::MAX));
        }
        limits
    }

    /// Resources, lowered to the ceilings.
    #[must_use]
    pub fn resources(&self, wanted: &AgentResources) -> AgentResources {
        let mut resources = wanted.clone();
        for ceiling in self.enforced.iter().filter_map(|policy| policy.spec.ceilings.resources.as_ref()) {
            for (own, most) in [(&mut resources.cpu, &ceiling.cpu), (&mut resources.memory, &ceiling.memory)]
            {
                if let Some(most) = most {
                    *own = quantity::smaller(own, most).to_owned();
                }
            }
        }
        resources
    }

    /// Seconds that a sidecar goes on without hearing from an operator.
    #[must_use]
    pub fn policy_ttl_seconds(&self) -> i32 {
        let ceilings = self.enforced.iter().filter_map(|policy| policy.spec.ceilings.policy_ttl_seconds);
        ceilings.fold(POLICY_TTL_SECONDS, i32::min)
    }

    /// Whether the agent is within every quota. `earlier` are the labels of the Agents of its namespace that were made
    /// before it and are not being deleted.
    ///
    /// # Errors
    /// `QuotaExceeded`, naming the quota.
    pub fn quota(&self, agent: &str, earlier: &[BTreeMap<String, String>]) -> Result<(), Problem> {
        for policy in &self.enforced {
            let Some(most) = policy.spec.quotas.agents_per_namespace else { continue };
            let before = earlier.iter().filter(|labels| selects(&policy.spec.agent_selector, labels)).count();
            if usize::try_from(most).is_ok_and(|most| before < most) {
                continue;
            }
            return Err(problem(
                Reason::QuotaExceeded,
                agent.to_owned(),
                String::new(),
                format!(
                    "{} spec.quotas.agentsPerNamespace allows {most} Agents here, and {before} were made earlier",
                    object(policy)
                ),
                "Delete an Agent that is not needed, or ask the platform team to raise the quota.",
            ));
        }
        Ok(())
    }
}

/// What is wrong with a ClusterAgentPolicy, whomever it selects: empty if nothing is.
#[must_use]
pub fn check_cluster_policy(policy: &ClusterAgentPolicy, sets: HostSets<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let one = Selecting { enforced: vec![policy], audited: Vec::new() };
    let _ = one.rules(&BTreeSet::new(), sets, &mut problems);
    let _ = one.private_ranges(&mut problems);
    let resources = policy.spec.ceilings.resources.as_ref();
    for (name, text) in [
        ("cpu", resources.and_then(|resources| resources.cpu.as_ref())),
        ("memory", resources.and_then(|resources| resources.memory.as_ref())),
    ] {
        if let Some(text) = text.filter(|text| quantity::thousandths(text).is_none_or(|value| value == 0)) {
            problems.push(problem(
                Reason::Invalid,
                object(policy),
                format!("spec.ceilings.resources.{name}"),
                format!("{text:?} is not a quantity above zero"),
                redoubt_crds::grammar::QUANTITY_MESSAGE,
            ));
        }
    }
    problems
}

fn object(policy: &ClusterAgentPolicy) -> String {
    format!("ClusterAgentPolicy/{}", policy.name_any())
}

fn ceilings(
    policy: &ClusterAgentPolicy,
    parties: &BTreeSet<Party>,
    sets: HostSets<'_>,
    out: &mut Vec<Ceiling>,
    problems: &mut Vec<Problem>,
) {
    let object = object(policy);
    if let Some(rules) = &policy.spec.ceilings.egress {
        let mut extents = Vec::new();
        for (i, rule) in rules.iter().enumerate() {
            let field = format!("spec.ceilings.egress[{i}]");
            extents.extend(ceiling_extent(rule, (&object, &field), parties, sets, problems));
        }
        let origin = Origin { object: object.clone(), field: "spec.ceilings.egress".to_owned() };
        out.push(Ceiling { origin, extents });
    }
    if policy.spec.floors.require_tls {
        let origin = Origin { object, field: "spec.floors.requireTLS".to_owned() };
        let everything = Extent {
            from: None,
            scheme: Some(Scheme::Https),
            hosts: BTreeSet::from([HostPattern::Any]),
            ports: None,
            methods: MethodSet::all(),
            paths: "/**".parse().into_iter().collect(),
        };
        out.push(Ceiling { origin, extents: vec![everything] });
    }
}

/// The sources that are of one of the kinds; `None` for anyone.
fn of_kinds(kinds: &[SourceKind], parties: &BTreeSet<Party>) -> Option<BTreeSet<Source>> {
    let named = parties.iter().filter(|(_, kind)| kinds.contains(kind)).map(|(source, _)| source.clone());
    (!kinds.is_empty()).then(|| named.collect())
}

/// An entry of a ceiling. One that cannot be read lets nothing pass and is a problem.
fn ceiling_extent(
    rule: &CeilingRule,
    (object, field): (&str, &str),
    parties: &BTreeSet<Party>,
    sets: HostSets<'_>,
    problems: &mut Vec<Problem>,
) -> Option<Extent> {
    let fields = Fields {
        hosts: &rule.hosts,
        host_sets: &rule.host_sets,
        ports: &rule.ports,
        methods: &rule.methods,
        paths: &rule.paths,
    };
    let before = problems.len();
    let parsed = Parsed::of(object, field, &fields, (sets, Width::Wide), problems);
    let scheme = match rule.protocol {
        Protocol::HTTPS => Scheme::Https,
        Protocol::HTTP => Scheme::Http,
    };
    (problems.len() == before).then(|| parsed.extent(of_kinds(&rule.from_kinds, parties), Some(scheme)))
}

/// The denies of a list.
pub(crate) fn denies(
    object: &str,
    (list, name): (&[DenyRule], &str),
    parties: &BTreeSet<Party>,
    sets: HostSets<'_>,
    problems: &mut Vec<Problem>,
) -> Vec<Deny> {
    let mut denies = Vec::new();
    for (i, rule) in list.iter().enumerate() {
        let field = format!("{name}[{i}]");
        let fields = Fields {
            hosts: &rule.hosts,
            host_sets: &rule.host_sets,
            ports: &rule.ports,
            methods: &rule.methods,
            paths: &rule.paths,
        };
        let parsed = Parsed::of(object, &field, &fields, (sets, Width::Wide), problems);
        let mut extent = parsed.extent(of_kinds(&rule.from_kinds, parties), None);
        if rule.ports.is_empty() {
            extent.ports = None;
        }
        denies.push(Deny { origin: Origin { object: object.to_owned(), field }, extent });
    }
    denies
}
