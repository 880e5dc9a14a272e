//! Streaming search for secret values in both directions. No IO.
