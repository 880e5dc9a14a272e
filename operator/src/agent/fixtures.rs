//! Objects for tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use redoubt_crds::{
    Agent, AgentRuntime, AgentSpec, Images, IsolationClass, IsolationClassSpec, Limits, Model, names,
};
use redoubt_policy::SigningKey;
use serde_json::json;

use super::dereference::Dereferenced;
use crate::inbound::InboundKeys;
use crate::signing::Signer;

pub(crate) const IMAGE: &str =
    "r.example/i@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

pub(crate) fn signer() -> Signer {
    Signer::from_pkcs8(&SigningKey::generate().unwrap()).unwrap()
}

pub(crate) fn agent(name: &str) -> Agent {
    let mut agent = Agent::new(
        name,
        AgentSpec {
            isolation_class_name: None,
            suspend: false,
            runtime: AgentRuntime {
                model: Model { base_url: "https://model.example.com/v1".into(), name: "m".into() },
                instructions: "be kind".into(),
                limits: Limits::default(),
            },
            tools: Vec::new(),
            secret_bindings: Vec::new(),
            callers: Vec::new(),
            resources: Default::default(),
            workspace: Default::default(),
            placement: Default::default(),
        },
    );
    agent.metadata.namespace = Some("team".into());
    agent.metadata.uid = Some("uid-1".into());
    agent.metadata.generation = Some(3);
    agent
}

pub(crate) fn agent_with(name: &str, change: impl FnOnce(&mut Agent)) -> Agent {
    let mut agent = agent(name);
    change(&mut agent);
    agent
}

pub(crate) fn class(name: &str, default: bool) -> IsolationClass {
    let mut class = IsolationClass::new(
        name,
        IsolationClassSpec {
            runtime_class_name: "kata-qemu".into(),
            tee: Default::default(),
            images: Images { egress: IMAGE.into(), tools: IMAGE.into(), agent: IMAGE.into() },
        },
    );
    if default {
        class.metadata.annotations =
            Some(BTreeMap::from([(names::DEFAULT_CLASS_ANNOTATION.to_owned(), "true".to_owned())]));
    }
    class
}

/// An Agent with all that it needs and nothing more.
pub(crate) fn read(agent: Agent) -> Dereferenced {
    Dereferenced {
        agent,
        tools: Vec::new(),
        cluster_tools: Vec::new(),
        cluster_policies: Vec::new(),
        host_sets: Vec::new(),
        earlier: Vec::new(),
        egress_policies: Vec::new(),
        bindings: Vec::new(),
        vaults: Vec::new(),
        classes: vec![class("kata", true)],
        unreadable: Vec::new(),
        runtime_classes: ["kata-qemu".to_owned()].into(),
        namespace_labels: BTreeMap::new(),
        inbound: Arc::new(InboundKeys {
            issuer: "https://issuer".into(),
            jwks: json!({ "keys": [{ "kid": "a" }] }),
        }),
        envelope: None,
        revisions: Vec::new(),
    }
}

/// From YAML-like JSON to an object of ours.
pub(crate) fn object<K: serde::de::DeserializeOwned>(value: serde_json::Value) -> K {
    serde_json::from_value(value).unwrap()
}
