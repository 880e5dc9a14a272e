//! Step two, pure: from what was read to a [`ValidatedAgent`], or to all that is wrong with it.

use std::collections::BTreeSet;

use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use kube::ResourceExt as _;
use redoubt_crds::condition::Reason;
use redoubt_crds::{Agent, AgentResources, Images, IsolationClass, Limits, names};
use redoubt_policy::base_url::BaseUrl;
use redoubt_policy::ceilings::Selecting;
use redoubt_policy::compile::Problem;
use redoubt_policy::wire::PodPolicy;
use redoubt_policy::{Inputs, compile};

use super::dereference::Dereferenced;
use super::revision::Known;

/// An Agent that can be built. Only [`validate`] makes one.
#[derive(Debug)]
pub struct ValidatedAgent {
    pub(super) agent: Agent,
    pub(super) runtime_class: String,
    pub(super) images: Images,
    /// With epoch 0.
    pub(super) policy: PodPolicy,
    /// Bounds of one task, within every ceiling.
    pub(super) limits: Limits,
    /// Resources of the agent's container, within every ceiling.
    pub(super) resources: AgentResources,
    /// Name and audience of every Vault that a binding of the policy names.
    pub(super) vault_tokens: Vec<VaultToken>,
    /// TCP ports that the pod has to reach.
    pub(super) ports: BTreeSet<u16>,
    /// The signed policy as it is now.
    pub(super) envelope: Option<String>,
    /// What there is of its history.
    pub(super) revisions: Vec<Known>,
    /// The highest epoch that was ever recorded for the Agent.
    pub(super) recorded_epoch: u64,
    /// Who may scrape its sidecar's metrics. If nobody may, there are none.
    pub(super) scrapers: Vec<NetworkPolicyPeer>,
}

/// A projected token for one Vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultToken {
    /// Name of the VaultConnection.
    pub connection: String,
    /// Audience.
    pub audience: String,
}

impl ValidatedAgent {
    /// The Agent as it was read.
    #[must_use]
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// A sidecar holds a policy of this epoch: the next one must be above, whatever is recorded here.
    pub(super) fn held(&mut self, epoch: u64) {
        self.recorded_epoch = self.recorded_epoch.max(epoch);
    }

    /// These may scrape its sidecar's metrics.
    pub(super) fn scraped_by(&mut self, scrapers: &[NetworkPolicyPeer]) {
        self.scrapers = scrapers.to_vec();
    }

    /// The compiled policy, with epoch 0.
    #[must_use]
    pub fn policy(&self) -> &PodPolicy {
        &self.policy
    }

    /// Name of the RuntimeClass.
    #[must_use]
    pub fn runtime_class(&self) -> &str {
        &self.runtime_class
    }
}

/// Judges.
///
/// # Errors
/// All that is wrong, the first being what stands in the way first.
pub fn validate(read: Dereferenced) -> Result<ValidatedAgent, Vec<Problem>> {
    let mut problems = read.unreadable.clone();
    let name = read.agent.name_any();
    if name.len() > names::AGENT_NAME_MAX {
        problems.push(invalid(
            format!("Agent/{name}"),
            "metadata.name",
            format!("the name has {} characters and may have {}", name.len(), names::AGENT_NAME_MAX),
            "Give the Agent a shorter name.",
        ));
    }
    let class = if read.unreadable.iter().any(|problem| problem.object.starts_with("IsolationClass/")) {
        None
    } else {
        isolation_class(&read).map_err(|problem| problems.push(problem)).ok()
    };
    if let Some(class) = &class {
        problems.extend(check_class(class, &read.runtime_classes));
    }
    let inputs = Inputs {
        agent: &read.agent,
        tools: &read.tools,
        cluster_tools: &read.cluster_tools,
        egress_policies: &read.egress_policies,
        cluster_policies: &read.cluster_policies,
        host_sets: &read.host_sets,
        bindings: &read.bindings,
        vaults: &read.vaults,
        namespace_labels: &read.namespace_labels,
        inbound_issuer: &read.inbound.issuer,
        inbound_jwks: &read.inbound.jwks,
    };
    let ceilings = Selecting::of(&inputs);
    let object = format!("Agent/{name}");
    if let Some(class) = &class {
        problems.extend(ceilings.isolation_class(&object, &class.name_any()).err());
    }
    problems.extend(ceilings.quota(&object, &read.earlier).err());
    let limits = ceilings.limits(&read.agent.spec.runtime.limits);
    let resources = ceilings.resources(&read.agent.spec.resources);
    // What cannot be read would look missing to the compiler.
    let policy = if read.unreadable.is_empty() {
        compile(&inputs).map_err(|found| problems.extend(found)).ok()
    } else {
        None
    };
    let (Some(class), Some(policy), true) = (class, policy, problems.is_empty()) else {
        return Err(problems);
    };
    let IsolationClass { spec, .. } = class;
    let vault_tokens = read
        .vaults
        .iter()
        .filter(|vault| policy.vaults.iter().any(|used| used.name == vault.name_any()))
        .map(|vault| VaultToken {
            connection: vault.name_any(),
            audience: vault.spec.auth.kubernetes.audience.clone(),
        })
        .collect();
    let recorded = read.agent.status.as_ref().and_then(|status| status.policy.as_ref());
    Ok(ValidatedAgent {
        runtime_class: spec.runtime_class_name,
        images: spec.images,
        limits,
        resources,
        vault_tokens,
        ports: ports(&policy),
        recorded_epoch: recorded.and_then(|policy| u64::try_from(policy.epoch).ok()).unwrap_or_default(),
        envelope: read.envelope,
        revisions: read.revisions,
        policy,
        agent: read.agent,
        scrapers: Vec::new(),
    })
}

