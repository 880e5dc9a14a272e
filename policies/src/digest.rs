//! The digest of a policy's content, which tells whether a new epoch is needed.

use std::fmt::Write as _;

use serde_json::Value;

use crate::wire::PodPolicy;

/// SHA-256, in hex, of the policy as JSON with sorted keys and without its epoch.
#[must_use]
pub fn digest(policy: &PodPolicy) -> String {
    let mut text = String::new();
    if let Ok(Value::Object(mut fields)) = serde_json::to_value(policy) {
        fields.remove("epoch");
        write_sorted(&Value::Object(fields), &mut text);
    }
    sha256_hex(text.as_bytes())
}

/// SHA-256, in hex, of `value` as JSON with sorted keys.
#[must_use]
pub fn digest_of(value: &Value) -> String {
    let mut text = String::new();
    write_sorted(value, &mut text);
    sha256_hex(text.as_bytes())
}

/// JSON with the members of every object in the order of their names, whatever order the map has.
fn write_sorted(value: &Value, out: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            out.push('{');
            for (i, (name, value)) in fields.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::String(name.clone()).to_string());
                out.push(':');
                write_sorted(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_sorted(item, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().fold(String::with_capacity(64), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}
