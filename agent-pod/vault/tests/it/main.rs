//! The client against a real Vault, with the Kubernetes auth method against a real API server, on loopback.
//!
//! The programs are those of the local cluster: `e2e/cluster/build` makes them, `REDOUBT_BIN` says where they are.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

mod bad_server;
mod cluster;
mod faults;
mod lifecycle;
mod names;
mod process;
mod vault;
