//! The scanner against an oracle that looks at the whole stream at once.

mod oracle;
mod properties;
mod tables;
