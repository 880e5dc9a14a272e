//! The client against a real Vault, with the Kubernetes auth method against a real API server, on loopback.
//!
//! The programs are those of the local cluster: `e2e/cluster/build` makes them, `REDOUBT_BIN` says where they are.

mod bad_server;
mod cluster;
mod faults;
mod lifecycle;
mod process;
mod vault;
