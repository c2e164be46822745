//! Reading bits: one unaligned 64-bit load per peek, no check per field.

use tsdb_model::varint;

/// As many bits of a peek are valid wherever it begins.
pub(crate) const PEEK_BITS: u32 = 57;

/// What a varint takes that is too long: ten groups of eight bits.
pub(crate) const MAX_VARINT_BITS: usize = 80;

/// Bytes that a [`LoopReader`] may leave: it ends eight bytes before the last, and within a field of a few bytes.
const TAIL: usize = 16;

/// Reads bits from the front of a byte slice.
///
/// Past the end it reads zeros: a decoder reads a whole sample and asks once, with [`BitReader::overrun`], whether it was
/// all there. So a truncated chunk costs one comparison a sample instead of one a field.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    /// Next bit, from the front of `bytes`. May run past the end by what one sample's fields take.
    pos: usize,
}

impl<'a> BitReader<'a> {
    /// Starts at bit `pos` of `bytes`.
    pub(crate) fn new(bytes: &'a [u8], pos: usize) -> Self {
        Self { bytes, pos }
    }

    /// The same bytes, from bit `pos` on.
    pub(crate) fn from(&self, pos: usize) -> Self {
        Self { bytes: self.bytes, pos }
    }

    /// The bytes.
    pub(super) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The position of the next bit.
    #[inline]
    pub(crate) fn pos(&self) -> usize {
        self.pos
    }

    /// Length of the bytes in bits.
    #[inline]
    pub(crate) fn end(&self) -> usize {
        self.bytes.len() * 8
    }

    /// Whether more bits were taken than there are.
    #[inline]
    pub(crate) fn overrun(&self) -> bool {
        self.pos > self.end()
    }

    /// What is left, with zeros behind it, when a [`LoopReader`] has come to its end; and how many bits are in front of it.
    #[inline(always)]
    pub(crate) fn padded_tail(&self) -> Option<([u8; 2 * TAIL], usize)> {
        let from = self.pos / 8;
        let left = self.bytes.get(from..).filter(|left| left.len() <= TAIL)?;
        let mut padded = [0; 2 * TAIL];
        padded[..left.len()].copy_from_slice(left);
        Some((padded, from * 8))
    }

    /// Bits not yet taken.
    #[inline]
    pub(crate) fn remaining(&self) -> usize {
        self.end().saturating_sub(self.pos)
    }

    /// The next bits, left-aligned; at least 57 of them are valid, zeros stand in for what lies past the end.
    #[inline(always)]
    pub(crate) fn peek(&self) -> u64 {
        let byte = self.pos >> 3;
        let word = match self.bytes.get(byte..byte + 8) {
            Some(word) => u64::from_be_bytes(word.try_into().unwrap_or_default()),
            None => tail_apart(self.bytes, byte),
        };
        word << (self.pos & 7)
    }

    /// Skips `n` bits.
    #[inline(always)]
    pub(crate) fn consume(&mut self, n: u32) {
        self.pos += n as usize;
    }

    /// The next `n` bits, right-aligned; `n` is 1–57.
    #[inline(always)]
    pub(crate) fn short(&mut self, n: u32) -> u64 {
        debug_assert!((1..=57).contains(&n));
        let bits = self.peek() >> (64 - n);
        self.consume(n);
        bits
    }

    /// The next `n` bits, right-aligned; `n` is 1–64.
    #[inline(always)]
    pub(crate) fn read(&mut self, n: u32) -> u64 {
        if n <= 57 {
            return self.short(n);
        }
        let high = self.short(32);
        high << (n - 32) | self.short(n - 32)
    }

    /// A varint of groups of seven bits (Go's rules, any bit position); `None` when it exceeds 64 bits.
    ///
    /// By value, so that the reader can stay in registers.
    #[inline(never)]
    pub(crate) fn uvarint(mut self) -> (Option<u64>, Self) {
        let mut word = self.peek();
        let mut value = 0;
        // As many groups as a peek has, and then one by one.
        for shift in (0..49).step_by(7) {
            value |= (word >> 56 & 0x7f) << shift;
            self.pos += 8;
            if word >> 63 == 0 {
                return (Some(value), self);
            }
            word <<= 8;
        }
        for shift in (49..64).step_by(7) {
            let byte = self.short(8);
            if shift == 63 && byte > 1 {
                return (None, self);
            }
            value |= (byte & 0x7f) << shift;
            if byte < 0x80 {
                return (Some(value), self);
            }
        }
        (None, self)
    }

