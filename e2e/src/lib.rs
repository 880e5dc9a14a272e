//! The local cluster, end-to-end tests, attack suites, controls, doubles.
//!
//! `model_double` and `echo_api` stand in for what a test cannot have: a language model that does what it is told, and
//! an upstream that shows what reached it. `bench` measures the operator at scale, `faults` lets requests to an API server fail. `search` looks for a secret where it must not be. `testing` starts the
//! doubles inside a test.

pub mod bench;
pub mod cluster;
pub mod control;
pub mod demo;
pub mod echo_api;
pub mod faults;
pub mod journal;
pub mod model_double;
pub mod pieces;
pub mod search;
pub mod serve;
pub mod testing;