/// The class that the Agent names, or the one default class.
fn isolation_class(read: &Dereferenced) -> Result<IsolationClass, Problem> {
    let object = format!("Agent/{}", read.agent.name_any());
    let field = "spec.isolationClassName";
    if let Some(name) = &read.agent.spec.isolation_class_name {
        return read.classes.iter().find(|class| class.name_any() == *name).cloned().ok_or_else(|| {
            Problem::new(
                Reason::ReferenceNotFound.as_str(),
                object,
                field,
                format!("IsolationClass/{name} does not exist"),
                "Name an IsolationClass that `kubectl get isolationclasses` lists, or leave the field out for the default one.",
            )
        });
    }
    let mut defaults: Vec<&IsolationClass> = read
        .classes
        .iter()
        .filter(|class| {
            class.annotations().get(names::DEFAULT_CLASS_ANNOTATION).is_some_and(|value| value == "true")
        })
        .collect();
    defaults.sort_by_key(|class| class.name_any());
    let none = |message: String| {
        Problem::new(
            Reason::NoDefaultIsolationClass.as_str(),
            object,
            field,
            message,
            format!(
                "Name a class, or have the platform team annotate exactly one with {}: \"true\".",
                names::DEFAULT_CLASS_ANNOTATION
            ),
        )
    };
    match defaults.as_slice() {
        [class] => Ok((*class).clone()),
        [] => Err(none("no IsolationClass is named, and none is the default".to_owned())),
        several => {
            let names: Vec<_> = several.iter().map(|class| class.name_any()).collect();
            Err(none(format!("no IsolationClass is named, and {} all are the default", names.join(", "))))
        }
    }
}

/// What is wrong with an IsolationClass: empty if nothing is.
#[must_use]
pub fn check_class(class: &IsolationClass, runtime_classes: &BTreeSet<String>) -> Vec<Problem> {
    let object = format!("IsolationClass/{}", class.name_any());
    let mut problems = Vec::new();
    let images = &class.spec.images;
    for (field, image) in [("egress", &images.egress), ("tools", &images.tools), ("agent", &images.agent)] {
        if !is_by_digest(image) {
            problems.push(invalid(
                &object,
                format!("spec.images.{field}"),
                format!("{image:?} is not an image by digest"),
                redoubt_crds::grammar::IMAGE_MESSAGE,
            ));
        }
    }
    let runtime = &class.spec.runtime_class_name;
    if !runtime_classes.contains(runtime) {
        problems.push(Problem::new(
            Reason::RuntimeClassNotFound.as_str(),
            object,
            "spec.runtimeClassName",
            format!(
                "RuntimeClass/{runtime} does not exist on this cluster, and nothing weaker is used instead"
            ),
            "Install the runtime with its RuntimeClass, or use an IsolationClass whose RuntimeClass exists.",
        ));
    }
    problems
}

fn invalid(
    object: impl Into<String>,
    field: impl Into<String>,
    message: impl Into<String>,
    help: impl Into<String>,
) -> Problem {
    Problem::new(Reason::Invalid.as_str(), object, field, message, help)
}

fn is_by_digest(image: &str) -> bool {
    image.rsplit_once("@sha256:").is_some_and(|(name, digest)| {
        !name.is_empty()
            && digest.len() == 64
            && digest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

/// Ports of the rules and of the Vault servers.
fn ports(policy: &PodPolicy) -> BTreeSet<u16> {
    let rules = policy.rules.iter().map(|rule| rule.scope.port);
    let vaults =
        policy.vaults.iter().filter_map(|vault| Some(vault.address.parse::<BaseUrl>().ok()?.target().port));
    rules.chain(vaults).collect()
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
