//! A credential from Vault to the scanner, over its life.

use redoubt_crds::condition::Reason;
use redoubt_scan::Needles;
use redoubt_vault::CredentialStore;

use crate::vault::{Vault, binding, eventually};

fn value(store: &CredentialStore, name: &str) -> Option<String> {
    store.get(name).ok().map(|it| String::from_utf8(it.expose().to_vec()).unwrap())
}

fn scans_for(store: &CredentialStore, text: &str) -> bool {
    Needles::new(store.needles().values()).unwrap().contains(text.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn login_read_rotate_and_revoke() {
    let vault = Vault::start();
    vault.root(&[
        "kv",
        "put",
        "-mount=secret",
        "agents/second",
        "a=value \"with\" \\escapes/",
        "b=another-value",
    ]);
    let bindings = [
        binding("first", "agents/first", "key"),
        binding("second-a", "agents/second", "a"),
        binding("second-b", "agents/second", "b"),
    ];
    let store = vault.store(&bindings).await.unwrap();
    for bound in &bindings {
        let expected =
            vault.root(&["kv", "get", "-mount=secret", &format!("-field={}", bound.key), &bound.path]);
        assert_eq!(value(&store, &bound.name), Some(expected.clone()));
        assert!(scans_for(&store, &format!("<{expected}>")));
    }
    assert!(store.troubles().is_empty());
    assert_eq!(store.get("unknown").err().map(|it| it.reason()), Some(Reason::ReferenceNotFound));
    assert_eq!(vault.tokens().len(), 1, "one login for all");

    let mut generations = store.generations();
    let before = *generations.borrow_and_update();
    vault.root(&["kv", "put", "-mount=secret", "agents/first", "key=rotated-value"]);
    eventually("the new value is served", || value(&store, "first").as_deref() == Some("rotated-value"))
        .await;
    assert!(scans_for(&store, "rotated-value") && scans_for(&store, "first-value"));
    assert!(*generations.borrow() > before && store.needles().generation() == *generations.borrow());

    store.shutdown().await;
    assert!(vault.tokens().is_empty(), "the token was given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn sealed_vault_is_bridged_for_a_while_and_heals() {
    let vault = Vault::start();
    let store = vault.store(&[binding("first", "agents/first", "key")]).await.unwrap();
    vault.root(&["operator", "seal"]);
    eventually("the trouble is known", || {
        store.troubles().iter().any(|it| it.reason() == Reason::VaultSealed)
    })
    .await;
    eventually("the value is too old", || store.get("first").is_err()).await;
    assert_eq!(store.get("first").err().map(|it| it.reason()), Some(Reason::VaultSealed));
    assert!(scans_for(&store, "first-value"), "what is no longer served is still looked for");
    vault.root(&["operator", "unseal", &vault.unseal_key()]);
    eventually("it is served again", || value(&store, "first").as_deref() == Some("first-value")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn withdrawn_secret_is_not_served() {
    let vault = Vault::start();
    let store = vault.store(&[binding("first", "agents/first", "key")]).await.unwrap();
    vault.root(&["kv", "delete", "-mount=secret", "agents/first"]);
    eventually("it is gone", || store.get("first").is_err()).await;
    assert_eq!(store.get("first").err().map(|it| it.reason()), Some(Reason::VaultPathNotFound));
    assert!(scans_for(&store, "first-value"));
    vault.root(&["kv", "put", "-mount=secret", "agents/first", "key=later-value"]);
    eventually("it is back", || value(&store, "first").as_deref() == Some("later-value")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_token_leads_to_a_new_login() {
    let vault = Vault::start();
    let store = vault.store(&[binding("first", "agents/first", "key")]).await.unwrap();
    let old = vault.tokens();
    vault.root(&["token", "revoke", "-accessor", &old[0]]);
    vault.root(&["kv", "put", "-mount=secret", "agents/first", "key=rotated-value"]);
    eventually("the new value is served", || value(&store, "first").as_deref() == Some("rotated-value"))
        .await;
    let new = vault.tokens();
    assert!(new.len() == 1 && new != old);
}

#[tokio::test(flavor = "multi_thread")]
async fn forbidden_account_is_cut_off() {
    let vault = Vault::start();
    let store = vault.store(&[binding("first", "agents/first", "key")]).await.unwrap();
    vault.root(&["delete", "auth/kubernetes/role/agents"]);
    vault.root(&["token", "revoke", "-accessor", &vault.tokens()[0]]);
    eventually("it is refused", || store.get("first").is_err()).await;
    assert_eq!(store.get("first").err().map(|it| it.reason()), Some(Reason::VaultLoginRefused));
}

#[tokio::test(flavor = "multi_thread")]
async fn short_tokens_are_renewed_and_then_replaced() {
    let vault = Vault::start();
    vault.role("4s", "6s");
    let store = vault.store(&[binding("first", "agents/first", "key")]).await.unwrap();
    let first = vault.tokens();
    for round in 0..3 {
        // Longer than a token lives without renewal; after two rounds longer than it can live at all.
        tokio::time::sleep(std::time::Duration::from_secs(4)).await;
        let text = format!("value-of-round-{round}");
        vault.root(&["kv", "put", "-mount=secret", "agents/first", &format!("key={text}")]);
        eventually("the new value is served", || value(&store, "first").as_deref() == Some(text.as_str()))
            .await;
    }
    assert_ne!(vault.tokens(), first);
    store.shutdown().await;
    assert!(vault.tokens().is_empty());
}
