//! What waits to be written to one connection: bounded, in two lanes, and framed as it is put in.
//!
//! Items put in between two turns of the writer share a frame, so that many small messages
//! cost one header, one checksum and one system call. Buffers go back and forth between the
//! outbox and its writer and are allocated once.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use serde::Serialize;
use thiserror::Error;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;

use super::frame::{self, HEADER, Kind};

/// A frame whose body has this many bytes takes no further item.
pub(super) const FRAME_FULL: usize = 256 * 1024;
/// Buffers that grew beyond this are not kept for the next use.
const KEPT_CAPACITY: usize = 2 * FRAME_FULL;
/// Buffers kept for the next use.
const KEPT: usize = 4;

/// Why an item was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NotTaken {
    /// There is no connection.
    #[error("there is no connection")]
    Closed,
    /// The bytes that wait have reached the bound.
    #[error("the send queue is full")]
    Full,
    /// The other side would not take an item of this size.
    #[error("the item is larger than the other side takes")]
    TooLarge,
}

/// Which of two queues an item waits in. What lies in one does not hold up the other, and
/// between them there is no order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Leaves first: what others wait for.
    Live = 0,
    /// Leaves when nothing else waits: catchups, which may fill their windows.
    Bulk = 1,
}

/// The items that wait for one connection; closed until [`Outbox::open`].
#[derive(Debug)]
pub struct Outbox {
    state: Mutex<State>,
    filled: Notify,
    bound: usize,
}

#[derive(Debug, Default)]
struct State {
    open: bool,
    lanes: [Queue; 2],
    /// Bytes of the largest item that the other side takes.
    largest: usize,
    spare: Vec<BytesMut>,
}

/// The items of one lane.
#[derive(Debug, Default)]
struct Queue {
    /// Buffers of whole frames, the oldest first; only the last may end in an open frame.
    buffers: VecDeque<BytesMut>,
    /// The kind and place of the open frame in the last buffer.
    frame: Option<(Kind, usize)>,
    /// Bytes put in and not yet written.
    waiting: usize,
}

impl Outbox {
    /// An outbox each of whose lanes refuses items once this many bytes wait in it.
    pub fn new(bound: usize) -> Self {
        Self { state: Mutex::default(), filled: Notify::new(), bound }
    }

    /// Begins anew, empty, for a connection whose other side takes items of up to `largest` bytes.
    pub fn open(&self, largest: u64) {
        let mut state = self.state();
        state.forget();
        state.open = true;
        state.largest = usize::try_from(largest).unwrap_or(usize::MAX);
    }

    /// Drops what waits and refuses all that follows, until it is opened again. The writer ends.
    pub fn close(&self) {
        self.state().forget();
        self.filled.notify_one();
    }

    /// Bytes put in and not yet written.
    pub fn waiting(&self) -> usize {
        self.state().waiting()
    }

    /// Whether a connection is there.
    pub fn is_open(&self) -> bool {
        self.state().open
    }

