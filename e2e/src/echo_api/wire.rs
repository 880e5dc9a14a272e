//! HTTP/1.1 messages (RFC 9112), read plainly: header names as sent, repeated ones kept, nothing normalised.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The largest head, in bytes.
pub(super) const MAX_HEAD: usize = 64 << 10;
/// The largest body, in bytes.
pub(super) const MAX_BODY: usize = 16 << 20;

/// A request as it arrived.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Message {
    /// Method.
    pub(super) method: String,
    /// Target as sent.
    pub(super) target: String,
    /// Names as sent, and values.
    pub(super) headers: Vec<(String, String)>,
    /// Body without its framing.
    pub(super) body: Vec<u8>,
}

impl Message {
    /// All values of a header.
    pub(super) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |header| header.0.eq_ignore_ascii_case(name))
            .map(|header| header.1.as_str())
    }

    /// Path of the target.
    pub(super) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Query of the target.
    pub(super) fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |parts| parts.1)
    }
}

/// What is wrong with what arrived. The double answers 400 with it and closes.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    /// Reading failed or the peer left in the middle.
    #[error("connection: {0}")]
    Io(#[from] std::io::Error),
    /// Not HTTP/1.1 as the RFC has it.
    #[error("{0}")]
    Malformed(&'static str),
}

/// The read half of a connection, with bytes of the next message kept.
#[derive(Default)]
pub(super) struct Reader {
    buffer: Vec<u8>,
}

impl Reader {
    /// The next request; `None` when the peer is done. What was read of a malformed one is lost.
    pub(super) async fn next<S: AsyncRead + AsyncWrite + Unpin + ?Sized>(
        &mut self,
        stream: &mut S,
    ) -> Result<Option<Message>, WireError> {
        let end = loop {
            if let Some(place) = find(&self.buffer, b"\r\n\r\n") {
                break place;
            }
            if self.buffer.len() > MAX_HEAD {
                return Err(WireError::Malformed("the head is too large"));
            }
            if self.fill(stream).await? == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(WireError::Malformed("the head ends too early"))
                };
            }
        };
        let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
        let mut message = parse_head(head.get(..end).unwrap_or_default())?;
        let body = framing(&message)?;
        if body != Framing::Length(0) && message.values("expect").any(|value| value == "100-continue") {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
            stream.flush().await?;
        }
        message.body = match body {
            Framing::Length(length) => self.exactly(stream, length).await?,
            Framing::Chunked => self.chunks(stream).await?,
        };
        Ok(Some(message))
    }

    async fn fill<S: AsyncRead + Unpin + ?Sized>(&mut self, stream: &mut S) -> std::io::Result<usize> {
        let mut space = [0; 8192];
        let count = stream.read(&mut space).await?;
        self.buffer.extend_from_slice(space.get(..count).unwrap_or_default());
        Ok(count)
    }

    async fn exactly<S: AsyncRead + Unpin + ?Sized>(
        &mut self,
        stream: &mut S,
        length: usize,
    ) -> Result<Vec<u8>, WireError> {
        if length > MAX_BODY {
            return Err(WireError::Malformed("the body is too large"));
        }
        while self.buffer.len() < length {
            if self.fill(stream).await? == 0 {
                return Err(WireError::Malformed("the body ends too early"));
            }
        }
        Ok(self.buffer.drain(..length).collect())
    }

    async fn line<S: AsyncRead + Unpin + ?Sized>(&mut self, stream: &mut S) -> Result<Vec<u8>, WireError> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                let mut line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                line.truncate(end);
                return Ok(line);
            }
            if self.buffer.len() > MAX_HEAD || self.fill(stream).await? == 0 {
                return Err(WireError::Malformed("a line of the chunked body does not end"));
            }
        }
    }

    async fn chunks<S: AsyncRead + Unpin + ?Sized>(&mut self, stream: &mut S) -> Result<Vec<u8>, WireError> {
        let mut body = Vec::new();
        loop {
            let line = self.line(stream).await?;
            let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
            let size =
                std::str::from_utf8(size).ok().and_then(|text| usize::from_str_radix(text.trim(), 16).ok());
            let size = size.ok_or(WireError::Malformed("the size of a chunk is not hexadecimal"))?;
            if size.saturating_add(body.len()) > MAX_BODY {
                return Err(WireError::Malformed("the body is too large"));
            }
            if size == 0 {
                while !self.line(stream).await?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.exactly(stream, size).await?);
            if !self.line(stream).await?.is_empty() {
                return Err(WireError::Malformed("a chunk is longer than its size"));
            }
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn parse_head(head: &[u8]) -> Result<Message, WireError> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let mut words = first.split(' ');
    let (Some(method), Some(target), Some("HTTP/1.1" | "HTTP/1.0"), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(WireError::Malformed("the request line is not METHOD TARGET HTTP/1.1"));
    };
    let mut headers = Vec::new();
    for line in lines {
        match line.split_once(':') {
            Some((name, value)) if !name.is_empty() && !name.contains([' ', '\t']) => {
                headers.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
            }
            _ => return Err(WireError::Malformed("a header line is not NAME: VALUE")),
        }
    }
    Ok(Message { method: method.to_owned(), target: target.to_owned(), headers, body: Vec::new() })
}

#[derive(Debug, PartialEq)]
enum Framing {
    Length(usize),
    Chunked,
}

fn framing(message: &Message) -> Result<Framing, WireError> {
    let lengths: Vec<&str> = message.values("content-length").collect();
    let codings: Vec<&str> = message.values("transfer-encoding").collect();
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Ok(Framing::Length(0)),
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
        ([length], []) if length.bytes().all(|byte| byte.is_ascii_digit()) => length
            .parse()
            .map(Framing::Length)
            .map_err(|_| WireError::Malformed("Content-Length is not a number")),
        _ => Err(WireError::Malformed("more than one framing of the body, or an unknown one")),
    }
}

