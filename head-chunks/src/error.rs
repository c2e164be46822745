//! Why a chunk's bytes could not be decoded, and where.

use thiserror::Error;

use crate::bits::BitReader;

/// A chunk's bytes do not hold what its header promises.
///
/// The position is exact: `sample` counts from 0, `bit` counts from the first bit of the chunk's bytes, header included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("sample {sample}, bit {bit}: {kind}")]
pub struct DecodeError {
    /// Index of the sample that could not be read, from 0.
    pub sample: u32,
    /// Bit position in the chunk's bytes where the offending field begins (or where the bytes ended).
    pub bit: u64,
    /// What was expected there, and what was found.
    pub kind: DecodeErrorKind,
}

impl DecodeError {
    /// The error of a sample about a field that begins at bit `at` and has just been taken from `bits`.
    ///
    /// A field that reaches past the end was made of the zeros that stand in for it: what is wrong then is the length.
    #[cold]
    pub(crate) fn at(bits: BitReader<'_>, sample: u32, total: u32, at: usize, kind: DecodeErrorKind) -> Self {
        if bits.overrun() {
            return Self::truncated(bits, sample, total);
        }
        Self { sample, bit: at as u64, kind }
    }

    /// The error of a sample that reaches past the end of the bytes.
    #[cold]
    pub(crate) fn truncated(bits: BitReader<'_>, sample: u32, total: u32) -> Self {
        let end = bits.end();
        let kind = DecodeErrorKind::Truncated { total: total as u16, end: end as u32 };
        Self { sample, bit: end as u64, kind }
    }

    /// The error of a chunk without a whole header.
    #[cold]
    pub(crate) fn header(expected: usize, bytes: &[u8]) -> Self {
        let kind = DecodeErrorKind::Header { expected: expected as u8, found: bytes.len() as u8 };
        Self { sample: 0, bit: 0, kind }
    }
}

/// What was wrong, see [`DecodeError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// Fewer bytes than the encoding's header.
    #[error("expected a header of {expected} bytes, found {found}")]
    Header {
        /// Length of the encoding's header in bytes.
        expected: u8,
        /// Length of the chunk in bytes.
        found: u8,
    },
    /// The bytes end inside a sample.
    #[error("expected {total} samples, the bytes end at bit {end}")]
    Truncated {
        /// Samples that the header promises.
        total: u16,
        /// Length of the chunk in bits.
        end: u32,
    },
    /// A varint of more than 64 bits.
    #[error("expected a varint of at most 64 bits, found a longer one")]
    VarintOverflow,
    /// A window whose leading zeros and significant bits exceed the 64 bits of a value.
    #[error("expected a window of at most 64 bits, found {leading} leading zeros and {significant} significant bits")]
    Window {
        /// Leading zeros, 0–31.
        leading: u8,
        /// Significant bits, 1–64.
        significant: u8,
    },
    /// A histogram schema outside −53 and −9…52.
    #[error("expected a histogram schema of -53 or -9 to 52, found {0}")]
    Schema(i64),
    /// More spans, buckets or custom bounds than the bytes left could hold.
    #[error("expected at most {limit} {what}, found {found}")]
    Count {
        /// What is counted.
        what: Counted,
        /// The number that the chunk claims.
        found: u64,
        /// How many the remaining bits could hold.
        limit: u32,
    },
    /// A span whose length or offset does not fit its 32 bits.
    #[error("expected a span of 32-bit length and offset, found {0}")]
    Span(i64),
    /// A resolution finer than schema 8 is reduced to it, but these spans and buckets do not belong together.
    #[error("expected a histogram of schema {0} that can be reduced to 8, found spans without their buckets")]
    Reduce(i32),
    /// The encoding byte is none of the six.
    #[error("expected an encoding from 1 to 6, found {0}")]
    Encoding(u8),
}

/// What [`DecodeErrorKind::Count`] counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Counted {
    /// Bucket spans.
    Spans,
    /// Buckets.
    Buckets,
    /// Custom bucket bounds.
    CustomBounds,
}

impl core::fmt::Display for Counted {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Spans => "spans",
            Self::Buckets => "buckets",
            Self::CustomBounds => "custom bounds",
        })
    }
}

/// The chunk holds as many samples as its header can count; nothing was changed. Cut a new chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the chunk is full: its header counts at most {capacity} samples")]
pub struct ChunkFull {
    /// The most samples that the encoding's header can count.
    pub capacity: u16,
}
