//! Appending histograms.

mod fit;
mod pieces;
mod state;

use thiserror::Error;
use tsdb_model::histogram::NativeHistogram;

use super::kind::Cut;
use super::{Coded, CounterReset};
use crate::error::{ChunkFull, DecodeError};
use crate::{Chunk, Encoding, PIECE};

pub use pieces::Pieces;
pub use state::AppendState;

/// An open histogram chunk, of integer (`B` = `i64`) or float (`f64`) histograms, with or without start timestamps.
///
/// ```
/// use head_chunks::histogram::{Appended, HistogramAppender};
/// use tsdb_model::{Histogram, Span};
/// let mut histogram = Histogram {
///     count: 2, positive_spans: vec![Span { offset: 0, length: 1 }], positive_buckets: vec![2], ..Histogram::default()
/// };
/// let mut appender = HistogramAppender::new(false);
/// assert_eq!(appender.append(None, 0, 1_000, &histogram)?, Appended::InPlace);
///
/// // Another bucket: the chunk is written anew with it.
/// histogram.count = 5;
/// histogram.positive_spans[0].length = 2;
/// histogram.positive_buckets = vec![3, -1];
/// assert_eq!(appender.append(None, 0, 2_000, &histogram)?, Appended::Recoded);
///
/// // Fewer observations: a counter reset begins a new chunk, and the old one is handed out.
/// histogram.count = 1;
/// let Appended::NewChunk { finished, .. } = appender.append(None, 0, 3_000, &histogram)? else { panic!() };
/// assert_eq!((finished.num_samples(), appender.num_samples()), (2, 1));
/// # Ok::<(), head_chunks::histogram::AppendError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Appender<B: Coded> {
    state: AppendState<B>,
    pieces: Vec<u8>,
}

/// What an append did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    /// The histogram went behind the others.
    InPlace,
    /// The histogram brought buckets: all samples of the chunk were written anew with them, empty, and it went behind.
    Recoded,
    /// The histogram did not fit. The appender now holds a new chunk with it alone; the one before is handed out.
    NewChunk {
        /// The chunk as it was.
        finished: Chunk,
        /// Why the histogram did not fit.
        cut: Cut,
    },
}

/// Why a histogram was not appended; the chunk is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AppendError {
    /// No more samples fit.
    #[error(transparent)]
    Full(#[from] ChunkFull),
    /// Spans and buckets do not belong together.
    #[error("expected {expected} {side} buckets as the spans say, found {found}")]
    Buckets {
        /// "positive" or "negative".
        side: &'static str,
        /// What the spans describe.
        expected: u64,
        /// What there is.
        found: u64,
    },
    /// Only with [`Appender::try_append`]: the histogram needs a new chunk.
    #[error("the histogram does not fit the chunk: {0:?}")]
    Cut(Cut),
    /// Only with [`Appender::try_append`]: the histogram or the chunk would have to be written with more buckets.
    #[error("the histogram's layout needs {forward} more buckets in the chunk and {backward} more in the histogram")]
    Layout {
        /// Runs of buckets that the chunk lacks.
        forward: usize,
        /// Runs of buckets that the histogram lacks.
        backward: usize,
    },
}

impl<B: Coded> Appender<B> {
    /// An empty chunk, of the encoding with or without start timestamps.
    #[must_use]
    pub fn new(start_timestamps: bool) -> Self {
        Self { state: AppendState::new(start_timestamps), pieces: Vec::new() }
    }

    /// Continues an existing chunk. As in the reference, windows are the *reader's*: a number that has not changed yet goes
    /// on as if a 64-bit window had been written.
    ///
    /// # Errors
    /// When the bytes are not a sound chunk of that encoding.
    pub fn resume(start_timestamps: bool, bytes: &[u8]) -> Result<Self, DecodeError> {
        let state = AppendState::resume(start_timestamps, bytes)?;
        Ok(Self { pieces: bytes[..state.full_pieces() * PIECE].to_vec(), state })
    }

    /// Appends a histogram of time `t` and start timestamp `st` (milliseconds since the epoch; `st` 0 means none, and it is
    /// not kept without start timestamps). Times are not compared.
    ///
    /// `previous` matters only for the first sample: it is the chunk before this one, and if the histogram itself does not
    /// say whether a counter reset lies between them, the comparison goes into the header.
    ///
    /// # Errors
    /// When the chunk is full, or spans and buckets do not belong together; nothing was changed.
    pub fn append(
        &mut self,
        previous: Option<&Self>,
        st: i64,
        t: i64,
        histogram: &NativeHistogram<B>,
    ) -> Result<Appended, AppendError> {
        self.state.append(&mut self.pieces, previous.map(|previous| &previous.state), st, t, histogram)
    }

    /// Appends a histogram only if it fits the chunk, which is then not written anew: what the reference calls append-only.
    /// A counter's empty buckets that the histogram lacks are no obstacle, a gauge's are.
    ///
    /// # Errors
    /// As [`Appender::append`], and when the histogram does not fit; nothing was changed.
    pub fn try_append(
        &mut self,
        previous: Option<&Self>,
        st: i64,
        t: i64,
        histogram: &NativeHistogram<B>,
    ) -> Result<(), AppendError> {
        self.state.try_append(&mut self.pieces, previous.map(|previous| &previous.state), st, t, histogram)
    }

    /// The state: last histogram, number of samples, lengths.
    #[must_use]
    pub fn state(&self) -> &AppendState<B> {
        &self.state
    }

    /// Number of samples.
    #[must_use]
    pub fn num_samples(&self) -> u16 {
        self.state.num_samples()
    }

    /// Time of the last sample; meaningless in an empty chunk.
    #[must_use]
    pub fn last_t(&self) -> i64 {
        self.state.last_t()
    }

    /// See [`AppendState::last`].
    #[must_use]
    pub fn last(&self) -> Option<NativeHistogram<B>> {
        self.state.last()
    }

    /// Which of the two encodings the chunk has.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        self.state.encoding()
    }

    /// What the header says about a counter reset.
    #[must_use]
    pub fn counter_reset(&self) -> CounterReset {
        self.state.counter_reset()
    }

    /// Length of the chunk in bytes, header included: what the reference compares with its targets.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.state.byte_len()
    }

    /// The chunk's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write_to(&mut bytes);
        bytes
    }

    /// Appends the chunk's bytes to `out`.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        self.state.assemble([&self.pieces[..]], out);
    }

    /// The chunk.
    #[must_use]
    pub fn into_chunk(self) -> Chunk {
        Chunk { encoding: self.encoding(), data: self.to_bytes() }
    }

    /// Bytes on the heap: what the chunk costs its owner beyond the appender itself.
    #[must_use]
    pub fn heap_size(&self) -> usize {
        self.pieces.capacity() + self.state.heap_size()
    }
}
