//! The messages of `policy.proto`, which says what they mean. A test compares the two.

#![allow(missing_docs, reason = "policy.proto documents them")]

use prost::{Message, Oneof};

/// From the sidecar to the operator.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct FromSidecar {
    #[prost(oneof = "from_sidecar::Kind", tags = "1, 2, 3")]
    pub message: Option<from_sidecar::Kind>,
}

/// What a [`FromSidecar`] is.
pub mod from_sidecar {
    use super::{Ack, Alive, Hello, Oneof};

    #[derive(Clone, PartialEq, Eq, Oneof)]
    pub enum Kind {
        #[prost(message, tag = "1")]
        Hello(Hello),
        #[prost(message, tag = "2")]
        Ack(Ack),
        #[prost(message, tag = "3")]
        Alive(Alive),
    }
}

/// Who calls.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Hello {
    #[prost(string, tag = "1")]
    pub version: String,
    #[prost(string, repeated, tag = "2")]
    pub payload_types: Vec<String>,
    #[prost(uint64, tag = "3")]
    pub epoch: u64,
    #[prost(string, tag = "4")]
    pub digest: String,
}

/// What became of a policy.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Ack {
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    #[prost(string, tag = "2")]
    pub digest: String,
    #[prost(message, optional, tag = "3")]
    pub refused: Option<Refused>,
}

/// Why a policy is not in force.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Refused {
    #[prost(string, tag = "1")]
    pub reason: String,
    #[prost(string, tag = "2")]
    pub message: String,
}

/// A sign of life.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Alive {}

/// From the operator to the sidecar.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct FromOperator {
    #[prost(oneof = "from_operator::Kind", tags = "1, 2")]
    pub message: Option<from_operator::Kind>,
}

/// What a [`FromOperator`] is.
pub mod from_operator {
    use super::{Alive, Oneof, Policy};

    #[derive(Clone, PartialEq, Eq, Oneof)]
    pub enum Kind {
        #[prost(message, tag = "1")]
        Policy(Policy),
        #[prost(message, tag = "2")]
        Alive(Alive),
    }
}

/// A policy as it is in the agent's ConfigMap.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Policy {
    #[prost(bytes = "bytes", tag = "1")]
    pub envelope: bytes::Bytes,
    #[prost(string, tag = "2")]
    pub announcements: String,
}

impl From<from_sidecar::Kind> for FromSidecar {
    fn from(kind: from_sidecar::Kind) -> Self {
        Self { message: Some(kind) }
    }
}

impl From<from_operator::Kind> for FromOperator {
    fn from(kind: from_operator::Kind) -> Self {
        Self { message: Some(kind) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Message, field and its first byte on the wire: the number, and how its value is written.
    fn written() -> BTreeSet<(&'static str, &'static str, u8)> {
        let text = || "x".to_owned();
        let first = |message: Vec<u8>| message[0];
        let hello = || Hello::default();
        let ack = || Ack::default();
        let policy = || Policy::default();
        [
            (
                "FromSidecar",
                "hello",
                first(FromSidecar::from(from_sidecar::Kind::Hello(hello())).encode_to_vec()),
            ),
            ("FromSidecar", "ack", first(FromSidecar::from(from_sidecar::Kind::Ack(ack())).encode_to_vec())),
            (
                "FromSidecar",
                "alive",
                first(FromSidecar::from(from_sidecar::Kind::Alive(Alive {})).encode_to_vec()),
            ),
            ("Hello", "version", first(Hello { version: text(), ..hello() }.encode_to_vec())),
            (
                "Hello",
                "payload_types",
                first(Hello { payload_types: vec![text()], ..hello() }.encode_to_vec()),
            ),
            ("Hello", "epoch", first(Hello { epoch: 1, ..hello() }.encode_to_vec())),
            ("Hello", "digest", first(Hello { digest: text(), ..hello() }.encode_to_vec())),
            ("Ack", "epoch", first(Ack { epoch: 1, ..ack() }.encode_to_vec())),
            ("Ack", "digest", first(Ack { digest: text(), ..ack() }.encode_to_vec())),
            ("Ack", "refused", first(Ack { refused: Some(Refused::default()), ..ack() }.encode_to_vec())),
            ("Refused", "reason", first(Refused { reason: text(), message: String::new() }.encode_to_vec())),
            ("Refused", "message", first(Refused { reason: String::new(), message: text() }.encode_to_vec())),
            (
                "FromOperator",
                "policy",
                first(FromOperator::from(from_operator::Kind::Policy(Policy::default())).encode_to_vec()),
            ),
            (
                "FromOperator",
                "alive",
                first(FromOperator::from(from_operator::Kind::Alive(Alive {})).encode_to_vec()),
            ),
            ("Policy", "envelope", first(Policy { envelope: "x".into(), ..policy() }.encode_to_vec())),
            ("Policy", "announcements", first(Policy { announcements: text(), ..policy() }.encode_to_vec())),
        ]
        .into()
    }

    #[test]
    fn the_messages_are_those_of_the_contract() {
        let contract = include_str!("../policy.proto");
        let mut message = "";
        let mut declared = BTreeSet::new();
        for line in contract.lines().map(str::trim) {
            if let Some(rest) = line.strip_prefix("message ") {
                message = rest.trim_end_matches([' ', '{', '}']);
                continue;
            }
            let Some((declaration, number)) = line.strip_suffix(';').and_then(|line| line.split_once(" = "))
            else {
                continue;
            };
            let Ok(number) = number.parse::<u8>() else { continue };
            let words: Vec<&str> = declaration.split(' ').collect();
            let [.., kind, name] = words.as_slice() else { panic!("{line}") };
            let wire = if *kind == "uint64" { 0 } else { 2 };
            declared.insert((message, *name, number << 3 | wire));
        }
        assert_eq!(declared, written());
        assert!(
            contract.contains("package redoubt.policy.v1alpha1;")
                && contract.contains("service PolicyStream {")
        );
        assert!(contract.contains("rpc Follow(stream FromSidecar) returns (stream FromOperator);"));
        assert_eq!(crate::call::PATH, "/redoubt.policy.v1alpha1.PolicyStream/Follow");
    }

    #[test]
    fn what_a_newer_peer_adds_is_passed_over() {
        // Field 99, of two bytes, in front of a known one.
        let newer = |known: Vec<u8>| [&[0x9a, 0x06, 0x02, 1, 2], known.as_slice()].concat();
        let hello = Hello { version: "v".to_owned(), epoch: 7, ..Hello::default() };
        assert_eq!(Hello::decode(newer(hello.encode_to_vec()).as_slice()).unwrap(), hello);
        let policy = Policy { envelope: "{}".into(), announcements: "{}\n".to_owned() };
        assert_eq!(Policy::decode(newer(policy.encode_to_vec()).as_slice()).unwrap(), policy);
        // A message of an unknown kind is none that is known.
        assert_eq!(FromOperator::decode(newer(Vec::new()).as_slice()).unwrap().message, None);
        assert_eq!(FromSidecar::decode(newer(Vec::new()).as_slice()).unwrap().message, None);
    }
}
