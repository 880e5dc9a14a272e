//! The second ring around a pod, and what makes it wider. NetworkPolicies only add up: any other one that selects the pod
//! lets through what it allows, whatever the operator's own says. The operator takes nobody's policy away; it tells.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt as _;
use redoubt_crds::names;
use redoubt_policy::selector::selects;

use crate::index;

/// Most policies that a message names.
const NAMED_MAX: usize = 5;
const LAST_PORT: i32 = 65535;

/// One rule of either direction.
struct Rule<'a> {
    peers: &'a [NetworkPolicyPeer],
    ports: &'a [NetworkPolicyPort],
}

/// Ports from `low` to `high` of a protocol; `None`: of every protocol.
struct Span<'a> {
    protocol: Option<&'a str>,
    low: i32,
    high: i32,
}

/// The rules of `others` that let through more than `own` to or from a pod with one of `labels`, told with a way out; `None`
/// if there are none. All policies are of one namespace.
#[must_use]
pub fn widened<'a>(
    own: &NetworkPolicy,
    labels: &[&BTreeMap<String, String>],
    others: impl IntoIterator<Item = &'a NetworkPolicy>,
) -> Option<String> {
    let within = own.spec.as_ref()?;
    let mut places: Vec<String> = others
        .into_iter()
        .filter(|other| other.name_any() != own.name_any())
        .filter_map(|other| {
            let spec = other.spec.as_ref()?;
            let selector = spec.pod_selector.clone().unwrap_or_default();
            labels.iter().any(|labels| selects(&selector, labels)).then_some(())?;
            Some(format!("NetworkPolicy/{} {}", other.name_any(), beyond(within, spec)?))
        })
        .collect();
    places.sort();
    let more = places.len().saturating_sub(NAMED_MAX);
    places.truncate(NAMED_MAX);
    if places.is_empty() {
        return None;
    }
    let others = if more == 0 { String::new() } else { format!(" and {more} more") };
    Some(format!(
        "{}{others}: allows more than NetworkPolicy/{}, and they add up; delete it, or have its podSelector leave agents out \
         (matchExpressions: {{key: {}, operator: DoesNotExist}})",
        places.join(", "),
        own.name_any(),
        names::AGENT_LABEL,
    ))
}

/// Whether `policy` is the operator's own. It rests on the reserved name, not on what anyone can write into metadata.
#[must_use]
pub fn is_own(policy: &NetworkPolicy) -> bool {
    index::owner(policy).is_some_and(|agent| policy.name_any() == names::child(&agent.name))
}

/// Whether `policy` may select the pod of another Agent than the one whose name it has. Of the operator's own, as built,
/// none does.
#[must_use]
pub fn reaches_others(policy: &NetworkPolicy) -> bool {
    let selector = policy.spec.as_ref().and_then(|spec| spec.pod_selector.as_ref());
    let labels = selector.and_then(|selector| selector.match_labels.as_ref());
    let agent = labels.and_then(|labels| labels.get(names::AGENT_LABEL));
    agent.is_none_or(|agent| policy.name_any() != names::child(agent))
}

/// Leaves of a policy that is not the operator's own what tells whether it widens a ring, so that what others write does
/// not fill the memory.
pub fn trim(policy: &mut NetworkPolicy) {
    policy.metadata.managed_fields = None;
    if is_own(policy) {
        return;
    }
    let metadata = &mut policy.metadata;
    metadata.annotations = None;
    metadata.labels = None;
    metadata.finalizers = None;
    // A pod of ours has no label but these, so most policies select none and nothing of them is needed.
    let ours = |key: &String| [names::AGENT_LABEL, names::MANAGED_BY_LABEL].contains(&key.as_str());
    let selector = policy.spec.as_ref().and_then(|spec| spec.pod_selector.as_ref());
    let wanted = selector.and_then(|selector| selector.match_labels.as_ref());
    if wanted.is_some_and(|labels| !labels.keys().all(ours)) {
        policy.spec = None;
    }
}

/// The first field of `foreign` that allows something outside of `own`.
fn beyond(own: &NetworkPolicySpec, foreign: &NetworkPolicySpec) -> Option<String> {
    let place = |direction: &str, own: &[Rule<'_>], foreign: &[Rule<'_>]| {
        let first = foreign.iter().position(|rule| !is_within(rule, own))?;
        Some(format!("spec.{direction}[{first}]"))
    };
    let egress = || place("egress", &egress(own), &egress(foreign));
    let ingress = || place("ingress", &ingress(own), &ingress(foreign));
    egress().or_else(ingress)
}

/// Rules that hold for egress: none where the policy does not speak of it.
fn egress(spec: &NetworkPolicySpec) -> Vec<Rule<'_>> {
    // Left out, the type follows from there being rules.
    let speaks = spec.policy_types.as_ref().is_none_or(|types| types.iter().any(|kind| kind == "Egress"));
    let rules = spec.egress.iter().flatten().filter(|_| speaks);
    rules.map(|rule| Rule { peers: slice(rule.to.as_ref()), ports: slice(rule.ports.as_ref()) }).collect()
}

fn ingress(spec: &NetworkPolicySpec) -> Vec<Rule<'_>> {
    let speaks = spec.policy_types.as_ref().is_none_or(|types| types.iter().any(|kind| kind == "Ingress"));
    let rules = spec.ingress.iter().flatten().filter(|_| speaks);
    rules.map(|rule| Rule { peers: slice(rule.from.as_ref()), ports: slice(rule.ports.as_ref()) }).collect()
}

fn slice<T>(list: Option<&Vec<T>>) -> &[T] {
    list.map(Vec::as_slice).unwrap_or_default()
}

/// Whether all that `rule` allows is allowed by `own` rules that each take all of its peers.
fn is_within(rule: &Rule<'_>, own: &[Rule<'_>]) -> bool {
    // No peers are all peers.
    let takes = |own: &&Rule<'_>| {
        own.peers.is_empty() || (!rule.peers.is_empty() && rule.peers.iter().all(|p| own.peers.contains(p)))
    };
    let allowed: Vec<Span<'_>> =
        own.iter().filter(takes).flat_map(|own| spans(own.ports)).flatten().collect();
    spans(rule.ports).iter().all(|span| span.as_ref().is_some_and(|span| is_covered(span, &allowed)))
}

/// The ports of a rule; `None` for one by name, which can be any. No ports are all ports.
fn spans(ports: &[NetworkPolicyPort]) -> Vec<Option<Span<'_>>> {
    if ports.is_empty() {
        return vec![Some(Span { protocol: None, low: 1, high: LAST_PORT })];
    }
    let one = |port: &NetworkPolicyPort| match &port.port {
        None => Some((1, LAST_PORT)),
        Some(IntOrString::Int(low)) => Some((*low, port.end_port.unwrap_or(*low))),
        Some(IntOrString::String(_)) => None,
    };
    ports
        .iter()
        .map(|port| {
            let (low, high) = one(port)?;
            Some(Span { protocol: Some(port.protocol.as_deref().unwrap_or("TCP")), low, high })
        })
        .collect()
}

fn is_covered(span: &Span<'_>, allowed: &[Span<'_>]) -> bool {
    let fits = |other: &&Span<'_>| other.protocol.is_none() || other.protocol == span.protocol;
    let mut next = span.low;
    while next <= span.high {
        match allowed
            .iter()
            .filter(fits)
            .filter(|other| other.low <= next && next <= other.high)
            .map(|o| o.high)
            .max()
        {
            Some(high) => next = high.saturating_add(1),
            None => return false,
        }
    }
    true
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
