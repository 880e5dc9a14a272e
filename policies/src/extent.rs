//! Sets of requests as ceilings and denies speak of them: what is left out is not asked about.

use std::collections::BTreeSet;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::decide::Request;
use crate::host::HostPattern;
use crate::method::MethodSet;
use crate::path::PathPattern;
use crate::target::{Scheme, Source};
use crate::wire::{Origin, Scope};

/// Requests of any of the sources, schemes, hosts, ports, methods and paths.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Extent {
    /// Who asks; anyone if absent.
    pub from: Option<BTreeSet<Source>>,
    /// Scheme; any if absent.
    pub scheme: Option<Scheme>,
    /// Hosts. Only here may they be as wide as [`HostPattern::parse_wide`] takes them.
    #[serde(deserialize_with = "wide_hosts")]
    pub hosts: BTreeSet<HostPattern>,
    /// TCP ports; any if absent.
    pub ports: Option<BTreeSet<u16>>,
    /// Methods.
    pub methods: MethodSet,
    /// Paths.
    pub paths: BTreeSet<PathPattern>,
}

/// What may be requested at most: something that one of the extents speaks of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ceiling {
    /// The object and field that says so.
    pub origin: Origin,
    /// What passes. None at all lets nothing pass.
    pub extents: Vec<Extent>,
}

/// What is refused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Deny {
    /// The object and field that says so.
    pub origin: Origin,
    /// Which requests.
    pub extent: Extent,
}

fn wide_hosts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<HostPattern>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| HostPattern::parse_wide(text).map_err(D::Error::custom)).collect()
}

impl Extent {
    /// Whether it speaks of the request.
    #[must_use]
    pub fn matches(&self, request: &Request<'_>) -> bool {
        self.asks(request.source, request.target.scheme, request.target.port)
            && self.hosts.iter().any(|host| host.matches(&request.target.host))
            && self.methods.contains(request.method)
            && self.paths.iter().any(|path| path.matches(request.path))
    }

    /// The requests that are in both, in scopes that may overlap.
    pub fn intersect<'a>(&'a self, scope: &'a Scope) -> impl Iterator<Item = Scope> + 'a {
        let methods = self
            .methods
            .intersect(&scope.methods)
            .filter(|_| self.asks(&scope.from, scope.scheme, scope.port));
        methods.into_iter().flat_map(move |methods| {
            self.hosts.iter().filter_map(|host| host.intersect(&scope.host)).flat_map(move |host| {
                let methods = methods.clone();
                self.paths.iter().filter_map(|path| path.intersect(&scope.path)).map(move |path| Scope {
                    from: scope.from.clone(),
                    scheme: scope.scheme,
                    host: host.clone(),
                    port: scope.port,
                    methods: methods.clone(),
                    path,
                })
            })
        })
    }

    /// Whether some request is in both.
    #[must_use]
    pub fn overlaps(&self, scope: &Scope) -> bool {
        self.intersect(scope).next().is_some()
    }

    /// Whether one host and one path of it speak of every request of `scope`. It may be false where only several do
    /// together.
    #[must_use]
    pub fn covers(&self, scope: &Scope) -> bool {
        self.intersect(scope).any(|both| both == *scope)
    }

    fn asks(&self, from: &Source, scheme: Scheme, port: u16) -> bool {
        self.from.as_ref().is_none_or(|own| own.contains(from))
            && self.scheme.is_none_or(|own| own == scheme)
            && self.ports.as_ref().is_none_or(|own| own.contains(&port))
    }
}

impl Ceiling {
    /// Whether it lets the request pass.
    #[must_use]
    pub fn matches(&self, request: &Request<'_>) -> bool {
        self.extents.iter().any(|extent| extent.matches(request))
    }

    /// The requests of `scope` that pass, in scopes that may overlap.
    pub fn intersect<'a>(&'a self, scope: &'a Scope) -> impl Iterator<Item = Scope> + 'a {
        self.extents.iter().flat_map(move |extent| extent.intersect(scope))
    }

    /// The ceiling without what speaks of none of `scopes`: it judges their requests in the same way.
    #[must_use]
    pub fn about<'a>(&self, scopes: impl Iterator<Item = &'a Scope> + Clone) -> Self {
        let near = |extent: &Extent| -> Option<Extent> {
            let overlapping: Vec<&Scope> = scopes.clone().filter(|scope| extent.overlaps(scope)).collect();
            let hosts: BTreeSet<HostPattern> = extent
                .hosts
                .iter()
                .filter(|host| overlapping.iter().any(|scope| host.intersect(&scope.host).is_some()))
                .cloned()
                .collect();
            (!hosts.is_empty()).then(|| Extent { hosts, ..extent.clone() })
        };
        Self { origin: self.origin.clone(), extents: self.extents.iter().filter_map(near).collect() }
    }
}

/// The first of the ceilings with which nothing is left of `scopes`; `None` where something is left under all of them.
pub(crate) fn remover(scopes: Vec<Scope>, ceilings: &[Ceiling]) -> Option<&Origin> {
    let mut left = scopes;
    ceilings.iter().find_map(|ceiling| {
        left = left.iter().flat_map(|scope| ceiling.intersect(scope)).collect();
        left.is_empty().then_some(&ceiling.origin)
    })
}
