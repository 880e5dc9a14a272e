//! The jail around Redoubt's own processes, the brain and the hands.
//!
//! `redoubt-jail` takes every way out but the unix sockets from itself ([`restrict`]), tries each forbidden way
//! ([`selftest`]), tells the egress sidecar what happened ([`verdict`]) and only then becomes the command ([`run`]).
//!
//! One rule is one [`rules::Rule`]. What seccomp allows is the list in [`allowed`]; everything else is refused with
//! [`filter::REFUSED`], also calls that no one has thought of. The list of [`checks`] is the specification: each of
//! them fails when the rules it names are taken out, and only then.
//!
//! It is not a jail for foreign images: those need internet sockets that are mediated by a supervisor.

pub mod allowed;
pub mod args;
pub mod checks;
pub mod denied;
pub mod fence;
pub mod filter;
mod http;
pub mod outside;
pub mod report;
pub mod restrict;
pub mod rules;
pub mod run;
pub mod selftest;
mod sys;
mod trials;
pub mod verdict;
