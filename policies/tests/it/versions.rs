//! What version 0.1 wrote, byte for byte: today's code reads it, and writes the same where nothing newer is used. So an older
//! sidecar reads a newer operator's policy and the reverse. What a newer policy has besides is refused, wherever it is.

use redoubt_policy::envelope::keyring::announce;
use redoubt_policy::wire::PodPolicy;
use redoubt_policy::{Keyring, SigningKey, VerifyingKey, sign, verify};
use serde_json::Value;

/// The payload of the envelope, for people and for this test.
const POLICY: &str = include_str!("../fixtures/v0.1/policy.json");
const ENVELOPE: &str = include_str!("../fixtures/v0.1/policy.dsse.json");
const ANNOUNCEMENTS: &str = include_str!("../fixtures/v0.1/keys.dsse.jsonl");

/// The key of RFC 8410 section 10.3, and one like it. Ed25519 signs without chance, so signatures can be compared.
fn key(last: u8) -> SigningKey {
    let seed =
        "302e020100300506032b657004220420d4ee72dbf913584ad5b6d8f1f769f8ad3afe7c28cbf1d4fbe097a88f447558";
    let mut pkcs8: Vec<u8> =
        (0..seed.len()).step_by(2).map(|at| u8::from_str_radix(&seed[at..at + 2], 16).unwrap()).collect();
    pkcs8.push(last);
    SigningKey::from_pkcs8(&pkcs8).unwrap()
}

fn first() -> SigningKey {
    key(0x42)
}

fn next() -> SigningKey {
    key(0x43)
}

fn written() -> PodPolicy {
    serde_json::from_str(POLICY).unwrap()
}

#[test]
fn what_version_0_1_wrote_is_read_and_written_alike() {
    let policy = written();
    assert_eq!(serde_json::to_string(&policy).unwrap(), POLICY.trim_end(), "the same bytes");
    let verified =
        verify(ENVELOPE.trim_end().as_bytes(), &next().public(), &policy.agent, policy.epoch).unwrap();
    assert_eq!(*verified, policy);
    assert_eq!(sign(&policy, &next()).unwrap(), ENVELOPE.trim_end(), "the same signature");
    // The argument of a pod of that version, and the chain to the key that signed.
    let pinned: VerifyingKey = "Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=".parse().unwrap();
    assert_eq!(pinned, first().public());
    let mut keys = Keyring::new(pinned);
    keys.learn(ANNOUNCEMENTS);
    assert_eq!(*keys.verify(ENVELOPE.trim_end().as_bytes(), &policy.agent, 0).unwrap(), policy);
    assert_eq!(announce(&next().public(), &first()).unwrap(), ANNOUNCEMENTS.trim_end());
}

/// Every object and list of `value`, by path. What tools and the cluster's keys bring along is theirs.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    if at.ends_with("/parameters") || at == "/inbound/jwks" {
        return;
    }
    match value {
        Value::Object(fields) => {
            found.push(at.to_owned());
            fields.iter().for_each(|(name, value)| places(value, &format!("{at}/{name}"), found));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, value)| places(value, &format!("{at}/{i}"), found));
        }
        _ => {}
    }
}

fn is_read(policy: &Value) -> bool {
    serde_json::from_value::<PodPolicy>(policy.clone()).is_ok()
}

#[test]
fn a_field_of_a_newer_version_is_refused_wherever_it_is() {
    let policy: Value = serde_json::from_str(POLICY).unwrap();
    assert!(is_read(&policy));
    let mut found = Vec::new();
    places(&policy, "", &mut found);
    assert!(found.len() > 40, "{found:?}");
    for place in &found {
        let mut newer = policy.clone();
        newer.pointer_mut(place).unwrap()["ofALaterVersion"] = true.into();
        assert!(!is_read(&newer), "{place:?} is not closed");
    }
    // The benign twins: what is not ours is passed through.
    for free in ["/inbound/jwks", "/tools/0/http/functions/0/parameters"] {
        let mut newer = policy.clone();
        newer.pointer_mut(free).unwrap()["ofALaterVersion"] = true.into();
        assert!(is_read(&newer), "{free}");
    }
}

#[test]
fn a_kind_of_rule_of_a_newer_version_is_refused() {
    let policy: Value = serde_json::from_str(POLICY).unwrap();
    for (place, unknown) in [
        ("/rules/0/scope/from", r#"{"skill":"x"}"#),
        ("/rules/0/scope/from", r#""everyone""#),
        ("/rules/0/scope/scheme", r#""wss""#),
        ("/rules/0/scope/methods", r#"["CONNECT"]"#),
        ("/rules/0/scope/host", r#"{"regex":".*"}"#),
        ("/rules/0/scope/path", r#""re:/.*""#),
        ("/rules/1/privateCIDRs/0", r#""anything""#),
        ("/denies/0/extent/from/0", r#"{"skill":"x"}"#),
        ("/denies/0/extent/scheme", r#""wss""#),
        ("/audit/denies/0/extent/methods", r#"["CONNECT"]"#),
        ("/explanation/ceilings/0/extents/0/paths", r#"["re:/.*"]"#),
        ("/bindings/0/inject", r#"{"signature":{}}"#),
        ("/bindings/0/consumers/0", r#"{"skill":"x"}"#),
        ("/tools/0/http", r#"{"mcp":{}}"#),
        ("/tools/0/http/functions/0/effect", r#""Perhaps""#),
    ] {
        let mut newer = policy.clone();
        *newer.pointer_mut(place).unwrap_or_else(|| panic!("no {place}")) =
            serde_json::from_str(unknown).unwrap();
        assert!(!is_read(&newer), "{place}: {unknown}");
    }
}

#[test]
fn a_policy_that_lacks_a_field_is_refused_but_for_those_that_were_added_later() {
    let policy: Value = serde_json::from_str(POLICY).unwrap();
    for field in policy.as_object().unwrap().keys() {
        let mut without = policy.clone();
        without.as_object_mut().unwrap().remove(field);
        assert_eq!(is_read(&without), field == "policyTTLSeconds", "{field}");
    }
}
