//! The operator: dereference, validate, build, apply, update status.
//!
//! [`agent`] is the heart: five modules for the five steps of one visit to an Agent. [`stores`] holds what the API server
//! has told, [`index`] says which Agents a change touches, [`accept`] answers for the kinds that Agents refer to.
//!
//! Every replica watches everything; the one that [`lead`]s writes.

pub mod accept;
pub mod agent;
pub mod check;
pub mod client;
pub mod conditions;
pub mod drift;
pub mod events;
pub mod glass;
pub mod health;
pub mod inbound;
pub mod index;
pub mod lead;
pub mod metrics;
pub mod named;
pub mod pending;
pub mod plain;
pub mod run;
pub mod signing;
pub mod stores;
pub mod stream;
pub mod traces;

pub use run::{Options, RunError, run};
