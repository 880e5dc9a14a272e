//! The pure policy engine: compose, match a request, explain a refusal, canonicalise hosts, paths and addresses; and the
//! signed [`wire::PodPolicy`] that carries its result to a pod. No IO, no clock.
//!
//! Operator, sidecar, hands and CLI all use it, so there is one host matcher and one address classifier.

pub mod address;
pub mod base_url;
mod bind;
pub mod ceilings;
pub mod compile;
pub mod compose;
pub mod decide;
pub mod digest;
pub mod envelope;
pub mod extent;
pub mod grants;
pub mod host;
pub mod method;
pub mod path;
pub mod quantity;
pub mod refusal;
pub mod selector;
pub mod target;
pub mod template;
pub mod wire;

pub use compile::{Inputs, Problem, compile};
pub use decide::{Authorized, Request};
pub use digest::{digest, digest_of};
pub use envelope::keyring::Keyring;
pub use envelope::{SigningKey, VerifiedPolicy, VerifyingKey, sign, verify};
pub use refusal::Refusal;
