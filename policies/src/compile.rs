//! From the objects of a namespace to the PodPolicy of one agent: a pure function.
//!
//! What is absent grants nothing; what is missing or cannot be read is a [`Problem`], and then there is no policy. The
//! result does not depend on the order in which the objects are given.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt as _;
use redoubt_crds::condition::Reason;
use redoubt_crds::{Agent, EffectiveRule, EgressPolicy, SecretBinding, Tool, VaultConnection};
use serde_json::Value;

use crate::Refusal;
use crate::base_url::BaseUrl;
use crate::compose::{Grant, effective};
use crate::grants::{explained, grants};
use crate::method::Method;
use crate::path::PathPattern;
use crate::target::Source;
use crate::template::Template;
use crate::wire::{AgentIdentity, Claim, Explanation, Inbound, Origin, PodPolicy, Rule, Scope};
use crate::{bind, wire};

/// What is wrong with an object. Its reason is the text of a [`Reason`].
pub type Problem = Refusal;

/// Most rules of one agent's policy.
pub const RULES_MAX: usize = 4096;

/// Most grants to one agent: combinations of source, host, port and path, of those hosts that it needs.
pub const GRANTS_MAX: usize = 8192;

/// Most pairs of a need and a grant that are looked at for one agent.
pub const PAIRS_MAX: usize = 262_144;

/// Most destinations of one SecretBinding: combinations of host, port and path.
pub const DESTINATIONS_MAX: usize = 256;

/// Most bytes of trust anchors in one policy, counted where they are used; a ConfigMap holds 1 MiB.
pub const ANCHORS_MAX: usize = 512 * 1024;

/// Most grants that are kept to explain refusals. Nothing is allowed by them.
pub const EXPLAINED_MAX: usize = 1024;

/// Most lines of a policy in an Agent's status.
pub const LINES_MAX: usize = 256;

/// The objects that decide what an agent may do. Objects of other namespaces, and those that the agent neither names nor
/// is selected by, have no effect.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The agent.
    pub agent: &'a Agent,
    /// Tools.
    pub tools: &'a [Tool],
    /// EgressPolicies.
    pub egress_policies: &'a [EgressPolicy],
    /// SecretBindings.
    pub bindings: &'a [SecretBinding],
    /// VaultConnections.
    pub vaults: &'a [VaultConnection],
    /// Labels of the agent's namespace.
    pub namespace_labels: &'a BTreeMap<String, String>,
    /// `iss` of the cluster's service-account tokens.
    pub inbound_issuer: &'a str,
    /// The cluster's published keys, a JSON Web Key Set (RFC 7517).
    pub inbound_jwks: &'a Value,
}

/// The policy of the agent, with epoch 0.
///
/// # Errors
/// All that is wrong with the agent and the objects it uses, sorted.
pub fn compile(inputs: &Inputs<'_>) -> Result<PodPolicy, Vec<Problem>> {
    let mut problems = Vec::new();
    let tools = used_tools(inputs, &mut problems);
    let sources: BTreeSet<Source> = std::iter::once(Source::Agent)
        .chain(tools.iter().map(|tool| Source::Tool(tool.name_any())))
        .collect();
    let mut needs = needs(inputs.agent, &tools, &mut problems);
    needs.sort();
    let grants = grants(inputs, &sources, &needs, &mut problems);
    let (bindings, vaults) = bindings(inputs, &sources, &mut problems);
    problems.extend(bind::ambiguities(&bindings));
    let rules = rules(inputs.agent, &needs, &grants, &mut problems);
    let callers = callers(inputs.agent, &mut problems);
    if !problems.is_empty() {
        problems.sort_by(|a, b| problem_key(a).cmp(&problem_key(b)));
        problems.dedup();
        return Err(problems);
    }
    let agent = identity(inputs.agent);
    let explanation = Explanation { grants: explained(&grants, &needs), needs };
    Ok(PodPolicy {
        epoch: 0,
        rules,
        explanation,
        bindings,
        vaults,
        inbound: Inbound {
            issuer: inputs.inbound_issuer.to_owned(),
            jwks: inputs.inbound_jwks.clone(),
            audience: redoubt_crds::names::audience(&agent.namespace, &agent.name),
            callers,
        },
        tools: tools
            .iter()
            .map(|tool| wire::Tool { name: tool.name_any(), http: tool.spec.http.clone() })
            .collect(),
        agent,
    })
}

