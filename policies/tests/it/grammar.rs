//! The grammars of the API, as the parsers read them. The same table is meant for the API server, whose CEL rules have to
//! accept and refuse exactly the same values.

use std::collections::BTreeMap;

use redoubt_crds::HttpFunction;
use redoubt_policy::base_url::BaseUrl;
use redoubt_policy::compile::{check_binding, check_egress_policy, check_vault};
use redoubt_policy::grants::HostSets;
use redoubt_policy::host::{HostError, HostPattern};
use redoubt_policy::method::MethodSet;
use redoubt_policy::path::PathPattern;
use redoubt_policy::template::Template;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::objects;

#[derive(Deserialize)]
struct Values {
    good: Vec<Value>,
    bad: Vec<Value>,
}

fn check(grammar: &str, accepts: impl Fn(&Value) -> bool) {
    let table: BTreeMap<String, Values> =
        serde_json::from_str(include_str!("../../../crds/tests/data/grammar.json")).unwrap();
    let values = &table[grammar];
    assert!(!values.good.is_empty() && !values.bad.is_empty());
    let refused: Vec<_> = values.good.iter().filter(|value| !accepts(value)).collect();
    let accepted: Vec<_> = values.bad.iter().filter(|value| accepts(value)).collect();
    assert!(refused.is_empty(), "{grammar}: good values refused: {refused:?}");
    assert!(accepted.is_empty(), "{grammar}: bad values accepted: {accepted:?}");
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[test]
fn hosts() {
    check("hosts", |value| text(value).parse::<HostPattern>().is_ok());
}

#[test]
fn methods() {
    check("methods", |value| {
        let names: Vec<String> = serde_json::from_value(value.clone()).unwrap();
        MethodSet::parse(&names).is_ok()
    });
}

#[test]
fn paths() {
    check("paths", |value| text(value).parse::<PathPattern>().is_ok());
}

#[test]
fn path_templates() {
    check("pathTemplates", |value| {
        let named = text(value).split(['{', '}']).skip(1).step_by(2);
        let properties: serde_json::Map<_, _> = named.map(|name| (name.to_owned(), json!({}))).collect();
        let function: HttpFunction = serde_json::from_value(json!({
            "name": "f", "description": "d", "effect": "Read", "method": "GET", "path": value,
            "parameters": { "type": "object", "properties": properties },
        }))
        .unwrap();
        Template::new("https://a", &function).is_ok()
    });
}

#[test]
fn base_urls() {
    check("baseURLs", |value| text(value).parse::<BaseUrl>().is_ok());
}

#[test]
fn vault_addresses() {
    check("vaultAddresses", |value| {
        let mut vault = objects::vault("v", "kv", "app");
        vault.spec.address = text(value).to_owned();
        check_vault(&vault).is_empty()
    });
}

#[test]
fn vault_paths() {
    type Place = fn(&mut redoubt_crds::VaultConnection) -> &mut String;
    let places: [Place; 3] = [
        |vault| &mut vault.spec.auth.kubernetes.mount,
        |vault| &mut vault.spec.grants[0].paths[0].mount,
        |vault| &mut vault.spec.grants[0].paths[0].prefix,
    ];
    for place in places {
        check("vaultPaths", |value| {
            let mut vault = objects::vault("v", "kv", "app");
            *place(&mut vault) = text(value).to_owned();
            check_vault(&vault).is_empty()
        });
    }
    check("vaultPaths", |value| {
        let mut binding = objects::binding("b", &["Agent"], "api.example.com", "/**");
        binding.spec.vault.kv2.path = text(value).to_owned();
        check_binding(&binding).is_empty()
    });
}

#[test]
fn injected_headers() {
    check("injectedHeaders", |value| {
        let mut binding = objects::binding("b", &["Agent"], "api.example.com", "/**");
        binding.spec.inject =
            serde_json::from_value(json!({ "header": { "name": value, "prefix": "" } })).unwrap();
        check_binding(&binding).is_empty()
    });
}

#[test]
fn private_ranges() {
    check("privateCIDRs", |value| {
        let mut entry = objects::allow("Agent", "a.example", &["GET"], "/");
        entry["privateCIDRs"] = json!([value]);
        check_egress_policy(&objects::egress_policy("p", &[entry]), HostSets(&[])).is_empty()
    });
}

/// Only this differs between the parser and the API server, whose rules cannot hold the list.
#[test]
fn a_wildcard_where_anyone_can_register_is_refused_as_written_and_read_on_the_wire() {
    for text in [
        "*.co.uk",
        "*.github.io",
        "*.s3.amazonaws.com",
        "*.xn--55qx5d.cn",
        "*.kawasaki.jp",
        "*.ngrok-free.app",
    ] {
        let error = HostPattern::written(text).unwrap_err();
        assert_eq!(error, HostError::PublicSuffix(text[2..].to_owned()), "{text}");
        assert!(text.parse::<HostPattern>().is_ok(), "{text}");
    }
    for text in [
        "*.example.co.uk",
        "co.uk",
        "me.github.io",
        "*.me.github.io",
        "*.example.com",
        "*.svc.cluster.local",
        "*.a.internal",
        "*.city.kawasaki.jp",
        "*.b.c",
        "*.notco.uk",
    ] {
        assert!(HostPattern::written(text).is_ok(), "{text}");
    }
}

#[test]
fn both_grants_and_destinations_refuse_it_by_field() {
    for (hosts, wrong) in
        [(json!(["a.example", "*.github.io"]), 1), (json!(["a.example", "*.me.github.io"]), 0)]
    {
        let mut entry = objects::allow("Agent", "a.example", &["GET"], "/");
        entry["hosts"] = hosts.clone();
        let grant = check_egress_policy(&objects::egress_policy("p", &[entry]), HostSets(&[]));
        let mut binding = objects::binding("b", &["Agent"], "api.example.com", "/**");
        binding.spec.destinations[0].hosts = serde_json::from_value(hosts).unwrap();
        let binding = check_binding(&binding);
        assert_eq!((grant.len(), binding.len()), (wrong, wrong));
        for (problem, field) in grant
            .iter()
            .zip(["spec.allow[0].hosts[1]"])
            .chain(binding.iter().zip(["spec.destinations[0].hosts[1]"]))
        {
            assert_eq!(problem.field, field);
            assert!(problem.message.contains("Public Suffix List"), "{}", problem.message);
        }
    }
}
