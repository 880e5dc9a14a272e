//! Stands between a client's connection and the HTTP library, and lets only well framed requests through.
//!
//! A malformed head is replaced by a request of our own that can only be refused, so that the answer, its record and its
//! place behind earlier answers are made where all others are. Nothing after it is read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::chunks::Chunks;
use super::framing::{Framing, Search, Violation, request};

/// Target of the request that stands for a malformed one.
pub(crate) const MALFORMED_TARGET: &str = "/.redoubt/malformed";
/// Its header with the name of the violation.
pub(crate) const MALFORMED_HEADER: &str = "redoubt-malformed";

const READ_SIZE: usize = 16 * 1024;

/// A connection whose requests are checked as they are read.
pub(crate) struct Guard<T> {
    io: T,
    state: State,
    /// Read and not judged.
    raw: BytesMut,
    /// Judged and not taken.
    ready: BytesMut,
    /// Comes after what is judged.
    fault: Option<Violation>,
    /// Whether `CONNECT` is served here.
    connect: bool,
}

enum State {
    Head(Search),
    Length(u64),
    Chunked(Chunks),
    Opaque,
    Refused,
}

impl<T> Guard<T> {
    /// Where `connect` is false, `CONNECT` is malformed: nothing may follow that is not judged.
    pub(crate) fn new(io: T, connect: bool) -> Self {
        let (raw, ready) = (BytesMut::new(), BytesMut::new());
        Self { io, state: State::Head(Search::default()), raw, ready, fault: None, connect }
    }

    /// Moves what can be judged from `raw` to `ready`.
    fn judge(&mut self) -> Result<(), Violation> {
        while !self.raw.is_empty() {
            match &mut self.state {
                State::Head(search) => match search.end_of_head(&self.raw)? {
                    None => return Ok(()),
                    Some(end) => {
                        let head = self.raw.split_to(end);
                        self.state = match request(&head)? {
                            Framing::Length(0) => State::Head(Search::default()),
                            Framing::Length(length) => State::Length(length),
                            Framing::Chunked => State::Chunked(Chunks::START),
                            Framing::Connect if !self.connect => return Err(Violation::StartLine),
                            Framing::Connect => State::Opaque,
                        };
                        self.ready.unsplit(head);
                    }
                },
                State::Length(left) => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(self.raw.len());
                    *left -= here as u64;
                    if *left == 0 {
                        self.state = State::Head(Search::default());
                    }
                    self.ready.unsplit(self.raw.split_to(here));
                }
                State::Chunked(chunks) => {
                    let here = chunks.advance(&self.raw)?;
                    if *chunks == Chunks::Done {
                        self.state = State::Head(Search::default());
                    }
                    self.ready.unsplit(self.raw.split_to(here));
                }
                State::Opaque => self.ready.unsplit(self.raw.split()),
                State::Refused => self.raw.clear(),
            }
        }
        Ok(())
    }

    /// What to do about a violation: in a body the request fails, in a head ours takes its place.
    fn refuse(&mut self, violation: Violation) {
        let in_head = matches!(self.state, State::Head(_));
        self.state = State::Refused;
        self.raw.clear();
        if !in_head {
            self.fault = Some(violation);
            return;
        }
        let name = violation.name();
        self.ready.extend_from_slice(
            format!("GET {MALFORMED_TARGET} HTTP/1.1\r\nhost: malformed\r\n{MALFORMED_HEADER}: {name}\r\nconnection: close\r\n\r\n")
                .as_bytes(),
        );
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Guard<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if !this.ready.is_empty() {
                let len = this.ready.len().min(out.remaining());
                out.put_slice(this.ready.get(..len).unwrap_or_default());
                this.ready.advance(len);
                return Poll::Ready(Ok(()));
            }
            if let Some(violation) = this.fault.take() {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, violation)));
            }
            let mut space = [0; READ_SIZE];
            let mut space = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut this.io).poll_read(cx, &mut space))?;
            if space.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.raw.extend_from_slice(space.filled());
            if let Err(violation) = this.judge() {
                this.refuse(violation);
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Guard<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// What the library would read of these bytes, in pieces of `step`.
    async fn through(bytes: &[u8], step: usize, connect: bool) -> Result<String, io::ErrorKind> {
        let mut mock = tokio_test_reader(bytes, step);
        let mut out = Vec::new();
        match Guard::new(&mut mock, connect).read_to_end(&mut out).await {
            Ok(_) => Ok(String::from_utf8(out).unwrap()),
            Err(error) => Err(error.kind()),
        }
    }

    fn tokio_test_reader(bytes: &[u8], step: usize) -> Steps {
        Steps { bytes: bytes.to_vec(), step }
    }

    struct Steps {
        bytes: Vec<u8>,
        step: usize,
    }

    impl AsyncRead for Steps {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            out: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let step = self.step.min(self.bytes.len());
            out.put_slice(&self.bytes.drain(..step).collect::<Vec<_>>());
            Poll::Ready(Ok(()))
        }
    }

    async fn check(bytes: &str, expected: Result<&str, io::ErrorKind>) {
        for step in [1, 2, 7, 10_000] {
            assert_eq!(
                through(bytes.as_bytes(), step, true).await.as_deref().map_err(|e| *e),
                expected,
                "{bytes:?} by {step}"
            );
        }
    }

    #[tokio::test]
    async fn only_well_framed_requests_pass() {
        let two =
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabcGET /b HTTP/1.1\r\nHost: h\r\n\r\n";
        check(two, Ok(two)).await;
        let chunked = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n";
        check(chunked, Ok(chunked)).await;
        check(
            "GET / HTTP/1.1\nHost: h\n\n",
            Ok("GET /.redoubt/malformed HTTP/1.1\r\nhost: malformed\r\nredoubt-malformed: LineEnd\r\nconnection: close\r\n\r\n"),
        )
        .await;
        check(
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc",
            Err(io::ErrorKind::InvalidData),
        )
        .await;
        let tunnel = "CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n\u{1}\u{2}\0\n";
        check(tunnel, Ok(tunnel)).await;
        let refused = through(tunnel.as_bytes(), 5, false).await.unwrap();
        assert!(refused.starts_with("GET /.redoubt/malformed") && !refused.contains('\0'), "{refused}");
    }
}
