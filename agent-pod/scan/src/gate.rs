//! Lets a stream through as long as no value is in it.

use std::sync::Arc;

use bytes::Bytes;

use crate::detector::{Detector, Found};
use crate::held::Held;
use crate::needles::Needles;

/// A [`Detector`] with the bytes of its stream: what comes out holds no value and no beginning of one that was found.
pub struct Gate {
    detector: Detector,
    held: Held,
    released: u64,
}

impl Gate {
    /// At the beginning of a stream.
    #[must_use]
    pub fn new(needles: Arc<Needles>) -> Self {
        Self { detector: Detector::new(needles), held: Held::default(), released: 0 }
    }

    /// Takes the next chunk and gives what is safe, which may be nothing.
    ///
    /// # Errors
    /// If a value is in the stream. Nothing comes out any more.
    pub fn push(&mut self, chunk: Bytes) -> Result<Bytes, Found> {
        let safe = self.detector.push(&chunk).inspect_err(|_| self.held.wipe())?;
        let now = usize::try_from(safe.saturating_sub(self.released)).unwrap_or(usize::MAX);
        let keep = (self.held.len() + chunk.len()).saturating_sub(now);
        let out = self.held.exchange(chunk, keep);
        self.released = safe;
        Ok(out)
    }

    /// The stream has ended: gives what was held back.
    pub fn finish(mut self) -> Bytes {
        self.held.release()
    }
}
