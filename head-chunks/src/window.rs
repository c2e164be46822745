//! The window of significant bits that XOR-coded values share.

use core::array::from_mut;
use core::hint::select_unpredictable;

use crate::bits::{BitReader, BitStream, LoopReader, MOST_AT_ONCE, PEEK_BITS, STREAM_BITS, rare};
use crate::error::{DecodeError, DecodeErrorKind};

/// Five bits of leading zeros and six of significant bits.
const WINDOW_BITS: u32 = 11;

/// Control bits and how many they are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Prefix(pub(crate) u64, pub(crate) u32);

/// Leading and trailing zeros of the last value that was written with a window of its own.
///
/// One number and not two: a load of both right behind a store of one has to wait for the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window(
    /// Trailing zeros, 0–63, in the low byte; those and the leading ones, 0–31 and [`Window::NONE`]'s, in the high byte.
    u16,
);

impl Window {
    /// No value was written yet: the next one brings a window.
    pub(crate) const NONE: Self = Self(0xff00);

    /// What a reader starts with: all 64 bits.
    ///
    /// An appender that resumes from bytes starts with the reader's window, as the reference's does; one that has lived
    /// since the chunk's first sample may still have none.
    pub(crate) const FULL: Self = Self(0);

    #[inline(always)]
    fn new(shift: u32, trailing: u32) -> Self {
        Self((shift << 8 | trailing) as u16)
    }

    #[inline(always)]
    fn shift(self) -> u32 {
        u32::from(self.0 >> 8)
    }

    #[inline(always)]
    fn trailing(self) -> u32 {
        u32::from(self.0 & 0xff)
    }

    /// As a number of 16 bits, and back.
    pub(crate) const fn to_bits(self) -> u16 {
        self.0
    }

    #[inline(always)]
    pub(crate) fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// The field that writes a difference which is not 0: `front`, then `reused` and its significant bits when this window
    /// covers it, or `fresh` and its own window, which becomes the current one. In two parts, as it may exceed 64 bits.
    #[inline(always)]
    pub(crate) fn field(&mut self, xor: u64, front: (u64, u32), reused: Prefix, fresh: Prefix) -> [(u64, u32); 2] {
        let (prefix, shift, trailing) = if self.covers(xor) {
            (reused, self.shift(), self.trailing())
        } else {
            *self = Self::of(xor);
            let (shift, trailing) = (self.shift(), self.trailing());
            let fields = u64::from((shift - trailing) << 6 | (64 - shift) & 63);
            (Prefix(fresh.0 << WINDOW_BITS | fields, fresh.1 + WINDOW_BITS), shift, trailing)
        };
        [(front.0 << prefix.1 | prefix.0, front.1 + prefix.1), (xor >> trailing, 64 - shift)]
    }

    /// Gorilla's field: 0, or 10 and the bits in this window, or 11 and a new window.
    #[inline(always)]
    pub(crate) fn xor_field(&mut self, xor: u64) -> [(u64, u32); 2] {
        if xor == 0 { [(0, 0), (0, 1)] } else { self.field(xor, (0, 0), Prefix(0b10, 2), Prefix(0b11, 2)) }
    }

    /// How many bits [`Window::xor_field`] writes; the window changes as there.
    #[inline(always)]
    pub(crate) fn xor_field_len(&mut self, xor: u64) -> u32 {
        if xor == 0 {
            return 1;
        }
        if self.covers(xor) {
            return 2 + 64 - self.shift();
        }
        *self = Self::of(xor);
        2 + WINDOW_BITS + 64 - self.shift()
    }

    /// At most how many bits [`Window::xor_field`] writes, whichever of the differences so far its window is of; this one
    /// becomes one that covers all of them. It soon stops changing, where Gorilla's is replaced time and again.
    #[inline(always)]
    pub(crate) fn most_xor_field_len(&mut self, xor: u64) -> u32 {
        self.most_xor_fields_len(xor, 1, u32::from(xor == 0))
    }

