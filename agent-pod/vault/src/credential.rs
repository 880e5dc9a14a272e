//! A credential's value.

use zeroize::Zeroizing;

/// Shorter values are refused, because the scanner cannot tell them from chance (`redoubt_scan::MIN_NEEDLE_BYTES`).
pub const MIN_CREDENTIAL_BYTES: usize = 8;

/// Longer values do not fit the headers that servers accept.
pub const MAX_CREDENTIAL_BYTES: usize = 16 * 1024;

/// Why a value cannot be injected and scanned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// A number, an object or anything else but text.
    #[error("it is not text")]
    NotText,
    /// No bytes.
    #[error("it is empty")]
    Empty,
    /// Under [`MIN_CREDENTIAL_BYTES`].
    #[error("it is shorter than {MIN_CREDENTIAL_BYTES} bytes, too short to be scanned for")]
    TooShort,
    /// Over [`MAX_CREDENTIAL_BYTES`].
    #[error("it is longer than {MAX_CREDENTIAL_BYTES} bytes, too long for a header")]
    TooLong,
    /// Carriage return or line feed at its end, the usual slip of `vault kv put key=@file`.
    #[error("it ends in a line break")]
    TrailingLineBreak,
    /// Characters below 0x20, or 0x7f.
    #[error("it has control characters, which cannot stand in a header")]
    ControlCharacters,
    /// Bytes above 0x7f.
    #[error("it has characters outside ASCII, which cannot stand in a header")]
    NotAscii,
    /// Blanks at either end, which HTTP removes (RFC 9110, 5.5).
    #[error("it begins or ends with a blank, which HTTP removes from a header")]
    OuterBlank,
}

/// A credential's value: 8 bytes to 16 KiB of printable ASCII, without blanks at its ends. Wiped on drop.
///
/// It cannot be printed, copied or serialised; [`Credential::expose`] is the one way to its bytes.
pub struct Credential(Zeroizing<Vec<u8>>);

impl Credential {
    /// Takes a value that can be injected and scanned for.
    ///
    /// # Errors
    /// If it cannot.
    pub fn new(value: Zeroizing<Vec<u8>>) -> Result<Self, Unusable> {
        if value.is_empty() {
            return Err(Unusable::Empty);
        }
        if matches!(value.last(), Some(b'\n' | b'\r')) {
            return Err(Unusable::TrailingLineBreak);
        }
        if value.iter().any(u8::is_ascii_control) {
            return Err(Unusable::ControlCharacters);
        }
        if !value.is_ascii() {
            return Err(Unusable::NotAscii);
        }
        if value.first() == Some(&b' ') || value.last() == Some(&b' ') {
            return Err(Unusable::OuterBlank);
        }
        if value.len() < MIN_CREDENTIAL_BYTES {
            return Err(Unusable::TooShort);
        }
        if value.len() > MAX_CREDENTIAL_BYTES {
            return Err(Unusable::TooLong);
        }
        Ok(Self(value))
    }

    /// The bytes, to inject or to look for. Whoever copies them must wipe the copy.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let check = |value: &str, expected: Result<(), Unusable>| {
            let given = Credential::new(Zeroizing::new(value.into())).map(drop);
            assert_eq!(given, expected, "{value:?}");
        };
        check("12345678", Ok(()));
        check("with a blank", Ok(()));
        check(&"x".repeat(MAX_CREDENTIAL_BYTES), Ok(()));
        check("", Err(Unusable::Empty));
        check("1234567", Err(Unusable::TooShort));
        check(&"x".repeat(MAX_CREDENTIAL_BYTES + 1), Err(Unusable::TooLong));
        check("12345678\n", Err(Unusable::TrailingLineBreak));
        check("12345678\r\n", Err(Unusable::TrailingLineBreak));
        check("1234\r\nX: 5678", Err(Unusable::ControlCharacters));
        check("1234\x005678", Err(Unusable::ControlCharacters));
        check("1234\x7f5678", Err(Unusable::ControlCharacters));
        check("1234567ü", Err(Unusable::NotAscii));
        check(" 12345678", Err(Unusable::OuterBlank));
        check("12345678 ", Err(Unusable::OuterBlank));
    }
}
