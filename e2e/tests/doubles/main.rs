//! The doubles and the searcher, proven from outside: with the official SDK, over real connections, on live processes.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "clippy allows these in test functions, but not in what they share"
)]

mod certs;
mod echo;
mod model;
mod search;

/// An empty folder for one test.
fn folder(name: &str) -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("redoubt-doubles-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}
