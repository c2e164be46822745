//! Histogram chunks: integer (encodings 2 and, with start timestamps, 5) and float (3 and 6), one implementation for all.
//!
//! ```text
//! chunk         := header, then a bit stream (most significant bit first, zero-padded to a byte)
//! header (2, 3) := count u16 BE, flags u8: bits 7–6 counter reset, the others 0
//! header (5, 6) := u16 BE: bits 15–14 counter reset, 13–0 count; then the start-timestamp header u8 (st.rs)
//! counter reset := 00 unknown | 01 no reset | 10 reset | 11 gauge
//! stream        := layout (layout.rs), sample*
//! integers      := sample 0: varbit t, varbit unsigned count and zero count, sum f64 in 64 bits, varbit each bucket
//!                  sample n: varbit deltas of deltas of t, count, zero count; XOR of the sum; varbit dod of each bucket
//! floats        := sample 0: varbit t, count, zero count, sum and each bucket in 64 bits
//!                  sample n: varbit delta of deltas of t; XOR of count, zero count, sum and each bucket
//!                  [, start timestamp in 5 and 6]
//! ```
//!
//! Buckets come in the layout's order, positive before negative. A stale histogram (its sum is the stale marker) has no
//! buckets, and as a chunk's first one an empty layout.
//!
//! # Who decides what goes into which chunk
//!
//! [`Appender::append`] decides what *histograms* demand: a chunk has one schema, zero threshold, set of custom bounds and
//! kind (counter or gauge), and within counters no reset. What does not fit begins a new chunk ([`Appended::NewChunk`]);
//! buckets that only one side has are added to the other, where they must be empty if these are counters, and if the chunk
//! has to grow for it, it is written anew ([`Appended::Recoded`]). How long a chunk may get, in time, samples or bytes, is
//! its owner's matter: who wants another chunk begins one with [`Appender::new`] and hands in the old one as `previous`.

mod append;
mod kind;
mod layout;
mod read;
mod spans;

pub use append::{AppendError, AppendState, Appended, Appender, Pieces};
pub use kind::{Coded, Cut};
pub use read::HistogramIter;

/// An appender of integer histograms.
pub type HistogramAppender = Appender<i64>;
/// An appender of float histograms.
pub type FloatHistogramAppender = Appender<f64>;

use tsdb_model::CounterResetHint;

/// Bytes before the bit stream.
const HEADER: usize = 3;

/// What a chunk's header says about a counter reset at its first histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum CounterReset {
    /// Compare with the chunk before.
    #[default]
    Unknown = 0,
    /// The chunk does not begin with a reset.
    NotReset = 0b0100_0000,
    /// The chunk begins because of a reset.
    Reset = 0b1000_0000,
    /// The chunk holds gauge histograms, which have no resets.
    Gauge = 0b1100_0000,
}

impl CounterReset {
    /// The two bits' mask.
    const MASK: u8 = 0b1100_0000;

    fn from_bits(byte: u8) -> Self {
        match byte & Self::MASK {
            0b0100_0000 => Self::NotReset,
            0b1000_0000 => Self::Reset,
            0b1100_0000 => Self::Gauge,
            _ => Self::Unknown,
        }
    }

    /// The hint that a histogram read from such a chunk carries, the first or one `behind` it.
    ///
    /// The first one's is unknown even where the header knows better: the chunk before may be gone or replaced by now.
    fn hint(self, behind: bool) -> CounterResetHint {
        match self {
            Self::Gauge => CounterResetHint::Gauge,
            _ if behind => CounterResetHint::NotCounterReset,
            _ => CounterResetHint::Unknown,
        }
    }

    /// What the header of a histogram chunk says; `None` when it is too short.
    #[must_use]
    pub fn of_chunk(start_timestamps: bool, bytes: &[u8]) -> Option<Self> {
        let header = bytes.first_chunk::<HEADER>()?;
        Some(Self::from_bits(header[if start_timestamps { 0 } else { 2 }]))
    }
}