    /// A zig-zag varint; `None` when it exceeds 64 bits.
    #[inline(always)]
    pub(crate) fn varint(self) -> (Option<i64>, Self) {
        let (value, behind) = self.uvarint();
        (value.map(varint::unzigzag), behind)
    }
}

/// Says that a branch is hardly ever taken. In a loop that is left by many branches the compiler would otherwise think that
/// it turns but once or twice, and keep in memory what the loop works with.
#[cold]
#[inline]
pub(crate) fn rare() {}

/// A [`BitReader`] for a loop that is to have no call in it and few instructions: what does not come easily ends the loop.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoopReader<'a> {
    bytes: &'a [u8],
    /// Next bit, as a [`BitReader`]'s.
    pos: usize,
}

impl<'a> LoopReader<'a> {
    /// Goes on where a reader is.
    #[inline(always)]
    pub(crate) fn new(bits: BitReader<'a>) -> Self {
        Self { bytes: bits.bytes, pos: bits.pos }
    }

    /// The position of the next bit.
    #[inline(always)]
    pub(crate) fn pos(self) -> usize {
        self.pos
    }

    /// The same bytes, `n` bits on.
    #[inline(always)]
    pub(crate) fn behind(self, n: u32) -> Self {
        Self { pos: self.pos + n as usize, ..self }
    }

    /// As [`BitReader::peek`]; `None` within the last eight bytes.
    #[inline(always)]
    pub(crate) fn peek(self) -> Option<u64> {
        let byte = self.pos >> 3;
        let Some(word) = self.bytes.get(byte..byte + 8) else {
            rare();
            return None;
        };
        Some(u64::from_be_bytes(word.try_into().unwrap_or_default()) << (self.pos & 7))
    }
}

/// [`tail`] as a call, where what leads to it is rare and has no loop around it.
///
/// Takes the slice by value: a reference to the reader would keep it in memory, and with it the position, whose every
/// update would then cost a store and a load.
#[cold]
#[inline(never)]
fn tail_apart(bytes: &[u8], at: usize) -> u64 {
    tail(bytes, at)
}

/// The last, partial word: what is at `at` and zeros behind.
#[inline(always)]
pub(super) fn tail(bytes: &[u8], at: usize) -> u64 {
    match bytes.last_chunk() {
        Some(last) => {
            let missing = at - (bytes.len() - last.len());
            u64::from_be_bytes(*last).checked_shl(missing.min(8) as u32 * 8).unwrap_or(0)
        }
        None => tail_of_few(bytes, at),
    }
}

#[cold]
#[inline(never)]
fn tail_of_few(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    for (to, from) in word.iter_mut().zip(bytes.iter().skip(at)) {
        *to = *from;
    }
    u64::from_be_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::BitReader;

    #[test]
    fn reads_every_width_at_every_offset() {
        let bytes: Vec<u8> = (0..40).map(|i: u32| (i.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
        let bit = |i: usize| bytes.get(i / 8).map_or(0, |b| u64::from(b >> (7 - i % 8) & 1));
        for pos in 0..=bytes.len() * 8 {
            for n in 1..=64 {
                let want = (pos..pos + n).fold(0, |v, i| v << 1 | bit(i));
                let mut reader = BitReader::new(&bytes, pos);
                assert_eq!(reader.read(n as u32), want, "{n} bits at {pos}");
                assert_eq!(reader.pos(), pos + n);
                assert_eq!(reader.overrun(), pos + n > bytes.len() * 8);
            }
        }
    }

    #[test]
    fn varints_stop_at_64_bits() {
        let read = |bytes: &[u8]| BitReader::new(bytes, 0).uvarint().0;
        assert_eq!(read(&[0x7f]), Some(127));
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]), Some(u64::MAX));
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]), None);
        assert_eq!(read(&[0x80; 11]), None);
        assert_eq!(BitReader::new(&[1], 0).varint().0, Some(-1));
        assert_eq!(BitReader::new(&[2], 0).varint().0, Some(1));
    }
}