    /// Adds an item, to the open frame of its lane if that is of the same kind.
    ///
    /// # Errors
    /// [`NotTaken`]; the item is lost to this connection.
    pub fn push<T: Serialize>(&self, lane: Lane, kind: Kind, item: &T) -> Result<(), NotTaken> {
        let mut state = self.state();
        if !state.open {
            return Err(NotTaken::Closed);
        }
        let State { lanes, largest, spare, .. } = &mut *state;
        let queue = &mut lanes[lane as usize];
        if queue.waiting >= self.bound {
            return Err(NotTaken::Full);
        }
        let was_empty = queue.waiting == 0;
        queue.push(kind, item, *largest, spare)?;
        drop(state);
        if was_empty {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Adds a frame without a body.
    pub fn push_empty(&self, kind: Kind) {
        let mut state = self.state();
        if state.open {
            let State { lanes: [live, _], spare, .. } = &mut *state;
            live.close_frame();
            live.begin_frame(kind, spare);
            drop(state);
            self.filled.notify_one();
        }
    }

    /// Writes what is put in until the outbox closes or the writing fails; `after` is called
    /// each time that bytes have left.
    ///
    /// # Errors
    /// What the connection said.
    pub async fn write_to(
        &self,
        mut writer: impl AsyncWrite + Unpin,
        mut after: impl FnMut(usize),
    ) -> std::io::Result<()> {
        loop {
            let taken = {
                let mut state = self.state();
                if !state.open {
                    return Ok(());
                }
                state.take()
            };
            match taken {
                Some((lane, buffer)) => {
                    writer.write_all(&buffer).await?;
                    let length = buffer.len();
                    let drained = self.state().give_back(lane, buffer);
                    if drained {
                        writer.flush().await?;
                    }
                    after(length);
                }
                None => self.filled.notified().await,
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A state is whole between any two statements that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget(&mut self) {
        self.open = false;
        self.lanes = Default::default();
    }

    fn waiting(&self) -> usize {
        self.lanes.iter().map(|queue| queue.waiting).sum()
    }

    fn take(&mut self) -> Option<(Lane, BytesMut)> {
        let [live, bulk] = &mut self.lanes;
        let live = live.take().map(|buffer| (Lane::Live, buffer));
        live.or_else(|| bulk.take().map(|buffer| (Lane::Bulk, buffer)))
    }

    /// Takes a buffer back that was written; whether nothing is left to write.
    fn give_back(&mut self, lane: Lane, mut buffer: BytesMut) -> bool {
        let queue = &mut self.lanes[lane as usize];
        queue.waiting = queue.waiting.saturating_sub(buffer.len());
        if buffer.capacity() <= KEPT_CAPACITY && self.spare.len() < KEPT {
            buffer.clear();
            self.spare.push(buffer);
        }
        self.waiting() == 0
    }
}

impl Queue {
    fn push<T: Serialize>(
        &mut self,
        kind: Kind,
        item: &T,
        largest: usize,
        spare: &mut Vec<BytesMut>,
    ) -> Result<(), NotTaken> {
        if self.frame.is_some_and(|(open, _)| open != kind) {
            self.close_frame();
        }
        if self.frame.is_none() {
            self.begin_frame(kind, spare);
        }
        let (Some(buffer), Some((_, start))) = (self.buffers.back_mut(), self.frame) else {
            // A frame was begun two lines above.
            return Err(NotTaken::Closed);
        };
        let before = buffer.len();
        let fits = frame::append(buffer, kind, item).is_ok()
            && buffer.len().saturating_sub(before) <= largest;
        if !fits {
            buffer.truncate(before);
            if before == start + HEADER {
                buffer.truncate(start);
                self.frame = None;
                self.waiting -= HEADER;
            }
            return Err(NotTaken::TooLarge);
        }
        self.waiting += buffer.len() - before;
        if buffer.len() - start - HEADER >= FRAME_FULL {
            self.close_frame();
        }
        Ok(())
    }

    fn begin_frame(&mut self, kind: Kind, spare: &mut Vec<BytesMut>) {
        let full = |buffer: &BytesMut| buffer.len() >= FRAME_FULL;
        if self.buffers.back().is_none_or(full) {
            self.buffers.push_back(spare.pop().unwrap_or_default());
        }
        if let Some(buffer) = self.buffers.back_mut() {
            self.frame = Some((kind, frame::open(buffer, kind)));
            self.waiting += HEADER;
        }
    }

    fn close_frame(&mut self) {
        if let (Some((_, start)), Some(buffer)) = (self.frame.take(), self.buffers.back_mut())
            && frame::close(buffer, start).is_err()
        {
            // Only a single item of 4 GiB could get here, and `largest` keeps those out.
            self.waiting -= buffer.len() - start;
            buffer.truncate(start);
        }
    }

    fn take(&mut self) -> Option<BytesMut> {
        if self.buffers.len() == 1 {
            self.close_frame();
        }
        self.buffers.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::{Frame, decode};
    use super::*;

    fn frames(outbox: &Outbox) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some((lane, mut buffer)) = {
            let mut state = outbox.state();
            state.take()
        } {
            let written = buffer.clone();
            while let Some(frame) = decode(&mut buffer, 1 << 24).expect("a sound frame") {
                frames.push(frame);
            }
            assert!(buffer.is_empty(), "a buffer ends in half a frame");
            outbox.state().give_back(lane, written);
        }
        frames
    }

    #[test]
    fn items_of_one_kind_share_a_frame() {
        let outbox = Outbox::new(1 << 20);
        outbox.open(1000);
        for group in 0..500_u64 {
            outbox.push(Lane::Live, Kind::Messages, &group).expect("there is room");
        }
        outbox.push_empty(Kind::Ping);
        outbox.push(Lane::Live, Kind::Messages, &1_u8).expect("there is room");
        let kinds: Vec<_> = frames(&outbox).iter().map(|frame| frame.kind).collect();
        assert_eq!(kinds, [Kind::Messages, Kind::Ping, Kind::Messages]);
        assert_eq!(outbox.waiting(), 0);
    }

    #[test]
    fn a_full_frame_is_followed_by_another() {
        let outbox = Outbox::new(1 << 24);
        outbox.open(1 << 20);
        let item = "x".repeat(100_000);
        for _ in 0..10 {
            outbox.push(Lane::Live, Kind::Messages, &item).expect("there is room");
        }
        let lengths: Vec<_> = frames(&outbox).iter().map(|frame| frame.body.len()).collect();
        assert_eq!(lengths, [300_009, 300_009, 300_009, 100_003]);
        assert_eq!(outbox.waiting(), 0);
    }

    #[test]
    fn the_bounds_hold() {
        let outbox = Outbox::new(100);
        assert_eq!(outbox.push(Lane::Live, Kind::Messages, &1_u8), Err(NotTaken::Closed));
        outbox.open(50);
        let fifty = "x".repeat(49);
        assert_eq!(
            outbox.push(Lane::Live, Kind::Messages, &"x".repeat(50)),
            Err(NotTaken::TooLarge)
        );
        assert_eq!(outbox.waiting(), 0, "an empty frame was left behind");
        assert_eq!(outbox.push(Lane::Live, Kind::Messages, &fifty), Ok(()));
        assert_eq!(outbox.push(Lane::Live, Kind::Messages, &fifty), Ok(()));
        assert_eq!(outbox.push(Lane::Live, Kind::Messages, &1_u8), Err(NotTaken::Full));
        assert_eq!(frames(&outbox).len(), 1);
        assert_eq!(outbox.push(Lane::Live, Kind::Messages, &1_u8), Ok(()));
        outbox.close();
        assert_eq!((outbox.waiting(), outbox.is_open()), (0, false));
    }

    #[test]
    fn bulk_leaves_when_nothing_else_waits_and_holds_up_nothing() {
        let outbox = Outbox::new(1000);
        outbox.open(1 << 20);
        let bulk = "x".repeat(2000);
        assert_eq!(outbox.push(Lane::Bulk, Kind::Messages, &bulk), Ok(()));
        assert_eq!(outbox.push(Lane::Bulk, Kind::Messages, &bulk), Err(NotTaken::Full));
        assert_eq!(outbox.push(Lane::Live, Kind::Messages, &1_u8), Ok(()));
        let bodies: Vec<_> = frames(&outbox).iter().map(|frame| frame.body.len()).collect();
        assert_eq!(bodies, [1, 2002]);
        assert_eq!(outbox.waiting(), 0);
    }
}
