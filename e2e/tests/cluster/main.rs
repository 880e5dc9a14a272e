//! The whole of Redoubt on a real cluster. Run through `e2e/cluster-tests`, one test at a time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod bad_input;
mod break_glass;
mod ceilings;
mod chart;
mod cli;
mod drift;
mod faults;
mod grammar;
mod guards;
mod ha;
mod hostile;
mod lifecycle;
mod metrics;
mod neighbour;
mod orders;
mod platform;
mod revisions;
mod revoked;
mod rights;
mod rotation;
mod slice;
mod stream;

use redoubt_e2e::cluster::Cluster;

fn cluster() -> Cluster {
    Cluster::from_environment().expect("a cluster")
}

/// Waits until it holds.
fn until(what: &str, seconds: u64, mut holds: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(seconds);
    while !holds() {
        assert!(std::time::Instant::now() < end, "{what}: it did not come about");
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
}
