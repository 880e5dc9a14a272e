//! The Agent's history, pure: which AgentPolicyRevision is that of its present content, and which are too old to keep.
//!
//! A revision is named by its content, so the same content is one object, whenever it comes back: going back to an earlier
//! content goes back to its number.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::ResourceExt as _;
use kube::core::PartialObjectMeta;
use redoubt_crds::{
    Agent, AgentPolicyRevision, AgentPolicyRevisionSpec, RevisedAgent, RevisedPolicy, RevisedRule, names,
};
use redoubt_policy::compile::effective_lines;
use redoubt_policy::{digest, digest_of};
use serde_json::json;

use super::build::{BuildError, metadata};
use super::validate::ValidatedAgent;

/// Annotation with the number, so that a watch of metadata is enough.
pub const REVISION: &str = "redoubt.dev/revision";
/// How many revisions of an Agent are kept.
pub const KEPT: usize = 10;
/// Most revisions that are remembered as asked for.
const ASKED_MAX: usize = 65_536;
/// Characters of the digest that are in the name.
const IN_NAME: usize = 16;

/// A revision as its metadata tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Name.
    pub name: String,
    /// Number.
    pub number: i64,
}

impl Known {
    /// What the metadata tells; `None` if it has no number.
    #[must_use]
    pub fn of(revision: &PartialObjectMeta<AgentPolicyRevision>) -> Option<Self> {
        let number = revision.annotations().get(REVISION)?.parse().ok()?;
        Some(Self { name: revision.name_any(), number })
    }
}

/// Revisions that were asked for and that no watch has told of yet, by the Agent's UID: the answer may have been lost, and the
/// number is taken all the same.
#[derive(Default)]
pub struct Records(Mutex<HashMap<String, Known>>);

impl Records {
    /// Adds the one of `agent` to those that are known, if they do not have it.
    pub fn add(&self, agent: &Agent, known: &mut Vec<Known>) {
        let asked = self.lock().get(&agent.uid().unwrap_or_default()).cloned();
        known.extend(asked.filter(|asked| known.iter().all(|known| known.name != asked.name)));
    }

    /// `wanted` is about to be made unless it is among those that are there.
    pub fn ask(
        &self,
        agent: &Agent,
        wanted: &AgentPolicyRevision,
        there: &[Arc<PartialObjectMeta<AgentPolicyRevision>>],
    ) {
        let (uid, name) = (agent.uid().unwrap_or_default(), wanted.name_any());
        let mut asked = self.lock();
        if there.iter().any(|revision| revision.name_any() == name) {
            asked.remove(&uid);
        } else {
            // Agents that went before the watch told are still here.
            if asked.len() >= ASKED_MAX {
                asked.clear();
            }
            asked.insert(uid, Known { name, number: wanted.spec.revision });
        }
    }

    /// Forgets all: another replica makes them.
    pub fn forget(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How the names of an Agent's revisions begin. Those of others may begin alike.
#[must_use]
pub fn prefix(agent: &str) -> String {
    format!("{}-", names::child(agent))
}

/// The revision of the Agent's present content.
///
/// # Errors
/// When the spec cannot be written as JSON.
pub fn build(agent: &ValidatedAgent) -> Result<AgentPolicyRevision, BuildError> {
    let policy = digest(&agent.policy);
    let workload = &agent.agent.spec;
    let content = digest_of(&json!({ "workload": serde_json::to_value(workload)?, "policy": policy }));
    let short = content.get(..IN_NAME).unwrap_or_default();
    let name = format!("{}{short}", prefix(&agent.agent.name_any()));
    let known = agent.revisions.iter().find(|known| known.name == name).map(|known| known.number);
    let given = agent.revisions.iter().map(|known| known.number);
    // The status remembers what someone may have deleted.
    let recorded = agent.agent.status.as_ref().and_then(|status| status.revision);
    let highest = given.chain(recorded).max().unwrap_or_default();
    let number = known.unwrap_or(highest.saturating_add(1));
    let effective = effective_lines(&agent.policy).into_iter();
    let mut revision = AgentPolicyRevision::new(
        &name,
        AgentPolicyRevisionSpec {
            agent: RevisedAgent { name: agent.agent.name_any(), uid: agent.agent.uid().unwrap_or_default() },
            revision: number,
            digest: content,
            workload: workload.clone(),
            policy: RevisedPolicy {
                digest: policy,
                effective: effective
                    .map(|line| RevisedRule {
                        from: first(&line.from, 512),
                        request: first(&line.request, 2048),
                        decided_by: first(&line.decided_by, 1024),
                    })
                    .collect(),
            },
        },
    );
    revision.metadata = metadata(&agent.agent);
    revision.metadata.name = Some(name);
    revision.annotations_mut().insert(REVISION.to_owned(), number.to_string());
    Ok(revision)
}

/// As much as the kind's schema takes: a record must never be what keeps an Agent from running.
fn first(text: &str, characters: usize) -> String {
    text.chars().take(characters).collect()
}

/// Names of those of `known` that go: all but the newest [`KEPT`], `current` among them.
#[must_use]
pub fn outdated(known: &[Known], current: &str) -> Vec<String> {
    let mut others: Vec<&Known> = known.iter().filter(|known| known.name != current).collect();
    others.sort_by_key(|known| std::cmp::Reverse(known.number));
    others.into_iter().skip(KEPT.saturating_sub(1)).map(|known| known.name.clone()).collect()
}

#[cfg(test)]
#[path = "revision_tests.rs"]
mod tests;
