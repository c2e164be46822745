//! A growing bit stream whose full 16-byte pieces leave, so that what stays fits a cache line.

/// Bytes in a piece: what an append state hands to its caller whenever as many are full.
pub const PIECE: usize = 16;

const PIECE_BITS: u32 = PIECE as u32 * 8;

const FLAGS_SHIFT: u32 = 24;
const LEN_MASK: u32 = (1 << FLAGS_SHIFT) - 1;

/// The open end of a bit stream: the last bits that do not fill a [`PIECE`], and how many bits there are in all.
///
/// The accumulator is two words and not a `u128` so that a state's alignment is 8 and its owner can pack ids beside it;
/// `beside` is four bytes of the owner's that would be padding otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SplitBits<B> {
    /// The open piece, left-aligned, unused bits zero.
    high: u64,
    low: u64,
    /// All bits so far, those that left included, in the low 24: the longest chunk there can be, 65,535 samples of an
    /// XOR2 chunk's longest, has 14,352,165. The top eight are the owner's flags, which no addition reaches.
    total: u32,
    /// The owner's.
    pub(crate) beside: B,
}

impl<B> SplitBits<B> {
    /// Starts with `n` (at most 64) zero bits: the place of a header.
    pub(crate) const fn starting_with_zeros(n: u32, beside: B) -> Self {
        Self { high: 0, low: 0, total: n, beside }
    }

    /// Rebuilds the state behind `bits` bits of `stream`; bits of the last byte beyond that are dropped, and the `header`
    /// bits (at most 64) in front are zeroed.
    pub(crate) fn resume(stream: &[u8], bits: u32, header: u32, beside: B) -> Self {
        let mut open = [0; PIECE];
        let from = bits as usize / 8 / PIECE * PIECE;
        for (to, byte) in open.iter_mut().zip(stream.iter().skip(from)) {
            *to = *byte;
        }
        let used = bits % PIECE_BITS;
        let keep = if used == 0 { 0 } else { u128::MAX << (PIECE_BITS - used) };
        let mut resumed = Self { high: 0, low: 0, total: bits, beside };
        resumed.set(u128::from_be_bytes(open) & keep);
        if from == 0 {
            resumed.high &= u64::MAX.checked_shr(header).unwrap_or(0);
        }
        resumed
    }

    #[inline(always)]
    fn open(&self) -> u128 {
        u128::from(self.high) << 64 | u128::from(self.low)
    }

    #[inline(always)]
    fn set(&mut self, open: u128) {
        self.high = (open >> 64) as u64;
        self.low = open as u64;
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

    /// Appends the `n` low bits of `value` (the others zero), `n` from 0 to 127; a piece that fills goes to `emit`.
    #[inline(always)]
    pub(crate) fn put(&mut self, value: u128, n: u32, emit: &mut impl FnMut([u8; PIECE])) {
        debug_assert!(n < PIECE_BITS && value >> n == 0);
        let room = PIECE_BITS - self.total % PIECE_BITS;
        self.total += n;
        if n < room {
            self.set(self.open() | value << (room - n));
        } else {
            let spill = n - room;
            emit((self.open() | value >> spill).to_be_bytes());
            // Twice, because a shift by 128 has no meaning when nothing spills.
            self.set(value << (PIECE_BITS - 1 - spill) << 1);
        }
    }

    /// The bytes of the open piece, the last one padded with zero bits.
    pub(crate) fn tail(&self) -> ([u8; PIECE], usize) {
        (self.open().to_be_bytes(), (self.total % PIECE_BITS).div_ceil(8) as usize)
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
        while value >= 0x80 {
            self.put((value & 0x7f | 0x80).into(), 8, emit);
            value >>= 7;
        }
        self.put(value.into(), 8, emit);
    }
}
