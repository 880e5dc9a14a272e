//! What is wrong at Vault or in the objects, and what is said about it.

use redoubt_crds::condition::Reason;

use crate::cluster::CLUSTER;
use crate::process::free_port;
use crate::vault::{Vault, binding};

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_has_its_reason_object_and_field() {
    let vault = Vault::start();
    vault.root(&["kv", "put", "-mount=secret", "other/team", "key=not-for-agents"]);
    vault.root(&["kv", "put", "-mount=old", "thing", "key=engine-version-1"]);
    vault.root(&[
        "kv",
        "put",
        "-mount=secret",
        "agents/bad",
        "empty=",
        "short=1234567",
        "break=long-enough\n",
        "umlaut=fünf-und-acht",
    ]);
    vault.root(&["kv", "put", "-mount=secret", "agents/bad-json", "-"]);

    let path = "spec.vault.kv2.path";
    let key = "spec.vault.kv2.key";
    let good = || binding("b", "agents/first", "key");
    let at = |mount: &str, path: &str| {
        let mut it = binding("b", path, "key");
        it.mount = mount.to_owned();
        it
    };
    for (bound, reason, field) in [
        (binding("b", "other/team", "key"), Reason::VaultReadRefused, path),
        (binding("b", "agents/missing", "key"), Reason::VaultPathNotFound, path),
        (binding("b", "agents/../other/team", "key"), Reason::VaultPathNotFound, path),
        (at("nowhere", "agents/first"), Reason::VaultReadRefused, path),
        (at("old", "thing"), Reason::VaultPathNotFound, path),
        (binding("b", "agents/first", "missing"), Reason::VaultKeyNotFound, key),
        (binding("b", "agents/bad", "empty"), Reason::CredentialUnusable, key),
        (binding("b", "agents/bad", "short"), Reason::CredentialUnusable, key),
        (binding("b", "agents/bad", "break"), Reason::CredentialUnusable, key),
        (binding("b", "agents/bad", "umlaut"), Reason::CredentialUnusable, key),
    ] {
        let shown = format!("{}/{} {}", bound.mount, bound.path, bound.key);
        let refusal = vault.store(&[bound]).await.err().unwrap().refusal();
        assert_eq!(
            (refusal.reason.as_str(), refusal.field.as_str()),
            (reason.as_str(), field),
            "{shown}: {refusal}"
        );
        assert_eq!(refusal.object, "SecretBinding/b");
        assert!(!refusal.help.is_empty() && !refusal.to_string().contains("1234567"), "{refusal}");
    }

    let with = |change: &dyn Fn(&mut redoubt_policy::wire::Vault)| {
        let mut connection = vault.connection();
        change(&mut connection);
        connection
    };
    let login = "spec.auth.kubernetes";
    let closed = format!("https://127.0.0.1:{}", free_port());
    let plain = vault.connection().address.replace("https", "http");
    let unknown = format!("https://vault.invalid:{}", 8200);
    for (connection, reason, field) in [
        (with(&|it| it.role = "unknown".to_owned()), Reason::VaultLoginRefused, login),
        (with(&|it| it.auth_mount = "unknown".to_owned()), Reason::VaultLoginRefused, login),
        (with(&|it| it.ca_bundle = None), Reason::VaultUnavailable, "spec.caBundle"),
        (with(&|it| it.ca_bundle = Some("no PEM".to_owned())), Reason::VaultUnavailable, "spec.caBundle"),
        (with(&|it| it.address = closed.clone()), Reason::VaultUnavailable, "spec.address"),
        (with(&|it| it.address = plain.clone()), Reason::VaultUnavailable, "spec.address"),
        (with(&|it| it.address = unknown.clone()), Reason::VaultUnavailable, "spec.address"),
    ] {
        let refusal = vault.store_at(connection, &[good()]).await.err().unwrap().refusal();
        assert_eq!((refusal.reason.as_str(), refusal.field.as_str()), (reason.as_str(), field), "{refusal}");
        assert_eq!(refusal.object, "VaultConnection/main");
        assert!(!refusal.help.is_empty());
    }

    let pod_tokens = [
        CLUSTER.token("somebody-else", "vault"),
        CLUSTER.token("redoubt-agent-x", "https://kubernetes.default.svc"),
        "not.a.token".to_owned(),
        "no token at all".to_owned(),
        String::new(),
    ];
    for token in pod_tokens {
        vault.pod_token(&token);
        let error = vault.store(&[good()]).await.err().unwrap();
        assert_eq!(error.reason(), Reason::VaultLoginRefused, "{error}");
        assert!(token.is_empty() || !error.refusal().to_string().contains(&token), "{error}");
    }
    std::fs::remove_dir_all(vault.token_dir()).unwrap();
    assert_eq!(vault.store(&[good()]).await.err().unwrap().reason(), Reason::VaultLoginRefused);

    vault.root(&["operator", "seal"]);
    vault.pod_token(&CLUSTER.token("redoubt-agent-x", "vault"));
    let refusal = vault.store(&[good()]).await.err().unwrap().refusal();
    assert_eq!((refusal.reason.as_str(), refusal.object.as_str()), ("VaultSealed", "VaultConnection/main"));
}

#[tokio::test(flavor = "multi_thread")]
async fn start_is_patient_with_a_sealed_vault() {
    let vault = Vault::start();
    vault.root(&["operator", "seal"]);
    let bindings = [binding("first", "agents/first", "key")];
    let resolver = std::sync::Arc::new(redoubt_vault::Resolver::from_system().unwrap());
    let settings = redoubt_vault::Settings {
        start_patience: std::time::Duration::from_secs(60),
        ..crate::vault::settings()
    };
    let (connections, tokens) = ([vault.connection()], vault.token_dir());
    let start = redoubt_vault::CredentialStore::start(&connections, &bindings, &tokens, resolver, settings);
    let unseal = async {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        vault.root(&["operator", "unseal", &vault.unseal_key()]);
    };
    let (store, ()) = tokio::join!(start, unseal);
    assert_eq!(store.unwrap().get("first").unwrap().expose(), b"first-value");
}
