//! The scanner against an oracle that looks at the whole stream at once.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

mod oracle;
mod properties;
mod tables;
