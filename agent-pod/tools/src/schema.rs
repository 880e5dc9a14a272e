//! The JSON Schema of a function's arguments: compiled once, bounded, and never fetched from anywhere.

use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::Value;

/// Most bytes of a schema.
pub const SCHEMA_MAX: usize = 64 * 1024;

/// Deepest nesting of a schema and of arguments.
pub const DEPTH_MAX: usize = 32;

/// Most bytes of one compiled pattern.
const PATTERN_MAX: usize = 1024 * 1024;

/// Most faults of one call that are told.
const FAULTS_MAX: usize = 5;

/// Why a schema is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// Longer than [`SCHEMA_MAX`].
    #[error("the schema is longer than {SCHEMA_MAX} bytes")]
    Length,
    /// Deeper than [`DEPTH_MAX`].
    #[error("the schema is nested deeper than {DEPTH_MAX} levels")]
    Depth,
    /// References that lead back to themselves, so that checking would never end.
    #[error("the references of the schema lead in a circle at {0:?}")]
    Circle(String),
    /// Not a schema, or one that refers to another document.
    #[error("not a usable JSON Schema: {0}")]
    Invalid(String),
}

/// A compiled schema.
#[derive(Clone, Debug)]
pub struct Schema(std::sync::Arc<Validator>);

impl Schema {
    /// Compiles a schema of draft 2020-12.
    ///
    /// # Errors
    /// When it is too large, invalid, or refers to another document.
    pub fn compile(schema: &Value) -> Result<Self, SchemaError> {
        if schema.to_string().len() > SCHEMA_MAX {
            return Err(SchemaError::Length);
        }
        if depth(schema) > DEPTH_MAX {
            return Err(SchemaError::Depth);
        }
        circles(schema, schema, &mut Vec::new())?;
        jsonschema::options()
            .with_draft(Draft::Draft202012)
            .offline()
            // Linear in the text, whatever the pattern.
            .with_pattern_options(PatternOptions::regex().size_limit(PATTERN_MAX))
            .build(schema)
            .map(|validator| Self(std::sync::Arc::new(validator)))
            .map_err(|error| SchemaError::Invalid(error.to_string()))
    }

    /// Checks arguments.
    ///
    /// # Errors
    /// The faults, each with the place of the argument (JSON Pointer, RFC 6901), without its value.
    pub fn check(&self, arguments: &Value) -> Result<(), String> {
        if depth(arguments) > DEPTH_MAX {
            return Err(format!("the arguments are nested deeper than {DEPTH_MAX} levels"));
        }
        let faults: Vec<_> = self
            .0
            .iter_errors(arguments)
            .take(FAULTS_MAX)
            .map(|fault| format!("argument {:?}: {}", fault.instance_path().as_str(), fault.masked()))
            .collect();
        if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
    }
}

/// How deep a value is nested; 1 for a scalar. JSON from outside is parsed with a bound, so this ends.
fn depth(value: &Value) -> usize {
    let below = match value {
        Value::Array(items) => items.iter().map(depth).max(),
        Value::Object(members) => members.values().map(depth).max(),
        _ => None,
    };
    1 + below.unwrap_or(0)
}

/// Keywords whose schemas are applied to the very value that the schema around them is applied to.
const SAME_VALUE: [&str; 8] = ["allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas"];

/// Looks for references that come back to where they began without going down into the arguments.
fn circles(root: &Value, at: &Value, through: &mut Vec<String>) -> Result<(), SchemaError> {
    let mut all = Vec::new();
    subschemas(at, &mut all);
    for schema in all {
        through.clear();
        follow(root, schema, through)?;
    }
    Ok(())
}

/// Every object in a schema. Some are no schemas (`enum`, `const`); what looks like a circle in those is refused as well.
fn subschemas<'a>(value: &'a Value, into: &mut Vec<&'a Value>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| subschemas(item, into)),
        Value::Object(members) => {
            into.push(value);
            members.values().for_each(|member| subschemas(member, into));
        }
        _ => {}
    }
}

