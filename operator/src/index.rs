//! Which Agents a change touches: a pure function over what is known. Too many is harmless, too few is a defect.

use kube::core::DeserializeGuard;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt as _};
use redoubt_crds::Agent;

/// An Agent as it is watched: one that cannot be read does not stop the watch.
pub type WatchedAgent = DeserializeGuard<Agent>;

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Something that may touch every Agent.
    Everything,
    /// A Tool of this namespace and name.
    Tool(String, String),
    /// Some EgressPolicy of this namespace.
    EgressPolicy(String),
    /// The ClusterTool of this name.
    ClusterTool(String),
    /// A SecretBinding of this namespace and name.
    SecretBinding(String, String),
    /// Some VaultConnection.
    VaultConnection,
    /// The IsolationClass of this name.
    IsolationClass(String),
    /// The Namespace of this name.
    Namespace(String),
    /// Some NetworkPolicy of this namespace that is not the operator's own.
    NetworkPolicy(String),
}

impl Change {
    /// The namespace of all Agents that it touches, if it is one.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Self::Tool(namespace, _)
            | Self::EgressPolicy(namespace)
            | Self::SecretBinding(namespace, _)
            | Self::Namespace(namespace)
            | Self::NetworkPolicy(namespace) => Some(namespace),
            Self::Everything | Self::ClusterTool(_) | Self::VaultConnection | Self::IsolationClass(_) => None,
        }
    }

    fn touches(&self, agent: &Agent) -> bool {
        let lives_in = |namespace: &String| agent.namespace().as_ref() == Some(namespace);
        match self {
            Self::Everything => true,
            Self::Tool(namespace, name) => {
                lives_in(namespace) && agent.spec.tools.iter().any(|tool| tool.name == *name)
            }
            Self::ClusterTool(name) => agent
                .spec
                .tools
                .iter()
                .any(|tool| tool.kind == redoubt_crds::ToolKind::ClusterTool && tool.name == *name),
            Self::EgressPolicy(namespace) | Self::Namespace(namespace) | Self::NetworkPolicy(namespace) => {
                lives_in(namespace)
            }
            Self::SecretBinding(namespace, name) => {
                lives_in(namespace) && agent.spec.secret_bindings.iter().any(|binding| binding.name == *name)
            }
            Self::VaultConnection => !agent.spec.secret_bindings.is_empty(),
            Self::IsolationClass(name) => {
                agent.spec.isolation_class_name.as_ref().is_none_or(|class| class == name)
            }
        }
    }
}

/// The Agents that `change` may touch. Agents that cannot be read are never among them.
pub fn touched<'a>(
    change: &Change,
    agents: impl IntoIterator<Item = &'a WatchedAgent>,
) -> Vec<ObjectRef<WatchedAgent>> {
    agents
        .into_iter()
        .filter(|agent| agent.0.as_ref().is_ok_and(|agent| change.touches(agent)))
        .map(ObjectRef::from_obj)
        .collect()
}

/// The Agent that controls a child.
pub fn owner<K: Resource>(child: &K) -> Option<ObjectRef<WatchedAgent>> {
    let reference = child.meta().owner_references.iter().flatten().find(|reference| {
        reference.controller == Some(true)
            && reference.kind == "Agent"
            && reference
                .api_version
                .split_once('/')
                .is_some_and(|(group, _)| group == redoubt_crds::TEAM_GROUP)
    })?;
    Some(ObjectRef::new(&reference.name).within(&child.meta().namespace.clone()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::fixtures::{agent, agent_with};

    #[test]
    fn a_change_touches_those_that_refer_to_it() {
        let tool = |kind, name: &str| redoubt_crds::ToolReference { kind, name: name.into() };
        let plain = agent("plain");
        let using = agent_with("using", |agent| {
            agent.spec.tools =
                vec![tool(redoubt_crds::ToolKind::Tool, "t"), tool(redoubt_crds::ToolKind::ClusterTool, "c")];
            agent.spec.secret_bindings = vec![redoubt_crds::LocalReference { name: "b".into() }];
            agent.spec.isolation_class_name = Some("c".into());
        });
        let foreign = agent_with("foreign", |agent| {
            agent.metadata.namespace = Some("other".into());
            agent.spec.tools =
                vec![tool(redoubt_crds::ToolKind::Tool, "t"), tool(redoubt_crds::ToolKind::ClusterTool, "c")];
        });
        let agents = [plain, using, foreign].map(|agent| DeserializeGuard(Ok(agent)));
        let check = |change: Change, expected: &[&str]| {
            let mut names: Vec<_> = touched(&change, &agents).into_iter().map(|r| r.name).collect();
            names.sort();
            assert_eq!(names, expected, "{change:?}");
            let of_namespace = |agent: &&WatchedAgent| {
                change.namespace().is_none_or(|namespace| agent.namespace().as_deref() == Some(namespace))
            };
            let found = touched(&change, agents.iter().filter(of_namespace));
            assert_eq!(found.len(), expected.len(), "{change:?} touches none outside of its namespace");
        };
        check(Change::Everything, &["foreign", "plain", "using"]);
        check(Change::Tool("team".into(), "t".into()), &["using"]);
        check(Change::Tool("team".into(), "other".into()), &[]);
        check(Change::ClusterTool("c".into()), &["foreign", "using"]);
        check(Change::ClusterTool("t".into()), &[]);
        check(Change::EgressPolicy("team".into()), &["plain", "using"]);
        check(Change::Namespace("other".into()), &["foreign"]);
        check(Change::NetworkPolicy("team".into()), &["plain", "using"]);
        check(Change::SecretBinding("team".into(), "b".into()), &["using"]);
        check(Change::VaultConnection, &["using"]);
        check(Change::IsolationClass("c".into()), &["foreign", "plain", "using"]);
        check(Change::IsolationClass("d".into()), &["foreign", "plain"]);
    }
}