/// A response with `Content-Length`.
pub(super) fn response(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes = head(status, headers);
    bytes.extend(format!("content-length: {}\r\n\r\n", body.len()).bytes());
    bytes.extend(body);
    bytes
}

/// Status line and headers of a response, without the empty line.
pub(super) fn head(status: u16, headers: &[(&str, &str)]) -> Vec<u8> {
    let reason =
        http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("-");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("HTTP/1.1 {status} {reason}\r\n{lines}").into_bytes()
}

/// One chunk of a chunked body; an empty one would end it.
pub(super) fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(input: &str, expected: &str) {
        let (mut ours, mut theirs) = tokio::io::duplex(1 << 16);
        theirs.write_all(input.as_bytes()).await.unwrap();
        theirs.shutdown().await.unwrap();
        let mut reader = Reader::default();
        let mut got = String::new();
        loop {
            match reader.next(&mut ours).await {
                Ok(None) => break,
                Ok(Some(message)) => {
                    let body = String::from_utf8_lossy(&message.body).into_owned();
                    got += &format!("{} {} {};", message.method, message.target, body);
                }
                Err(error) => {
                    got += &error.to_string();
                    break;
                }
            }
        }
        assert_eq!(got, expected, "{input}");
    }

    #[tokio::test]
    async fn requests_are_read_and_smuggling_is_refused() {
        check("GET /a HTTP/1.1\r\nA: b\r\n\r\nGET /b?c HTTP/1.1\r\n\r\n", "GET /a ;GET /b?c ;").await;
        check("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "POST / abc;").await;
        check(
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\nT: v\r\n\r\n",
            "POST / abc;",
        )
        .await;
        const TWICE: &str = "more than one framing of the body, or an unknown one";
        check("POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", TWICE)
            .await;
        check("POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", TWICE).await;
        check("POST / HTTP/1.1\r\nContent-Length: +3\r\n\r\nabc", TWICE).await;
        check("POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nabc", "the body ends too early").await;
        check("GET / HTTP/1.1\r\nA : b\r\n\r\n", "a header line is not NAME: VALUE").await;
        check("GET  / HTTP/1.1\r\n\r\n", "the request line is not METHOD TARGET HTTP/1.1").await;
    }
}
