//! How the processes of one pod talk: HTTP/1.1 over unix sockets whose peers are known by uid, bounded bodies, event
//! streams, refusals as JSON, and the last words of a process that cannot start.
//!
//! It knows no policy and no credential; brain and hands both link it.

pub mod body;
pub mod client;
pub mod fatal;
pub mod listen;
pub mod log;
pub mod reply;
pub mod sse;

pub use client::Client;
pub use listen::Listener;
