//! The two small HTTP/1.1 requests to the sidecar: one per connection, bounded in size and time.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest response, with its head, in bytes.
const LONGEST: u64 = 16 * 1024;

/// Longest wait for a part of the response.
const PATIENCE: Duration = Duration::from_secs(10);

/// Wait between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(50);

/// A request failed.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No one listened until the time was over.
    #[error("no connection: {0}")]
    Connect(#[source] io::Error),
    /// The connection broke or was silent too long.
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    /// The response is not one that this client reads.
    #[error("the response is not understood: {0}")]
    Response(&'static str),
}

/// A response.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Response {
    /// Status code.
    pub(crate) status: u16,
    /// Body, all of it.
    pub(crate) body: Vec<u8>,
}

/// Sends one request; a body is sent as JSON. Connecting is tried until `end`.
pub(crate) fn send(
    socket: &Path,
    method: &str,
    target: &str,
    body: Option<&[u8]>,
    end: Instant,
) -> Result<Response, HttpError> {
    let mut stream = connect(socket, end)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let body = body.unwrap_or_default();
    let mut request = format!("{method} {target} HTTP/1.1\r\nHost: egress\r\nConnection: close\r\n");
    if method != "GET" {
        request += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    }
    request += "\r\n";
    stream.write_all(request.as_bytes())?;
    stream.write_all(body)?;
    let mut response = Vec::new();
    stream.take(LONGEST + 1).read_to_end(&mut response)?;
    parse(&response)
}

fn connect(socket: &Path, end: Instant) -> Result<UnixStream, HttpError> {
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() >= end => return Err(HttpError::Connect(error)),
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// Reads a response (RFC 9112) that has a Content-Length; anything else is refused.
fn parse(bytes: &[u8]) -> Result<Response, HttpError> {
    if bytes.len() as u64 > LONGEST {
        return Err(HttpError::Response("it is too long"));
    }
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.ok_or(HttpError::Response("its head does not end"))?;
    let (head, rest) = bytes.split_at(end);
    let head = std::str::from_utf8(head).map_err(|_| HttpError::Response("its head is not text"))?;
    let mut lines = head.split("\r\n");
    let first = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 "));
    let status = first.and_then(|line| line.get(..3)).and_then(|status| status.parse().ok());
    let status = status.ok_or(HttpError::Response("it has no status"))?;
    let mut lengths = lines.filter_map(|line| line.split_once(':')).filter_map(|(name, value)| {
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok()).flatten()
    });
    let length = match (lengths.next(), lengths.next(), status) {
        (Some(length), None, _) => length,
        (None, None, 204) => 0,
        _ => return Err(HttpError::Response("it has no single Content-Length")),
    };
    let body = rest.get(4..).filter(|body| body.len() == length);
    let body = body.ok_or(HttpError::Response("its body has another length than it says"))?;
    Ok(Response { status, body: body.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses() {
        let check = |bytes: &[u8], expected: Result<(u16, &[u8]), &str>| {
            let found = parse(bytes);
            let found = found.as_ref().map(|response| (response.status, response.body.as_slice()));
            assert_eq!(
                found.map_err(|error| error.to_string()),
                expected.map_err(|text| { format!("the response is not understood: {text}") })
            );
        };
        check(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", Ok((200, b"{}")));
        check(b"HTTP/1.1 204 No Content\r\n\r\n", Ok((204, b"")));
        check(b"HTTP/1.1 403 Forbidden\r\ncontent-length:0\r\n\r\n", Ok((403, b"")));
        check(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{",
            Err("its body has another length than it says"),
        );
        check(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}x",
            Err("its body has another length than it says"),
        );
        check(b"HTTP/1.1 200 OK\r\n\r\n{}", Err("it has no single Content-Length"));
        check(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
            Err("it has no single Content-Length"),
        );
        check(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", Err("its head does not end"));
        check(b"HTTP/1.1 xyz OK\r\n\r\n", Err("it has no status"));
        check(b"SSH-2.0-x\r\n\r\n", Err("it has no status"));
        check(b"", Err("its head does not end"));
        check(&vec![b'a'; LONGEST as usize + 1], Err("it is too long"));
    }
}
