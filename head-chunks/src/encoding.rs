//! The six encodings, and a chunk as bytes.

use crate::error::{DecodeError, DecodeErrorKind};

/// How a chunk's bytes are laid out: the byte that chunk files, blocks and snapshots store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Encoding {
    /// Floats, Gorilla style: [`crate::xor`].
    Xor = 1,
    /// Integer histograms: [`crate::histogram`].
    Histogram = 2,
    /// Float histograms: [`crate::histogram`].
    FloatHistogram = 3,
    /// Floats with optional start timestamps: [`crate::xor2`].
    Xor2 = 4,
    /// Integer histograms with start timestamps: [`crate::histogram`].
    HistogramSt = 5,
    /// Float histograms with start timestamps: [`crate::histogram`].
    FloatHistogramSt = 6,
}

impl Encoding {
    /// All six, in the order of their bytes.
    pub const ALL: [Self; 6] =
        [Self::Xor, Self::Histogram, Self::FloatHistogram, Self::Xor2, Self::HistogramSt, Self::FloatHistogramSt];

    /// The encoding of a stored byte; `None` for one that Prometheus 3.14 does not know.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Xor,
            2 => Self::Histogram,
            3 => Self::FloatHistogram,
            4 => Self::Xor2,
            5 => Self::HistogramSt,
            6 => Self::FloatHistogramSt,
            _ => return None,
        })
    }

    /// The stored byte.
    #[must_use]
    pub const fn byte(self) -> u8 {
        self as u8
    }

    /// The name that the reference prints.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xor => "XOR",
            Self::Histogram => "histogram",
            Self::FloatHistogram => "floathistogram",
            Self::Xor2 => "XOR2",
            Self::HistogramSt => "histogramST",
            Self::FloatHistogramSt => "floathistogramST",
        }
    }

    /// Bytes before the bit stream: two of sample count, and one of flags in all but XOR.
    #[must_use]
    pub const fn header_len(self) -> usize {
        match self {
            Self::Xor => 2,
            _ => 3,
        }
    }

    /// The most samples that the header can count: 65,535, or 16,383 where two bits of the count are the counter-reset header.
    #[must_use]
    pub const fn capacity(self) -> u16 {
        match self {
            Self::HistogramSt | Self::FloatHistogramSt => 0x3fff,
            _ => u16::MAX,
        }
    }

    /// Whether the samples are floats (XOR, XOR2).
    #[must_use]
    pub const fn is_float(self) -> bool {
        matches!(self, Self::Xor | Self::Xor2)
    }

    /// Whether the encoding keeps start timestamps.
    #[must_use]
    pub const fn has_start_timestamps(self) -> bool {
        matches!(self, Self::Xor2 | Self::HistogramSt | Self::FloatHistogramSt)
    }

    /// The number of samples that the first two of `data` promise; 0 when they are missing.
    #[must_use]
    pub fn num_samples(self, data: &[u8]) -> u16 {
        data.first_chunk().map_or(0, |count| u16::from_be_bytes(*count) & self.capacity())
    }
}

impl core::fmt::Display for Encoding {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

impl TryFrom<u8> for Encoding {
    type Error = DecodeError;

    fn try_from(byte: u8) -> Result<Self, DecodeError> {
        Self::from_byte(byte).ok_or(DecodeError { sample: 0, bit: 0, kind: DecodeErrorKind::Encoding(byte) })
    }
}

/// A chunk: an encoding and its bytes, checked only when they are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// How `data` is laid out.
    pub encoding: Encoding,
    /// The bytes, header included.
    pub data: Vec<u8>,
}

impl Chunk {
    /// The number of samples that the header promises; 0 when the bytes are too few for a header.
    #[must_use]
    pub fn num_samples(&self) -> u16 {
        self.encoding.num_samples(&self.data)
    }
}
