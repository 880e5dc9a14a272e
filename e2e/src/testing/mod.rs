//! Starting the doubles inside a test: on free loopback ports, ended when dropped.

mod ca;
mod start;

pub use ca::{Ca, CaError, ServerCert};
pub use start::{Started, start_echo_api, start_model_double};
