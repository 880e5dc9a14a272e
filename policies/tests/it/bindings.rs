//! SecretBindings: who gets which credential where.

use redoubt_policy::compile::{check_binding, check_vault};
use redoubt_policy::target::{Scheme, Source, Target};
use redoubt_policy::wire::Inject;
use serde_json::json;

use crate::objects::{Namespace, agent, allow, binding, decide, egress_policy, tool, vault, verified};

/// A tool with a token for its API.
fn bound() -> Namespace {
    let mut namespace = Namespace::of(agent("coder", &["issues"], &["token"]));
    namespace.tools =
        vec![tool("issues", "https://api.example.com/v1", &[("GET", "/issues"), ("PUT", "/issues")])];
    namespace.egress_policies = vec![egress_policy(
        "all",
        &[allow("issues", "api.example.com", &["*"], "/**"), allow("Agent", "*.example.com", &["*"], "/**")],
    )];
    namespace.bindings = vec![binding("token", &["issues"], "api.example.com", "/v1/**")];
    namespace
}

#[test]
fn a_binding_goes_with_its_consumers_requests_only() {
    let mut namespace = bound();
    namespace.agent.spec.runtime.model.base_url = "https://api.example.com/v1".to_owned();
    let policy = namespace.verified();
    let credential = |from: &str, request: &str| {
        decide(&policy, from, request).unwrap().binding.map(|(binding, _)| binding.name.clone())
    };
    assert_eq!(credential("issues", "GET https://api.example.com/v1/issues").as_deref(), Some("token"));
    // Allowed, but the binding is not for this method, and not for the agent's own process.
    assert_eq!(credential("issues", "PUT https://api.example.com/v1/issues"), None);
    assert_eq!(credential("Agent", "POST https://api.example.com/v1/chat/completions"), None);
    assert!(decide(&policy, "Agent", "GET https://api.example.com/v1/issues").is_err());
}

/// The request stays the same; what the binding names changes.
#[test]
fn a_credential_goes_to_its_destinations_only() {
    for (host, port, path, expected) in [
        ("api.example.com", 443, "/v1/**", true),
        ("*.example.com", 443, "/v1/issues", true),
        ("other.example.com", 443, "/v1/**", false),
        ("api.example.com", 8443, "/v1/**", false),
        ("api.example.com", 443, "/v1/users", false),
    ] {
        let mut namespace = bound();
        namespace.bindings = vec![binding("token", &["issues"], host, path)];
        namespace.bindings[0].spec.destinations[0].ports = vec![port];
        let policy = namespace.verified();
        let allowed = decide(&policy, "issues", "GET https://api.example.com/v1/issues").unwrap();
        assert_eq!(allowed.binding.is_some(), expected, "{host}:{port}{path}");
    }
}

#[test]
fn hosts_and_ports_of_bindings_are_bound() {
    let policy = bound().verified();
    for (scheme, authority, expected) in [
        (Scheme::Https, "api.example.com", true),
        (Scheme::Https, "API.example.com.", true),
        (Scheme::Https, "api.example.com:8443", false),
        (Scheme::Https, "model.example.com", false),
        (Scheme::Http, "api.example.com:443", true),
        (Scheme::Http, "api.example.com", false),
    ] {
        let target = Target::parse(scheme, authority).unwrap();
        assert_eq!(policy.is_bound(&target), expected, "{authority}");
    }
}

#[test]
fn no_credential_ever_goes_in_the_clear() {
    let mut namespace = bound();
    namespace.tools = vec![tool("issues", "http://api.example.com:443/v1", &[("GET", "/issues")])];
    let mut entry = allow("issues", "api.example.com", &["*"], "/**");
    entry["protocol"] = json!("HTTP");
    namespace.egress_policies = vec![egress_policy("plain", &[entry])];
    let policy = namespace.verified();
    let allowed = decide(&policy, "issues", "GET http://api.example.com:443/v1/issues").unwrap();
    assert!(allowed.binding.is_none());
}

