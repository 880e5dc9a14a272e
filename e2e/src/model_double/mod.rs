//! A language model that says what it is told to say: OpenAI's chat completions API over HTTP or HTTPS.
//!
//! `script` and `builtin` are the two sources of answers, `choose` finds the step of a script, `render` writes the wire
//! format, `server` moves the bytes.

mod builtin;
mod chat;
mod choose;
mod render;
mod reply;
pub mod script;
mod server;

pub use builtin::{GULLIBLE, MAX_TIMES, SAY_AND_CALL};
pub use server::{ModelDouble, Settings, serve};
