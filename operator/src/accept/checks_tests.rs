use serde_json::json;

use super::*;
use crate::agent::fixtures::object;

fn binding(path: &str) -> SecretBinding {
    object(json!({
        "apiVersion": "redoubt.dev/v1alpha1", "kind": "SecretBinding",
        "metadata": { "name": "b", "namespace": "team" },
        "spec": {
            "vault": { "connectionName": "v", "kv2": { "mount": "secret", "path": path, "key": "k" } },
            "inject": { "bearer": {} },
            "destinations": [{ "hosts": ["a.example.com"], "methods": ["GET"], "paths": ["/"] }],
            "consumers": [{ "kind": "Agent" }],
        },
    }))
}

fn vault() -> VaultConnection {
    object(json!({
        "apiVersion": "platform.redoubt.dev/v1alpha1", "kind": "VaultConnection",
        "metadata": { "name": "v" },
        "spec": {
            "address": "https://vault.example.com:8200",
            "auth": { "kubernetes": { "mount": "kubernetes", "role": "r", "audience": "vault" } },
            "grants": [{
                "namespaceSelector": { "matchLabels": { "team": "a" } },
                "paths": [{ "mount": "secret", "prefix": "team-a" }],
            }],
        },
    }))
}

#[test]
fn grants_of_a_vault() {
    let check = |path: &str, connection: Option<&VaultConnection>, team: &str, expected: Option<&str>| {
        let labels = BTreeMap::from([("team".to_owned(), team.to_owned())]);
        let problem = check_grant(&binding(path), connection, &labels);
        assert_eq!(problem.as_ref().map(|problem| problem.reason.as_str()), expected, "{path} {team}");
    };
    let vault = vault();
    check("team-a/x", Some(&vault), "a", None);
    check("team-a/x", Some(&vault), "b", Some("VaultPathNotGranted"));
    check("team-ab/x", Some(&vault), "a", Some("VaultPathNotGranted"));
    check("team-a/x", None, "a", Some("ReferenceNotFound"));
}

#[test]
fn bundles() {
    let check = |bundle: Option<&str>, accepted: bool| {
        assert_eq!(check_bundle("K/n", "f", bundle).is_none(), accepted, "{bundle:?}");
    };
    check(None, true);
    check(Some(""), false);
    check(Some("not PEM"), false);
    check(Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), true);
    check(Some("-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n"), false);
    check(Some("-----BEGIN CERTIFICATE-----\nAAAA\n"), false);
    check(Some("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), false);
}
