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

use crate::bits::{BitReader, BitStream, LoopReader, PEEK_BITS, STREAM_BITS};

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

/// The field that writes a value, in two parts because the longest has 72 bits: mostly the first is of no bits.
pub(crate) type Field = [(u64, u32); 2];

/// The field that writes `value`.
#[inline(always)]
pub(crate) fn int_field(value: i64) -> Field {
    field(value as u64, signed_bits(value))
}

/// The field that writes `value`.
#[inline(always)]
pub(crate) fn uint_field(value: u64) -> Field {
    field(value, 64 - value.leading_zeros())
}

/// The smallest n whose range −(2ⁿ⁻¹ − 1) … 2ⁿ⁻¹ holds the value.
#[inline(always)]
fn signed_bits(value: i64) -> u32 {
    let magnitude = if value > 0 { value as u64 - 1 } else { value.unsigned_abs() };
    if value == 0 { 0 } else { 65 - magnitude.leading_zeros() }
}

/// The field for a value that needs `bits` bits.
///
/// A table instead of comparisons, because which width comes next is what the data is about: no predictor knows it.
#[inline(always)]
fn field(value: u64, bits: u32) -> Field {
    // At most 65, and 65 only for the lowest i64.
    let form = &FORMS[bits as usize & 127];
    if form.len > 64 {
        [(form.low, form.len - 64), (value, 64)]
    } else {
        [(0, 0), (form.low | value & form.mask, form.len)]
    }
}

/// How a value of so many bits is written.
#[derive(Clone, Copy)]
struct Form {
    /// The prefix, in its place before the value; by itself if prefix and value exceed 64 bits.
    low: u64,
    /// The value's bits.
    mask: u64,
    /// Bits of prefix and value.
    len: u32,
}

/// By the bits that a value needs.
static FORMS: [Form; 128] = {
    let mut forms = [Form { low: 0xff, mask: u64::MAX, len: 72 }; 128];
    forms[0] = Form { low: 0, mask: 0, len: 1 };
    let (mut bits, mut at) = (1, 0);
    while at < NARROW.len() {
        let (prefix, prefix_len, width) = NARROW[at];
        if bits <= width {
            forms[bits as usize] =
                Form { low: prefix << width, mask: u64::MAX >> (64 - width), len: prefix_len + width };
            bits += 1;
        } else {
            at += 1;
        }
    }
    forms
};

/// Reads a signed field.
#[inline(always)]
pub(crate) fn read_int(bits: &mut BitReader<'_>) -> i64 {
    let word = bits.peek();
    let short = Short::of(word);
    if u32::from(short.len) <= PEEK_BITS {
        bits.consume(short.len.into());
        return short.int(word);
    }
    let wide = Wide::read(*bits);
    *bits = wide.behind;
    wide.int()
}

/// Reads a signed field in a loop; `None` for one of 56 or 64 bits.
#[inline(always)]
pub(crate) fn loop_int(bits: LoopReader<'_>) -> Option<(i64, LoopReader<'_>)> {
    let word = bits.peek()?;
    let short = Short::of(word);
    (u32::from(short.len) <= PEEK_BITS).then(|| (short.int(word), bits.behind(short.len.into())))
}

/// Reads an unsigned field.
#[inline(always)]
pub(crate) fn read_uint(bits: &mut BitReader<'_>) -> u64 {
    let word = bits.peek();
    let short = Short::of(word);
    if u32::from(short.len) <= PEEK_BITS {
        bits.consume(short.len.into());
        return short.uint(word);
    }
    let wide = Wide::read(*bits);
    *bits = wide.behind;
    wide.field
}

/// As [`read_int`], for one field behind the other.
#[inline(always)]
pub(crate) fn next_int(stream: &mut BitStream<'_>) -> i64 {
    stream.refill();
    if let Some([value]) = next_few(stream) {
        return value;
    }
    let wide = Wide::read(stream.reader());
    *stream = BitStream::new(wide.behind);
    wide.int()
}

/// The next fields, of a stream that was just filled up, if they are of [`STREAM_BITS`] bits or fewer in all. `None`, and
/// nothing was taken, if they are more.
///
/// Where a field begins is known when the one before it is: all that is between is a look at a table and a shift. What the
/// stream needs to be filled up is longer, and so is shared by all of them.
#[inline(always)]
pub(crate) fn next_few<const N: usize>(stream: &mut BitStream<'_>) -> Option<[i64; N]> {
    let (mut word, mut used, mut values) = (stream.word(), 0, [0; N]);
    for value in &mut values {
        *value = Short::of(word).int(word);
        let len = LEN[(word >> 57) as usize];
        used += u32::from(len);
        word <<= len & 63;
    }
    if used > STREAM_BITS {
        return None;
    }
    stream.take(used);
    Some(values)
}

