//! Looks for a secret where it must not be: in the memory of processes, in files, in streams.
//!
//! It is looked for in plain, base64 (standard and URL-safe, at all three alignments), hex (both cases) and percent
//! form (every byte, or those that need it; both cases), each also of the value in reverse. Not looked for: the value
//! in pieces, compressed, encrypted, or in base64 broken into lines.
//!
//! A place that could not be read is reported and is never taken for an empty one. Reports name places and offsets,
//! never the value.

mod container;
mod files;
mod forms;
mod maps;
mod memory;
mod report;
mod scanner;
mod secret;

pub use container::{ContainerError, processes_of_container};
pub use files::{search_path, search_stream};
pub use forms::{Needles, forms};
pub use memory::search_process;
pub use report::{Finding, Report, Unread, Verdict};
pub use secret::{MIN_SECRET, Secret, SecretError};
