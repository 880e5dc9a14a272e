//! The value that is looked for.

use std::io::Read;
use std::path::Path;

use zeroize::Zeroizing;

/// Shorter values, in bytes, would be found by chance.
pub const MIN_SECRET: usize = 8;
const MAX_SECRET: usize = 64 << 10;

/// A value to look for. Deliberately neither shown nor copied.
pub struct Secret(Zeroizing<Vec<u8>>);

/// A value that cannot be looked for.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It could not be read.
    #[error("cannot read the value: {0}")]
    Read(#[from] std::io::Error),
    /// Too short or too long.
    #[error("the value has {0} bytes; it must have {MIN_SECRET} to {MAX_SECRET}")]
    Length(usize),
}

impl Secret {
    /// A value of at least `MIN_SECRET` bytes.
    pub fn new(bytes: Vec<u8>) -> Result<Self, SecretError> {
        let bytes = Zeroizing::new(bytes);
        if (MIN_SECRET..=MAX_SECRET).contains(&bytes.len()) {
            Ok(Self(bytes))
        } else {
            Err(SecretError::Length(bytes.len()))
        }
    }

    /// Reads a value to its end; one line feed (or CR LF) at the end does not belong to it.
    pub fn read(source: &mut impl Read) -> Result<Self, SecretError> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_SECRET + 2));
        source.take(MAX_SECRET as u64 + 2).read_to_end(&mut bytes)?;
        let value = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        Self::new(value.strip_suffix(b"\r").unwrap_or(value).to_vec())
    }

    /// Reads a value from a file, as `read` does.
    pub fn from_file(path: &Path) -> Result<Self, SecretError> {
        Self::read(&mut std::fs::File::open(path)?)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}
