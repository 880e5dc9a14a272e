//! The formula at the heart of it, over scopes:
//!
//! `effective(agent) = (need ∩ granted ∩ every selecting ceiling) − every deny`
//!
//! [`effective`] is the whole of it. Ceilings and denies do not exist yet as kinds. Their places are marked below: a ceiling
//! narrows each rule to its intersections with the ceiling's scopes, and a deny takes requests out of what is left. Both
//! come after the grants, so a rule keeps the name of its grantor, and neither can add a request.
//!
//! The result depends on neither the order of needs nor that of grants.

use ipnet::IpNet;

use crate::wire::{Claim, Rule, Scope};

/// A scope that is granted, with what belongs to the grant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    /// Which requests, and what grants them.
    pub claim: Claim,
    /// Private ranges that the hosts may resolve to.
    pub private_cidrs: Vec<IpNet>,
    /// Trust anchors (PEM) of the hosts.
    pub ca_bundle: Option<String>,
}

/// What may be requested: sorted, and each scope once per set of private ranges and trust anchors.
#[must_use]
pub fn effective(needs: &[Claim], grants: &[Grant]) -> Vec<Rule> {
    let mut rules: Vec<Rule> = needs
        .iter()
        .flat_map(|need| grants.iter().filter_map(|grant| permitted(need, grant)))
        // .flat_map(within every selecting ceiling)
        // .flat_map(without every deny)
        .collect();
    rules.sort_by(|a, b| key(a).cmp(&key(b)));
    rules.dedup_by(|a, b| {
        (&a.scope, &a.private_cidrs, &a.ca_bundle) == (&b.scope, &b.private_cidrs, &b.ca_bundle)
    });
    rules
}

/// need ∩ granted.
fn permitted(need: &Claim, grant: &Grant) -> Option<Rule> {
    Some(Rule {
        scope: need.scope.intersect(&grant.claim.scope)?,
        private_cidrs: grant.private_cidrs.clone(),
        ca_bundle: grant.ca_bundle.clone(),
        need: need.origin.clone(),
        grant: grant.claim.origin.clone(),
    })
}

fn key(rule: &Rule) -> impl Ord + '_ {
    (&rule.scope, &rule.private_cidrs, &rule.ca_bundle, &rule.need, &rule.grant)
}

impl Scope {
    /// The requests in both.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        if (&self.from, self.scheme, self.port) != (&other.from, other.scheme, other.port) {
            return None;
        }
        Some(Self {
            from: self.from.clone(),
            scheme: self.scheme,
            host: self.host.intersect(&other.host)?,
            port: self.port,
            methods: self.methods.intersect(&other.methods)?,
            path: self.path.intersect(&other.path)?,
        })
    }
}
