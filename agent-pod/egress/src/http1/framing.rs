//! What a message's head says about where the message ends, or why it cannot be trusted with that.

/// Longest head of a message, in bytes.
pub(crate) const HEAD_MAX: usize = 64 * 1024;
/// Longest first line, in bytes.
pub(crate) const REQUEST_LINE_MAX: usize = 16 * 1024;
/// Most header lines of a message.
pub(crate) const HEADER_LINES_MAX: usize = 100;

/// Where the body ends that follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// After this many bytes.
    Length(u64),
    /// After the last chunk.
    Chunked,
    /// Nothing but bytes from here on, if the request is granted.
    Connect,
}

/// What is wrong with a message. The names are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    #[error("a line does not end with CR LF, or holds a bare CR, LF or NUL")]
    LineEnd,
    #[error("the first line is not that of an HTTP/1.0 or HTTP/1.1 message")]
    StartLine,
    #[error("a header line is not NAME: VALUE with a token as name")]
    HeaderLine,
    #[error("Content-Length is not one decimal number, or is there twice")]
    ContentLength,
    #[error("Transfer-Encoding is not chunked, is there twice, or is used with HTTP/1.0")]
    TransferEncoding,
    #[error("there are both Content-Length and Transfer-Encoding")]
    LengthTwice,
    #[error("there is not exactly one Host header")]
    Host,
    #[error("the first line has more than {REQUEST_LINE_MAX} bytes")]
    LineTooLong,
    #[error("the head has more than {HEAD_MAX} bytes or {HEADER_LINES_MAX} lines")]
    HeadTooLarge,
    #[error("a chunk is malformed, has an extension, or is followed by trailers")]
    Chunk,
    #[error("the status was not asked for: protocols are not switched")]
    Switching,
}

impl Violation {
    const ALL: [Self; 11] = [
        Self::LineEnd,
        Self::StartLine,
        Self::HeaderLine,
        Self::ContentLength,
        Self::TransferEncoding,
        Self::LengthTwice,
        Self::Host,
        Self::LineTooLong,
        Self::HeadTooLarge,
        Self::Chunk,
        Self::Switching,
    ];

    /// A short name for it.
    pub(crate) fn name(self) -> String {
        format!("{self:?}")
    }

    /// The violation of that name.
    pub(crate) fn named(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name().as_bytes() == name)
    }

    /// HTTP status of the answer to such a request.
    pub(crate) fn status(self) -> http::StatusCode {
        match self {
            Self::LineTooLong => http::StatusCode::URI_TOO_LONG,
            Self::HeadTooLarge => http::StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            _ => http::StatusCode::BAD_REQUEST,
        }
    }
}

/// How far the search for the end of a head is, so that each byte is looked at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Search {
    seen: usize,
    line: usize,
}

impl Search {
    /// Where the head that `bytes` begin with ends: the offset after its empty line. None if it goes on.
    pub(crate) fn end_of_head(&mut self, bytes: &[u8]) -> Result<Option<usize>, Violation> {
        for (at, byte) in bytes.iter().enumerate().skip(self.seen) {
            if *byte == 0 {
                return Err(Violation::LineEnd);
            }
            if *byte != b'\n' {
                continue;
            }
            let line = bytes.get(self.line..at).unwrap_or_default();
            match line.strip_suffix(b"\r") {
                None => return Err(Violation::LineEnd),
                Some([]) => return Ok(Some(at + 1)),
                Some(_) => self.line = at + 1,
            }
        }
        self.seen = bytes.len();
        if bytes.len() > HEAD_MAX {
            let first = bytes.iter().position(|b| *b == b'\n').unwrap_or(bytes.len());
            return Err(if first > REQUEST_LINE_MAX {
                Violation::LineTooLong
            } else {
                Violation::HeadTooLarge
            });
        }
        Ok(None)
    }
}

