//! Integration tests of the operator: the chart as it is installed.
#![allow(missing_docs, reason = "tests")]

mod chart;
