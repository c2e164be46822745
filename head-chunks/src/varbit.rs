//! Integers in a variable number of bits: what histograms and start timestamps are made of.
//!
//! ```text
//! 0                        0
//! 10        3 bits         −3 … 4                                   or 0 … 7
//! 110       6 bits         −31 … 32                                 or … 63
//! 1110      9 bits         −255 … 256                               or … 511
//! 11110     12 bits        −2,047 … 2,048                           or … 4,095
//! 111110    18 bits        −131,071 … 131,072                       or … 262,143
//! 1111110   25 bits        −16,777,215 … 16,777,216                 or … 33,554,431
//! 11111110  56 bits        −(2⁵⁵ − 1) … 2⁵⁵                         or … 2⁵⁶ − 1
//! 11111111  64 bits        all others
//! ```
//!
//! Signed fields are two's complement, but the pattern `100…0` is the positive end of the range.

use crate::bits::BitReader;

/// The prefixes and widths, smallest first, without the one of 64 bits.
const NARROW: [(u64, u32, u32); 7] = [
    (0b10, 2, 3),
    (0b110, 3, 6),
    (0b1110, 4, 9),
    (0b11110, 5, 12),
    (0b11_1110, 6, 18),
    (0b111_1110, 7, 25),
    (0b1111_1110, 8, 56),
];

/// The bits that write `value`, and how many they are: 1 to 72.
#[inline(always)]
pub(crate) fn int_field(value: i64) -> (u128, u32) {
    // The smallest n whose range −(2ⁿ⁻¹ − 1) … 2ⁿ⁻¹ holds the value.
    let magnitude = if value > 0 { value as u64 - 1 } else { value.unsigned_abs() };
    let bits = if value == 0 { 0 } else { 65 - magnitude.leading_zeros() };
    field(value as u64, bits)
}

/// The bits that write `value`, and how many they are: 1 to 72.
#[inline(always)]
pub(crate) fn uint_field(value: u64) -> (u128, u32) {
    field(value, 64 - value.leading_zeros())
}

/// The field for a value that needs `bits` bits.
///
/// A table instead of comparisons, because which width comes next is what the data is about: no predictor knows it.
#[inline(always)]
fn field(value: u64, bits: u32) -> (u128, u32) {
    // At most 65, and 65 only for the lowest i64.
    let form = &FORMS[bits as usize & 127];
    (u128::from(form.high) << 64 | u128::from(form.low | value & form.mask), form.len.into())
}

/// How a value of so many bits is written.
#[derive(Clone, Copy)]
struct Form {
    /// The prefix, in its place before the value.
    low: u64,
    /// What of it lies beyond 64 bits.
    high: u8,
    /// Bits of prefix and value.
    len: u8,
    /// The value's bits.
    mask: u64,
}

static FORMS: [Form; 128] = {
    let mut forms = [Form { low: 0, high: 0xff, len: 72, mask: u64::MAX }; 128];
    forms[0] = Form { low: 0, high: 0, len: 1, mask: 0 };
    let mut bits = 1;
    let mut at = 0;
    while at < NARROW.len() {
        let (prefix, prefix_len, width) = NARROW[at];
        if bits <= width {
            let (len, mask) = ((prefix_len + width) as u8, u64::MAX >> (64 - width));
            forms[bits as usize] = Form { low: prefix << width, high: 0, len, mask };
            bits += 1;
        } else {
            at += 1;
        }
    }
    forms
};

/// Reads a signed field.
///
/// Without a branch up to 25 bits, because which width comes next is what the data is about: no predictor knows it.
#[inline(always)]
pub(crate) fn read_int(bits: &mut BitReader<'_>) -> i64 {
    let word = bits.peek();
    let ones = word.leading_ones() as usize;
    match SHORT.get(ones) {
        Some(short) => {
            bits.consume(short.len.into());
            // One less, sign-extended, and one more: so 100…0 stays positive. The mask is for the 0 without any bits.
            let field = (word << (ones + 1)).wrapping_sub(short.lowest) as i64;
            ((field >> short.shift) + 1) & short.mask
        }
        None => {
            let (value, width) = read_wide(ones, bits);
            if width == 64 { value as i64 } else { signed(value, width) }
        }
    }
}

