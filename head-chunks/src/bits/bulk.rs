//! Many fields at once: no question behind each of them whether a word is full.

use core::hint::select_unpredictable;

use super::split::{PIECE, SplitBits};

/// What is gathered before it goes out: whole words from the first of the open piece on.
///
/// Apart from [`BulkBits`], which could not live in registers with an array in it.
pub(crate) type Buffer = [u8; BUFFER];

const BUFFER: usize = 512;
/// A put stores the open word, and the next one behind it.
const WORDS: usize = 16;

/// A [`SplitBits`] whose open word is stored behind every field, and whether its place moves on is a choice instead of a
/// branch: which field fills a word is what the data is about, no predictor knows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BulkBits {
    /// Where the open word is, a multiple of eight.
    at: usize,
    /// Left-aligned, unused bits zero.
    open: u64,
    /// Bits in it, fewer than 64.
    used: u32,
}

impl BulkBits {
    /// A buffer.
    #[inline(always)]
    pub(crate) fn buffer() -> Buffer {
        [0; BUFFER]
    }

    /// Goes on where `bits` ends.
    #[inline(always)]
    pub(crate) fn new<B>(bits: &SplitBits<B>, buffer: &mut Buffer) -> Self {
        let (first, open, used) = bits.end();
        buffer[..8].copy_from_slice(&first.unwrap_or(0).to_be_bytes());
        Self { at: if first.is_some() { 8 } else { 0 }, open, used }
    }

    /// Whether there is room for two more fields.
    #[inline(always)]
    pub(crate) fn has_room(&self) -> bool {
        self.at <= BUFFER - 2 * WORDS
    }

    /// Appends the `n` low bits of `value` (the others zero), `n` from 1 to 64, if [there is room](Self::has_room).
    #[inline(always)]
    pub(crate) fn put(&mut self, value: u64, n: u32, buffer: &mut Buffer) {
        debug_assert!((1..=64).contains(&n) && value.checked_shr(n).unwrap_or(0) == 0);
        let left = value << ((64 - n) & 63);
        let word = self.open | left >> self.used;
        if let Some(place) = buffer.get_mut(self.at..self.at + 8) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        let used = self.used + n;
        // Twice, because a shift by 64 has no meaning when the word was empty.
        self.open = select_unpredictable(used >= 64, left << (63 - self.used) << 1, word);
        self.at += (used as usize & 64) / 8;
        self.used = used & 63;
    }

    /// Appends `a`, of a bit or more, and then `b`, which may be of none.
    #[inline(always)]
    pub(crate) fn put_both(&mut self, a: (u64, u32), b: (u64, u32), buffer: &mut Buffer) {
        if a.1 + b.1 <= 64 {
            // Fewer than 64 bits of `b`, as `a` has some.
            self.put(a.0 << (b.1 & 63) | b.0, a.1 + b.1, buffer);
        } else {
            self.put(a.0, a.1, buffer);
            self.put(b.0, b.1, buffer);
        }
    }

    /// Hands all that was put to `bits`, and the pieces that it filled to `out`.
    #[inline(always)]
    pub(crate) fn finish<B>(self, buffer: &Buffer, bits: &mut SplitBits<B>, out: &mut Vec<u8>) {
        let full = self.at / PIECE * PIECE;
        out.extend_from_slice(&buffer[..full]);
        let mut first = [0; 8];
        if self.at > full {
            first.copy_from_slice(&buffer[full..full + 8]);
        }
        bits.set_end(self.at as u32 * 8 + self.used, u64::from_be_bytes(first), self.open);
    }
}
