//! The policy stream: sidecars call, and are sent their Agent's signed policy whenever it changes.
//!
//! What is sent is the envelope in the Agent's ConfigMap as the watch tells it, so that serving needs no signing; the replica
//! that leads sends what it has signed before it is written. The hub knows which stream is whose; it and the judgement of a
//! caller's identity are free of IO.

pub mod authority;
pub mod hub;
pub mod identity;
pub mod serve;

/// Port of the policy stream.
pub const PORT: u16 = 8444;