    /// As [`most_xor_field_len`](Self::most_xor_field_len), for `n` differences, `same` of them 0, that come to `any` together.
    #[inline(always)]
    pub(crate) fn most_xor_fields_len(&mut self, any: u64, n: u32, same: u32) -> u32 {
        if any != 0 && !self.covers(any) {
            *self = self.widened(any);
        }
        // Of this window nothing is used while all are 0.
        same + (n - same) * (2 + WINDOW_BITS + 64_u32.wrapping_sub(self.shift()))
    }

    /// The window of all that lies in this one and of a difference that is not 0.
    #[cold]
    #[inline(never)]
    fn widened(self, xor: u64) -> Self {
        let other = Self::of(xor);
        if self == Self::NONE {
            return other;
        }
        let leading = |window: Self| window.shift() - window.trailing();
        let trailing = self.trailing().min(other.trailing());
        Self::new(leading(self).min(leading(other)) + trailing, trailing)
    }

    /// Whether the significant bits of a difference lie in this window. Nothing lies in [`Window::NONE`].
    ///
    /// Asked of a mask: most differences do, and counting their zeros takes longer.
    #[inline(always)]
    fn covers(self, xor: u64) -> bool {
        let leading = self.shift() - self.trailing();
        (leading < u64::BITS) & (xor & !self.inside() == 0)
    }

    #[inline(always)]
    fn inside(self) -> u64 {
        let (leading, trailing) = (self.shift() - self.trailing(), self.trailing());
        u64::MAX.wrapping_shr(leading) & u64::MAX.wrapping_shl(trailing)
    }

    /// The zeros behind it, the bits in it, and a mask of all others: for [`Window::NONE`] of all there are.
    pub(crate) fn as_masks(self) -> [u64; 3] {
        if self == Self::NONE {
            return [0, 0, u64::MAX];
        }
        [self.trailing().into(), (64 - self.shift()).into(), !self.inside()]
    }

    /// The window of a difference that is not 0.
    #[inline(always)]
    fn of(xor: u64) -> Self {
        // Leading zeros are capped at 31 because they are stored in five bits.
        let (leading, trailing) = (xor.leading_zeros().min(31), xor.trailing_zeros());
        Self::new(leading + trailing, trailing)
    }
}

/// A [`Window`] as a loop of appends needs it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BulkWindow {
    window: Window,
    /// What a difference must not have to go in with all that is before it in one step.
    outside: u64,
    trailing: u32,
    /// Significant bits.
    pub(crate) len: u32,
}

impl BulkWindow {
    /// Significant bits that fit a step behind what else a sample has.
    const NARROW: u32 = MOST_AT_ONCE - 18;

    #[inline(always)]
    pub(crate) fn new(window: Window) -> Self {
        let len = 64_u32.saturating_sub(window.shift());
        let outside = if (1..=Self::NARROW).contains(&len) { !window.inside() } else { u64::MAX };
        Self { window, outside, trailing: window.trailing(), len }
    }

    #[inline(always)]
    pub(crate) fn window(self) -> Window {
        self.window
    }

    /// Whether a difference is 0, or lies in this window and that is narrow.
    #[inline(always)]
    pub(crate) fn covers_narrow(&self, xor: u64) -> bool {
        xor & self.outside == 0
    }

    /// Whether a difference that is not 0 lies in this window.
    #[inline(always)]
    pub(crate) fn covers(&self, xor: u64) -> bool {
        self.window.covers(xor)
    }

    /// The bits of a difference that are significant in this window.
    #[inline(always)]
    pub(crate) fn significant(&self, xor: u64) -> u64 {
        xor >> (self.trailing & 63)
    }

    /// Becomes the window of a difference that is not 0, and says which field tells so, `prefix` in front.
    #[inline(always)]
    pub(crate) fn renew(&mut self, xor: u64, prefix: Prefix) -> (u64, u32) {
        let window = Window::of(xor);
        *self = Self::new(window);
        let fields = u64::from((window.shift() - window.trailing()) << 6 | self.len & 63);
        (prefix.0 << WINDOW_BITS | fields, prefix.1 + WINDOW_BITS)
    }
}

