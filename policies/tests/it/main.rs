//! Tests of the policy engine through its public API.

mod bindings;
mod canonical;
mod compiled;
mod decisions;
mod grammar;
mod objects;
mod properties;
