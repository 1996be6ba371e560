//! Takes an input for what it means, piece by piece.

/// What is left of an input.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draws<'a>(&'a [u8]);

impl<'a> Draws<'a> {
    /// The whole of an input.
    pub(super) const fn of(input: &'a [u8]) -> Self {
        Self(input)
    }

    /// The next byte, if there is one.
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// The next so many bytes, or as many as are left.
    pub(super) fn rest(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken
    }
}
