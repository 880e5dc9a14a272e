//! Streaming search for secret values in both directions. No IO.
//!
//! [`Needles`] is a set of values, [`Detector`] looks for them in a stream that must not hold any, [`Gate`] is a detector
//! that keeps the bytes meanwhile, and [`Redactor`] overwrites them in a stream that may. Values are looked for as plain
//! bytes; an encoded value is another value.
//!
//! # What stays in memory
//! The automaton is built from the values and has their bytes in its tables and its prefilter. They cannot be wiped
//! before they are freed. So a [`Needles`] is as secret as what it was made from, and is only ever made in the process that
//! holds the credentials anyway. It keeps no other copy. Nothing in this crate can be printed, copied or serialised into a
//! value. What a [`Gate`] or [`Redactor`] holds back may be the beginning of a value; it is wiped on drop.

mod automaton;
mod detector;
mod gate;
mod held;
mod needles;
mod redactor;

pub use detector::{Detector, Found};
pub use gate::Gate;
pub use needles::{MAX_NEEDLE_BYTES, MIN_NEEDLE_BYTES, NeedleError, Needles};
pub use redactor::{MASK, Redactor};
