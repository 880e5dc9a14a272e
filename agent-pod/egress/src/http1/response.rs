//! The same for what an upstream answers: heads that could be framed in two ways end the connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::framing::{Search, response};

const READ_SIZE: usize = 16 * 1024;

/// An upstream's connection whose response heads are checked as they are read.
pub(crate) struct ResponseGuard<T> {
    io: T,
    expect: Arc<AtomicBool>,
    in_head: bool,
    search: Search,
    raw: BytesMut,
    ready: BytesMut,
}

impl<T> ResponseGuard<T> {
    /// With the flag to set whenever the next bytes of the connection are the head of a response.
    pub(crate) fn new(io: T) -> (Self, Arc<AtomicBool>) {
        let expect = Arc::new(AtomicBool::new(true));
        let guard = Self {
            io,
            expect: Arc::clone(&expect),
            in_head: true,
            search: Search::default(),
            raw: BytesMut::new(),
            ready: BytesMut::new(),
        };
        (guard, expect)
    }

    fn judge(&mut self) -> io::Result<()> {
        while self.in_head && !self.raw.is_empty() {
            let invalid = |violation| io::Error::new(io::ErrorKind::InvalidData, violation);
            let Some(end) = self.search.end_of_head(&self.raw).map_err(invalid)? else { return Ok(()) };
            let head = self.raw.split_to(end);
            self.search = Search::default();
            // After an informational response comes another head.
            self.in_head = response(&head).map_err(invalid)? < 200;
            self.ready.unsplit(head);
        }
        if !self.in_head {
            self.ready.unsplit(self.raw.split());
        }
        Ok(())
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for ResponseGuard<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.expect.swap(false, Ordering::AcqRel) {
            this.in_head = true;
        }
        loop {
            if !this.ready.is_empty() {
                let len = this.ready.len().min(out.remaining());
                out.put_slice(this.ready.get(..len).unwrap_or_default());
                this.ready.advance(len);
                return Poll::Ready(Ok(()));
            }
            let mut space = [0; READ_SIZE];
            let mut space = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut this.io).poll_read(cx, &mut space))?;
            if space.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.raw.extend_from_slice(space.filled());
            this.judge()?;
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for ResponseGuard<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
