//! The messages as version 0.1 has them on the wire, byte for byte: what an older peer sends is read, and a newer one sends
//! what the older reads.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a failure here fails the test")]

use std::fmt::Debug;

use prost::Message;
use redoubt_stream::{
    Ack, Alive, FromOperator, FromSidecar, Hello, Policy, Refused, from_operator, from_sidecar,
};

fn check<M: Message + Default + PartialEq + Debug>(hex: &str, message: &M) {
    let bytes: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    assert_eq!(&M::decode(bytes.as_slice()).unwrap(), message);
    assert_eq!(message.encode_to_vec(), bytes, "{message:?}");
}

const EPOCH: u64 = 1_700_000_000_123;

#[test]
fn what_a_sidecar_of_version_0_1_sends() {
    let hello = Hello {
        version: "0.1.0".to_owned(),
        payload_types: vec!["application/vnd.redoubt.podpolicy.v1alpha1+json".to_owned()],
        epoch: EPOCH,
        digest: "abc".to_owned(),
    };
    check(
        "0a440a05302e312e30122f6170706c69636174696f6e2f766e642e7265646f7562742e706f64706f6c6963792e7631616c706861312b6a736f6e18fbd095ffbc312203616263",
        &FromSidecar::from(from_sidecar::Kind::Hello(hello)),
    );
    let refused = Some(Refused { reason: "PolicyRefused".to_owned(), message: "why".to_owned() });
    check(
        "122208fbd095ffbc3112036162631a140a0d506f6c696379526566757365641203776879",
        &FromSidecar::from(from_sidecar::Kind::Ack(Ack { epoch: EPOCH, digest: "abc".to_owned(), refused })),
    );
    check("1a00", &FromSidecar::from(from_sidecar::Kind::Alive(Alive {})));
}

#[test]
fn what_an_operator_of_version_0_1_sends() {
    let policy = |announcements: &str| {
        let policy = Policy { envelope: "{}".into(), announcements: announcements.to_owned() };
        FromOperator::from(from_operator::Kind::Policy(policy))
    };
    check("0a090a027b7d12037b7d0a", &policy("{}\n"));
    // Before the first rotation there is nothing to announce.
    check("0a040a027b7d", &policy(""));
    check("1200", &FromOperator::from(from_operator::Kind::Alive(Alive {})));
}
