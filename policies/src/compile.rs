//! From the objects of a namespace to the PodPolicy of one agent: a pure function.
//!
//! What is absent grants nothing; what is missing or cannot be read is a [`Problem`], and then there is no policy. The
//! result does not depend on the order in which the objects are given.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt as _;
use redoubt_crds::condition::Reason;
use redoubt_crds::{
    Agent, ClusterAgentPolicy, ClusterTool, EffectiveRule, EgressPolicy, HostSet, HttpTool, SecretBinding,
    SourceKind, Tool, ToolKind, VaultConnection,
};
use serde_json::Value;

use crate::Refusal;
use crate::base_url::BaseUrl;
use crate::ceilings::{PATTERNS_MAX, Selecting};
use crate::compose::{Grant, Permission, effective, within, within_ranges};
use crate::extent::{Ceiling, Deny, remover};
use crate::grants::{HostSets, explained, grants, own_denies, selecting};
use crate::method::Method;
use crate::path::PathPattern;
use crate::target::{Party, Source};
use crate::template::Template;
use crate::wire::{AgentIdentity, Audit, Claim, Explanation, Inbound, Origin, PodPolicy, Rule, Scope};
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
    /// ClusterTools.
    pub cluster_tools: &'a [ClusterTool],
    /// EgressPolicies.
    pub egress_policies: &'a [EgressPolicy],
    /// ClusterAgentPolicies.
    pub cluster_policies: &'a [ClusterAgentPolicy],
    /// HostSets.
    pub host_sets: &'a [HostSet],
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
    let parties: BTreeSet<Party> = std::iter::once((Source::Agent, SourceKind::Agent))
        .chain(tools.iter().map(|tool| (Source::Tool(tool.name.to_owned()), tool.kind)))
        .collect();
    let mut needs = needs(inputs.agent, &tools, &mut problems);
    needs.sort();
    let grants = grants(inputs, &parties, &needs, &mut problems);
    let policies = Selecting::of(inputs);
    let (mut bounds, mut audit) = policies.rules(&parties, HostSets(inputs.host_sets), &mut problems);
    bounds.denies.extend(own_denies(inputs, &parties, &mut problems));
    bounds.denies.sort();
    bounds.denies.dedup();
    let ranges = policies.private_ranges(&mut problems);
    let (mut bindings, mut vaults) = bindings(inputs, &parties, &policies, &mut problems);
    problems.extend(bind::ambiguities(&bindings));
    check_size(inputs.agent, [&bounds, &audit], &mut problems);
    let (asked, permissions) =
        rules(inputs.agent, &needs, &grants, (&bounds.ceilings, &ranges), &mut problems);
    let callers = callers(inputs.agent, &mut problems);
    if !problems.is_empty() {
        problems.sort_by(|a, b| problem_key(a).cmp(&problem_key(b)));
        problems.dedup();
        return Err(problems);
    }
    // A credential that no ceiling lets out is not even asked for.
    bindings.retain(|binding| bind::outside(binding, &bounds.ceilings).is_none());
    vaults.retain(|vault| bindings.iter().any(|binding| binding.vault == vault.name));
    narrow(&mut bounds, &asked);
    narrow(&mut audit, &asked);
    let mut selected_by = policies.names();
    selected_by.extend(selecting(inputs).iter().map(|policy| format!("EgressPolicy/{}", policy.name_any())));
    selected_by.dedup();
    let agent = identity(inputs.agent);
    let explanation = Explanation {
        grants: explained(&grants, &needs),
        ceilings: bounds.ceilings,
        selected_by,
        needs: needs.clone(),
    };
    Ok(PodPolicy {
        epoch: 0,
        rules: permissions.into_iter().map(Rule::from).collect(),
        denies: bounds.denies,
        audit,
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
            .map(|tool| wire::Tool { name: tool.name.to_owned(), http: tool.http.clone() })
            .collect(),
        // Less than nothing is nothing.
        policy_ttl_seconds: u64::try_from(policies.policy_ttl_seconds()).unwrap_or_default(),
        agent,
    })
}

/// Leaves out what speaks of no request that is needed and granted: it can make no difference.
fn narrow(rules: &mut Audit, asked: &[Scope]) {
    for ceiling in &mut rules.ceilings {
        *ceiling = ceiling.about(asked.iter());
    }
    rules.denies.retain(|deny| asked.iter().any(|scope| deny.extent.overlaps(scope)));
}

/// A problem where ceilings and denies name too much.
fn check_size(agent: &Agent, rules: [&Audit; 2], problems: &mut Vec<Problem>) {
    let extents = rules.iter().flat_map(|rules| {
        let ceilings = rules.ceilings.iter().flat_map(|ceiling| &ceiling.extents);
        ceilings.chain(rules.denies.iter().map(|deny: &Deny| &deny.extent))
    });
    let patterns: usize = extents.map(|extent| extent.hosts.len().saturating_mul(extent.paths.len())).sum();
    if patterns > PATTERNS_MAX {
        problems.push(problem(
            Reason::Invalid,
            agent_object(agent),
            "",
            format!("ceilings and denies that select the Agent name {patterns} combinations of hosts and paths, and may name {PATTERNS_MAX}"),
            "Ask the platform team to name fewer single hosts and paths; **.example.com and /v1/** stand for many.",
        ));
    }
}

