//! The window of significant bits that XOR-coded values share.

use crate::error::DecodeErrorKind;

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