/// How a field whose prefix has at most six ones is taken out of a word.
#[derive(Clone, Copy)]
struct Short {
    /// The value's lowest bit while it is at the top.
    lowest: u64,
    /// Bits of prefix and value; more than a peek has for the fields that are not short.
    len: u8,
    /// Bits of the prefix.
    prefix: u8,
    /// What brings the value down from the top of the word.
    shift: u8,
}

impl Short {
    /// Without a branch, because which width comes next is what the data is about, and without counting ones, which takes
    /// longer than a look at a table on processors that have no instruction for it.
    #[inline(always)]
    fn of(word: u64) -> Self {
        SHORT[(word >> 57) as usize]
    }

    #[inline(always)]
    fn int(self, word: u64) -> i64 {
        // One less, sign-extended, and one more: so 100…0 stays positive.
        ((word << self.prefix).wrapping_sub(self.lowest) as i64 >> self.shift) + 1
    }

    #[inline(always)]
    fn uint(self, word: u64) -> u64 {
        word << self.prefix >> self.shift
    }
}

/// By the first seven bits of a field.
static SHORT: [Short; 128] = {
    let mut table = [Short { lowest: 0, len: 64, prefix: 0, shift: 0 }; 128];
    let mut top = 0;
    while top < 127 {
        let ones = ((top as u8) << 1).leading_ones();
        table[top] = if ones == 0 {
            // Its own 0 as the value.
            Short { lowest: 1 << 63, len: 1, prefix: 0, shift: 63 }
        } else {
            let (_, prefix, width) = NARROW[ones as usize - 1];
            Short {
                lowest: 1 << (64 - width),
                len: (prefix + width) as u8,
                prefix: prefix as u8,
                shift: (64 - width) as u8,
            }
        };
        top += 1;
    }
    table
};

/// The lengths in [`SHORT`] by themselves: those are found with one instruction less.
static LEN: [u8; 128] = {
    let mut lengths = [0; 128];
    let mut top = 0;
    while top < 128 {
        lengths[top] = SHORT[top].len;
        top += 1;
    }
    lengths
};

/// A field of 56 or 64 bits.
struct Wide<'a> {
    field: u64,
    width: u32,
    behind: BitReader<'a>,
}

impl<'a> Wide<'a> {
    /// By value, so that the reader can stay in registers.
    #[cold]
    #[inline(never)]
    fn read(mut bits: BitReader<'a>) -> Self {
        let width = if bits.short(8) == 0xff { 64 } else { 56 };
        Self { field: bits.read(width), width, behind: bits }
    }

    fn int(&self) -> i64 {
        if self.width == 64 { self.field as i64 } else { signed(self.field, self.width) }
    }
}

/// A field of `n` bits (1–63) in which the pattern `100…0` is positive.
#[inline(always)]
pub(crate) fn signed(bits: u64, n: u32) -> i64 {
    if bits > 1 << (n - 1) { bits.wrapping_sub(1 << n) as i64 } else { bits as i64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All bits of a field, and how many they are.
    fn whole([(a, a_len), (b, b_len)]: Field) -> (u128, u32) {
        (u128::from(a) << b_len | u128::from(b), a_len + b_len)
    }

    fn bytes((field, n): (u128, u32)) -> Vec<u8> {
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
            let field = whole(int_field(value));
            let widths = [0, 3, 6, 9, 12, 18, 25, 56, 64];
            let ones = widths.iter().position(|w| *w == int_width(value)).expect("a width") as u32;
            assert_eq!(field.1, (ones + 1).min(8) + int_width(value), "{value}");
            let bytes = bytes(field);
            let mut reader = BitReader::new(&bytes, 0);
            assert_eq!(read_int(&mut reader), value);
            assert_eq!(reader.pos(), field.1 as usize);
            let mut stream = BitStream::new(BitReader::new(&bytes, 0));
            assert_eq!(next_int(&mut stream), value);
            assert_eq!(stream.reader().pos(), field.1 as usize);
        }
    }

    #[test]
    fn unsigned_fields_at_every_edge() {
        for value in (0..64).flat_map(|n| [(1_u64 << n) - 1, 1 << n, (1 << n) + 1]).chain([u64::MAX]) {
            let field = whole(uint_field(value));
            let bytes = bytes(field);
            let mut reader = BitReader::new(&bytes, 0);
            assert_eq!(read_uint(&mut reader), value);
            assert_eq!(reader.pos(), field.1 as usize);
        }
    }

    #[test]
    fn known_bits() {
        assert_eq!(whole(int_field(0)), (0, 1));
        assert_eq!(whole(int_field(4)), (0b10_100, 5));
        assert_eq!(whole(int_field(-3)), (0b10_101, 5));
        assert_eq!(whole(int_field(-4)), (0b110_111100, 9));
        assert_eq!(whole(uint_field(7)), (0b10_111, 5));
        assert_eq!(whole(uint_field(8)), (0b110_001000, 9));
    }
}
