use serde_json::{Value, json};

use super::*;
use crate::wire::{Audit, Explanation, Inbound};

pub(super) fn policy() -> PodPolicy {
    PodPolicy {
        agent: agent(),
        epoch: 7,
        rules: Vec::new(),
        denies: Vec::new(),
        audit: Audit::default(),
        explanation: Explanation::default(),
        bindings: Vec::new(),
        vaults: Vec::new(),
        inbound: Inbound {
            issuer: "https://issuer".to_owned(),
            jwks: json!({ "keys": [] }),
            audience: "a".to_owned(),
            callers: Vec::new(),
        },
        tools: Vec::new(),
        policy_ttl_seconds: crate::wire::POLICY_TTL_SECONDS,
    }
}

pub(super) fn agent() -> AgentIdentity {
    AgentIdentity { namespace: "team".to_owned(), name: "coder".to_owned(), uid: "uid-1".to_owned() }
}

pub(super) fn key() -> SigningKey {
    SigningKey::from_pkcs8(&SigningKey::generate().unwrap()).unwrap()
}

/// `said` is a part of the refusal's message, by which a reader tells one fault from another.
fn check(envelope: &str, key: &SigningKey, agent: &AgentIdentity, said: &str) {
    let refusal = verify(envelope.as_bytes(), &key.public(), agent, 7).unwrap_err();
    assert_eq!(refusal.reason, "PolicyRefused");
    assert_eq!(refusal.object, format!("ConfigMap/redoubt-agent-{}", agent.name));
    assert_eq!(refusal.field, "data[policy.dsse.json]");
    assert!(refusal.message.contains(said), "{said:?} is not in {:?}", refusal.message);
    assert!(!refusal.help.is_empty());
}

/// The envelope after `change` to its JSON.
fn altered(key: &SigningKey, change: impl FnOnce(&mut Value)) -> String {
    let mut envelope = serde_json::from_str(&sign(&policy(), key).unwrap()).unwrap();
    change(&mut envelope);
    envelope.to_string()
}

/// An envelope with a true signature around any payload.
fn signed(key: &SigningKey, change: impl FnOnce(&mut Value)) -> String {
    let mut payload = serde_json::to_value(policy()).unwrap();
    change(&mut payload);
    sign_payload(PAYLOAD_TYPE, payload.to_string().as_bytes(), key).unwrap()
}

#[test]
fn a_signed_policy_is_accepted() {
    let key = key();
    let envelope = sign(&policy(), &key).unwrap();
    for lowest in [0, 6, 7] {
        let verified = verify(envelope.as_bytes(), &key.public(), &agent(), lowest).unwrap();
        assert_eq!(*verified, policy());
    }
}

