//! Where two JSON values differ, by field.

use serde::Serialize;
use serde_json::Value;

/// One field that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Change {
    /// Path of the field, for example `spec.tools[0].name`.
    field: String,
    /// Absent if it is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Value>,
    /// Absent if it goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Value>,
}

impl Change {
    /// For a person.
    pub(super) fn told(&self) -> String {
        let line = |sign: char, value: &Option<Value>| {
            value.as_ref().map(|value| format!("  {sign} {}: {value}\n", self.field)).unwrap_or_default()
        };
        line('-', &self.before) + &line('+', &self.after)
    }
}

/// What has to change in a spec to make another of it.
pub(super) fn changes(before: &Value, after: &Value) -> Vec<Change> {
    let mut all = Vec::new();
    walk("spec", Some(before), Some(after), &mut all);
    all
}

fn walk(field: &str, before: Option<&Value>, after: Option<&Value>, all: &mut Vec<Change>) {
    match (before, after) {
        (Some(before), Some(after)) if before == after => {}
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                walk(&format!("{field}.{name}"), before.get(name), after.get(name), all);
            }
        }
        (Some(Value::Array(before)), Some(Value::Array(after))) => {
            for index in 0..before.len().max(after.len()) {
                walk(&format!("{field}[{index}]"), before.get(index), after.get(index), all);
            }
        }
        (before, after) => {
            all.push(Change { field: field.to_owned(), before: before.cloned(), after: after.cloned() });
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn by_field() {
        let before = json!({"a": {"b": 1, "same": [1]}, "list": [{"n": "x"}, {"n": "y"}], "gone": "z"});
        let after = json!({"a": {"b": 2, "same": [1]}, "list": [{"n": "w"}], "new": true});
        let text: String = changes(&before, &after).iter().map(Change::told).collect();
        assert_eq!(
            text,
            "  - spec.a.b: 1\n  + spec.a.b: 2\n  - spec.gone: \"z\"\n  - spec.list[0].n: \"x\"\n  + spec.list[0].n: \"w\"\n  \
             - spec.list[1]: {\"n\":\"y\"}\n  + spec.new: true\n"
        );
        assert_eq!(changes(&before, &before), []);
    }
}
