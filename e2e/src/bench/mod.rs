//! Benchmark of the operator at scale, on a real API server with simulated nodes and pods: `e2e/bench/run`.

pub mod audit;
pub mod floor;
mod load;
pub mod process;
mod report;
mod scenarios;
mod seen;
mod sidecars;

pub use scenarios::{Bench, Options, Scenario};

/// Why the benchmark cannot go on.
#[derive(Debug)]
pub struct Failure(Box<dyn std::error::Error + Send + Sync>);

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Failure {}

macro_rules! failures {
    ($($from:ty),*) => {$(
        impl From<$from> for Failure {
            fn from(error: $from) -> Self {
                Self(error.into())
            }
        }
    )*};
}
failures!(
    std::io::Error,
    kube::Error,
    serde_json::Error,
    rustix::io::Errno,
    tokio::task::JoinError,
    String,
    &str
);