/// What is needed and granted, and what ceilings leave of it as rules; or a problem where they would be too many for a ConfigMap, or for this computation.
fn rules<'a>(
    agent: &Agent,
    needs: &'a [Claim],
    grants: &'a [Grant],
    (ceilings, ranges): (&[Ceiling], &'a [(Origin, Vec<ipnet::IpNet>)]),
    problems: &mut Vec<Problem>,
) -> (Vec<Scope>, Vec<Permission<'a>>) {
    let mut too_many = |number: usize, what: &str, most: usize| {
        problems.push(problem(
            Reason::Invalid,
            agent_object(agent),
            "spec.tools",
            format!("the policy would have {number} {what} and may have {most}"),
            "Grant fewer single hosts, ports and paths; a pattern such as /v1/** stands for many.",
        ));
        (Vec::new(), Vec::new())
    };
    let pairs = needs.len().saturating_mul(grants.len());
    if pairs > PAIRS_MAX {
        return too_many(pairs, "pairs of a need and a grant", PAIRS_MAX);
    }
    let mut permissions = effective(needs, grants);
    let asked = permissions.iter().map(|permission| permission.scope.clone()).collect();
    for ceiling in ceilings {
        if permissions.len() > RULES_MAX {
            break;
        }
        permissions = within(&permissions, ceiling);
    }
    for (origin, ranges) in ranges {
        within_ranges(&mut permissions, origin, ranges);
    }
    if permissions.len() > RULES_MAX {
        return too_many(permissions.len(), "rules", RULES_MAX);
    }
    let anchors = permissions.iter().filter_map(|rule| rule.grant.ca_bundle.as_deref()).map(str::len).sum();
    if anchors > ANCHORS_MAX {
        return too_many(anchors, "bytes of trust anchors", ANCHORS_MAX);
    }
    (asked, permissions)
}

/// What is wrong with a Tool, whoever uses it: empty if nothing is.
#[must_use]
pub fn check_tool(tool: &Tool) -> Vec<Problem> {
    let mut problems = Vec::new();
    tool_needs(&UsedTool::from(tool), &mut problems);
    problems
}

/// What is wrong with a ClusterTool, whoever uses it: empty if nothing is.
#[must_use]
pub fn check_cluster_tool(tool: &ClusterTool) -> Vec<Problem> {
    let mut problems = Vec::new();
    tool_needs(&UsedTool::from(tool), &mut problems);
    problems
}

pub use crate::bind::{check_binding, check_binding_within, check_vault, grants as vault_grants};
pub use crate::ceilings::check_cluster_policy;
pub use crate::grants::{check_egress_policy, check_host_set};

/// A Tool or a ClusterTool.
struct UsedTool<'a> {
    kind: SourceKind,
    name: &'a str,
    http: &'a HttpTool,
}

impl<'a> From<&'a Tool> for UsedTool<'a> {
    fn from(tool: &'a Tool) -> Self {
        let name = tool.metadata.name.as_deref().unwrap_or_default();
        Self { kind: SourceKind::Tool, name, http: &tool.spec.http }
    }
}

impl<'a> From<&'a ClusterTool> for UsedTool<'a> {
    fn from(tool: &'a ClusterTool) -> Self {
        let name = tool.metadata.name.as_deref().unwrap_or_default();
        Self { kind: SourceKind::ClusterTool, name, http: &tool.spec.http }
    }
}

impl UsedTool<'_> {
    fn object(&self) -> String {
        match self.kind {
            SourceKind::ClusterTool => format!("ClusterTool/{}", self.name),
            SourceKind::Agent | SourceKind::Tool => format!("Tool/{}", self.name),
        }
    }
}

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
fn used_tools<'a>(inputs: &Inputs<'a>, problems: &mut Vec<Problem>) -> Vec<UsedTool<'a>> {
    let mut found = BTreeMap::new();
    for (i, reference) in inputs.agent.spec.tools.iter().enumerate() {
        let name = reference.name.as_str();
        let field = || format!("spec.tools[{i}].name");
        let tool = match reference.kind {
            ToolKind::Tool => find(inputs.agent, inputs.tools, name).map(UsedTool::from),
            ToolKind::ClusterTool => {
                inputs.cluster_tools.iter().find(|tool| tool.name_any() == name).map(UsedTool::from)
            }
        };
        let Some(tool) = tool else {
            problems.push(missing(inputs.agent, reference.kind.as_str(), name, field()));
            continue;
        };
        let kind = tool.kind;
        if found.insert(name, tool).is_some_and(|other| other.kind != kind) {
            problems.push(problem(
                Reason::Invalid,
                agent_object(inputs.agent),
                field(),
                format!("the agent has a Tool and a ClusterTool that are both called {name}, so nobody could tell whose request is whose"),
                "Take one of them out, or give the Tool another name.",
            ));
        }
    }
    found.into_values().collect()
}

