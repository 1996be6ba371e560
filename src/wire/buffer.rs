//! What encoders append to: memory that grows by itself.
//!
//! Network code has a [`BytesMut`]. Who makes one message and gives it away takes a `Vec<u8>`, to
//! which many small pieces are appended a third faster.

use alloc::vec::Vec;

use bytes::{BufMut, BytesMut};

/// A `BytesMut` or a `Vec<u8>`.
pub trait Buffer: BufMut + AsRef<[u8]> {
    /// Makes room for so many bytes more, with one growth at most.
    fn reserve(&mut self, more: usize);

    /// Appends the bytes.
    fn extend_from_slice(&mut self, bytes: &[u8]);
}

impl Buffer for BytesMut {
    #[inline]
    fn reserve(&mut self, more: usize) {
        Self::reserve(self, more);
    }

    #[inline]
    fn extend_from_slice(&mut self, bytes: &[u8]) {
        Self::extend_from_slice(self, bytes);
    }
}

impl Buffer for Vec<u8> {
    #[inline]
    fn reserve(&mut self, more: usize) {
        Self::reserve(self, more);
    }

    #[inline]
    fn extend_from_slice(&mut self, bytes: &[u8]) {
        Self::extend_from_slice(self, bytes);
    }
}