/// Reads an unsigned field.
#[inline(always)]
pub(crate) fn read_uint(bits: &mut BitReader<'_>) -> u64 {
    let word = bits.peek();
    let ones = word.leading_ones() as usize;
    match SHORT.get(ones) {
        Some(short) => {
            bits.consume(short.len.into());
            (word << (ones + 1)) >> short.shift & short.mask as u64
        }
        None => read_wide(ones, bits).0,
    }
}

/// How a field whose prefix has so many ones is taken out of a peek, for those that fit one.
#[derive(Clone, Copy)]
struct Short {
    /// Bits of prefix and value.
    len: u8,
    /// What brings the value down from the top of the word.
    shift: u8,
    /// The value's lowest bit while it is at the top.
    lowest: u64,
    /// All ones, or 0 for the value of no bits.
    mask: i64,
}

static SHORT: [Short; 7] = {
    let mut table = [Short { len: 1, shift: 63, lowest: 0, mask: 0 }; 7];
    let mut ones = 1;
    while ones < 7 {
        let width = NARROW[ones - 1].2 as u8;
        let shift = 64 - width;
        table[ones] = Short { len: ones as u8 + 1 + width, shift, lowest: 1 << shift, mask: -1 };
        ones += 1;
    }
    table
};

/// Reads a field of 56 or 64 bits behind its prefix; how many they are.
#[inline]
fn read_wide(ones: usize, bits: &mut BitReader<'_>) -> (u64, u32) {
    let width = if ones == 7 { 56 } else { 64 };
    bits.consume(8);
    (bits.read(width), width)
}

/// A field of `n` bits (1–63) in which the pattern `100…0` is positive.
#[inline(always)]
pub(crate) fn signed(bits: u64, n: u32) -> i64 {
    if bits > 1 << (n - 1) { bits.wrapping_sub(1 << n) as i64 } else { bits as i64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(field: u128, n: u32) -> Vec<u8> {
        (field << (128 - n)).to_be_bytes().to_vec()
    }

    /// The reference's rule as it is written down: the first range that holds the value.
    fn int_width(value: i64) -> u32 {
        let fits = |n: u32| -((1_i128 << (n - 1)) - 1) <= value.into() && i128::from(value) <= 1 << (n - 1);
        match value {
            0 => 0,
            _ => [3, 6, 9, 12, 18, 25, 56].into_iter().find(|n| fits(*n)).unwrap_or(64),
        }
    }

    #[test]
    fn signed_fields_at_every_edge() {
        let mut values = vec![0, 1, -1, i64::MIN, i64::MAX];
        for n in 1..64 {
            for d in -3..=3 {
                values.push((1_i64 << (n - 1)).wrapping_add(d));
                values.push((-1_i64 << (n - 1)).wrapping_add(d));
            }
        }
        for value in values {
            let (field, n) = int_field(value);
            let widths = [0, 3, 6, 9, 12, 18, 25, 56, 64];
            let ones = widths.iter().position(|w| *w == int_width(value)).expect("a width") as u32;
            assert_eq!(n, (ones + 1).min(8) + int_width(value), "{value}");
            let bytes = bytes(field, n);
            let mut reader = BitReader::new(&bytes, 0);
            assert_eq!(read_int(&mut reader), value);
            assert_eq!(reader.pos(), n as usize);
        }
    }

    #[test]
    fn unsigned_fields_at_every_edge() {
        for value in (0..64).flat_map(|n| [(1_u64 << n) - 1, 1 << n, (1 << n) + 1]).chain([u64::MAX]) {
            let (field, n) = uint_field(value);
            let bytes = bytes(field, n);
            let mut reader = BitReader::new(&bytes, 0);
            assert_eq!(read_uint(&mut reader), value);
            assert_eq!(reader.pos(), n as usize);
        }
    }

    #[test]
    fn known_bits() {
        assert_eq!(int_field(0), (0, 1));
        assert_eq!(int_field(4), (0b10_100, 5));
        assert_eq!(int_field(-3), (0b10_101, 5));
        assert_eq!(int_field(-4), (0b110_111100, 9));
        assert_eq!(uint_field(7), (0b10_111, 5));
        assert_eq!(uint_field(8), (0b110_001000, 9));
    }
}
