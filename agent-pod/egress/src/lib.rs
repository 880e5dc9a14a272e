//! The egress sidecar: the only process of the pod with a network.
//!
//! Processes of the pod reach it on a unix socket and are told apart by their uid; the agent's callers reach it over TLS.
//! It judges every request by the signed policy, injects credentials that nobody else in the pod can see, takes them out
//! of what comes back, and records all of it. It says no whenever it cannot tell.

mod audit;
mod body;
mod ca;
mod clock;
pub mod config;
mod control_plane;
mod credentials;
mod fault;
mod follower;
mod fresh;
mod headers;
mod health;
mod http1;
mod inbound;
mod intake;
mod listen;
mod local;
mod metrics;
pub mod net;
mod operator;
mod peer;
mod policy;
mod pool;
pub mod process;
mod proxy;
mod refuse;
mod serve;
mod shared;
mod start;
mod strangers;
mod token;
mod trust;
mod tunnel;
mod upstream;
mod verdict;

pub use follower::Follower;
pub use fresh::Clock;
pub use metrics::IsOwn;
pub use start::{Egress, Seams};
