//! Every metric of Redoubt in one list, and the registry that they are counted in.
//!
//! A label's value is a `&'static str`: it was written in code, so no text of a user, an agent or a server can become one,
//! and the number of series is bounded by the lists here. `docs/reference/metrics.md` is printed from them by `cargo run
//! --package redoubt-metrics -- docs/reference/metrics.md`; a test fails when it differs.

pub mod egress;
pub mod operator;
pub mod process;
pub mod reference;
pub mod registry;
pub mod table;

pub use registry::{Counters, Exposition, Histograms, Sample};
pub use table::{Kind, Metric, Unit, Values};

/// Type of the exposition's text: OpenMetrics 1.0.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Every metric of every program.
pub fn all() -> impl Iterator<Item = &'static Metric> {
    [operator::ALL, egress::ALL, process::ALL].into_iter().flatten().copied()
}