impl Window {
    /// Reads what [`Window::xor_field`] wrote; `None` for a window that is none: its eleven bits have been taken.
    #[inline(always)]
    pub(crate) fn next_xor(&mut self, bits: &mut BitStream<'_>) -> Option<u64> {
        bits.refill();
        match Self::next_few(from_mut(self), bits) {
            Some([xor]) => Some(xor),
            None => self.next_xor_rare(bits),
        }
    }

    /// The next differences and the windows they leave, of a stream that was just filled up, if all fields together are of
    /// [`STREAM_BITS`] bits or fewer. `None`, and nothing was taken or changed, if not, or if a window is none.
    ///
    /// Whether there is a difference is what the data is about, no predictor knows it: so there is no branch for that. A new
    /// window is rarer, once there is one that covers most differences: without it a field's length is known early, and where
    /// the next one begins is a choice of two and a shift away.
    #[inline(always)]
    pub(crate) fn next_few<const N: usize>(windows: &mut [Self; N], stream: &mut BitStream<'_>) -> Option<[u64; N]> {
        let (mut word, mut used, mut fit) = (stream.word(), 0, true);
        let (mut xors, mut next) = ([0; N], *windows);
        for (window, xor) in next.iter_mut().zip(&mut xors) {
            let (mut shift, mut trailing, mut start) = (window.shift(), window.trailing(), 2);
            if word >= 0b11 << 62 {
                rare();
                ReadWindow { shift, trailing } = ReadWindow::parse(word << 2);
                start = 2 + WINDOW_BITS;
                fit &= trailing <= shift;
                *window = Self((shift << 8 | trailing) as u16);
            }
            // A value that is not changed has no bits here.
            *xor = (word << start) >> (shift & 63) << (trailing & 63) & (word as i64 >> 63) as u64;
            let len = select_unpredictable(word >> 63 != 0, start + 64 - shift, 1);
            used += len;
            word <<= len & 63;
        }
        if !fit || used > STREAM_BITS {
            return None;
        }
        stream.take(used);
        *windows = next;
        Some(xors)
    }

    /// A field of more bits than a stream's word has, or a window that is none.
    #[inline(always)]
    fn next_xor_rare(&mut self, bits: &mut BitStream<'_>) -> Option<u64> {
        let (xor, window, behind) = read_xor(ReadWindow::from(*self), bits.reader());
        *self = window.into();
        *bits = BitStream::new(behind);
        xor
    }
}

/// By value, so that who calls it can keep all of it in registers.
#[cold]
#[inline(never)]
fn read_xor(mut window: ReadWindow, mut bits: BitReader<'_>) -> (Option<u64>, ReadWindow, BitReader<'_>) {
    let xor = window.read_xor_behind(bits.peek(), 0, &mut bits);
    (xor, window, bits)
}

/// A [`Window`] as a reader needs it: to take a value out of a word costs two shifts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadWindow {
    /// Bits of a value that are not in the window, 0–63.
    pub(crate) shift: u32,
    /// Those of them that are at its low end.
    pub(crate) trailing: u32,
}

impl From<ReadWindow> for Window {
    fn from(window: ReadWindow) -> Self {
        Self::new(window.shift, window.trailing)
    }
}

impl From<Window> for ReadWindow {
    #[inline(always)]
    fn from(window: Window) -> Self {
        Self { shift: window.shift(), trailing: window.trailing() }
    }
}

impl ReadWindow {
    /// All 64 bits.
    pub(crate) const FULL: Self = Self { shift: 0, trailing: 0 };

    /// Five bits of leading zeros and six of significant bits (0 means 64), at the top of `word`. If that exceeds 64 bits,
    /// there are more trailing bits than bits.
    #[inline(always)]
    fn parse(word: u64) -> Self {
        let (leading, shift) = ((word >> 59) as u32, ((word >> 53) as u32).wrapping_neg() & 63);
        Self { shift, trailing: shift.wrapping_sub(leading) }
    }