fn follow(root: &Value, schema: &Value, through: &mut Vec<String>) -> Result<(), SchemaError> {
    let Value::Object(members) = schema else { return Ok(()) };
    for (name, value) in members {
        match (name.as_str(), value) {
            ("$ref" | "$dynamicRef", Value::String(to)) => {
                if through.contains(to) || through.len() >= DEPTH_MAX {
                    return Err(SchemaError::Circle(to.clone()));
                }
                through.push(to.clone());
                if let Some(target) = to.strip_prefix('#').and_then(|pointer| root.pointer(pointer)) {
                    follow(root, target, through)?;
                }
                through.pop();
            }
            (name, Value::Array(items)) if SAME_VALUE.contains(&name) => {
                items.iter().try_for_each(|item| follow(root, item, through))?;
            }
            ("dependentSchemas", Value::Object(schemas)) => {
                schemas.values().try_for_each(|item| follow(root, item, through))?;
            }
            (name, Value::Object(_)) if SAME_VALUE.contains(&name) => follow(root, value, through)?,
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Value {
        json!({"type": "object", "additionalProperties": false, "required": ["id"], "properties": {
            "id": {"type": "integer", "minimum": 1},
            "tags": {"type": "array", "items": {"type": "string", "pattern": "^[a-z]+$"}},
            "tree": {"$ref": "#/$defs/tree"},
        }, "$defs": {"tree": {"type": "object", "properties": {"left": {"$ref": "#/$defs/tree"}}}}})
    }

    #[test]
    fn arguments() {
        let compiled = Schema::compile(&schema()).unwrap();
        for good in [json!({"id": 1}), json!({"id": 1, "tags": ["a"], "tree": {"left": {"left": {}}}})] {
            compiled.check(&good).unwrap();
        }
        for (bad, place) in [
            (json!({"id": "1"}), "\"/id\""),
            (json!({"id": 0}), "\"/id\""),
            (json!({}), "\"id\""),
            (json!({"id": 1, "tags": ["a", "B"]}), "\"/tags/1\""),
            (json!({"id": 1, "surprise": true}), "surprise"),
            (json!({"id": 1, "tree": {"left": {"left": 7}}}), "\"/tree/left/left\""),
        ] {
            let fault = compiled.check(&bad).unwrap_err();
            assert!(fault.contains(place), "{bad}: {fault}");
        }
        // The value, which may be long or private, is not repeated.
        let fault = compiled.check(&json!({"id": "s3cret-value"})).unwrap_err();
        assert!(!fault.contains("s3cret-value"), "{fault}");
    }

    #[test]
    fn depth_of_arguments() {
        let compiled = Schema::compile(&json!({"type": "object"})).unwrap();
        let nest = |levels| (1..levels).fold(json!({}), |inner, _| json!({"a": inner}));
        compiled.check(&nest(DEPTH_MAX)).unwrap();
        assert!(compiled.check(&nest(DEPTH_MAX + 1)).is_err());
    }

    #[test]
    fn refused_schemas() {
        let check = |schema: Value| Schema::compile(&schema).unwrap_err();
        for remote in [
            "http://169.254.169.254/latest/meta-data",
            "https://example.com/schema.json",
            "file:///etc/passwd",
            "other.json",
            "//host/x",
        ] {
            assert!(matches!(check(json!({"$ref": remote})), SchemaError::Invalid(_)), "{remote}");
            let nested = json!({"type": "object", "properties": {"a": {"items": {"$ref": remote}}}});
            assert!(matches!(check(nested), SchemaError::Invalid(_)), "{remote}");
        }
        // The draft is fixed, so that a foreign one is not even looked for.
        Schema::compile(&json!({"$schema": "https://example.com/meta"})).unwrap();
        assert!(matches!(check(json!({"type": "nonsense"})), SchemaError::Invalid(_)));
        assert!(matches!(check(json!({"pattern": "(?=a)"})), SchemaError::Invalid(_)), "no look-around");
        assert_eq!(check(json!({"description": "x".repeat(SCHEMA_MAX)})), SchemaError::Length);
        let deep = (0..DEPTH_MAX).fold(json!({}), |inner, _| json!({"not": inner}));
        assert_eq!(check(deep), SchemaError::Depth);
    }

    #[test]
    fn circles_are_refused() {
        for circle in [
            json!({"$ref": "#"}),
            json!({"allOf": [{"$ref": "#"}]}),
            json!({"properties": {"a": {"$ref": "#/$defs/a"}},
                "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"not": {"$ref": "#/$defs/a"}}}}),
        ] {
            assert!(matches!(Schema::compile(&circle), Err(SchemaError::Circle(_))), "{circle}");
        }
        // Down into the value and back up is no circle: each step uses up a level of the arguments.
        Schema::compile(&json!({"type": "object", "properties": {"child": {"$ref": "#"}}})).unwrap();
    }
}