/// The object of the agent's namespace with this name.
fn find<'a, K: kube::Resource>(agent: &Agent, objects: &'a [K], name: &str) -> Option<&'a K> {
    objects.iter().find(|object| object.name_any() == name && object.namespace() == agent.namespace())
}

fn missing(agent: &Agent, kind: &str, name: &str, field: String) -> Problem {
    let place = match kind {
        "ClusterTool" => String::new(),
        _ => format!(" in namespace {}", agent.namespace().unwrap_or_default()),
    };
    problem(
        Reason::ReferenceNotFound,
        agent_object(agent),
        field,
        format!("{kind}/{name} does not exist{place}"),
        format!("Create the {kind}, or take the reference out; the Agent goes on by itself when it appears."),
    )
}

/// What the agent and its tools declare.
fn needs(agent: &Agent, tools: &[UsedTool<'_>], problems: &mut Vec<Problem>) -> Vec<Claim> {
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

fn tool_needs(tool: &UsedTool<'_>, problems: &mut Vec<Problem>) -> Vec<Claim> {
    let object = tool.object();
    let mut needs = Vec::new();
    let mut names = BTreeSet::new();
    for (i, function) in tool.http.functions.iter().enumerate() {
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
        let scope = Template::new(&tool.http.base_url, function)
            .and_then(|template| Ok(template.scope(Source::Tool(tool.name.to_owned()))?));
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
    parties: &BTreeSet<Party>,
    policies: &Selecting<'_>,
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
        let bound = bind::bind(binding, inputs.vaults, parties, (namespace, policies), problems);
        if let Some((binding, vault)) = bound {
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
    let denied = |rule: &Rule| policy.denies.iter().any(|deny| deny.extent.covers(&rule.scope));
    let left = policy.rules.iter().filter(|rule| !denied(rule));
    limited(left.map(|rule| line(&rule.scope, &rule.grant)))
}

/// What is needed and may not be done, for the agent's status: at most [`LINES_MAX`] lines.
#[must_use]
pub fn refused_lines(policy: &PodPolicy) -> Vec<EffectiveRule> {
    let Explanation { needs, grants, ceilings, selected_by: _ } = &policy.explanation;
    let mut lines = Vec::new();
    for need in needs {
        let granted: Vec<Scope> =
            grants.iter().filter_map(|grant| need.scope.intersect(&grant.scope)).collect();
        if granted.is_empty() {
            lines.push(line(&need.scope, &need.origin));
        }
        for scope in granted {
            let removed_by = remover(vec![scope.clone()], ceilings);
            lines.extend(removed_by.map(|ceiling| line(&scope, ceiling)));
        }
    }
    for rule in &policy.rules {
        for deny in &policy.denies {
            lines.extend(deny.extent.intersect(&rule.scope).map(|scope| line(&scope, &deny.origin)));
        }
    }
    limited(distinct(lines))
}

/// What policies in mode `Audit` would refuse of what the agent may do, for its status: at most [`LINES_MAX`] lines.
#[must_use]
pub fn would_refuse_lines(policy: &PodPolicy) -> Vec<EffectiveRule> {
    let mut lines = Vec::new();
    for rule in &policy.rules {
        for ceiling in &policy.audit.ceilings {
            if !ceiling.extents.iter().any(|extent| extent.covers(&rule.scope)) {
                lines.push(line(&rule.scope, &ceiling.origin));
            }
        }
        for deny in &policy.audit.denies {
            lines.extend(deny.extent.intersect(&rule.scope).map(|scope| line(&scope, &deny.origin)));
        }
    }
    limited(distinct(lines))
}

/// Entries that grant the agent something of which it needs nothing, for its status: at most [`LINES_MAX`] lines, with one
/// of the grants of each.
#[must_use]
pub fn unneeded_lines(policy: &PodPolicy) -> Vec<EffectiveRule> {
    let mut entries: BTreeMap<&Origin, (&Scope, bool)> = BTreeMap::new();
    for grant in &policy.explanation.grants {
        let needed = policy.explanation.needs.iter().any(|need| need.scope.intersect(&grant.scope).is_some());
        entries.entry(&grant.origin).or_insert((&grant.scope, false)).1 |= needed;
    }
    let unneeded = entries.into_iter().filter(|(_, (_, needed))| !needed);
    limited(unneeded.map(|(origin, (scope, _))| line(scope, origin)))
}

/// Each line once, in the order in which they first come.
fn distinct(lines: Vec<EffectiveRule>) -> impl Iterator<Item = EffectiveRule> {
    let mut seen = BTreeSet::new();
    lines
        .into_iter()
        .filter(move |line| seen.insert((line.from.clone(), line.request.clone(), line.decided_by.clone())))
}

fn line(scope: &Scope, origin: &Origin) -> EffectiveRule {
    EffectiveRule { from: scope.from.to_string(), request: scope.to_string(), decided_by: origin.to_string() }
}

fn limited(lines: impl Iterator<Item = EffectiveRule>) -> Vec<EffectiveRule> {
    let mut all: Vec<_> = lines.collect();
    all.dedup();
    all.truncate(LINES_MAX);
    all
}
