//! The whole of Redoubt on a real cluster. Run through `e2e/cluster-tests`, one test at a time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod bad_input;
mod chart;
mod grammar;
mod guards;
mod ha;
mod hostile;
mod lifecycle;
mod neighbour;
mod revoked;
mod rights;
mod slice;

use redoubt_e2e::cluster::Cluster;

fn cluster() -> Cluster {
    Cluster::from_environment().expect("a cluster")
}
