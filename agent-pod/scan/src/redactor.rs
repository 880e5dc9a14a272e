//! Overwrites values in a stream.

use std::sync::Arc;

use bytes::Bytes;

use crate::automaton::Cursor;
use crate::held::Held;
use crate::needles::Needles;

/// What stands in place of each byte of a value.
pub const MASK: u8 = b'*';

/// Overwrites every byte of every occurrence of a value with [`MASK`], whatever the stream's chunks. Lengths stay.
pub struct Redactor {
    needles: Arc<Needles>,
    cursor: Option<Cursor>,
    held: Held,
    hits: Vec<u64>,
}

impl Redactor {
    /// At the beginning of a stream.
    #[must_use]
    pub fn new(needles: Arc<Needles>) -> Self {
        let cursor = needles.start();
        let hits = vec![0; needles.len()];
        Self { needles, cursor, held: Held::default(), hits }
    }

    /// Takes the next chunk and gives what is safe, which may be nothing.
    pub fn push(&mut self, chunk: Bytes) -> Bytes {
        let (Some(automata), Some(cursor)) = (self.needles.automata(), self.cursor.as_mut()) else {
            return chunk;
        };
        let before = self.held.len();
        let mut spans = Vec::new();
        automata.run(cursor, &chunk, |hit| {
            let end = before + hit.end;
            spans.push(end.saturating_sub(hit.longest.1)..end);
            for needle in hit.all {
                if let Some(count) = self.hits.get_mut(*needle) {
                    *count += 1;
                }
            }
            true
        });
        let keep = automata.depth(*cursor);
        if spans.is_empty() {
            return self.held.exchange(chunk, keep);
        }
        let mut joined = self.held.joined(&chunk);
        for span in spans {
            // A value that ends here began at most one depth before, which is held back, so the span is in range.
            if let Some(bytes) = joined.get_mut(span) {
                bytes.fill(MASK);
            }
        }
        self.held.split(joined, keep)
    }

    /// The stream has ended: gives what was held back.
    pub fn finish(&mut self) -> Bytes {
        self.held.release()
    }

    /// Occurrences so far, overlapping ones too.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.hits.iter().sum()
    }

    /// Positions of the values that occurred, in the input of [`Needles::new`].
    pub fn found(&self) -> impl Iterator<Item = usize> + '_ {
        self.hits.iter().enumerate().filter(|(_, count)| **count > 0).map(|(index, _)| index)
    }
}
