//! The local cluster, end-to-end tests, attack suites, controls, doubles.
