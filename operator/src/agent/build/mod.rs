//! Step three, pure: every child object of a [`ValidatedAgent`].

mod network;
mod pod;
mod policy;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource as _, ResourceExt as _};
use redoubt_crds::{Agent, names};
use redoubt_policy::envelope::keyring::ANNOUNCEMENTS_KEY;
use redoubt_policy::envelope::{ENVELOPE_KEY, KeyError};
use redoubt_policy::wire::AgentConfig;

use super::children::{Children, Prepared};
use super::revision;
use super::validate::ValidatedAgent;
use crate::signing::Signer;

pub use pod::{AGENT_UID, EGRESS_UID, POLICY_KEY_FLAG, TOOLS_UID};
pub use policy::{Epoch, next_epoch};

/// Annotation of the ConfigMap: digest of the policy without its epoch.
pub const POLICY_DIGEST: &str = "redoubt.dev/policy-digest";
/// Annotation of the ConfigMap: epoch of the policy.
pub const POLICY_EPOCH: &str = "redoubt.dev/policy-epoch";
/// Annotation of the pod: digest of all that makes a new pod necessary when it changes.
pub const POD_HASH: &str = "redoubt.dev/pod-hash";
/// Annotation of the pod: lowest epoch that its sidecar accepts.
pub const MIN_EPOCH: &str = "redoubt.dev/min-epoch";
/// Annotation of the pod: how many pods before it failed in a row.
pub const ATTEMPT: &str = "redoubt.dev/attempt";
/// Key of the ConfigMap with the brain's configuration.
pub const AGENT_CONFIG_KEY: &str = "agent.json";
/// Port on which the sidecar takes calls.
pub const INBOUND_PORT: u16 = 8443;
/// Port on which the sidecar's metrics are scraped.
pub const METRICS_PORT: u16 = 8082;

/// Why an Agent cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The policy cannot be signed.
    #[error("the policy cannot be signed: {0}")]
    Sign(#[from] KeyError),
    /// An object cannot be written as JSON.
    #[error("an object cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Builds. `now` is in milliseconds since the Unix epoch.
///
/// # Errors
/// When the policy cannot be signed.
pub fn build(agent: &ValidatedAgent, signer: &Signer, now: u64) -> Result<Children<Prepared>, BuildError> {
    let signed = policy::signed(agent, signer, now)?;
    let config = agent_config(agent)?;
    let revision = Box::new(revision::build(agent)?);
    let callers = !agent.policy.inbound.callers.is_empty();
    let pod = if agent.agent.spec.suspend {
        None
    } else {
        Some(Box::new(pod::build(agent, signer, signed.epoch, &config)?))
    };
    Ok(Children {
        service_account: ServiceAccount {
            metadata: metadata(&agent.agent),
            automount_service_account_token: Some(false),
            ..Default::default()
        },
        config_map: ConfigMap {
            metadata: ObjectMeta {
                annotations: Some(BTreeMap::from([
                    (POLICY_DIGEST.to_owned(), signed.digest),
                    (POLICY_EPOCH.to_owned(), signed.epoch.to_string()),
                ])),
                ..metadata(&agent.agent)
            },
            data: Some(BTreeMap::from([
                (ENVELOPE_KEY.to_owned(), signed.envelope),
                // In one object with what the newest key signed, so that both come together.
                (ANNOUNCEMENTS_KEY.to_owned(), signer.announcements().to_owned()),
                (AGENT_CONFIG_KEY.to_owned(), config),
            ])),
            ..Default::default()
        },
        network_policy: network::policy(&agent.agent, &agent.ports, callers, &agent.scrapers),
        service: callers.then(|| network::service(&agent.agent)),
        revision,
        pod,
    })
}

/// Name, namespace, labels and owner of every child.
pub(super) fn metadata(agent: &Agent) -> ObjectMeta {
    ObjectMeta {
        name: Some(names::child(&agent.name_any())),
        namespace: agent.namespace(),
        labels: Some(labels(agent)),
        owner_references: agent.controller_owner_ref(&()).map(|owner| vec![owner]),
        ..Default::default()
    }
}

fn labels(agent: &Agent) -> BTreeMap<String, String> {
    BTreeMap::from([
        (names::AGENT_LABEL.to_owned(), agent.name_any()),
        (names::MANAGED_BY_LABEL.to_owned(), names::FIELD_MANAGER.to_owned()),
    ])
}

/// The label that selects the Agent's pod.
fn selector(agent: &Agent) -> BTreeMap<String, String> {
    BTreeMap::from([(names::AGENT_LABEL.to_owned(), agent.name_any())])
}

/// What the brain is told, as JSON.
fn agent_config(agent: &ValidatedAgent) -> Result<String, serde_json::Error> {
    let runtime = &agent.agent.spec.runtime;
    serde_json::to_string(&AgentConfig {
        name: agent.agent.name_any(),
        namespace: agent.agent.namespace().unwrap_or_default(),
        instructions: runtime.instructions.clone(),
        model: runtime.model.clone(),
        limits: agent.limits.clone(),
    })
}

#[cfg(test)]
mod tests;
