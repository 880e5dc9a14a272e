//! Tests of the policy engine through its public API.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests; a failure here fails the test"
)]

mod bindings;
mod canonical;
mod ceilings;
mod compiled;
mod decisions;
mod grammar;
mod objects;
mod properties;
mod versions;
