//! The policy stream between operator and sidecars: the messages of `policy.proto`, and both ends of its one call.
//!
//! Connections, TLS and identities are the business of those who call and are called. What matters in a policy is signed,
//! so that this carries it and decides nothing.

mod call;
mod message;

pub use call::{Follow, FollowService, MESSAGE_FROM_SIDECAR_MAX, Outgoing, call};
pub use message::{
    Ack, Alive, FromOperator, FromSidecar, Hello, Policy, Refused, from_operator, from_sidecar,
};
pub use tonic::{Code, Status, Streaming, body::Body};

/// Audience of the token that a sidecar shows.
pub const AUDIENCE: &str = "redoubt.dev/policy";

/// Application protocol of the connection.
pub const ALPN: &[u8] = b"h2";
