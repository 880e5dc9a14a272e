//! Logs: one JSON object per line on standard output, filtered by `RUST_LOG` (`info` unless set).

/// Starts logging. Called once, first thing in `main`.
pub fn start() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    // Only a second call can fail, and then logging runs already.
    let _ = tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter).try_init();
}