#[test]
fn what_a_binding_lacks_is_named() {
    let check = |change: fn(&mut Namespace), expected: &[&str]| {
        let mut namespace = bound();
        change(&mut namespace);
        assert_eq!(namespace.problems(), expected);
    };
    check(|_| {}, &[]);
    check(|n| n.bindings.clear(), &["ReferenceNotFound Agent/coder spec.secretBindings[0].name"]);
    check(
        |n| n.bindings[0].metadata.namespace = Some("other".to_owned()),
        &["ReferenceNotFound Agent/coder spec.secretBindings[0].name"],
    );
    check(|n| n.vaults.clear(), &["ReferenceNotFound SecretBinding/token spec.vault.connectionName"]);
    check(
        |n| n.bindings[0].spec.consumers = serde_json::from_value(json!([{ "kind": "Agent" }])).unwrap(),
        &[],
    );
    check(
        |n| n.bindings[0].spec.consumers[0].name = Some("other".to_owned()),
        &["NotAConsumer SecretBinding/token spec.consumers"],
    );
    check(|n| n.bindings[0].spec.consumers.clear(), &["NotAConsumer SecretBinding/token spec.consumers"]);
    check(|n| n.bindings[0].spec.destinations.clear(), &["Invalid SecretBinding/token spec.destinations"]);
    check(
        |n| n.bindings[0].spec.destinations[0].hosts[0] = "*".to_owned(),
        &["Invalid SecretBinding/token spec.destinations[0].hosts[0]"],
    );
    check(|n| n.bindings[0].spec.inject.bearer = None, &["Invalid SecretBinding/token spec.inject"]);
    check(
        |n| {
            n.bindings[0].spec.inject =
                serde_json::from_value(json!({ "bearer": {}, "header": { "name": "x" } })).unwrap();
        },
        &["Invalid SecretBinding/token spec.inject"],
    );
    check(
        |n| {
            n.bindings[0].spec.inject =
                serde_json::from_value(json!({ "header": { "name": "x", "prefix": "a\r\nb: " } })).unwrap();
        },
        &["Invalid SecretBinding/token spec.inject"],
    );
    check(
        |n| n.vaults[0].spec.address = "http://vault.example.com:8200".to_owned(),
        &["Invalid VaultConnection/vault spec.address"],
    );
    check(
        |n| n.bindings[0].spec.vault.kv2.path = "app/../other".to_owned(),
        &["Invalid SecretBinding/token spec.vault.kv2.path"],
    );
}

#[test]
fn destinations_have_a_limit() {
    let mut namespace = bound();
    let destination = &mut namespace.bindings[0].spec.destinations[0];
    destination.paths = (0..32).map(|i| format!("/p{i}")).collect();
    destination.ports = (443..451).collect();
    assert!(namespace.problems().is_empty());
    namespace.bindings[0].spec.destinations[0].ports.push(8443);
    assert_eq!(namespace.problems(), ["Invalid SecretBinding/token spec.destinations[0]"]);
    let destination = &mut namespace.bindings[0].spec.destinations[0];
    destination.ports.truncate(1);
    destination.ca_bundle = Some("x".repeat(2049));
    assert_eq!(namespace.problems(), ["Invalid SecretBinding/token spec.destinations[0]"]);
}

#[test]
fn a_path_that_no_entry_grants_to_the_namespace_cannot_be_bound() {
    for (mount, prefix, label, expected) in [
        ("kv", "app", "a", true),
        ("kv", "app/token", "a", true),
        ("kv", "app/tok", "a", false),
        ("kv", "app/token/deeper", "a", false),
        ("kv", "other", "a", false),
        ("kv2", "app", "a", false),
        ("k", "app", "a", false),
        ("kv", "app", "b", false),
    ] {
        let mut namespace = bound();
        namespace.vaults = vec![vault("vault", mount, prefix)];
        namespace.labels.insert("team".to_owned(), label.to_owned());
        let refused = ["VaultPathNotGranted SecretBinding/token spec.vault.kv2.path"];
        assert_eq!(
            namespace.problems(),
            if expected { &refused[..0] } else { &refused },
            "{mount}/{prefix} {label}"
        );
    }
    let mut absent = bound();
    absent.vaults[0].spec.grants.clear();
    assert_eq!(absent.problems().len(), 1);
}