/// Judges the whole head of a request.
pub(crate) fn request(head: &[u8]) -> Result<Framing, Violation> {
    let (first, lines) = split(head)?;
    let mut words = first.split(|b| *b == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Violation::StartLine);
    };
    let http_1_0 = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        _ => return Err(Violation::StartLine),
    };
    let plain = |b: &u8| b.is_ascii_graphic() && !matches!(b, b'\\' | b'#' | b'"' | b'<' | b'>');
    if !is_token(method) || target.is_empty() || !target.iter().all(plain) {
        return Err(Violation::StartLine);
    }
    let fields = Fields::read(&lines)?;
    let connect = method == b"CONNECT";
    if fields.hosts > 1 || (fields.hosts == 0 && !http_1_0 && !connect) {
        return Err(Violation::Host);
    }
    match (fields.length, fields.chunked) {
        (Some(_), true) => Err(Violation::LengthTwice),
        (_, true) if http_1_0 => Err(Violation::TransferEncoding),
        (Some(_), _) | (_, true) if connect => Err(Violation::ContentLength),
        _ if connect => Ok(Framing::Connect),
        (_, true) => Ok(Framing::Chunked),
        (length, false) => Ok(Framing::Length(length.unwrap_or(0))),
    }
}

/// Judges the whole head of a response. Returns its status.
pub(crate) fn response(head: &[u8]) -> Result<u16, Violation> {
    let (first, lines) = split(head)?;
    let (http_1_0, rest) = match (first.strip_prefix(b"HTTP/1.1 "), first.strip_prefix(b"HTTP/1.0 ")) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        _ => return Err(Violation::StartLine),
    };
    let status = match rest {
        [a @ b'1'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9']
        | [a @ b'1'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9', b' ', ..] => {
            [a, b, c].into_iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'))
        }
        _ => return Err(Violation::StartLine),
    };
    let fields = Fields::read(&lines)?;
    match (fields.length, fields.chunked) {
        _ if status == 101 => Err(Violation::Switching),
        (Some(_), true) => Err(Violation::LengthTwice),
        (_, true) if http_1_0 => Err(Violation::TransferEncoding),
        _ => Ok(status),
    }
}

/// First line and header lines, without their ends.
fn split(head: &[u8]) -> Result<(&[u8], Vec<&[u8]>), Violation> {
    let head = head.strip_suffix(b"\r\n\r\n").ok_or(Violation::LineEnd)?;
    let mut lines = head.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let first = lines.next().unwrap_or_default();
    let lines: Vec<_> = lines.collect();
    if first.len() > REQUEST_LINE_MAX {
        return Err(Violation::LineTooLong);
    }
    if lines.len() > HEADER_LINES_MAX || head.len() > HEAD_MAX {
        return Err(Violation::HeadTooLarge);
    }
    if first.contains(&b'\r') || lines.iter().any(|line| line.contains(&b'\r')) {
        return Err(Violation::LineEnd);
    }
    Ok((first, lines))
}

#[derive(Default)]
struct Fields {
    hosts: usize,
    length: Option<u64>,
    chunked: bool,
}

impl Fields {
    fn read(lines: &[&[u8]]) -> Result<Self, Violation> {
        let mut fields = Self::default();
        for line in lines {
            let colon = line.iter().position(|b| *b == b':').ok_or(Violation::HeaderLine)?;
            let (name, value) = line.split_at_checked(colon).ok_or(Violation::HeaderLine)?;
            let value = value.get(1..).unwrap_or_default();
            if !is_token(name) || value.iter().any(|b| (*b < b' ' && *b != b'\t') || *b == 0x7f) {
                return Err(Violation::HeaderLine);
            }
            // Exactly the white space of RFC 9110; for numbers only one space, as everybody writes it.
            let text = value.trim_ascii();
            if name.eq_ignore_ascii_case(b"host") {
                fields.hosts += 1;
            } else if name.eq_ignore_ascii_case(b"content-length") {
                let number = value.strip_prefix(b" ").unwrap_or(value);
                if fields.length.replace(decimal(number)?).is_some() {
                    return Err(Violation::ContentLength);
                }
            } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
                if fields.chunked || !text.eq_ignore_ascii_case(b"chunked") {
                    return Err(Violation::TransferEncoding);
                }
                fields.chunked = true;
            }
        }
        Ok(fields)
    }
}

fn decimal(text: &[u8]) -> Result<u64, Violation> {
    if text.is_empty() || text.len() > 19 || !text.iter().all(u8::is_ascii_digit) {
        return Err(Violation::ContentLength);
    }
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(Violation::ContentLength)
}

fn is_token(text: &[u8]) -> bool {
    let tchar = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    !text.is_empty() && text.iter().all(tchar)
}

#[cfg(test)]
mod tests;
