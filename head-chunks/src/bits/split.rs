//! A growing bit stream whose full 16-byte pieces leave, so that what stays fits a cache line.

/// Bytes in a piece: what an append state hands to its caller whenever as many are full.
pub const PIECE: usize = 16;

const PIECE_BITS: u32 = PIECE as u32 * 8;
const WORD_BITS: u32 = u64::BITS;

const FLAGS_SHIFT: u32 = 24;
const LEN_MASK: u32 = (1 << FLAGS_SHIFT) - 1;

/// The open end of a bit stream: the last bits that do not fill a [`PIECE`], and how many bits there are in all.
///
/// Words of 64 bits, because a shift of 128 by a variable costs six times as much. `beside` is four bytes of the owner's
/// that would be padding otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SplitBits<B> {
    /// The first word of the open piece once that is full, 0 before.
    first: u64,
    /// The open word, left-aligned, unused bits zero.
    open: u64,
    /// All bits so far, those that left included, in the low 24: the longest chunk there can be, 65,535 samples of an
    /// XOR2 chunk's longest, has 14,352,165. The top eight are the owner's flags, which no addition reaches.
    total: u32,
    /// The owner's.
    pub(crate) beside: B,
}

impl<B> SplitBits<B> {
    /// Starts with `n` (fewer than 64) zero bits: the place of a header.
    pub(crate) const fn starting_with_zeros(n: u32, beside: B) -> Self {
        debug_assert!(n < WORD_BITS);
        Self { first: 0, open: 0, total: n, beside }
    }

    /// Rebuilds the state behind `bits` bits of `stream`; bits of the last byte beyond that are dropped, and the `header`
    /// bits (fewer than 64) in front are zeroed.
    pub(crate) fn resume(stream: &[u8], bits: u32, header: u32, beside: B) -> Self {
        let word = |number: u32| {
            let from = number as usize * 8;
            let mut word = [0; 8];
            for (to, byte) in word.iter_mut().zip(stream.iter().skip(from)) {
                *to = *byte;
            }
            u64::from_be_bytes(word) & if number == 0 { u64::MAX >> header } else { u64::MAX }
        };
        let number = bits / WORD_BITS;
        let keep = !(u64::MAX >> (bits % WORD_BITS));
        let first = if bits & WORD_BITS == 0 { 0 } else { word(number - 1) };
        Self { first, open: word(number) & keep, total: bits, beside }
    }

    /// Bits so far.
    #[inline]
    pub(crate) fn len(&self) -> u32 {
        self.total & LEN_MASK
    }

    /// Bytes so far, the last one perhaps in part.
    #[inline]
    pub(crate) fn byte_len(&self) -> usize {
        self.len().div_ceil(8) as usize
    }

    /// Pieces that left.
    #[inline]
    pub(crate) fn full_pieces(&self) -> usize {
        (self.len() / PIECE_BITS) as usize
    }

    /// The owner's eight bits.
    #[inline]
    pub(crate) fn flags(&self) -> u8 {
        (self.total >> FLAGS_SHIFT) as u8
    }

    /// Sets some of the owner's eight bits.
    #[inline]
    pub(crate) fn set_flags(&mut self, flags: u8) {
        self.total |= u32::from(flags) << FLAGS_SHIFT;
    }

    /// Appends the `n` low bits of `value` (the others zero), `n` from 1 to 64; a piece that fills goes to `emit`.
    #[inline(always)]
    pub(crate) fn put(&mut self, value: u64, n: u32, emit: &mut impl FnMut([u8; PIECE])) {
        debug_assert!((1..=64).contains(&n) && value.checked_shr(n).unwrap_or(0) == 0);
        let before = self.total;
        let used = before % WORD_BITS;
        let left = value << (WORD_BITS - n);
        let word = self.open | left >> used;
        self.total = before + n;
        let crossed = before ^ self.total;
        if crossed & WORD_BITS == 0 {
            self.open = word;
            return;
        }
        // Twice, because a shift by 64 has no meaning when the word was empty.
        self.open = left << (WORD_BITS - 1 - used) << 1;
        if crossed & PIECE_BITS == 0 {
            self.first = word;
        } else {
            emit((u128::from(self.first) << 64 | u128::from(word)).to_be_bytes());
            self.first = 0;
        }
    }

    /// Appends `a` and then `b`, as [`SplitBits::put`] each; in one go if both fit a word. `a` may be of no bits.
    #[inline(always)]
    pub(crate) fn put_both(&mut self, a: (u64, u32), b: (u64, u32), emit: &mut impl FnMut([u8; PIECE])) {
        let (mut front, mut n) = a;
        if n + b.1 > WORD_BITS {
            self.put(front, n, emit);
            (front, n) = (0, 0);
        }
        // Wraps only when nothing is in front.
        self.put(front.wrapping_shl(b.1) | b.0, n + b.1, emit);
    }

    /// The first word of the open piece if that is full, the open word, and how many bits are in that.
    #[inline(always)]
    pub(crate) fn end(&self) -> (Option<u64>, u64, u32) {
        ((self.total & WORD_BITS != 0).then_some(self.first), self.open, self.total % WORD_BITS)
    }

    /// Puts the end `bits` bits behind the beginning of the open piece.
    #[inline(always)]
    pub(super) fn set_end(&mut self, bits: u32, first: u64, open: u64) {
        self.total += bits - self.total % PIECE_BITS;
        (self.first, self.open) = (first, open);
    }

    /// The bytes of the open piece, the last one padded with zero bits.
    pub(crate) fn tail(&self) -> ([u8; PIECE], usize) {
        let (first, second) = if self.total & WORD_BITS == 0 { (self.open, 0) } else { (self.first, self.open) };
        let piece = u128::from(first) << 64 | u128::from(second);
        (piece.to_be_bytes(), (self.total % PIECE_BITS).div_ceil(8) as usize)
    }

    /// Appends to `out` the whole stream: the pieces that left, the open one, and `header` in place of the first bytes.
    pub(crate) fn assemble<'a>(&self, pieces: impl IntoIterator<Item = &'a [u8]>, header: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.reserve(self.byte_len());
        for piece in pieces {
            out.extend_from_slice(piece);
        }
        let (tail, len) = self.tail();
        out.extend_from_slice(&tail[..len]);
        debug_assert_eq!(out.len() - start, self.byte_len(), "pieces are missing or too many");
        if let Some(place) = out.get_mut(start..start + header.len()) {
            place.copy_from_slice(header);
        }
    }

    /// Appends a uvarint in whole groups of eight bits, as Go's `binary.PutUvarint` lays them out.
    pub(crate) fn put_uvarint(&mut self, mut value: u64, emit: &mut impl FnMut([u8; PIECE])) {
        let (mut groups, mut n) = (0, 0);
        while value >= 0x80 && n < 56 {
            groups = groups << 8 | value & 0x7f | 0x80;
            value >>= 7;
            n += 8;
        }
        while value >= 0x80 {
            self.put(groups, n, emit);
            (groups, n) = (value & 0x7f | 0x80, 8);
            value >>= 7;
        }
        self.put(groups << 8 | value, n + 8, emit);
    }
}
