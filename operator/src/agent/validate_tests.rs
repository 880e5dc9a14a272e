use redoubt_crds::{LocalReference, SecretBinding, ToolKind, ToolReference, VaultConnection};
use serde_json::json;

use super::*;
use crate::agent::fixtures::{agent, agent_with, class, object, read};

/// Checks the reason, object and field of the first problem; `None` where there is none.
fn check(read: Dereferenced, expected: Option<(&str, &str, &str)>) {
    match (validate(read), expected) {
        (Ok(_), None) => {}
        (Err(problems), Some((reason, place, field))) => {
            let first = &problems[0];
            assert_eq!(
                (first.reason.as_str(), first.object.as_str(), first.field.as_str()),
                (reason, place, field)
            );
            assert!(!first.message.is_empty() && !first.help.is_empty());
        }
        (Ok(_), Some(expected)) => panic!("accepted, expected {expected:?}"),
        (Err(problems), None) => panic!("{problems:?}"),
    }
}

#[test]
fn classes() {
    check(read(agent("a")), None);
    let with = |change: fn(&mut Dereferenced)| {
        let mut read = read(agent("a"));
        change(&mut read);
        read
    };
    let field = "spec.isolationClassName";
    check(with(|read| read.classes.clear()), Some(("NoDefaultIsolationClass", "Agent/a", field)));
    check(
        with(|read| read.classes.push(class("other", true))),
        Some(("NoDefaultIsolationClass", "Agent/a", field)),
    );
    check(with(|read| read.classes.push(class("other", false))), None);
    check(
        with(|read| read.agent.spec.isolation_class_name = Some("gone".into())),
        Some(("ReferenceNotFound", "Agent/a", field)),
    );
    check(
        with(|read| read.runtime_classes = ["runc".to_owned()].into()),
        Some(("RuntimeClassNotFound", "IsolationClass/kata", "spec.runtimeClassName")),
    );
    check(
        with(|read| read.classes[0].spec.images.tools = "r.example/tools:1".into()),
        Some(("Invalid", "IsolationClass/kata", "spec.images.tools")),
    );
}

#[test]
fn references() {
    let with = |change: fn(&mut Agent)| read(agent_with("a", change));
    check(
        with(|agent| agent.spec.tools = vec![ToolReference { kind: ToolKind::Tool, name: "t".into() }]),
        Some(("ReferenceNotFound", "Agent/a", "spec.tools[0].name")),
    );
    check(
        with(|agent| agent.spec.secret_bindings = vec![LocalReference { name: "b".into() }]),
        Some(("ReferenceNotFound", "Agent/a", "spec.secretBindings[0].name")),
    );
    let mut unreadable =
        with(|agent| agent.spec.tools = vec![ToolReference { kind: ToolKind::Tool, name: "t".into() }]);
    unreadable.unreadable.push(Problem::new("Invalid", "Tool/t", "", "cannot be read", "write it again"));
    check(unreadable, Some(("Invalid", "Tool/t", "")));
    check(
        read(agent(&"a".repeat(names::AGENT_NAME_MAX + 1))),
        Some(("Invalid", &format!("Agent/{}", "a".repeat(46)), "metadata.name")),
    );
}

fn bound(granted: &str) -> Dereferenced {
    let mut read = read(agent_with("a", |agent| {
        agent.spec.secret_bindings = vec![LocalReference { name: "b".into() }];
    }));
    let binding: SecretBinding = object(json!({
        "apiVersion": "redoubt.dev/v1alpha1", "kind": "SecretBinding",
        "metadata": { "name": "b", "namespace": "team" },
        "spec": {
            "vault": { "connectionName": "v", "kv2": { "mount": "secret", "path": "a/b", "key": "k" } },
            "inject": { "bearer": {} },
            "destinations": [{ "hosts": ["model.example.com"], "methods": ["POST"], "paths": ["/v1/**"] }],
            "consumers": [{ "kind": "Agent" }],
        },
    }));
    let vault: VaultConnection = object(json!({
        "apiVersion": "platform.redoubt.dev/v1alpha1", "kind": "VaultConnection",
        "metadata": { "name": "v" },
        "spec": {
            "address": "https://vault.example.com:8200",
            "auth": { "kubernetes": { "mount": "kubernetes", "role": "r", "audience": "vault" } },
            "grants": [{ "namespaceSelector": {}, "paths": [{ "mount": "secret", "prefix": granted }] }],
        },
    }));
    read.bindings.push(binding);
    read.vaults.push(vault);
    read
}

#[test]
fn bindings() {
    check(bound("a"), None);
    check(bound("c"), Some(("VaultPathNotGranted", "SecretBinding/b", "spec.vault.kv2.path")));
    let mut missing = bound("a");
    missing.vaults.clear();
    check(missing, Some(("ReferenceNotFound", "SecretBinding/b", "spec.vault.connectionName")));
    let valid = validate(bound("a")).unwrap();
    assert_eq!(valid.vault_tokens, [VaultToken { connection: "v".into(), audience: "vault".into() }]);
    assert_eq!(valid.ports, BTreeSet::from([8200]));
}
