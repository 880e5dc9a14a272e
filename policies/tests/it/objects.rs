//! Objects to compile policies from, as small as they can be.

use std::collections::BTreeMap;

use redoubt_crds::{
    Agent, ClusterAgentPolicy, ClusterTool, EgressPolicy, HostSet, SecretBinding, Tool, VaultConnection,
};
use redoubt_policy::compile::{Inputs, Problem, compile};
use redoubt_policy::decide::{Authorized, Request};
use redoubt_policy::target::{Scheme, Source, Target};
use redoubt_policy::wire::PodPolicy;
use redoubt_policy::{Refusal, SigningKey, VerifiedPolicy, sign, verify};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub(crate) const MODEL: &str = "https://model.example.com/v1";

fn object<K: DeserializeOwned>(kind: &str, name: &str, spec: Value) -> K {
    let platform = ["VaultConnection", "ClusterTool", "ClusterAgentPolicy", "HostSet"].contains(&kind);
    let group = if platform { "platform.redoubt.dev" } else { "redoubt.dev" };
    let mut metadata = json!({ "name": name, "uid": format!("uid-of-{name}"), "labels": { "app": name } });
    if !platform {
        metadata["namespace"] = json!("team");
    }
    serde_json::from_value(
        json!({ "apiVersion": format!("{group}/v1alpha1"), "kind": kind, "metadata": metadata, "spec": spec }),
    )
    .unwrap()
}

/// An agent of namespace `team` with label `app: NAME`.
pub(crate) fn agent(name: &str, tools: &[&str], bindings: &[&str]) -> Agent {
    let named = |names: &[&str]| names.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>();
    object(
        "Agent",
        name,
        json!({
            "runtime": { "model": { "baseURL": MODEL, "name": "m" } },
            "tools": named(tools),
            "secretBindings": named(bindings),
            "callers": [{ "serviceAccount": { "name": "ci" } }],
        }),
    )
}

/// A tool with one function `fN` per (method, path); arguments in the path are declared.
pub(crate) fn tool(name: &str, base_url: &str, functions: &[(&str, &str)]) -> Tool {
    let functions: Vec<_> = functions
        .iter()
        .enumerate()
        .map(|(i, (method, path))| {
            let arguments = path.split(['{', '}']).skip(1).step_by(2);
            let properties: serde_json::Map<_, _> =
                arguments.map(|name| (name.to_owned(), json!({ "type": "string" }))).collect();
            json!({
                "name": format!("f{i}"), "description": "d", "effect": "Read", "method": method, "path": path,
                "parameters": { "type": "object", "properties": properties },
            })
        })
        .collect();
    object("Tool", name, json!({ "http": { "baseURL": base_url, "functions": functions } }))
}

/// `Agent` or the name of a Tool.
pub(crate) fn source(name: &str) -> Value {
    if name == "Agent" { json!({ "kind": "Agent" }) } else { json!({ "kind": "Tool", "name": name }) }
}

/// An entry of `spec.allow` with port 443.
pub(crate) fn allow(from: &str, host: &str, methods: &[&str], path: &str) -> Value {
    json!({ "from": [source(from)], "hosts": [host], "methods": methods, "paths": [path] })
}

/// A policy that selects all agents of the namespace.
pub(crate) fn egress_policy(name: &str, allow: &[Value]) -> EgressPolicy {
    object("EgressPolicy", name, json!({ "agentSelector": {}, "allow": allow }))
}

/// A bearer binding of `kv/app/NAME` at VaultConnection `vault` to GET and POST.
pub(crate) fn binding(name: &str, consumers: &[&str], host: &str, path: &str) -> SecretBinding {
    let consumers: Vec<_> = consumers.iter().map(|name| source(name)).collect();
    object(
        "SecretBinding",
        name,
        json!({
            "vault": { "connectionName": "vault", "kv2": { "mount": "kv", "path": format!("app/{name}"), "key": "token" } },
            "inject": { "bearer": {} },
            "destinations": [{ "hosts": [host], "methods": ["GET", "POST"], "paths": [path] }],
            "consumers": consumers,
        }),
    )
}

/// A ClusterAgentPolicy for all agents of all namespaces, with these fields.
pub(crate) fn cluster_policy(name: &str, fields: Value) -> ClusterAgentPolicy {
    let mut spec = json!({ "namespaceSelector": {} });
    for (field, value) in fields.as_object().unwrap() {
        spec[field] = value.clone();
    }
    object("ClusterAgentPolicy", name, spec)
}

