//! The pure policy engine: compose, match a request, explain a refusal, canonicalise hosts, paths and addresses; and the
//! signed [`wire::PodPolicy`] that carries its result to a pod. No IO, no clock.
//!
//! Operator, sidecar, hands and CLI all use it, so there is one host matcher and one address classifier.

pub mod host;
pub mod method;
pub mod path;
pub mod refusal;
pub mod target;
pub mod wire;

pub use refusal::Refusal;
