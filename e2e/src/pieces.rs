//! An answer as a list of pieces, so that how it is delivered (slowly, cut off, never) is a value and can be tested.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use hyper::body::Frame;

/// One step of delivering an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Bytes sent at once, in a write of their own.
    Data(Bytes),
    /// Nothing for so many milliseconds.
    PauseMs(u64),
    /// Nothing ever again; the connection stays open until the peer leaves.
    Hang,
    /// The connection is closed without ending the message.
    Abort,
}

impl Piece {
    /// Bytes of anything that has them.
    pub fn data(bytes: impl Into<Vec<u8>>) -> Self {
        Self::Data(Bytes::from(bytes.into()))
    }
}

/// The sender gave up on purpose; makes the HTTP stack close the connection.
#[derive(Debug, thiserror::Error)]
#[error("the connection is dropped on purpose")]
pub struct Dropped;

impl From<Infallible> for Dropped {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// How long earlier bytes get to leave before the connection is dropped.
const FLUSH: Duration = Duration::from_millis(50);

/// The pieces as the body of an HTTP message.
pub fn body(pieces: Vec<Piece>) -> impl Stream<Item = Result<Frame<Bytes>, Dropped>> + Send {
    stream::iter(pieces).filter_map(|piece| async move {
        match piece {
            Piece::Data(bytes) => Some(Ok(Frame::data(bytes))),
            Piece::PauseMs(milliseconds) => {
                tokio::time::sleep(Duration::from_millis(milliseconds)).await;
                None
            }
            Piece::Hang => std::future::pending().await,
            Piece::Abort => {
                tokio::time::sleep(FLUSH).await;
                Some(Err(Dropped))
            }
        }
    })
}
