//! The window of significant bits that XOR-coded values share.

use crate::bits::{BitReader, PEEK_BITS};
use crate::error::DecodeErrorKind;

/// Five bits of leading zeros and six of significant bits.
pub(crate) const WINDOW_BITS: usize = 11;

/// Control bits and how many they are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Prefix(pub(crate) u64, pub(crate) u32);

/// Leading and trailing zeros of the last value that was written with a window of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// 0–31, or [`Window::NONE`]'s.
    pub(crate) leading: u8,
    /// 0–63.
    pub(crate) trailing: u8,
}

impl Window {
    /// No value was written yet: the next one brings a window.
    pub(crate) const NONE: Self = Self { leading: 0xff, trailing: 0 };

    /// What a reader starts with: all 64 bits.
    ///
    /// An appender that resumes from bytes starts with the reader's window, as the reference's does; one that has lived
    /// since the chunk's first sample may still have none.
    pub(crate) const FULL: Self = Self { leading: 0, trailing: 0 };

    /// The window of a difference that is not 0. Leading zeros are capped at 31 because they are stored in five bits.
    #[inline(always)]
    pub(crate) fn of(xor: u64) -> Self {
        Self { leading: xor.leading_zeros().min(31) as u8, trailing: xor.trailing_zeros() as u8 }
    }

    /// Whether a difference with window `inner` can be written in this one.
    #[inline(always)]
    pub(crate) fn covers(self, inner: Self) -> bool {
        // NONE has 255 leading zeros: it covers nothing.
        inner.leading >= self.leading && inner.trailing >= self.trailing
    }

    /// Significant bits, 1–64.
    #[inline(always)]
    pub(crate) fn significant(self) -> u32 {
        64 - u32::from(self.leading) - u32::from(self.trailing)
    }

    /// The bits that write a difference which is not 0, and how many they are: `reused` in front of its significant bits
    /// when this window covers it, or `fresh` and its own window, which becomes the current one.
    #[inline(always)]
    pub(crate) fn field(&mut self, xor: u64, reused: Prefix, fresh: Prefix) -> (u128, u32) {
        let own = Self::of(xor);
        let prefix = if self.covers(own) {
            reused
        } else {
            *self = own;
            let fields = u64::from(own.leading) << 6 | u64::from(own.significant() & 63);
            Prefix(fresh.0 << WINDOW_BITS | fields, fresh.1 + WINDOW_BITS as u32)
        };
        let significant = self.significant();
        (u128::from(prefix.0) << significant | u128::from(xor >> self.trailing), prefix.1 + significant)
    }

    /// Gorilla's field: 0, or 10 and the bits in this window, or 11 and a new window.
    #[inline(always)]
    pub(crate) fn xor_field(&mut self, xor: u64) -> (u128, u32) {
        if xor == 0 { (0, 1) } else { self.field(xor, Prefix(0b10, 2), Prefix(0b11, 2)) }
    }

    /// How many bits [`Window::xor_field`] writes; the window changes as there.
    #[inline(always)]
    pub(crate) fn xor_field_len(&mut self, xor: u64) -> u32 {
        if xor == 0 { 1 } else { self.field(xor, Prefix(0b10, 2), Prefix(0b11, 2)).1 }
    }

    /// Reads what [`Window::xor_field`] wrote. On an error the window's eleven bits have been taken.
    #[inline(always)]
    pub(crate) fn read_xor(&mut self, bits: &mut BitReader<'_>) -> Result<u64, DecodeErrorKind> {
        self.read_xor_behind(bits.peek(), 0, bits)
    }

    /// As [`Window::read_xor`], where `word` is what a peek gave and its first `used` bits are still to be taken: mostly the
    /// whole field lies in it.
    #[inline(always)]
    pub(crate) fn read_xor_behind(
        &mut self,
        word: u64,
        used: u32,
        bits: &mut BitReader<'_>,
    ) -> Result<u64, DecodeErrorKind> {
        let rest = word << used;
        if rest >> 63 == 0 {
            bits.consume(used + 1);
            return Ok(0);
        }
        if rest >> 62 == 0b10 {
            Ok(self.read_reused(word, used + 2, bits))
        } else {
            self.read_fresh(word, used + 2, bits)
        }
    }

    /// The significant bits of a difference in this window, behind `used` bits of `word`.
    #[inline(always)]
    pub(crate) fn read_reused(self, word: u64, used: u32, bits: &mut BitReader<'_>) -> u64 {
        let significant = self.significant();
        if used + significant <= PEEK_BITS {
            bits.consume(used + significant);
            return (word << used) >> (64 - significant) << self.trailing;
        }
        bits.consume(used);
        bits.read(significant) << self.trailing
    }

    /// A new window and the significant bits in it, behind `used` (at most 46) bits of `word`. On an error the window's
    /// eleven bits have been taken.
    #[inline(always)]
    pub(crate) fn read_fresh(
        &mut self,
        word: u64,
        used: u32,
        bits: &mut BitReader<'_>,
    ) -> Result<u64, DecodeErrorKind> {
        let rest = word << used;
        let used = used + WINDOW_BITS as u32;
        match Self::from_fields(rest >> 59, rest >> 53 & 63) {
            Ok(window) => *self = window,
            Err(kind) => {
                bits.consume(used);
                return Err(kind);
            }
        }
        Ok(self.read_reused(word, used, bits))
    }

    /// The window that five bits of leading zeros and six of significant bits (0 means 64) describe.
    #[inline(always)]
    pub(crate) fn from_fields(leading: u64, significant: u64) -> Result<Self, DecodeErrorKind> {
        let significant = if significant == 0 { 64 } else { significant };
        match 64_u64.checked_sub(leading + significant) {
            Some(trailing) => Ok(Self { leading: leading as u8, trailing: trailing as u8 }),
            None => Err(DecodeErrorKind::Window { leading: leading as u8, significant: significant as u8 }),
        }
    }
}
