//! The jail as processes: with rules taken out, and the binary before a sidecar.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests, which clippy does not know as such

mod binary;
mod page;
mod rig;
mod variants;