#[test]
fn two_bindings_for_one_possible_request_are_refused() {
    for (consumers, host, path, ambiguous) in [
        (&["issues"][..], "api.example.com", "/v1/**", true),
        (&["issues"], "*.example.com", "/**", true),
        (&["Agent", "issues"], "api.example.com", "/v1/issues/*", true),
        (&["Agent"], "api.example.com", "/v1/**", false),
        (&["issues"], "api2.example.com", "/v1/**", false),
        (&["issues"], "api.example.com", "/v2/**", false),
    ] {
        let mut namespace = bound();
        namespace.agent = agent("coder", &["issues"], &["token", "second"]);
        namespace.bindings.push(binding("second", consumers, host, path));
        let problems = namespace.problems();
        if ambiguous {
            assert_eq!(
                problems,
                ["Invalid SecretBinding/token spec.destinations[0]"],
                "{consumers:?} {host}{path}"
            );
            assert!(namespace.compile().unwrap_err()[0].message.contains("SecretBinding/second"));
        } else {
            assert!(problems.is_empty(), "{problems:?}");
        }
        // Only what the agent names counts.
        namespace.agent = agent("coder", &["issues"], &["token"]);
        assert!(namespace.problems().is_empty());
    }
    let mut methods = bound();
    methods.agent = agent("coder", &["issues"], &["token", "second"]);
    methods.bindings.push(binding("second", &["issues"], "api.example.com", "/v1/**"));
    methods.bindings[1].spec.destinations[0].methods = vec!["DELETE".to_owned()];
    assert!(methods.problems().is_empty());
    methods.bindings[1].spec.destinations[0].methods = vec!["*".to_owned()];
    methods.bindings[1].spec.destinations[0].ports = vec![8443];
    assert!(methods.problems().is_empty());
}

/// The compiler refuses it; should such a policy come nevertheless, no credential is chosen.
#[test]
fn an_ambiguous_policy_fails_closed() {
    let mut policy = bound().compile().unwrap();
    let mut second = policy.bindings[0].clone();
    second.name = "second".to_owned();
    policy.bindings.push(second);
    let policy = verified(&policy);
    let refusal = decide(&policy, "issues", "GET https://api.example.com/v1/issues").unwrap_err();
    assert_eq!(
        (refusal.reason.as_str(), refusal.object.as_str()),
        ("AmbiguousBinding", "SecretBinding/second")
    );
}

#[test]
fn bindings_and_vaults_on_the_wire() {
    let mut namespace = bound();
    namespace.vaults[0].spec.address = "https://vault.example.com/".to_owned();
    namespace.bindings[0].spec.inject =
        serde_json::from_value(json!({ "header": { "name": "X-Api-Key", "prefix": "Token " } })).unwrap();
    namespace.bindings[0].spec.consumers = serde_json::from_value(
        json!([{ "kind": "Tool", "name": "other" }, { "kind": "Tool", "name": "issues" }]),
    )
    .unwrap();
    let policy = namespace.compile().unwrap();
    let binding = &policy.bindings[0];
    assert_eq!(binding.inject, Inject::Header { name: "x-api-key".to_owned(), prefix: "Token ".to_owned() });
    assert_eq!(binding.consumers, [Source::Tool("issues".to_owned())]);
    assert_eq!(
        (binding.vault.as_str(), binding.mount.as_str(), binding.path.as_str()),
        ("vault", "kv", "app/token")
    );
    assert_eq!(binding.destinations[0].field, "spec.destinations[0]");
    assert_eq!(policy.vaults[0].address, "https://vault.example.com:443");
    assert_eq!(
        (policy.vaults[0].auth_mount.as_str(), policy.vaults[0].role.as_str()),
        ("kubernetes", "agents")
    );
    assert!(check_binding(&namespace.bindings[0]).is_empty() && check_vault(&namespace.vaults[0]).is_empty());
}
