//! Variable-length integers, with Go's rules (`encoding/binary`).
//!
//! ```text
//! uvarint: seven bits a byte, least significant group first; the top bit says that another byte follows.
//!          At most 10 bytes; the 10th may only be 0 or 1. Needless trailing zero groups are accepted.
//! varint:  a signed integer, zig-zag mapped (0, -1, 1, -2 … → 0, 1, 2, 3 …), as a uvarint.
//! ```

use alloc::vec::Vec;
use core::fmt;

/// The longest encoding of a 64-bit integer, in bytes.
pub const MAX_LEN: usize = 10;

/// Why no varint could be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VarintError {
    /// The input ended inside the integer.
    Truncated,
    /// The integer has more than 64 bits, or goes on beyond its tenth byte.
    Overflow,
}

impl fmt::Display for VarintError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "the input ends inside a varint",
            Self::Overflow => "a varint has more than 64 bits",
        })
    }
}

impl core::error::Error for VarintError {}

/// Maps a signed integer so that small magnitudes become small numbers.
#[inline]
#[must_use]
pub const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The inverse of [`zigzag`].
#[inline]
#[must_use]
pub const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// How many bytes [`put_uvarint`] writes for `value`: 1 to 10.
#[inline]
#[must_use]
pub const fn uvarint_len(value: u64) -> usize {
    // 64 bits minus leading zeros, divided by seven, rounded up; zero still takes a byte.
    ((70 - (value | 1).leading_zeros()) / 7) as usize
}

/// Writes `value` at the start of `out` and returns its length in bytes.
#[inline]
pub fn write_uvarint(out: &mut [u8; MAX_LEN], mut value: u64) -> usize {
    let mut len = 0;
    while value >= 0x80 && len < MAX_LEN - 1 {
        out[len] = value as u8 | 0x80;
        value >>= 7;
        len += 1;
    }
    out[len] = value as u8;
    len + 1
}

/// Appends `value` as a uvarint.
///
/// ```
/// let mut out = Vec::new();
/// tsdb_model::varint::put_uvarint(&mut out, 300);
/// assert_eq!(out, [0xac, 0x02]);
/// ```
#[inline]
pub fn put_uvarint(out: &mut Vec<u8>, value: u64) {
    if value < 0x80 {
        out.push(value as u8);
        return;
    }
    let mut bytes = [0; MAX_LEN];
    let len = write_uvarint(&mut bytes, value);
    out.extend_from_slice(&bytes[..len]);
}

/// Appends `value` as a zig-zag varint.
#[inline]
pub fn put_varint(out: &mut Vec<u8>, value: i64) {
    put_uvarint(out, zigzag(value));
}

/// Reads a uvarint from the start of `input`: the value and the bytes it took.
///
/// ```
/// use tsdb_model::varint::{uvarint, VarintError};
/// assert_eq!(uvarint(&[0xac, 0x02, 0xff]), Ok((300, 2)));
/// assert_eq!(uvarint(&[0xac]), Err(VarintError::Truncated));
/// ```
#[inline]
pub fn uvarint(input: &[u8]) -> Result<(u64, usize), VarintError> {
    match input {
        [a, ..] if *a < 0x80 => Ok((u64::from(*a), 1)),
        [a, b, ..] if *b < 0x80 => Ok((u64::from(*a & 0x7f) | u64::from(*b) << 7, 2)),
        _ => uvarint_long(input),
    }
}

/// Three bytes and more. Not inlined: the callers' loops stay small.
#[inline(never)]
fn uvarint_long(input: &[u8]) -> Result<(u64, usize), VarintError> {
    let mut value = 0u64;
    for (i, &byte) in input.iter().take(MAX_LEN).enumerate() {
        if i == MAX_LEN - 1 && byte > 1 {
            // Bits beyond the 64th, or an eleventh byte; when the input just stops here, it is cut off, as in Go.
            let cut_off = byte >= 0x80 && input.len() == MAX_LEN;
            return Err(if cut_off { VarintError::Truncated } else { VarintError::Overflow });
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            return Ok((value, i + 1));
        }
    }
    Err(VarintError::Truncated)
}

/// Reads a zig-zag varint from the start of `input`: the value and the bytes it took.
#[inline]
pub fn varint(input: &[u8]) -> Result<(i64, usize), VarintError> {
    let (value, len) = uvarint(input)?;
    Ok((unzigzag(value), len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use integer_encoding::VarInt;
    use proptest::prelude::*;

    /// Any magnitude equally likely: uniform integers are nearly always nine or ten bytes long.
    fn any_magnitude() -> impl Strategy<Value = u64> {
        (any::<u64>(), 0u32..64).prop_map(|(value, shift)| value >> shift)
    }

    /// Go's `binary.Uvarint`, restated from its documentation: n == 0 is "too small", n < 0 "overflow".
    fn go_uvarint(input: &[u8]) -> (u64, isize) {
        let (mut value, mut shift) = (0u64, 0u32);
        for (i, &byte) in input.iter().enumerate() {
            if i == 10 {
                return (0, -11);
            }
            if byte < 0x80 {
                if i == 9 && byte > 1 {
                    return (0, -(i as isize + 1));
                }
                return (value | u64::from(byte).checked_shl(shift).unwrap_or(0), i as isize + 1);
            }
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            shift += 7;
        }
        (0, 0)
    }

    fn check_against_go(input: &[u8]) {
        match (uvarint(input), go_uvarint(input)) {
            (Ok((value, len)), (go_value, n)) => assert_eq!((value, len as isize), (go_value, n), "{input:x?}"),
            (Err(VarintError::Truncated), (_, n)) => assert_eq!(n, 0, "{input:x?}"),
            (Err(VarintError::Overflow), (_, n)) => assert!(n < 0, "{input:x?}"),
        }
    }

    proptest! {
        #[test]
        fn equals_integer_encoding(value in any_magnitude()) {
            let mut ours = Vec::new();
            put_uvarint(&mut ours, value);
            prop_assert_eq!(&ours, &value.encode_var_vec());
            prop_assert_eq!(ours.len(), uvarint_len(value));
            prop_assert_eq!(uvarint(&ours), Ok((value, ours.len())));

            let signed = unzigzag(value);
            let mut ours = Vec::new();
            put_varint(&mut ours, signed);
            prop_assert_eq!(&ours, &signed.encode_var_vec());
            prop_assert_eq!(varint(&ours), Ok((signed, ours.len())));
        }

        #[test]
        fn reads_any_bytes_as_go_does(input in proptest::collection::vec(prop_oneof![any::<u8>(), 0x80u8..], 0..14)) {
            check_against_go(&input);
        }
    }

    #[test]
    fn edges() {
        for value in (0..64).flat_map(|bit| [1u64 << bit, (1 << bit) - 1]).chain([u64::MAX]) {
            let mut out = Vec::new();
            put_uvarint(&mut out, value);
            assert_eq!(uvarint(&out), Ok((value, out.len())));
            assert_eq!(out.len(), uvarint_len(value));
            for cut in 0..out.len() {
                assert_eq!(uvarint(&out[..cut]), Err(VarintError::Truncated));
            }
            assert_eq!(unzigzag(zigzag(value as i64)), value as i64);
        }
        for len in 0..13 {
            for last in [0, 1, 2, 0x7f, 0x80, 0xff] {
                let mut input = vec![0xff; len];
                input.push(last);
                check_against_go(&input);
            }
        }
    }
}
