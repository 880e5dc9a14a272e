//! Tests of what is generated from the types.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests; a failure here fails the test"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use redoubt_crds::condition::{Reason, kind};
use redoubt_crds::yaml::{definitions, files};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn schema(definition: &Value) -> &Value {
    &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
}

fn each_definition(check: impl Fn(&str, &Value)) {
    let all = definitions();
    assert_eq!(all.len(), 11);
    for definition in all {
        let value = serde_json::to_value(&definition).unwrap();
        check(definition.metadata.name.as_deref().unwrap(), &value);
    }
}

#[test]
fn the_yaml_is_that_of_the_types() {
    let folder = root().join("crds/yaml");
    const COMMAND: &str = "run: cargo run --package redoubt-crds -- crds/yaml";
    let files = files().unwrap();
    for (name, text) in &files {
        let found = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert!(found == *text, "crds/yaml/{name} is not what the types say; {COMMAND}");
    }
    let expected: BTreeSet<_> = files.iter().map(|(name, _)| name.clone()).collect();
    let found: BTreeSet<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(found, expected, "crds/yaml has files that no kind has; delete them or {COMMAND}");
}

#[test]
fn the_reference_is_that_of_the_types() {
    let found = std::fs::read_to_string(root().join("docs/reference/api.md")).unwrap_or_default();
    let expected = redoubt_crds::reference::markdown().unwrap();
    assert!(
        found == expected,
        "docs/reference/api.md is not what the types say; run: cargo run --package redoubt-crds -- --reference docs/reference/api.md"
    );
    for (name, _) in kind::ALL {
        assert!(expected.contains(&format!("| `{name}` |")));
    }
    for field in [
        "`spec.runtime.model.baseURL`",
        "`spec.allow[].privateCIDRs`",
        "`status.policy.effective[].decidedBy`",
    ] {
        assert!(expected.contains(field), "{field}");
    }
}

#[test]
fn the_yaml_reads_as_the_definition_it_was_printed_from() {
    for ((_, text), definition) in files().unwrap().into_iter().zip(definitions()) {
        let read: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(read, serde_json::to_value(&definition).unwrap());
    }
}

/// The API server keeps objects in etcd, and `kubectl apply` a copy in an annotation.
#[test]
fn each_definition_is_small() {
    each_definition(|name, definition| {
        let bytes = definition.to_string().len();
        assert!(bytes < 100_000, "{name} has {bytes} bytes");
    });
}

#[test]
fn each_kind_is_found_and_shown() {
    let mut short = BTreeSet::new();
    each_definition(|name, definition| {
        let names = &definition["spec"]["names"];
        assert_eq!(names["shortNames"].as_array().map(Vec::len), Some(1), "{name} has a short name");
        let team = definition["spec"]["scope"] == "Namespaced";
        let (group, category) =
            if team { ("redoubt.dev", "redoubt") } else { ("platform.redoubt.dev", "redoubt-platform") };
        assert_eq!(definition["spec"]["group"], group, "{name}");
        assert_eq!(names["categories"], serde_json::json!([category]), "{name}");
        let version = &definition["spec"]["versions"][0];
        assert_eq!(version["name"], "v1alpha1", "{name}");
        assert!(version["subresources"]["status"].is_object(), "{name} has a status");
        let columns: Vec<_> = version["additionalPrinterColumns"]
            .as_array()
            .unwrap()
            .iter()
            .map(|column| &column["name"])
            .collect();
        assert!(
            columns.len() > 1 && columns.last().is_some_and(|last| *last == "Age"),
            "{name}: {columns:?}"
        );
    });
    for definition in definitions() {
        let name = definition.spec.names.short_names.unwrap().remove(0);
        assert!(short.insert(name.clone()), "{name} is the short name of two kinds");
    }
}

/// Every schema below `schema`, with its path. Those of Kubernetes' own types are passed over.
fn walk(path: &str, schema: &Value, visit: &mut dyn FnMut(&str, &Value)) {
    if schema.pointer("/properties/matchExpressions").is_some() || path.ends_with(".conditions") {
        return;
    }
    visit(path, schema);
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), field, visit);
    }
    for (name, part) in [("[]", &schema["items"]), ("{}", &schema["additionalProperties"])] {
        if part.is_object() {
            walk(&format!("{path}{name}"), part, visit);
        }
    }
}

/// Kubernetes' rules for structural schemas, as far as the derive could break them; the API server has the last word.
#[test]
fn schemas_are_structural() {
    each_definition(|name, definition| {
        walk(name, schema(definition), &mut |path, schema| {
            let of = |key: &str| schema.get(key).is_some();
            assert!(of("type") || of("x-kubernetes-int-or-string"), "{path} has no type");
            assert!(!of("$ref") && !of("definitions"), "{path} has a reference");
            assert!(!(of("properties") && of("additionalProperties")), "{path} has both kinds of properties");
            assert!(schema["type"] != "array" || schema["items"].is_object(), "{path} has no items");
            // It has no options yet; what it would drop is nothing.
            let empty = path.ends_with(".inject.bearer");
            let holds = of("properties")
                || of("additionalProperties")
                || of("x-kubernetes-preserve-unknown-fields")
                || empty;
            assert!(schema["type"] != "object" || holds, "{path} drops every field");
            for junctor in ["allOf", "anyOf", "oneOf", "not"] {
                assert!(!of(junctor), "{path} has {junctor}, in which nothing may be specified");
            }
        });
    });
}

/// The cost of CEL rules is bounded by it, and so is what one object can hold.
#[test]
fn lists_and_texts_of_specs_are_bounded() {
    each_definition(|name, definition| {
        walk(name, &schema(definition)["properties"]["spec"], &mut |path, schema| match schema["type"]
            .as_str()
        {
            Some("array") => assert!(schema["maxItems"].is_u64(), "{path} has no maxItems"),
            Some("string") => {
                assert!(schema["maxLength"].is_u64() || schema["enum"].is_array(), "{path} has no maxLength");
            }
            _ => {}
        });
    });
}

#[test]
fn every_field_of_a_spec_is_documented_and_every_rule_has_a_message() {
    each_definition(|name, definition| {
        walk(name, &schema(definition)["properties"]["spec"], &mut |path, schema| {
            let documented = schema["description"].as_str().is_some_and(|text| !text.is_empty());
            assert!(documented || path.ends_with("[]") || path.ends_with("{}"), "{path} is not documented");
            for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
                assert!(rule["message"].as_str().is_some_and(|text| !text.is_empty()), "{path}: {rule}");
            }
        });
    });
}

#[test]
fn reasons_and_conditions_are_named_once_and_as_kubernetes_asks() {
    let texts: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    let types: Vec<&str> = kind::ALL.iter().map(|(name, _)| *name).collect();
    for names in [&texts, &types] {
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        for name in names.iter() {
            assert!(
                name.starts_with(|c: char| c.is_ascii_uppercase())
                    && name.chars().all(|c| c.is_ascii_alphanumeric())
            );
        }
    }
    for reason in Reason::ALL {
        assert_eq!(Reason::parse(reason.as_str()), Some(*reason));
        assert!(!reason.meaning().trim().is_empty());
    }
    assert_eq!(Reason::parse("NoSuchReason"), None);
}