/// The test vector of DSSE's own document.
#[test]
fn the_pre_authentication_encoding_is_that_of_dsse() {
    let encoded = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world");
    assert_eq!(encoded, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
}

#[test]
fn each_malformed_envelope_has_its_message() {
    let key = key();
    check("", &key, &agent(), "not a DSSE envelope");
    check("{}", &key, &agent(), "not a DSSE envelope");
    check("[]", &key, &agent(), "not a DSSE envelope");
    check(&serde_json::to_string(&policy()).unwrap(), &key, &agent(), "not a DSSE envelope");
    check(&altered(&key, |e| e["more"] = json!(1)), &key, &agent(), "unknown field `more`");
    check(&altered(&key, |e| e["signatures"][0]["more"] = json!(1)), &key, &agent(), "unknown field `more`");
    check(&format!("{} x", sign(&policy(), &key).unwrap()), &key, &agent(), "not a DSSE envelope");
    check(&" ".repeat(ENVELOPE_MAX + 1), &key, &agent(), "more than the 1048576");
    check(
        &altered(&key, |e| e["payload"] = json!("a")),
        &key,
        &agent(),
        "its payload is not standard base64",
    );
    check(
        &altered(&key, |e| e["signatures"][0]["sig"] = json!("_-")),
        &key,
        &agent(),
        "its signature is not",
    );
}

#[test]
fn each_wrong_signature_has_its_message() {
    let (key, other) = (key(), key());
    check(&altered(&key, |e| e["signatures"] = json!([])), &key, &agent(), "unsigned");
    let twice = altered(&key, |e| {
        let first = e["signatures"][0].clone();
        e["signatures"].as_array_mut().unwrap().push(first);
    });
    check(&twice, &key, &agent(), "2 signatures");
    check(&sign(&policy(), &other).unwrap(), &key, &agent(), "signed by another key");
    let posing = altered(&other, |e| e["signatures"][0]["keyid"] = json!(key.public().id()));
    check(&posing, &key, &agent(), "does not verify");
    check(&altered(&key, |e| e["signatures"][0]["sig"] = json!("")), &key, &agent(), "does not verify");
    let raised = altered(&key, |e| {
        let payload = PodPolicy { epoch: 8, ..policy() };
        e["payload"] = json!(STANDARD.encode(serde_json::to_vec(&payload).unwrap()));
    });
    check(&raised, &key, &agent(), "does not verify");
}

#[test]
fn the_payload_type_is_signed_and_checked() {
    let key = key();
    let other = "application/vnd.redoubt.podpolicy.v1beta1+json";
    check(&altered(&key, |e| e["payloadType"] = json!(other)), &key, &agent(), "payloadType");
    let payload = serde_json::to_vec(&policy()).unwrap();
    let foreign = sign_payload(other, &payload, &key).unwrap();
    check(&foreign, &key, &agent(), "payloadType");
    // Its own type put over a signature that was made for another.
    let mut envelope: Value = serde_json::from_str(&foreign).unwrap();
    envelope["payloadType"] = json!(PAYLOAD_TYPE);
    check(&envelope.to_string(), &key, &agent(), "does not verify");
}

#[test]
fn a_signed_payload_is_read_strictly() {
    let key = key();
    check(&signed(&key, |p| p["more"] = json!(1)), &key, &agent(), "unknown field `more`");
    check(&signed(&key, |p| p["inbound"]["more"] = json!(1)), &key, &agent(), "unknown field `more`");
    check(&signed(&key, |p| p["epoch"] = json!(-1)), &key, &agent(), "not a PodPolicy");
    check(
        &signed(&key, |p| p.as_object_mut().unwrap().remove("rules").map_or((), drop)),
        &key,
        &agent(),
        "`rules`",
    );
    let origin = json!({ "object": "Agent/coder", "field": "f" });
    let scope = json!({
        "from": "agent", "scheme": "https", "host": "a.example", "port": 443, "methods": ["GET"], "path": "/**",
    });
    let rule = |field: &str, value: Value| {
        let mut scope = scope.clone();
        scope[field] = value;
        json!({ "scope": scope, "privateCIDRs": [], "caBundle": null, "need": origin, "grant": origin })
    };
    let good = signed(&key, |p| p["rules"] = json!([rule("port", json!(443))]));
    assert!(verify(good.as_bytes(), &key.public(), &agent(), 7).is_ok());
    for (field, value) in [
        ("from", json!("kernel")),
        ("from", json!({ "tool": "a", "agent": null })),
        ("scheme", json!("ftp")),
        ("host", json!("A.example")),
        ("host", json!("*")),
        ("port", json!(65536)),
        ("methods", json!(["get"])),
        ("methods", json!(["*"])),
        ("path", json!("/../x")),
        ("quota", json!(1)),
    ] {
        check(&signed(&key, |p| p["rules"] = json!([rule(field, value)])), &key, &agent(), "not a PodPolicy");
    }
}

#[test]
fn a_policy_for_another_agent_is_refused() {
    let key = key();
    let envelope = sign(&policy(), &key).unwrap();
    let of = |namespace: &str, name: &str, uid: &str| AgentIdentity {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: uid.to_owned(),
    };
    check(
        &envelope,
        &key,
        &of("team", "coder", "uid-2"),
        "its agent.uid is \"uid-1\", this pod's is \"uid-2\"",
    );
    check(&envelope, &key, &of("other", "coder", "uid-1"), "its agent.namespace is");
    check(&envelope, &key, &of("team", "writer", "uid-1"), "its agent.name is");
}

#[test]
fn an_older_policy_is_refused() {
    let key = key();
    let envelope = sign(&PodPolicy { epoch: 6, ..policy() }, &key).unwrap();
    check(&envelope, &key, &agent(), "its epoch is 6, the lowest accepted is 7");
}

/// Every bit of every byte, which no sample would show as well.
#[test]
fn any_flipped_bit_is_refused() {
    let key = key();
    let envelope = sign(&policy(), &key).unwrap().into_bytes();
    for i in 0..envelope.len() {
        for bit in 0..8 {
            let mut flipped = envelope.clone();
            flipped[i] ^= 1 << bit;
            let outcome = verify(&flipped, &key.public(), &agent(), 7);
            assert!(outcome.is_err(), "byte {i} bit {bit} of {}", String::from_utf8_lossy(&flipped));
        }
    }
}

#[test]
fn a_truncated_envelope_is_refused() {
    let key = key();
    let envelope = sign(&policy(), &key).unwrap();
    for length in 0..envelope.len() {
        assert!(verify(&envelope.as_bytes()[..length], &key.public(), &agent(), 7).is_err(), "{length}");
    }
}

#[test]
fn keys() {
    let pkcs8 = SigningKey::generate().unwrap();
    assert_ne!(*pkcs8, *SigningKey::generate().unwrap());
    let key = SigningKey::from_pkcs8(&pkcs8).unwrap();
    assert_eq!(key.public().to_string().parse::<VerifyingKey>().unwrap(), key.public());
    // The private key of RFC 8410 section 10.3 (PKCS#8 version 1), and the public key of section 10.1.
    let known = STANDARD.decode("MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC").unwrap();
    let public = SigningKey::from_pkcs8(&known).unwrap().public().to_string();
    assert_eq!(public, "Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=");
    for text in ["", "AAAA", "Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE"] {
        assert!(text.parse::<VerifyingKey>().is_err(), "{text:?}");
    }
    assert!(SigningKey::from_pkcs8(b"").is_err());
    assert!(SigningKey::from_pkcs8(&known[..40]).is_err());
}

/// What an older sidecar reads must not change before it is needed, and what it does not know must not be guessed.
#[test]
fn a_field_that_was_added_is_left_out_while_it_says_nothing() {
    let key = key();
    let plain = serde_json::to_value(policy()).unwrap();
    assert_eq!(plain.get("policyTTLSeconds"), None);
    let short = PodPolicy { policy_ttl_seconds: 60, ..policy() };
    assert_eq!(serde_json::to_value(&short).unwrap()["policyTTLSeconds"], 60);
    let envelope = sign(&short, &key).unwrap();
    assert_eq!(*verify(envelope.as_bytes(), &key.public(), &agent(), 7).unwrap(), short);
    let newer = signed(&key, |policy| policy["ofALaterVersion"] = json!(true));
    check(&newer, &key, &agent(), "unknown field `ofALaterVersion`");
}
