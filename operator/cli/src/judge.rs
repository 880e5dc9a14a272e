//! The operator's own verdicts on objects that no operator has seen: the same functions, fed from files or from a list.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube::ResourceExt as _;
use redoubt_crds::{
    Agent, ClusterAgentPolicy, ClusterTool, EgressPolicy, HostSet, IsolationClass, SecretBinding, Tool,
    VaultConnection,
};
use redoubt_operator::accept::Checked;
use redoubt_operator::agent::dereference::dereference;
use redoubt_operator::agent::validate::{ValidatedAgent, validate};
use redoubt_operator::inbound::InboundKeys;
use redoubt_operator::stores::World;
use redoubt_policy::Problem;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::objects::{Found, Key, Objects};

/// What became of an Agent: what can be built, or all that is wrong.
pub type Verdict = Result<ValidatedAgent, Vec<Problem>>;

/// Verdicts on `own` objects, in a world that has all of `objects`.
pub struct Judged {
    /// What is wrong, sorted, each once.
    pub problems: Vec<Found>,
    /// The Agents among them that can be read, by namespace and name.
    pub agents: BTreeMap<(String, String), Verdict>,
}

/// Judges the objects of these keys.
#[must_use]
pub fn judge<'a>(objects: &Objects, own: impl IntoIterator<Item = &'a Key>) -> Judged {
    let world = objects.world();
    let mut judged = Judged { problems: Vec::new(), agents: BTreeMap::new() };
    let mut seen = BTreeSet::new();
    for key in own {
        let Some(object) = objects.0.get(key) else { continue };
        let mut problems = match key.kind.as_str() {
            "Agent" => match read::<Agent>(&object.value) {
                Ok(agent) => {
                    let verdict = agent_verdict(&world, &agent);
                    let problems = verdict.as_ref().err().cloned().unwrap_or_default();
                    judged.agents.insert((key.namespace.clone(), key.name.clone()), verdict);
                    problems
                }
                Err(problem) => vec![problem],
            },
            "Tool" => check::<Tool>(&world, &object.value),
            "EgressPolicy" => check::<EgressPolicy>(&world, &object.value),
            "SecretBinding" => check::<SecretBinding>(&world, &object.value),
            "VaultConnection" => check::<VaultConnection>(&world, &object.value),
            "IsolationClass" => check::<IsolationClass>(&world, &object.value),
            "ClusterTool" => check::<ClusterTool>(&world, &object.value),
            "ClusterAgentPolicy" => check::<ClusterAgentPolicy>(&world, &object.value),
            "HostSet" => check::<HostSet>(&world, &object.value),
            _ => Vec::new(),
        };
        for problem in problems.drain(..) {
            let found = objects.locate(&key.namespace, problem);
            let Problem { reason, object, field, message, .. } = found.problem.clone();
            if seen.insert((found.namespace.clone(), object, field, reason, message)) {
                judged.problems.push(found);
            }
        }
    }
    judged
}

/// The operator's verdict on one Agent. Who calls it is verified by keys that only a cluster has, and none are here: what
/// comes out is for reading and is never given to a pod.
pub fn agent_verdict(world: &World, agent: &Agent) -> Verdict {
    let keys = InboundKeys { issuer: String::new(), jwks: Value::Null };
    let (read, _) = dereference(world, agent, Arc::new(keys));
    validate(read)
}

fn check<K: Checked>(world: &World, value: &Value) -> Vec<Problem> {
    read::<K>(value).map_or_else(|problem| vec![problem], |object| object.problems(world))
}

fn read<K: DeserializeOwned>(value: &Value) -> Result<K, Problem> {
    serde_json::from_value(value.clone()).map_err(|error| {
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        Problem::new(
            redoubt_crds::condition::Reason::Invalid.as_str(),
            format!("{}/{}", text("/kind"), text("/metadata/name")),
            "",
            format!("the object cannot be read: {error}"),
            "Write it in the form that docs/reference/api.md tells.",
        )
    })
}

/// `NAMESPACE/NAME`.
#[must_use]
pub fn title(agent: &Agent) -> String {
    format!("{}/{}", agent.namespace().unwrap_or_default(), agent.name_any())
}
