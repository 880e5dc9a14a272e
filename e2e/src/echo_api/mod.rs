//! An upstream that requires a credential, shows what reached it, and misbehaves on demand.
//!
//! It reads and writes HTTP/1.1 itself: a stack would hide the exact bytes that arrived and would not send broken ones.
//! `wire` reads requests, `misbehaviour` says what can go wrong, `broken` writes it, `notes` is the well-behaved API.

mod broken;
mod gzip;
mod misbehaviour;
mod notes;
mod server;
mod wire;

pub use misbehaviour::{Kind, Misbehaviour};
pub use server::{Credential, EchoApi, Known, serve};
