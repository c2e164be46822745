//! Many fields at once: no question behind each of them whether a word is full.

use super::split::{PIECE, SplitBits};

/// What is gathered before it goes out: whole words from the first of the open piece on, behind [`SLACK`] bytes.
///
/// Apart from [`BulkBits`], which could not live in registers with an array in it.
pub(crate) type Buffer = [u8; SLACK + ROOM];

/// Bytes of the stream: nearly all chunks fit. A power of two, so that a place is in the buffer by a mask.
const ROOM: usize = 512;
/// A store begins up to eight bytes before the stream.
const SLACK: usize = 8;

/// The most bits that go in at once: what a store covers behind whole bytes.
pub(crate) const MOST_AT_ONCE: u32 = 57;

/// A [`SplitBits`] of which only the last 64 bits are at hand. Behind every sample they are stored whole, where the stream's
/// last byte is theirs: what was there before is written once more, and so nothing has to be asked or chosen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BulkBits {
    /// The last bits, right-aligned.
    last: u64,
    /// Bits from the beginning of the open piece on.
    len: usize,
}

impl BulkBits {
    /// A buffer.
    #[inline(always)]
    pub(crate) fn buffer() -> Buffer {
        [0; SLACK + ROOM]
    }

    /// Goes on where `bits` ends.
    #[inline(always)]
    pub(crate) fn new<B>(bits: &SplitBits<B>, buffer: &mut Buffer) -> Self {
        let (first, open, used) = bits.end();
        let mut len = used as usize;
        if let Some(first) = first {
            buffer[SLACK..SLACK + 8].copy_from_slice(&first.to_be_bytes());
            len += 64;
        }
        let both = u128::from(first.unwrap_or(0)) << 64 | u128::from(open);
        let bulk = Self { last: (both >> (64 - used)) as u64, len };
        bulk.store(buffer);
        bulk
    }

    /// Whether there is room for so many bits.
    #[inline(always)]
    pub(crate) fn has_room(&self, n: u32) -> bool {
        self.len < ROOM * 8 - 7 - n as usize
    }

    /// Appends the `n` low bits of `value` (the others zero). No more than [`MOST_AT_ONCE`] may go in before a
    /// [`store`](Self::store), and no more than [there is room](Self::has_room) for.
    #[inline(always)]
    pub(crate) fn push(&mut self, value: u64, n: u32) {
        debug_assert!(n <= MOST_AT_ONCE && value >> n == 0);
        self.last = self.last << n | value;
        self.len += n as usize;
    }

    /// Puts what was pushed into the buffer.
    #[inline(always)]
    pub(crate) fn store(&self, buffer: &mut Buffer) {
        let end = self.len + 7;
        debug_assert!(end / 8 < ROOM);
        let word = self.last << (!end & 7);
        let at = end / 8 % ROOM;
        buffer[at..at + 8].copy_from_slice(&word.to_be_bytes());
    }

    /// Appends the `n` low bits of `value` (the others zero), up to 64, behind a field that was pushed, and stores both.
    #[inline(always)]
    pub(crate) fn put_long(&mut self, value: u64, n: u32, buffer: &mut Buffer) {
        let low = n.min(32);
        self.push(value >> low, n - low);
        self.store(buffer);
        self.push(value & u64::MAX >> (64 - low), low);
        self.store(buffer);
    }

    /// Hands all that was put to `bits`, and the pieces that it filled to `out`.
    #[inline(always)]
    pub(crate) fn finish<B>(self, buffer: &Buffer, bits: &mut SplitBits<B>, out: &mut Vec<u8>) {
        let full = self.len / 8 / PIECE * PIECE;
        let (pieces, rest) = buffer[SLACK..].split_at(full);
        out.extend_from_slice(pieces);
        let used = self.len % 64;
        let first = match rest.first_chunk() {
            Some(first) if self.len / 64 % 2 == 1 => u64::from_be_bytes(*first),
            _ => 0,
        };
        let open = if used == 0 { 0 } else { self.last << (64 - used) };
        bits.set_end(self.len as u32, first, open);
    }
}
