//! Integration tests of the operator: the chart as it is installed, the metrics as they are scraped.
#![allow(missing_docs, clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]

mod chart;
mod metrics;
mod rendered;
mod traces;