/// The rules, or a problem where they would be too many for a ConfigMap, or for this computation.
fn rules(agent: &Agent, needs: &[Claim], grants: &[Grant], problems: &mut Vec<Problem>) -> Vec<Rule> {
    let mut too_many = |number: usize, what: &str, most: usize| {
        problems.push(problem(
            Reason::Invalid,
            agent_object(agent),
            "spec.tools",
            format!("the policy would have {number} {what} and may have {most}"),
            "Grant fewer single hosts, ports and paths; a pattern such as /v1/** stands for many.",
        ));
        Vec::new()
    };
    let pairs = needs.len().saturating_mul(grants.len());
    if pairs > PAIRS_MAX {
        return too_many(pairs, "pairs of a need and a grant", PAIRS_MAX);
    }
    let permissions = effective(needs, grants);
    if permissions.len() > RULES_MAX {
        return too_many(permissions.len(), "rules", RULES_MAX);
    }
    let anchors = permissions.iter().filter_map(|rule| rule.grant.ca_bundle.as_deref()).map(str::len).sum();
    if anchors > ANCHORS_MAX {
        return too_many(anchors, "bytes of trust anchors", ANCHORS_MAX);
    }
    permissions.into_iter().map(Rule::from).collect()
}

/// What is wrong with a Tool, whoever uses it: empty if nothing is.
#[must_use]
pub fn check_tool(tool: &Tool) -> Vec<Problem> {
    let mut problems = Vec::new();
    tool_needs(tool, &mut problems);
    problems
}

pub use crate::bind::{check_binding, check_vault, grants as vault_grants};
pub use crate::grants::check_egress_policy;

/// A problem from its parts.
pub(crate) fn problem(
    reason: Reason,
    object: impl Into<String>,
    field: impl Into<String>,
    message: impl Into<String>,
    help: impl Into<String>,
) -> Problem {
    Refusal::new(reason.as_str(), object, field, message, help)
}

fn problem_key(problem: &Problem) -> (&str, &str, &str, &str) {
    (&problem.object, &problem.field, &problem.reason, &problem.message)
}

fn agent_object(agent: &Agent) -> String {
    format!("Agent/{}", agent.name_any())
}

fn identity(agent: &Agent) -> AgentIdentity {
    AgentIdentity {
        namespace: agent.namespace().unwrap_or_default(),
        name: agent.name_any(),
        uid: agent.uid().unwrap_or_default(),
    }
}

/// The tools that the agent names, sorted and once each.
fn used_tools<'a>(inputs: &Inputs<'a>, problems: &mut Vec<Problem>) -> Vec<&'a Tool> {
    let mut found = BTreeMap::new();
    for (i, reference) in inputs.agent.spec.tools.iter().enumerate() {
        match find(inputs.agent, inputs.tools, &reference.name) {
            Some(tool) => {
                found.insert(reference.name.as_str(), tool);
            }
            None => {
                problems.push(missing(inputs.agent, "Tool", &reference.name, format!("spec.tools[{i}].name")))
            }
        }
    }
    found.into_values().collect()
}

/// The object of the agent's namespace with this name.
fn find<'a, K: kube::Resource>(agent: &Agent, objects: &'a [K], name: &str) -> Option<&'a K> {
    objects.iter().find(|object| object.name_any() == name && object.namespace() == agent.namespace())
}

fn missing(agent: &Agent, kind: &str, name: &str, field: String) -> Problem {
    problem(
        Reason::ReferenceNotFound,
        agent_object(agent),
        field,
        format!("{kind}/{name} does not exist in namespace {}", agent.namespace().unwrap_or_default()),
        format!("Create the {kind}, or take the reference out; the Agent goes on by itself when it appears."),
    )
}

/// What the agent and its tools declare.
fn needs(agent: &Agent, tools: &[&Tool], problems: &mut Vec<Problem>) -> Vec<Claim> {
    let mut needs = Vec::new();
    match model_scope(&agent.spec.runtime.model.base_url) {
        Ok(scope) => needs.push(Claim {
            scope,
            origin: Origin { object: agent_object(agent), field: "spec.runtime.model.baseURL".to_owned() },
        }),
        Err(message) => problems.push(problem(
            Reason::Invalid,
            agent_object(agent),
            "spec.runtime.model.baseURL",
            message,
            redoubt_crds::grammar::BASE_URL_MESSAGE,
        )),
    }
    for tool in tools {
        needs.extend(tool_needs(tool, problems));
    }
    needs
}

/// What the brain needs of its model: chat completions.
fn model_scope(base_url: &str) -> Result<Scope, String> {
    let url: BaseUrl = base_url.parse().map_err(|error: crate::base_url::BaseUrlError| error.to_string())?;
    let path: Result<PathPattern, _> = format!("{}/chat/completions", url.path()).parse();
    Ok(Scope {
        from: Source::Agent,
        scheme: url.target().scheme,
        host: url.target().host.clone().into(),
        port: url.target().port,
        methods: Method::Post.into(),
        path: path.map_err(|error| error.to_string())?,
    })
}

