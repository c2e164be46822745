//! Reading many short fields one behind the other.

use super::reader::{BitReader, tail};

/// At least so many bits are in the word behind a [`BitStream::refill`].
pub(crate) const STREAM_BITS: u32 = 56;

/// A reader that keeps the next bits in a register.
///
/// Where a [`BitReader`] loads a word for each field, which cannot begin before the length of the field before is known,
/// here the load and the field before overlap: what is left of the word is shifted, and what was loaded is put behind it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BitStream<'a> {
    bytes: &'a [u8],
    /// The byte that goes behind the first `count` bits of the word.
    next: usize,
    /// The next bits, left-aligned. Behind the first `count` are zeros, or bits that are right but not counted.
    word: u64,
    /// 0–63.
    count: u32,
}

impl<'a> BitStream<'a> {
    /// Goes on where a reader is.
    #[inline(always)]
    pub(crate) fn new(bits: BitReader<'a>) -> Self {
        let mut stream = Self { bytes: bits.bytes(), next: bits.pos() / 8, word: 0, count: 0 };
        stream.refill();
        stream.take(bits.pos() as u32 % 8);
        stream
    }

    /// A reader that goes on here.
    #[inline(always)]
    pub(crate) fn reader(&self) -> BitReader<'a> {
        BitReader::new(self.bytes, self.next * 8 - self.count as usize)
    }

    /// Whether more bits were taken than there are.
    #[inline(always)]
    pub(crate) fn overrun(&self) -> bool {
        self.next * 8 - self.count as usize > self.bytes.len() * 8
    }

    /// The next bits, left-aligned: as many as the last refill left.
    #[inline(always)]
    pub(crate) fn word(&self) -> u64 {
        self.word
    }

    /// Skips `n` bits of the word.
    #[inline(always)]
    pub(crate) fn take(&mut self, n: u32) {
        debug_assert!(n <= self.count);
        self.word <<= n;
        self.count -= n;
    }

    /// Brings the word to [`STREAM_BITS`] bits or more; zeros stand in for what lies past the end.
    #[inline(always)]
    pub(crate) fn refill(&mut self) {
        let word = match self.bytes.get(self.next..self.next.wrapping_add(8)) {
            Some(word) => u64::from_be_bytes(word.try_into().unwrap_or_default()),
            None => tail(self.bytes, self.next),
        };
        self.next += (63 - self.count) as usize / 8;
        self.word |= word >> self.count;
        self.count |= STREAM_BITS;
    }
}

#[cfg(test)]
mod tests {
    use super::{BitReader, BitStream};

    #[test]
    fn takes_every_width_from_every_offset() {
        let bytes: Vec<u8> = (0..40).map(|i: u32| (i.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
        for pos in 0..bytes.len() * 8 {
            for n in 1..=56 {
                let mut reader = BitReader::new(&bytes, pos);
                let mut stream = BitStream::new(reader);
                // Past the end too, but by less than a field of one sample.
                while !reader.overrun() {
                    stream.refill();
                    assert_eq!(stream.word() >> (64 - n), reader.short(n), "{n} bits, from {pos}");
                    stream.take(n);
                    assert_eq!(stream.reader().pos(), reader.pos());
                }
            }
        }
    }
}
