//! SecretBindings of an agent: who may consume which credential, whether the platform grants the path, and whether a
//! request could match two of them.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt as _;
use redoubt_crds::condition::Reason;
use redoubt_crds::{
    ClusterAgentPolicy, Destination, HeaderInjection, Injection, SecretBinding, VaultConnection,
};

use crate::base_url::BaseUrl;
use crate::ceilings::Selecting;
use crate::compile::{ANCHORS_MAX, DESTINATIONS_MAX, Problem, problem};
use crate::extent::{Ceiling, remover};
use crate::grants::{Fields, HostSets, Parsed, Width, parties};
use crate::host::HostPattern;
use crate::method::MethodSet;
use crate::path::PathPattern;
use crate::selector::selects;
use crate::target::{Party, Scheme, Source};
use crate::wire::{self, Origin};

/// Headers that frame or route a request, which no credential may replace.
const NEVER_INJECTED: [&str; 12] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "keep-alive",
    "expect",
    "content-type",
    "proxy-authorization",
    "proxy-connection",
];

/// What is wrong with a SecretBinding, whoever uses it: empty if nothing is.
#[must_use]
pub fn check_binding(binding: &SecretBinding) -> Vec<Problem> {
    let mut problems = Vec::new();
    let _ = convert(binding, own_sources(consumers(binding, &mut problems)), &mut problems);
    problems
}

/// What ClusterAgentPolicies that hold for every Agent of a namespace with these labels leave out of a SecretBinding: its
/// VaultConnection, or all of its destinations.
#[must_use]
pub fn check_binding_within(
    binding: &SecretBinding,
    policies: &[ClusterAgentPolicy],
    labels: &BTreeMap<String, String>,
    sets: HostSets<'_>,
) -> Vec<Problem> {
    let object = format!("SecretBinding/{}", binding.name_any());
    let selecting = Selecting::every_agent(policies, labels);
    // What is wrong in the objects is theirs to tell.
    let mut others = Vec::new();
    let parties = consumers(binding, &mut others);
    let ceilings = selecting.rules(&parties, sets, &mut others).0.ceilings;
    let mut problems = Vec::new();
    problems.extend(selecting.vault_connection(&object, &binding.spec.vault.connection_name).err());
    if let Some(converted) = convert(binding, own_sources(parties), &mut others) {
        problems.extend(outside(&converted, &ceilings).map(|ceiling| {
            problem(
                Reason::ExceedsPolicy,
                &object,
                "spec.destinations",
                format!("{ceiling} leaves out every destination"),
                "Name destinations within it, or ask the platform team to change it; the credential is not used meanwhile.",
            )
        }));
    }
    problems
}

/// The ceiling that leaves out every request that could carry the credential; `None` where some request is left.
pub(crate) fn outside<'c>(binding: &wire::Binding, ceilings: &'c [Ceiling]) -> Option<&'c Origin> {
    let scopes = binding
        .consumers
        .iter()
        .flat_map(|from| binding.destinations.iter().map(move |to| to.scope(from.clone())))
        .collect();
    remover(scopes, ceilings)
}

fn own_sources(parties: BTreeSet<Party>) -> BTreeSet<Source> {
    parties.into_iter().map(|(source, _)| source).collect()
}

/// What is wrong with a VaultConnection: empty if nothing is.
#[must_use]
pub fn check_vault(vault: &VaultConnection) -> Vec<Problem> {
    let mut problems = Vec::new();
    let _ = convert_vault(vault, &mut problems);
    for (i, grant) in vault.spec.grants.iter().enumerate() {
        for (j, path) in grant.paths.iter().enumerate() {
            for (name, text) in [("mount", &path.mount), ("prefix", &path.prefix)] {
                if !is_vault_path(text) {
                    let field = format!("spec.grants[{i}].paths[{j}].{name}");
                    problems.push(bad_vault_path(
                        format!("VaultConnection/{}", vault.name_any()),
                        field,
                        text,
                    ));
                }
            }
        }
    }
    problems
}

