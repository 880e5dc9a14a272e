//! Whether an object on the API server is as it was built, so that nothing is written when nothing changed.
//!
//! The API server adds fields of its own (defaults, addresses), so what counts is that every field that was built is
//! there with its value. Lists are compared as a whole. Below the paths in `exact` nothing may be added either: a further
//! label in a selector changes what it selects.

use serde_json::Value;

/// Whether `actual` has everything that `wanted` has, and below the pointers (RFC 6901) in `exact` nothing else.
#[must_use]
pub fn covers(wanted: &Value, actual: &Value, exact: &[&str]) -> bool {
    at(wanted, actual, "", exact)
}

fn at(wanted: &Value, actual: &Value, path: &str, exact: &[&str]) -> bool {
    match (wanted, actual) {
        (Value::Object(wanted), Value::Object(actual)) => {
            let closed = exact.iter().any(|prefix| path == *prefix || is_below(path, prefix));
            wanted.iter().all(|(name, value)| {
                let path = format!("{path}/{name}");
                match actual.get(name) {
                    Some(actual) => at(value, actual, &path, exact),
                    None => is_empty(value),
                }
            }) && (!closed || actual.iter().all(|(name, value)| wanted.contains_key(name) || is_empty(value)))
        }
        (Value::Array(wanted), Value::Array(actual)) => {
            wanted.len() == actual.len()
                && wanted.iter().zip(actual).all(|(wanted, actual)| at(wanted, actual, path, exact))
        }
        (wanted, actual) => wanted == actual || (is_empty(wanted) && is_empty(actual)),
    }
}

fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
}

/// What the API server leaves out when it stores an object.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.values().all(is_empty),
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn covering() {
        let check = |wanted: Value, actual: Value, exact: &[&str], expected: bool| {
            assert_eq!(covers(&wanted, &actual, exact), expected, "{wanted} {actual}");
        };
        check(json!({"a": 1}), json!({"a": 1, "b": 2}), &[], true);
        check(json!({"a": 1}), json!({"a": 2}), &[], false);
        check(json!({"a": 1}), json!({}), &[], false);
        check(json!({"a": []}), json!({}), &[], true);
        check(json!({"a": null}), json!({"a": []}), &[], true);
        check(json!({"a": []}), json!({"a": [1]}), &[], false);
        check(json!({"a": [1]}), json!({"a": [1, 2]}), &[], false);
        check(json!({"a": [{"x": 1}]}), json!({"a": [{"x": 1, "y": 2}]}), &[], true);
        check(json!({"spec": {"s": {"x": 1}}}), json!({"spec": {"s": {"x": 1, "y": 2}}}), &["/spec"], false);
        check(json!({"spec": {"s": {"x": 1}}}), json!({"spec": {"s": {"x": 1}, "t": 1}}), &["/spec/s"], true);
        check(
            json!({"spec": {"l": [{"x": 1}]}}),
            json!({"spec": {"l": [{"x": 1, "y": 1}]}}),
            &["/spec"],
            false,
        );
        check(json!({"spec": {}}), json!({"spec": {}, "status": 1}), &["/spec"], true);
        check(json!({"a": false}), json!({}), &[], false);
    }
}
