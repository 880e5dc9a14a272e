//! The operator: dereference, validate, build, apply, update status.
//!
//! [`agent`] is the heart: five modules for the five steps of one visit to an Agent. [`stores`] holds what the API server
//! has told, [`index`] says which Agents a change touches, [`accept`] answers for the kinds that Agents refer to.
//!
//! One replica writes. Leader election is not here yet, so the chart runs one replica and recreates it on upgrade.

pub mod accept;
pub mod agent;
pub mod client;
pub mod conditions;
pub mod drift;
pub mod events;
pub mod health;
pub mod inbound;
pub mod index;
pub mod pending;
pub mod run;
pub mod signing;
pub mod stores;

pub use run::{Options, RunError, run};
