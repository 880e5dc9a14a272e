//! Looks for values in a stream that must not hold any.

use std::sync::Arc;

use crate::automaton::Cursor;
use crate::needles::Needles;

/// A value was found. The stream must not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("value {needle} is in the stream")]
pub struct Found {
    /// Position of the value in the input of [`Needles::new`].
    pub needle: usize,
    /// Bytes of the stream up to and including the value.
    pub end: u64,
}

/// Looks for values in a stream, whatever its chunks. Once it has found one, it finds it for ever.
pub struct Detector {
    needles: Arc<Needles>,
    cursor: Option<Cursor>,
    read: u64,
    found: Option<Found>,
}

impl Detector {
    /// At the beginning of a stream.
    #[must_use]
    pub fn new(needles: Arc<Needles>) -> Self {
        let cursor = needles.start();
        Self { needles, cursor, read: 0, found: None }
    }

    /// Reads the next chunk. Returns how many bytes of the stream are safe to release *by now*, counted from its
    /// beginning; the rest may be the beginning of a value, and is safe if the stream ends here.
    ///
    /// # Errors
    /// If a value ends in this chunk or an earlier one.
    pub fn push(&mut self, chunk: &[u8]) -> Result<u64, Found> {
        if let Some(found) = self.found {
            return Err(found);
        }
        let before = self.read;
        self.read = before.saturating_add(len(chunk));
        let (Some(automata), Some(cursor)) = (self.needles.automata(), self.cursor.as_mut()) else {
            return Ok(self.read);
        };
        let mut found = None;
        automata.run(cursor, chunk, |hit| {
            let end = before.saturating_add(u64::try_from(hit.end).unwrap_or(u64::MAX));
            found = Some(Found { needle: hit.longest.0, end });
            false
        });
        if let Some(found) = found {
            self.found = Some(found);
            return Err(found);
        }
        let held = u64::try_from(automata.depth(*cursor)).unwrap_or(u64::MAX);
        Ok(self.read.saturating_sub(held))
    }
}

fn len(chunk: &[u8]) -> u64 {
    u64::try_from(chunk.len()).unwrap_or(u64::MAX)
}
