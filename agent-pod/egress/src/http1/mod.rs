//! HTTP/1 framing (RFC 9112), stricter than a library may be: what two parsers could read in two ways is refused before
//! the library sees it.

mod chunks;
mod framing;
mod guard;
mod response;

pub(crate) use framing::{HEAD_MAX, HEADER_LINES_MAX, Violation};
pub(crate) use guard::{Guard, MALFORMED_HEADER, MALFORMED_TARGET};
pub(crate) use response::ResponseGuard;
