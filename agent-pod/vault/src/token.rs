//! The pod's own token, and Vault's.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use tokio::time::Instant;
use zeroize::Zeroizing;

/// A projected token is a few KiB.
const MAX_POD_TOKEN_BYTES: u64 = 64 * 1024;

/// The pod's projected token, read anew for every login because the kubelet replaces it.
pub(crate) async fn pod_token(file: &Path) -> Result<Zeroizing<String>, String> {
    let failed =
        |error: std::io::Error| format!("the pod's token at {} cannot be read: {error}", file.display());
    let size = tokio::fs::metadata(file).await.map_err(failed)?.len();
    if size > MAX_POD_TOKEN_BYTES {
        return Err(format!(
            "the pod's token at {} is larger than {MAX_POD_TOKEN_BYTES} bytes",
            file.display()
        ));
    }
    let text = Zeroizing::new(tokio::fs::read_to_string(file).await.map_err(failed)?);
    let token = text.trim();
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if token.is_empty() || !token.bytes().all(fits) {
        return Err(format!("the file {} does not hold a token", file.display()));
    }
    Ok(Zeroizing::new(token.to_owned()))
}

/// Vault's token, as the header that carries it. Wiped on drop.
pub(crate) struct ClientToken(HeaderValue);

impl ClientToken {
    /// None if it cannot stand in a header.
    pub(crate) fn new(value: Zeroizing<Vec<u8>>) -> Option<Self> {
        if value.is_empty() {
            return None;
        }
        let mut header = HeaderValue::from_maybe_shared(Bytes::from_owner(value)).ok()?;
        header.set_sensitive(true);
        Some(Self(header))
    }

    /// Value of `X-Vault-Token`; the memory is shared, not copied.
    pub(crate) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

/// A token of Vault's and how long it lives.
pub(crate) struct Lease {
    pub(crate) token: ClientToken,
    pub(crate) renewable: bool,
    /// What Vault gave at login. Zero means for ever.
    pub(crate) duration: Duration,
    /// When it ends; none means never.
    pub(crate) expires: Option<Instant>,
}

impl Lease {
    /// From what Vault granted just now.
    pub(crate) fn new(token: ClientToken, renewable: bool, duration: Duration, now: Instant) -> Self {
        Self { token, renewable, duration, expires: end(duration, now) }
    }

    /// Vault granted this much more.
    pub(crate) fn extend(&mut self, duration: Duration, now: Instant) {
        self.expires = end(duration, now);
    }

    /// What is left; none means for ever.
    pub(crate) fn left(&self, now: Instant) -> Option<Duration> {
        self.expires.map(|expires| expires.saturating_duration_since(now))
    }

    /// Less than half is left.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.left(now).is_some_and(|left| left < self.duration / 2)
    }

    /// Nothing is left.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.left(now).is_some_and(|left| left.is_zero())
    }
}

fn end(duration: Duration, now: Instant) -> Option<Instant> {
    if duration.is_zero() { None } else { now.checked_add(duration) }
}
