//! The formula at the heart of it, over scopes:
//!
//! `effective(agent) = (need ∩ granted ∩ every selecting ceiling) − every deny`
//!
//! [`effective`] is the whole of it. Ceilings and denies do not exist yet as kinds. Their places are marked below: a ceiling
//! narrows each rule to its intersections with the ceiling's scopes, and a deny takes requests out of what is left. Both
//! come after the grants, so a rule keeps the name of its grantor, and neither can add a request.
//!
//! The result depends on neither the order of needs nor that of grants.

use std::sync::Arc;

use ipnet::IpNet;

use crate::wire::{Claim, Rule, Scope};

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
}

/// What may be requested: sorted, and each scope once per set of private ranges and trust anchors.
#[must_use]
pub fn effective<'a>(needs: &'a [Claim], grants: &'a [Grant]) -> Vec<Permission<'a>> {
    let mut permissions: Vec<Permission<'a>> = needs
        .iter()
        .flat_map(|need| grants.iter().filter_map(move |grant| permitted(need, grant)))
        // .flat_map(within every selecting ceiling)
        // .flat_map(without every deny)
        .collect();
    permissions.sort_by(|a, b| (a.key(), &a.need.origin, a.grant).cmp(&(b.key(), &b.need.origin, b.grant)));
    permissions.dedup_by(|a, b| a.key() == b.key());
    permissions
}

/// need ∩ granted.
fn permitted<'a>(need: &'a Claim, grant: &'a Grant) -> Option<Permission<'a>> {
    Some(Permission { scope: need.scope.intersect(&grant.claim.scope)?, need, grant })
}

impl Permission<'_> {
    fn key(&self) -> (&Scope, &[IpNet], Option<&str>) {
        (&self.scope, &self.grant.private_cidrs, self.grant.ca_bundle.as_deref())
    }
}

impl From<Permission<'_>> for Rule {
    fn from(permission: Permission<'_>) -> Self {
        Self {
            scope: permission.scope,
            private_cidrs: permission.grant.private_cidrs.clone(),
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
