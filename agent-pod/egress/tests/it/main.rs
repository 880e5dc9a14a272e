//! The sidecar as a whole: a real socket, real TLS, a scripted Vault and scripted destinations. Only names and dialling are
//! replaced, so that private addresses stand for destinations on loopback; addresses are judged as ever.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may fail wherever it likes"
)]

mod callers;
mod credentials;
mod framing;
mod lifecycle;
mod metrics;
mod program;
mod reflection;
mod requests;
mod rotation;
mod stream;
mod support;
mod tunnels;
mod upstreams;
