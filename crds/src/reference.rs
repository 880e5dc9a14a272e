//! The reference of the API in Markdown: every kind, field, bound and rule, and the conditions with their reasons.

use std::fmt::Write as _;

use serde_json::Value;

use crate::condition::{Reason, kind};

/// The reference.
///
/// # Errors
/// When a definition cannot be written as JSON, which would be a defect in the types.
pub fn markdown() -> Result<String, serde_json::Error> {
    let kinds: Vec<Value> =
        crate::yaml::definitions().iter().map(serde_json::to_value).collect::<Result<_, _>>()?;
    let mut out = String::from(
        "<!-- Printed from the types in crds/src; do not edit. cargo run --package redoubt-crds -- --reference docs/reference/api.md -->\n\
         # API reference\n\n\
         A field that is not listed is unknown: `kubectl` refuses it, and the API server stores nothing of it. A list or text\n\
         is never longer than its bound says. A field without a default that is not marked as required may be left out.\n\n\
         | kind | API version | scope | short name | what it is |\n| --- | --- | --- | --- | --- |\n",
    );
    for definition in &kinds {
        kind_row(&mut out, definition);
    }
    for definition in &kinds {
        kind_section(&mut out, definition);
    }
    out.push_str("\n## Conditions\n\n| type | meaning |\n| --- | --- |\n");
    for (name, meaning) in kind::ALL {
        let _ = writeln!(out, "| `{name}` | {} |", cell(meaning));
    }
    out.push_str("\n## Reasons of conditions\n\n| reason | meaning |\n| --- | --- |\n");
    for reason in Reason::ALL {
        let _ = writeln!(out, "| `{}` | {} |", reason.as_str(), cell(reason.meaning()));
    }
    Ok(out)
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn kind_row(out: &mut String, definition: &Value) {
    let name = text(definition, "/spec/names/kind");
    let _ = writeln!(
        out,
        "| [{name}](#{}) | `{}/{}` | {} | `{}` | {} |",
        name.to_lowercase(),
        text(definition, "/spec/group"),
        text(definition, "/spec/versions/0/name"),
        text(definition, "/spec/scope"),
        text(definition, "/spec/names/shortNames/0"),
        cell(text(schema(definition), "/properties/spec/description").lines().next().unwrap_or_default()),
    );
}

fn schema(definition: &Value) -> &Value {
    definition.pointer("/spec/versions/0/schema/openAPIV3Schema").unwrap_or(&Value::Null)
}

fn kind_section(out: &mut String, definition: &Value) {
    let schema = schema(definition);
    let _ = writeln!(out, "\n## {}\n", text(definition, "/spec/names/kind"));
    let _ = writeln!(out, "{}", text(schema, "/properties/spec/description"));
    for message in rules(schema) {
        let _ = writeln!(out, "\nRule: {message}.");
    }
    out.push_str("\n| field | type | default | what it is |\n| --- | --- | --- | --- |\n");
    for part in ["spec", "status"] {
        if let Some(child) = schema.pointer(&format!("/properties/{part}")) {
            fields(out, part, child);
        }
    }
}

/// The rows of all fields below `path`.
fn fields(out: &mut String, path: &str, schema: &Value) {
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    for (name, field) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let mut at = format!("{path}.{name}");
        let default = match field.get("default") {
            Some(value) => format!("`{value}`"),
            None if required.contains(&name.as_str()) => "required".to_owned(),
            None => String::new(),
        };
        let _ =
            writeln!(out, "| `{at}` | {} | {} | {} |", type_of(field), cell(&default), description(field));
        if known(field).is_some() {
            continue;
        }
        let mut inner = field;
        while let Some(items) = inner.get("items") {
            at.push_str("[]");
            inner = items;
        }
        fields(out, &at, inner);
    }
}

/// A type of Kubernetes' own, which its reference describes.
fn known(schema: &Value) -> Option<&'static str> {
    let has = |schema: &Value, name: &str| schema.pointer(&format!("/properties/{name}")).is_some();
    if has(schema, "matchLabels") && has(schema, "matchExpressions") {
        return Some("LabelSelector");
    }
    let items = schema.get("items")?;
    (has(items, "lastTransitionTime") && has(items, "reason")).then_some("list of Condition")
}

fn type_of(schema: &Value) -> String {
    if let Some(name) = known(schema) {
        return name.to_owned();
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return values
            .iter()
            .filter_map(Value::as_str)
            .map(|v| format!("`{v}`"))
            .collect::<Vec<_>>()
            .join(", ");
    }
    let number = |key: &str| schema.get(key).and_then(Value::as_f64);
    let bounds = |low: &str, high: &str| match (number(low), number(high)) {
        (Some(low), Some(high)) => format!(" ({low} to {high})"),
        (None, Some(high)) => format!(" (at most {high})"),
        (Some(low), None) => format!(" (at least {low})"),
        (None, None) => String::new(),
    };
    match text(schema, "/type") {
        "array" => {
            let items = schema.get("items").unwrap_or(&Value::Null);
            format!("list{} of {}", bounds("minItems", "maxItems"), type_of(items))
        }
        "string" => format!("text{}", bounds("minLength", "maxLength")),
        kind @ ("integer" | "number") => format!("{kind}{}", bounds("minimum", "maximum")),
        other => other.to_owned(),
    }
}

fn description(schema: &Value) -> String {
    let mut all = text(schema, "/description").to_owned();
    let items = schema.get("items").unwrap_or(&Value::Null);
    for message in rules(schema).into_iter().chain(rules(items)) {
        let _ = write!(all, " Rule: {message}.");
    }
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str) {
        let _ = write!(all, " Pattern: `{pattern}`.");
    }
    cell(&all)
}

/// Messages of the schema's CEL rules.
fn rules(schema: &Value) -> Vec<&str> {
    schema
        .get("x-kubernetes-validations")
        .and_then(Value::as_array)
        .map(|rules| rules.iter().map(|rule| text(rule, "/message")).collect())
        .unwrap_or_default()
}

/// Text as it can stand in a table.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}
