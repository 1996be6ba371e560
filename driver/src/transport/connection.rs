//! What both sides of every connection do: read frames, and say who they are.

use std::io;

use bytes::BytesMut;
use serde::Serialize;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::body::{Hello, decode_one};
use super::frame::{self, Frame, FrameError, Kind};

/// Bytes of the largest frame before both sides have said who they are.
const HELLO_LIMIT: usize = 4096;
/// What a read asks of the system at most, and the unit in which memory is taken.
const READ_BLOCK: usize = 256 * 1024;
/// A block with less room than this is not read into any more.
const READ_LEAST: usize = 16 * 1024;

/// Why a connection ended, or did not come about.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The operating system or TLS said so.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What arrived is no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The other side is not who it should be, or belongs elsewhere.
    #[error("{0}")]
    Identity(String),
    /// The other side does not want this connection, and says why.
    #[error("refused by the other side: {0}")]
    Refused(String),
    /// The other side went away.
    #[error("closed by the other side")]
    Closed,
    /// The other side was not heard for too long.
    #[error("nothing was heard for {0:?}")]
    Silent(std::time::Duration),
    /// A newer connection of the same peer took this one's place.
    #[error("replaced by a newer connection")]
    Replaced,
    /// This node stops.
    #[error("this node stops")]
    Stopping,
}

/// Takes frames off a stream of bytes.
#[derive(Debug)]
pub(crate) struct FrameReader<R> {
    reader: R,
    buffer: BytesMut,
    limit: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self { reader, buffer: BytesMut::new(), limit: HELLO_LIMIT }
    }

    /// Sets the bound for the frames that follow, from that of an item.
    pub(crate) fn take_items_of(&mut self, largest: u64) {
        let largest = usize::try_from(largest).unwrap_or(usize::MAX);
        // A frame that an item did not fill may take one more.
        self.limit = largest.saturating_add(super::outbox::FRAME_FULL);
    }

    /// The next frame that has arrived whole; none until more is read.
    pub(crate) fn arrived(&mut self) -> Result<Option<Frame>, FrameError> {
        frame::decode(&mut self.buffer, self.limit)
    }

    /// Reads once. Cancelling loses nothing.
    pub(crate) async fn read_more(&mut self) -> Result<usize, ConnectionError> {
        if self.buffer.capacity() - self.buffer.len() < READ_LEAST {
            self.buffer.reserve(READ_BLOCK);
        }
        match self.reader.read_buf(&mut self.buffer).await {
            Ok(0) => Err(ConnectionError::Closed),
            Ok(length) => Ok(length),
            // TLS says so when it was not told of the end. A frame tells by itself if it is cut.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(ConnectionError::Closed)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The next frame, however long it takes. Cancelling loses nothing.
    pub(crate) async fn next_frame(&mut self) -> Result<Frame, ConnectionError> {
        loop {
            if let Some(frame) = self.arrived()? {
                return Ok(frame);
            }
            self.read_more().await?;
        }
    }

    /// The other side's hello, which must come first.
    pub(crate) async fn hello(&mut self) -> Result<Hello, ConnectionError> {
        let frame = self.next_frame().await?;
        match frame.kind {
            Kind::Hello => Ok(decode_one(&frame)?),
            Kind::Refusal => Err(ConnectionError::Refused(decode_one(&frame)?)),
            found => Err(FrameError::Unexpected { found }.into()),
        }
    }
}

/// Writes one frame at once.
pub(crate) async fn write_frame<T: Serialize>(
    writer: &mut (impl AsyncWrite + Unpin),
    kind: Kind,
    values: &[T],
) -> Result<(), ConnectionError> {
    let mut buffer = BytesMut::new();
    frame::encode(&mut buffer, kind, values)?;
    writer.write_all(&buffer).await?;
    writer.flush().await?;
    Ok(())
}
