//! Variable-length numbers as Go's `binary.PutUvarint` and `PutVarint` write them.

use super::buffer::Buffer;

/// How many bytes the number takes.
pub(crate) const fn len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Appends the number, seven bits a byte, the lowest first.
pub(crate) fn put(buffer: &mut impl Buffer, mut value: u64) {
    while value >= 0x80 {
        buffer.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    buffer.put_u8(value as u8);
}

/// The unsigned form of a signed number: small ones of either sign stay small.
pub(crate) const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The signed number of its unsigned form.
pub(crate) const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}
