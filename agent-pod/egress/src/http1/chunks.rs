//! The chunked coding (RFC 9112 section 7.1) without extensions and trailers, checked byte by byte.

use super::framing::Violation;

/// Most hexadecimal digits of a chunk's size.
const SIZE_DIGITS_MAX: u8 = 8;

/// Where in a chunked body we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chunks {
    /// In the size, with so many digits read.
    Size { digits: u8, size: u64 },
    /// Before the LF after a size.
    SizeEnd { size: u64 },
    /// In the data, with so many bytes to come.
    Data { left: u64 },
    /// Before the CR after data.
    DataCr,
    /// Before the LF after data.
    DataLf,
    /// Before the CR after the last chunk.
    LastCr,
    /// Before the LF after the last chunk.
    LastLf,
    /// The body has ended.
    Done,
}

impl Chunks {
    /// At the beginning of a body.
    pub(crate) const START: Self = Self::Size { digits: 0, size: 0 };

    /// Reads on, and returns how many bytes belong to the body.
    pub(crate) fn advance(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if let Self::Data { left } = *self {
                let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - at);
                at += here;
                let left = left - here as u64;
                *self = if left == 0 { Self::DataCr } else { Self::Data { left } };
                continue;
            }
            *self = match (*self, byte) {
                (Self::Done, _) => return Ok(at),
                (Self::Size { digits, size }, b'\r') if digits > 0 => Self::SizeEnd { size },
                (Self::Size { digits, size }, digit) if digits < SIZE_DIGITS_MAX => {
                    let value = char::from(digit).to_digit(16).ok_or(Violation::Chunk)?;
                    Self::Size { digits: digits + 1, size: size * 16 + u64::from(value) }
                }
                (Self::SizeEnd { size: 0 }, b'\n') => Self::LastCr,
                (Self::SizeEnd { size }, b'\n') => Self::Data { left: size },
                (Self::DataCr, b'\r') => Self::DataLf,
                (Self::DataLf, b'\n') => Self::START,
                (Self::LastCr, b'\r') => Self::LastLf,
                (Self::LastLf, b'\n') => Self::Done,
                _ => return Err(Violation::Chunk),
            };
            at += 1;
        }
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &[u8], expected: Result<(usize, bool), Violation>) {
        let mut whole = Chunks::START;
        assert_eq!(whole.advance(text).map(|n| (n, whole == Chunks::Done)), expected, "{text:?}");
        let mut stepwise = Chunks::START;
        let mut read = Ok(0);
        for byte in text {
            read = match (read, stepwise.advance(&[*byte])) {
                (Ok(sum), Ok(n)) => Ok(sum + n),
                (Err(e), _) | (_, Err(e)) => Err(e),
            };
        }
        assert_eq!(read.map(|n| (n, stepwise == Chunks::Done)), expected, "{text:?} byte by byte");
    }

    #[test]
    fn chunked_bodies() {
        check(b"3\r\nabc\r\n0\r\n\r\nGET", Ok((13, true)));
        check(b"0\r\n\r\n", Ok((5, true)));
        check(b"A\r\n0123456789\r\n", Ok((15, false)));
        check(b"3;x=y\r\nabc\r\n0\r\n\r\n", Err(Violation::Chunk));
        check(b"3 \r\nabc", Err(Violation::Chunk));
        check(b"3\nabc", Err(Violation::Chunk));
        check(b"3\r\nabcd\r\n", Err(Violation::Chunk));
        check(b"\r\n", Err(Violation::Chunk));
        check(b"0x3\r\nabc", Err(Violation::Chunk));
        check(b"-3\r\nabc", Err(Violation::Chunk));
        check(b"fffffffff\r\n", Err(Violation::Chunk));
        check(b"0\r\nX: y\r\n\r\n", Err(Violation::Chunk));
    }
}
