//! The formula at the heart of it, over scopes:
//!
//! `effective(agent) = (need ∩ granted ∩ every selecting ceiling) − every deny`
//!
//! [`effective`] is need ∩ granted, [`within`] what ceilings leave of it. Both keep the name of the grantor, and neither can
//! add a request. What is denied cannot be said in scopes that allow; denies are judged with each request, after these
//! rules ([`crate::envelope::VerifiedPolicy::decide`]).
//!
//! The result depends on neither the order of needs nor that of grants or ceilings.

use std::sync::Arc;

use ipnet::IpNet;

use crate::extent::Ceiling;
use crate::wire::{Claim, Origin, Rule, Scope};

/// A scope that is granted, with what belongs to the grant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    /// Which requests, and what grants them.
    pub claim: Claim,
    /// Private ranges that the hosts may resolve to.
    pub private_cidrs: Vec<IpNet>,
    /// Trust anchors (PEM) of the hosts; shared, because one entry of a policy makes many grants.
    pub ca_bundle: Option<Arc<str>>,
}

/// Requests that may be made, and why. It becomes a [`Rule`] when its size was judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission<'a> {
    /// Which requests.
    pub scope: Scope,
    /// What needs them.
    pub need: &'a Claim,
    /// What grants them.
    pub grant: &'a Grant,
    /// Private ranges that the hosts may resolve to.
    pub private_cidrs: Vec<IpNet>,
    /// The ceiling that left out some that the grant names.
    pub private_cidrs_within: Option<&'a Origin>,
}

/// What may be requested: sorted, and each scope once per set of private ranges and trust anchors.
#[must_use]
pub fn effective<'a>(needs: &'a [Claim], grants: &'a [Grant]) -> Vec<Permission<'a>> {
    let mut permissions: Vec<Permission<'a>> =
        needs.iter().flat_map(|need| grants.iter().filter_map(move |grant| permitted(need, grant))).collect();
    normalise(&mut permissions);
    permissions
}

/// What one ceiling leaves of the permissions.
#[must_use]
pub fn within<'a>(permissions: &[Permission<'a>], ceiling: &Ceiling) -> Vec<Permission<'a>> {
    let mut left: Vec<Permission<'a>> = permissions
        .iter()
        .flat_map(|permission| {
            ceiling.intersect(&permission.scope).map(|scope| Permission { scope, ..permission.clone() })
        })
        .collect();
    normalise(&mut left);
    left
}

/// What a ceiling on private ranges leaves of those that the permissions name.
pub fn within_ranges<'a>(permissions: &mut Vec<Permission<'a>>, origin: &'a Origin, ranges: &[IpNet]) {
    for permission in permissions.iter_mut() {
        let mut left: Vec<IpNet> = permission
            .private_cidrs
            .iter()
            .flat_map(|own| ranges.iter().filter_map(|range| common(*own, *range)))
            .collect();
        left.sort();
        left.dedup();
        if left != permission.private_cidrs {
            permission.private_cidrs = left;
            permission.private_cidrs_within.get_or_insert(origin);
        }
    }
    normalise(permissions);
}

/// The addresses in both: of two ranges, one holds the other or they have none in common.
fn common(a: IpNet, b: IpNet) -> Option<IpNet> {
    if a.contains(&b) { Some(b) } else { b.contains(&a).then_some(a) }
}

fn normalise(permissions: &mut Vec<Permission<'_>>) {
    permissions.sort_by(|a, b| (a.key(), &a.need.origin, a.grant).cmp(&(b.key(), &b.need.origin, b.grant)));
    permissions.dedup_by(|a, b| a.key() == b.key());
}

/// need ∩ granted.
fn permitted<'a>(need: &'a Claim, grant: &'a Grant) -> Option<Permission<'a>> {
    Some(Permission {
        scope: need.scope.intersect(&grant.claim.scope)?,
        need,
        grant,
        private_cidrs: grant.private_cidrs.clone(),
        private_cidrs_within: None,
    })
}

impl Permission<'_> {
    fn key(&self) -> (&Scope, &[IpNet], Option<&str>) {
        (&self.scope, &self.private_cidrs, self.grant.ca_bundle.as_deref())
    }
}

impl From<Permission<'_>> for Rule {
    fn from(permission: Permission<'_>) -> Self {
        Self {
            scope: permission.scope,
            private_cidrs: permission.private_cidrs,
            private_cidrs_within: permission.private_cidrs_within.cloned(),
            ca_bundle: permission.grant.ca_bundle.as_deref().map(str::to_owned),
            need: permission.need.origin.clone(),
            grant: permission.grant.claim.origin.clone(),
        }
    }
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