fn tool_needs(tool: &Tool, problems: &mut Vec<Problem>) -> Vec<Claim> {
    let object = format!("Tool/{}", tool.name_any());
    let mut needs = Vec::new();
    let mut names = BTreeSet::new();
    for (i, function) in tool.spec.http.functions.iter().enumerate() {
        let field = format!("spec.http.functions[{i}]");
        let mut starts = function.name.bytes();
        let valid = starts.next().is_some_and(|b| b.is_ascii_lowercase())
            && starts.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            && function.name.len() <= 30;
        if !valid || !names.insert(&function.name) {
            problems.push(problem(
                Reason::Invalid,
                &object,
                format!("{field}.name"),
                format!(
                    "{:?} is not a name of at most 30 lower-case letters, digits and '_', or is used twice",
                    function.name
                ),
                "Give each function a name of its own that begins with a letter.",
            ));
        }
        let scope = Template::new(&tool.spec.http.base_url, function)
            .and_then(|template| Ok(template.scope(Source::Tool(tool.name_any()))?));
        match scope {
            Ok(scope) => needs.push(Claim { scope, origin: Origin { object: object.clone(), field } }),
            Err(error) => {
                let field = match error.field() {
                    Some(name) => format!("{field}.{name}"),
                    None => "spec.http.baseURL".to_owned(),
                };
                let message = error.to_string();
                problems.push(problem(Reason::Invalid, &object, field, message, "Correct the field."));
            }
        }
    }
    needs
}

/// The bindings that the agent names, sorted and once each, and the Vaults they are in.
fn bindings(
    inputs: &Inputs<'_>,
    sources: &BTreeSet<Source>,
    problems: &mut Vec<Problem>,
) -> (Vec<wire::Binding>, Vec<wire::Vault>) {
    let namespace = inputs.agent.namespace().unwrap_or_default();
    let (mut bindings, mut vaults) = (BTreeMap::new(), BTreeMap::new());
    for (i, reference) in inputs.agent.spec.secret_bindings.iter().enumerate() {
        let Some(binding) = find(inputs.agent, inputs.bindings, &reference.name) else {
            let field = format!("spec.secretBindings[{i}].name");
            problems.push(missing(inputs.agent, "SecretBinding", &reference.name, field));
            continue;
        };
        let namespace = (namespace.as_str(), inputs.namespace_labels);
        if let Some((binding, vault)) = bind::bind(binding, inputs.vaults, sources, namespace, problems) {
            bindings.insert(binding.name.clone(), binding);
            vaults.insert(vault.name.clone(), vault);
        }
    }
    (bindings.into_values().collect(), vaults.into_values().collect())
}

/// User names of the callers, sorted and once each.
fn callers(agent: &Agent, problems: &mut Vec<Problem>) -> Vec<String> {
    let own = agent.namespace().unwrap_or_default();
    let mut names = BTreeSet::new();
    for (i, caller) in agent.spec.callers.iter().enumerate() {
        let account = &caller.service_account;
        let namespace = account.namespace.as_deref().unwrap_or(&own);
        let plain = |text: &str| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'))
        };
        if !plain(namespace) || !plain(&account.name) {
            problems.push(problem(
                Reason::Invalid,
                agent_object(agent),
                format!("spec.callers[{i}].serviceAccount"),
                format!("{namespace}/{} is not the name of a service account", account.name),
                "Give namespace and name in lower-case letters, digits, '-' and '.'.",
            ));
            continue;
        }
        names.insert(format!("system:serviceaccount:{namespace}:{}", account.name));
    }
    names.into_iter().collect()
}

/// What the agent may do, for its status: at most [`LINES_MAX`] lines.
#[must_use]
pub fn effective_lines(policy: &PodPolicy) -> Vec<EffectiveRule> {
    limited(policy.rules.iter().map(|rule| line(&rule.scope, &rule.grant)))
}

/// What is needed and nothing grants, for the agent's status: at most [`LINES_MAX`] lines.
#[must_use]
pub fn refused_lines(policy: &PodPolicy) -> Vec<EffectiveRule> {
    let granted =
        |need: &Claim| policy.rules.iter().any(|rule: &Rule| rule.scope.intersect(&need.scope).is_some());
    limited(
        policy
            .explanation
            .needs
            .iter()
            .filter(|need| !granted(need))
            .map(|need| line(&need.scope, &need.origin)),
    )
}

fn line(scope: &Scope, origin: &Origin) -> EffectiveRule {
    EffectiveRule {
        from: scope.from.to_string(),
        request: scope.to_string(),
        decided_by: format!("{} {}", origin.object, origin.field),
    }
}

fn limited(lines: impl Iterator<Item = EffectiveRule>) -> Vec<EffectiveRule> {
    let mut all: Vec<_> = lines.collect();
    all.dedup();
    all.truncate(LINES_MAX);
    all
}