/// The binding for an agent whose sources are `own`, and the Vault it is in.
pub(crate) fn bind(
    binding: &SecretBinding,
    vaults: &[VaultConnection],
    own: &BTreeSet<Party>,
    (namespace, selecting): ((&str, &BTreeMap<String, String>), &Selecting<'_>),
    problems: &mut Vec<Problem>,
) -> Option<(wire::Binding, wire::Vault)> {
    let object = format!("SecretBinding/{}", binding.name_any());
    let named = consumers(binding, problems);
    let own: BTreeSet<Source> = named.intersection(own).map(|(source, _)| source.clone()).collect();
    if own.is_empty() {
        problems.push(problem(
            Reason::NotAConsumer,
            &object,
            "spec.consumers",
            "the binding names neither this Agent's own process nor any of its tools as a consumer",
            "Add the consumer to the binding, or take the binding out of the Agent's spec.secretBindings.",
        ));
    }
    let converted = convert(binding, own, problems);
    let connection = &binding.spec.vault.connection_name;
    let Some(vault) = vaults.iter().find(|vault| vault.name_any() == *connection) else {
        problems.push(problem(
            Reason::ReferenceNotFound,
            &object,
            "spec.vault.connectionName",
            format!("VaultConnection/{connection} does not exist"),
            "Ask the platform team for the name of a VaultConnection, or for this one to be made.",
        ));
        return None;
    };
    problems.extend(selecting.vault_connection(&object, connection).err());
    if !grants(vault, namespace.1, &binding.spec.vault.kv2.mount, &binding.spec.vault.kv2.path) {
        problems.push(problem(
            Reason::VaultPathNotGranted,
            &object,
            "spec.vault.kv2.path",
            format!(
                "VaultConnection/{connection} grants namespace {} no path that covers {}/{}",
                namespace.0, binding.spec.vault.kv2.mount, binding.spec.vault.kv2.path
            ),
            format!("Ask the platform team for an entry in spec.grants of VaultConnection/{connection}, or use a granted path."),
        ));
    }
    let vault = convert_vault(vault, problems)?;
    Some((converted?, vault))
}

/// Whether some entry of `vault` covers the path for a namespace with these labels.
#[must_use]
pub fn grants(vault: &VaultConnection, labels: &BTreeMap<String, String>, mount: &str, path: &str) -> bool {
    vault.spec.grants.iter().filter(|grant| selects(&grant.namespace_selector, labels)).any(|grant| {
        grant.paths.iter().any(|granted| {
            granted.mount == mount
                && path
                    .strip_prefix(granted.prefix.as_str())
                    .is_some_and(|below| below.is_empty() || below.starts_with('/'))
        })
    })
}

fn consumers(binding: &SecretBinding, problems: &mut Vec<Problem>) -> BTreeSet<Party> {
    let object = format!("SecretBinding/{}", binding.name_any());
    parties(&object, "spec.consumers", &binding.spec.consumers, problems)
}

fn convert(
    binding: &SecretBinding,
    consumers: BTreeSet<Source>,
    problems: &mut Vec<Problem>,
) -> Option<wire::Binding> {
    let object = format!("SecretBinding/{}", binding.name_any());
    let before = problems.len();
    let kv2 = &binding.spec.vault.kv2;
    for (name, text) in [("mount", &kv2.mount), ("path", &kv2.path)] {
        if !is_vault_path(text) {
            problems.push(bad_vault_path(&object, format!("spec.vault.kv2.{name}"), text));
        }
    }
    let inject = injection(&binding.spec.inject).map_err(|message| {
        problems.push(problem(Reason::Invalid, &object, "spec.inject", message, "Correct the field."));
    });
    let mut destinations = Vec::new();
    for (i, destination) in binding.spec.destinations.iter().enumerate() {
        expand(destination, &object, &format!("spec.destinations[{i}]"), &mut destinations, problems);
    }
    if destinations.is_empty() && problems.len() == before {
        problems.push(problem(
            Reason::Invalid,
            &object,
            "spec.destinations",
            "the binding names no destination, so its credential may go nowhere",
            "Name hosts, methods and paths that the credential is for.",
        ));
    }
    if problems.len() > before {
        return None;
    }
    Some(wire::Binding {
        name: binding.name_any(),
        vault: binding.spec.vault.connection_name.clone(),
        mount: kv2.mount.clone(),
        path: kv2.path.clone(),
        key: kv2.key.clone(),
        inject: inject.ok()?,
        consumers: consumers.into_iter().collect(),
        destinations,
    })
}

fn expand(
    destination: &Destination,
    object: &str,
    field: &str,
    out: &mut Vec<wire::BoundDestination>,
    problems: &mut Vec<Problem>,
) {
    let fields = Fields {
        hosts: &destination.hosts,
        host_sets: &[],
        ports: &destination.ports,
        methods: &destination.methods,
        paths: &destination.paths,
    };
    let parsed = Parsed::of(object, field, &fields, (HostSets(&[]), Width::Narrow), problems);
    let count = out.len().saturating_add(parsed.size());
    let anchors = destination.ca_bundle.as_ref().map_or(0, String::len).saturating_mul(parsed.size());
    let most = ANCHORS_MAX / 8;
    if count > DESTINATIONS_MAX || anchors > most {
        problems.push(problem(
            Reason::Invalid,
            object,
            field,
            format!("{count} combinations of host, port and path up to here, with {anchors} bytes of trust anchors; there may be {DESTINATIONS_MAX} with {most} bytes"),
            "Name fewer single hosts, ports and paths; a pattern such as /v1/** stands for many.",
        ));
        return;
    }
    for (host, port, path) in parsed.product(|_| true) {
        out.push(wire::BoundDestination {
            host: HostPattern::clone(host),
            port,
            methods: MethodSet::clone(&parsed.methods),
            path: PathPattern::clone(path),
            ca_bundle: destination.ca_bundle.clone(),
            field: field.to_owned(),
        });
    }
}

fn injection(inject: &Injection) -> Result<wire::Inject, String> {
    match (&inject.bearer, &inject.header) {
        (Some(_), None) => Ok(wire::Inject::Bearer {}),
        (None, Some(HeaderInjection { name, prefix })) => {
            let name = name.to_ascii_lowercase();
            if name.is_empty() || !name.bytes().all(is_token) {
                return Err(format!("{name:?} is not the name of a header (RFC 9110 section 5.1)"));
            }
            if NEVER_INJECTED.contains(&name.as_str()) {
                return Err(format!(
                    "the header {name} frames or routes the request and cannot carry a credential"
                ));
            }
            if !prefix.bytes().all(|b| matches!(b, 0x20..=0x7e)) {
                return Err("the prefix has only printable ASCII characters".to_owned());
            }
            Ok(wire::Inject::Header { name, prefix: prefix.clone() })
        }
        _ => Err("exactly one of bearer and header is set".to_owned()),
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn convert_vault(vault: &VaultConnection, problems: &mut Vec<Problem>) -> Option<wire::Vault> {
    let object = format!("VaultConnection/{}", vault.name_any());
    let before = problems.len();
    let kubernetes = &vault.spec.auth.kubernetes;
    if !is_vault_path(&kubernetes.mount) {
        problems.push(bad_vault_path(&object, "spec.auth.kubernetes.mount", &kubernetes.mount));
    }
    let address = vault
        .spec
        .address
        .parse::<BaseUrl>()
        .ok()
        .filter(|url| url.target().scheme == Scheme::Https && url.path().is_empty());
    let Some(address) = address else {
        problems.push(problem(
            Reason::Invalid,
            &object,
            "spec.address",
            format!("{:?} is not of the form https://HOST:PORT", vault.spec.address),
            "Give scheme https, host and port only; Vault is only ever spoken to over TLS.",
        ));
        return None;
    };
    (problems.len() == before).then(|| wire::Vault {
        name: vault.name_any(),
        address: address.to_string(),
        ca_bundle: vault.spec.ca_bundle.clone(),
        auth_mount: kubernetes.mount.clone(),
        role: kubernetes.role.clone(),
    })
}

/// Segments of letters, digits, `.`, `_` and `-`, none of them `.` or `..`.
fn is_vault_path(text: &str) -> bool {
    text.split('/').all(|segment| {
        !matches!(segment, "" | "." | "..")
            && segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    })
}

fn bad_vault_path(object: impl Into<String>, field: impl Into<String>, text: &str) -> Problem {
    let message = format!("{text:?} is not a path in Vault");
    problem(Reason::Invalid, object, field, message, redoubt_crds::grammar::VAULT_PATH_MESSAGE)
}

/// Two bindings that have a credential each for one possible request of the same consumer.
pub(crate) fn ambiguities(bindings: &[wire::Binding]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (i, first) in bindings.iter().enumerate() {
        for second in bindings.iter().skip(i + 1) {
            let shared = first.consumers.iter().find(|consumer| second.consumers.contains(consumer));
            let common = first
                .destinations
                .iter()
                .find_map(|a| second.destinations.iter().find(|b| overlap(a, b)).map(|b| (a, b)));
            if let (Some(consumer), Some((a, b))) = (shared, common) {
                problems.push(problem(
                    Reason::Invalid,
                    format!("SecretBinding/{}", second.name),
                    b.field.clone(),
                    format!(
                        "a request of {consumer} to {}:{} could carry the credential of this binding or that of SecretBinding/{} ({})",
                        a.host, a.port, first.name, a.field
                    ),
                    "Narrow the destinations or consumers of one of them, or take one out of the Agent's spec.secretBindings.",
                ));
            }
        }
    }
    problems
}

fn overlap(a: &wire::BoundDestination, b: &wire::BoundDestination) -> bool {
    a.port == b.port
        && a.host.intersect(&b.host).is_some()
        && a.methods.intersect(&b.methods).is_some()
        && a.path.intersect(&b.path).is_some()
}
