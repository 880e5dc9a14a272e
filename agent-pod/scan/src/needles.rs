//! The values to look for.

use crate::automaton::{Automata, Cursor};

/// Shorter values cannot be told from chance: they would be found in innocent traffic.
pub const MIN_NEEDLE_BYTES: usize = 8;

/// Longer values are no credentials, and a stream could be held back by that much.
pub const MAX_NEEDLE_BYTES: usize = 16 * 1024;

/// Why a set of values cannot be looked for. Needles are named by their position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NeedleError {
    /// Under [`MIN_NEEDLE_BYTES`].
    #[error("value {index} has {len} bytes; at least {MIN_NEEDLE_BYTES} are needed to look for it")]
    TooShort {
        /// Position in the input.
        index: usize,
        /// Its bytes.
        len: usize,
    },
    /// Over [`MAX_NEEDLE_BYTES`].
    #[error("value {index} has {len} bytes; at most {MAX_NEEDLE_BYTES} can be looked for")]
    TooLong {
        /// Position in the input.
        index: usize,
        /// Its bytes.
        len: usize,
    },
    /// Together they are too large for an automaton.
    #[error("the values are too many or too long to look for together")]
    TooLarge,
}

/// A set of values to look for. Not printable, not copyable: share it in an `Arc`.
pub struct Needles {
    /// None without values, so that nothing is ever found.
    automata: Option<Automata>,
}

impl Needles {
    /// Prepares to look for these values. No value at all is fine: nothing will be found.
    ///
    /// # Errors
    /// If a value is too short or too long, or all of them are too large together.
    pub fn new<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, NeedleError> {
        let values: Vec<&[u8]> = values.into_iter().collect();
        for (index, value) in values.iter().enumerate() {
            let len = value.len();
            if len < MIN_NEEDLE_BYTES {
                return Err(NeedleError::TooShort { index, len });
            }
            if len > MAX_NEEDLE_BYTES {
                return Err(NeedleError::TooLong { index, len });
            }
        }
        if values.is_empty() {
            return Ok(Self { automata: None });
        }
        let automata = Automata::build(&values).ok_or(NeedleError::TooLarge)?;
        Ok(Self { automata: Some(automata) })
    }

    /// How many values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.automata.as_ref().map_or(0, Automata::len)
    }

    /// Whether there is nothing to look for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.automata.is_none()
    }

    /// Whether one of the values is in these bytes.
    #[must_use]
    pub fn contains(&self, bytes: &[u8]) -> bool {
        self.find(bytes).is_some()
    }

    /// The position of a value that is in these bytes: of the one that ends first, and of those the longest.
    #[must_use]
    pub fn find(&self, bytes: &[u8]) -> Option<usize> {
        let automata = self.automata.as_ref()?;
        let mut found = None;
        automata.run(&mut automata.start(), bytes, |hit| {
            found = Some(hit.longest.0);
            false
        });
        found
    }

    /// Where a stream begins.
    pub(crate) fn start(&self) -> Option<Cursor> {
        self.automata.as_ref().map(Automata::start)
    }

    /// The search itself.
    pub(crate) fn automata(&self) -> Option<&Automata> {
        self.automata.as_ref()
    }
}
