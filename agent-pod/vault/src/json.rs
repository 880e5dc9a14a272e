//! The parts of Vault's answers that are used. Values go from the body straight into memory that is wiped.

use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// More of an error message is cut off.
const MAX_DETAIL_CHARS: usize = 300;

/// Body of a login.
#[derive(Serialize)]
pub(crate) struct LoginRequest<'a> {
    pub(crate) role: &'a str,
    pub(crate) jwt: &'a str,
}

/// Answer to a login or a renewal.
#[derive(Deserialize)]
pub(crate) struct AuthAnswer {
    pub(crate) auth: Option<Auth>,
}

/// A token.
#[derive(Deserialize)]
pub(crate) struct Auth {
    pub(crate) client_token: Field,
    /// Seconds.
    pub(crate) lease_duration: u64,
    pub(crate) renewable: bool,
}

/// Answer to a read of the key-value engine, version 2.
#[derive(Deserialize)]
pub(crate) struct SecretAnswer {
    pub(crate) data: SecretVersion,
}

/// One version of a secret.
#[derive(Deserialize)]
pub(crate) struct SecretVersion {
    /// None where the version is deleted.
    pub(crate) data: Option<HashMap<String, Field>>,
}

/// Answer of `sys/health`.
#[derive(Deserialize)]
pub(crate) struct Health {
    pub(crate) initialized: bool,
    pub(crate) sealed: bool,
}

/// Text in memory that is wiped, or anything else.
pub(crate) enum Field {
    Text(Zeroizing<Vec<u8>>),
    Other,
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor)
    }
}

struct FieldVisitor;

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = Field;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Field, E> {
        Ok(Field::Text(Zeroizing::new(text.as_bytes().to_vec())))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_unit<E>(self) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Field, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Field, A::Error> {
        while items.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field::Other)
    }
}

/// What Vault says in an error's body, fit for one line of a log.
pub(crate) fn error_detail(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<String>,
    }
    let Errors { errors } = serde_json::from_slice(body).ok()?;
    let joined = errors.join("; ");
    let words: Vec<&str> = joined.split(|char: char| char.is_whitespace() || char.is_control()).collect();
    let detail: String = words
        .into_iter()
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .take(MAX_DETAIL_CHARS)
        .collect();
    if detail.is_empty() { None } else { Some(detail) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let body = br#"{"data":{"data":{"a":"x\"y","n":1,"f":1.5,"i":-1,"b":true,"z":null,"l":["p",{}],"o":{"q":[1]}},"metadata":{"version":3}},"lease_id":""}"#;
        let answer: SecretAnswer = serde_json::from_slice(body).unwrap();
        let data = answer.data.data.unwrap();
        assert_eq!(data.len(), 8);
        for (key, field) in &data {
            match field {
                Field::Text(text) => assert_eq!((key.as_str(), text.as_slice()), ("a", &b"x\"y"[..])),
                Field::Other => assert_ne!(key, "a"),
            }
        }
        let deleted: SecretAnswer =
            serde_json::from_slice(br#"{"data":{"data":null,"metadata":{}}}"#).unwrap();
        assert!(deleted.data.data.is_none());
    }

    #[test]
    fn details() {
        let check = |body: &str, expected: Option<&str>| {
            assert_eq!(error_detail(body.as_bytes()).as_deref(), expected, "{body}")
        };
        check(r#"{"errors":["permission denied"]}"#, Some("permission denied"));
        check(
            r#"{"errors":["1 error occurred:\n\t* permission denied\n\n","more"]}"#,
            Some("1 error occurred: * permission denied ; more"),
        );
        check(r#"{"errors":[]}"#, None);
        check("<html>", None);
        check("", None);
    }
}
