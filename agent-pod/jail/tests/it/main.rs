//! The jail as processes: with rules taken out, and the binary before a sidecar.

mod binary;
mod page;
mod rig;
mod variants;