/// A HostSet.
pub(crate) fn host_set(name: &str, hosts: &[&str]) -> HostSet {
    object("HostSet", name, json!({ "hosts": hosts }))
}

/// A ClusterTool, as [`tool`].
pub(crate) fn cluster_tool(name: &str, base_url: &str, functions: &[(&str, &str)]) -> ClusterTool {
    let tool = tool(name, base_url, functions);
    object("ClusterTool", name, json!({ "http": tool.spec.http }))
}

/// A VaultConnection that grants one prefix to namespaces with label `team: a`.
pub(crate) fn vault(name: &str, mount: &str, prefix: &str) -> VaultConnection {
    object(
        "VaultConnection",
        name,
        json!({
            "address": "https://vault.example.com:8200",
            "auth": { "kubernetes": { "mount": "kubernetes", "role": "agents", "audience": "vault" } },
            "grants": [{
                "namespaceSelector": { "matchLabels": { "team": "a" } },
                "paths": [{ "mount": mount, "prefix": prefix }],
            }],
        }),
    )
}

/// The objects of a namespace.
#[derive(Clone)]
pub(crate) struct Namespace {
    pub(crate) agent: Agent,
    pub(crate) tools: Vec<Tool>,
    pub(crate) cluster_tools: Vec<ClusterTool>,
    pub(crate) cluster_policies: Vec<ClusterAgentPolicy>,
    pub(crate) host_sets: Vec<HostSet>,
    pub(crate) egress_policies: Vec<EgressPolicy>,
    pub(crate) bindings: Vec<SecretBinding>,
    pub(crate) vaults: Vec<VaultConnection>,
    pub(crate) labels: BTreeMap<String, String>,
}

impl Namespace {
    pub(crate) fn of(agent: Agent) -> Self {
        Self {
            agent,
            tools: Vec::new(),
            cluster_tools: Vec::new(),
            cluster_policies: Vec::new(),
            host_sets: Vec::new(),
            egress_policies: Vec::new(),
            bindings: Vec::new(),
            vaults: vec![vault("vault", "kv", "app")],
            labels: BTreeMap::from([("team".to_owned(), "a".to_owned())]),
        }
    }

    pub(crate) fn compile(&self) -> Result<PodPolicy, Vec<Problem>> {
        compile(&Inputs {
            agent: &self.agent,
            tools: &self.tools,
            cluster_tools: &self.cluster_tools,
            cluster_policies: &self.cluster_policies,
            host_sets: &self.host_sets,
            egress_policies: &self.egress_policies,
            bindings: &self.bindings,
            vaults: &self.vaults,
            namespace_labels: &self.labels,
            inbound_issuer: "https://issuer.example.com",
            inbound_jwks: &json!({ "keys": [] }),
        })
    }

    pub(crate) fn verified(&self) -> VerifiedPolicy {
        verified(&self.compile().unwrap())
    }

    /// The problems, each as `reason object field`.
    pub(crate) fn problems(&self) -> Vec<String> {
        match self.compile() {
            Ok(_) => Vec::new(),
            Err(problems) => {
                problems.iter().map(|p| format!("{} {} {}", p.reason, p.object, p.field)).collect()
            }
        }
    }
}

/// The policy as a pod would have it.
pub(crate) fn verified(policy: &PodPolicy) -> VerifiedPolicy {
    let key = SigningKey::from_pkcs8(&SigningKey::generate().unwrap()).unwrap();
    let envelope = sign(policy, &key).unwrap();
    verify(envelope.as_bytes(), &key.public(), &policy.agent, 0).unwrap()
}

/// What the policy says to `METHOD URL` from `Agent` or a tool's name.
pub(crate) fn decide<'p>(
    policy: &'p VerifiedPolicy,
    from: &str,
    request: &str,
) -> Result<Authorized<'p>, Refusal> {
    let source = if from == "Agent" { Source::Agent } else { Source::Tool(from.to_owned()) };
    let (method, url) = request.split_once(' ').unwrap();
    let (scheme, rest) = url.split_once("://").unwrap();
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    let (authority, path) = rest.split_at(rest.find('/').unwrap());
    policy.decide(&Request {
        source: &source,
        target: &Target::parse(scheme, authority).unwrap(),
        method: method.parse().unwrap(),
        path: &path.parse().unwrap(),
    })
}
