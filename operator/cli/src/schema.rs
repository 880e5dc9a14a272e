//! Whether an object has the form of its definition: known fields, types, bounds, enumerations and patterns. The rules in
//! CEL are the API server's to judge.

use std::collections::BTreeMap;

use jsonschema::Validator;
use jsonschema::error::ValidationErrorKind;
use redoubt_crds::condition::Reason;
use redoubt_policy::Problem;
use serde_json::{Value, json};

use crate::error::Error;

/// The forms of our kinds.
pub struct Schemas(BTreeMap<String, Validator>);

impl Schemas {
    /// From the definitions that the chart installs.
    ///
    /// # Errors
    /// When a definition is no schema, which would be a defect of it.
    pub fn shipped() -> Result<Self, Error> {
        let mut all = BTreeMap::new();
        for definition in redoubt_crds::yaml::definitions() {
            let kind = definition.spec.names.kind.clone();
            let defect = |why: String| Error::Defect(format!("the definition of {kind}: {why}"));
            let definition = serde_json::to_value(&definition).map_err(|error| defect(error.to_string()))?;
            let mut spec = definition
                .pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec")
                .cloned()
                .unwrap_or_default();
            close(&mut spec);
            let schema = json!({
                "type": "object", "required": ["apiVersion", "kind", "metadata", "spec"], "additionalProperties": false,
                "properties": { "apiVersion": true, "kind": true, "metadata": { "type": "object" }, "spec": spec },
            });
            let validator =
                jsonschema::options().offline().build(&schema).map_err(|error| defect(error.to_string()))?;
            all.insert(kind, validator);
        }
        Ok(Self(all))
    }

    /// What is wrong with the form of an object of `kind`. Its status is not looked at: it is the operator's.
    #[must_use]
    pub fn problems(&self, kind: &str, name: &str, value: &Value) -> Vec<Problem> {
        let Some(validator) = self.0.get(kind) else { return Vec::new() };
        let mut value = value.clone();
        if let Some(members) = value.as_object_mut() {
            members.remove("status");
        }
        drop_nulls(&mut value);
        let object = format!("{kind}/{name}");
        let mut problems = Vec::new();
        for error in validator.iter_errors(&value) {
            let at = dotted(error.instance_path().as_str());
            let mut add = |field: String, message: String, help: &str| {
                problems.push(Problem::new(Reason::Invalid.as_str(), &object, field, message, help));
            };
            match error.kind() {
                ValidationErrorKind::AdditionalProperties { unexpected } => {
                    for name in unexpected {
                        let field = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                        let message = format!("unknown field {field:?}");
                        add(
                            field,
                            message,
                            "Correct its name, or take it out; docs/reference/api.md lists the fields.",
                        );
                    }
                }
                _ => add(at, error.to_string(), "docs/reference/api.md tells type and bounds of the field."),
            }
        }
        problems
    }
}

/// Makes unknown members of every object an error, as `kubectl` does, where the schema lists members.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            let open = members.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
            let lists = members.get("properties").is_some_and(Value::is_object);
            members.values_mut().for_each(close);
            if lists && !open && !members.contains_key("additionalProperties") && members.contains_key("type")
            {
                members.insert("additionalProperties".to_owned(), Value::Bool(false));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// Takes away members that are null: to the API server they are left out.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// `/spec/allow/0/hosts` as `spec.allow[0].hosts`.
fn dotted(pointer: &str) -> String {
    let mut out = String::new();
    for part in pointer.split('/').skip(1) {
        if part.bytes().all(|byte| byte.is_ascii_digit()) && !part.is_empty() {
            out.push_str(&format!("[{part}]"));
            continue;
        }
        if !out.is_empty() {
            out.push('.');
        }
        out.push_str(&part.replace("~1", "/").replace("~0", "~"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        for (pointer, expected) in [
            ("", ""),
            ("/spec", "spec"),
            ("/spec/allow/0/hosts/12", "spec.allow[0].hosts[12]"),
            ("/metadata/labels/a~1b", "metadata.labels.a/b"),
        ] {
            assert_eq!(dotted(pointer), expected);
        }
    }
}
