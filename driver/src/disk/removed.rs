//! Which messages of one block are removed: a bit each, and no memory while there is none.

/// Positions in a block whose messages are gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Removed {
    bits: Vec<u8>,
    count: u32,
}

impl Removed {
    /// How many there are.
    pub(super) const fn count(&self) -> u32 {
        self.count
    }

    /// Whether the message at this position is one.
    pub(super) fn contains(&self, at: usize) -> bool {
        self.bits.get(at / 8).is_some_and(|byte| byte & (1 << (at % 8)) != 0)
    }

    /// Adds the positions `low..high` of a block with `size` messages.
    pub(super) fn set(&mut self, low: u32, high: u32, size: u32) {
        self.bits.resize(size.div_ceil(8) as usize, 0);
        for at in low..high.min(size) {
            let (byte, bit) = (&mut self.bits[at as usize / 8], 1 << (at % 8));
            if *byte & bit == 0 {
                *byte |= bit;
                self.count += 1;
            }
        }
    }

    /// The bits, lowest first.
    pub(super) fn encode(&self) -> Vec<u8> {
        self.bits.clone()
    }

    /// Reads the bits of a block with `size` messages; none if they are not as many.
    pub(super) fn decode(bits: &[u8], size: u32) -> Option<Self> {
        let count = bits.iter().map(|byte| byte.count_ones()).sum();
        let fits = bits.len() == size.div_ceil(8) as usize && count <= size;
        fits.then(|| Self { bits: bits.to_vec(), count })
    }
}
