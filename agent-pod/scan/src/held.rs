//! Bytes of a stream that are not released yet.

use bytes::Bytes;
use zeroize::Zeroizing;

/// Bytes that may be the beginning of a value. Wiped when they go.
#[derive(Default)]
pub(crate) struct Held(Zeroizing<Vec<u8>>);

impl Held {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes a chunk and releases all but the last `keep` bytes. Without held bytes the chunk's memory is passed on.
    pub(crate) fn exchange(&mut self, chunk: Bytes, keep: usize) -> Bytes {
        if self.0.is_empty() {
            let mut released = chunk;
            let kept = released.split_off(released.len().saturating_sub(keep));
            self.0 = Zeroizing::new(kept.to_vec());
            return released;
        }
        let mut joined = Zeroizing::new(Vec::with_capacity(self.0.len() + chunk.len()));
        joined.extend_from_slice(&self.0);
        joined.extend_from_slice(&chunk);
        self.split(joined, keep)
    }

    /// As `exchange`, for a chunk that was changed; held bytes before it must be in it.
    pub(crate) fn split(&mut self, joined: Zeroizing<Vec<u8>>, keep: usize) -> Bytes {
        let (released, kept) =
            joined.split_at_checked(joined.len().saturating_sub(keep)).unwrap_or((&joined, &[]));
        let released = Bytes::copy_from_slice(released);
        self.0 = Zeroizing::new(kept.to_vec());
        released
    }

    /// The held bytes followed by a chunk.
    pub(crate) fn joined(&self, chunk: &[u8]) -> Zeroizing<Vec<u8>> {
        let mut joined = Zeroizing::new(Vec::with_capacity(self.0.len() + chunk.len()));
        joined.extend_from_slice(&self.0);
        joined.extend_from_slice(chunk);
        joined
    }

    /// Releases everything: the stream has ended.
    pub(crate) fn release(&mut self) -> Bytes {
        let released = Bytes::copy_from_slice(&self.0);
        self.0 = Zeroizing::default();
        released
    }

    /// Wipes everything.
    pub(crate) fn wipe(&mut self) {
        self.0 = Zeroizing::default();
    }
}