    /// Reads what [`Window::xor_field`] wrote. `word` is what a peek gave and its first `used` bits are still to be taken:
    /// mostly the whole field lies in it. `None` for a window that is none: its eleven bits have been taken.
    #[inline(always)]
    pub(crate) fn read_xor_behind(&mut self, word: u64, used: u32, bits: &mut BitReader<'_>) -> Option<u64> {
        let rest = word << used;
        if rest >> 63 == 0 {
            bits.consume(used + 1);
            return Some(0);
        }
        self.read_behind(word, used + 2, rest >> 62 == 0b11, bits)
    }

    /// The significant bits of a difference behind `used` (at most 46) bits of `word`, and before them a new window if it is
    /// `fresh`. `None` for a window that is none: its eleven bits have been taken.
    #[inline(always)]
    pub(crate) fn read_behind(
        &mut self,
        word: u64,
        mut used: u32,
        fresh: bool,
        bits: &mut BitReader<'_>,
    ) -> Option<u64> {
        if fresh {
            let window = Self::parse(word << used);
            used += WINDOW_BITS;
            if window.trailing > window.shift {
                bits.consume(used);
                return None;
            }
            *self = window;
        }
        let Self { shift, trailing } = *self;
        if used + 64 - PEEK_BITS <= shift {
            bits.consume(used + 64 - shift);
            return Some((word << used) >> shift << trailing);
        }
        bits.consume(used);
        Some(bits.read(64 - shift) << trailing)
    }

    /// The significant bits that `rest`, a word without its first `used` bits, begins with, in this window, and the reader
    /// behind them. `None` when they are so many that they are not for a loop.
    #[inline(always)]
    pub(crate) fn loop_known<'a>(self, rest: u64, used: u32, bits: LoopReader<'a>) -> Option<(u64, LoopReader<'a>)> {
        let Self { shift, trailing } = self;
        let behind = bits.behind(used + 64 - shift);
        if shift >= used + 64 - PEEK_BITS {
            return Some((rest >> shift << trailing, behind));
        }
        if shift < 64 - PEEK_BITS {
            rare();
            return None;
        }
        Some((bits.behind(used).peek()? >> shift << trailing, behind))
    }

    /// Gorilla's field, which `rest`, a word without its first `used` bits, begins with: as [`ReadWindow::loop_known`].
    #[inline(always)]
    pub(crate) fn loop_xor<'a>(&mut self, rest: u64, used: u32, bits: LoopReader<'a>) -> Option<(u64, LoopReader<'a>)> {
        if rest >> 63 == 0 {
            Some((0, bits.behind(used + 1)))
        } else if rest << 1 >> 63 == 0 {
            self.loop_known(rest << 2, used + 2, bits)
        } else {
            self.loop_fresh(rest << 2, used + 2, bits)
        }
    }

    /// As [`ReadWindow::loop_known`] with the window, which then becomes this one, in front of the bits.
    #[inline(always)]
    pub(crate) fn loop_fresh<'a>(
        &mut self,
        rest: u64,
        used: u32,
        bits: LoopReader<'a>,
    ) -> Option<(u64, LoopReader<'a>)> {
        let window = Self::parse(rest);
        if window.trailing > window.shift {
            rare();
            return None;
        }
        *self = window;
        window.loop_known(rest << WINDOW_BITS, used + WINDOW_BITS, bits)
    }
}

impl DecodeError {
    /// The error of a sample that reaches past the end of the bytes, or whose last field taken was a window that is none.
    #[cold]
    pub(crate) fn misread(bits: BitReader<'_>, sample: u32, total: u32) -> Self {
        let at = bits.pos().saturating_sub(WINDOW_BITS as usize);
        let mut again = bits.from(at);
        let leading = again.short(5) as u8;
        let significant = match again.short(6) {
            0 => 64,
            significant => significant as u8,
        };
        Self::at(bits, sample, total, at, DecodeErrorKind::Window { leading, significant })
    }
}
