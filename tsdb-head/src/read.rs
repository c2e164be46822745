//! Reading: series by labels, their samples by time.

use std::sync::Arc;

use bytes::Bytes;
use head_chunks::Encoding;
use head_chunks::files::ChunkRef;
use head_chunks::histogram::HistogramIter;
use head_chunks::xor::XorIter;
use head_chunks::xor2::Xor2Iter;
use tsdb_model::histogram::{FloatHistogram, Histogram};
use tsdb_model::{Labels, SeriesRef};

use crate::ReadError;
use crate::head::{Head, Shared};
use crate::index::Matcher;
use crate::isolation::ReadTicket;
use crate::partition::{ChunkData, ChunkSource};

/// What a sample says.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A float; the stale marker too.
    Float(f64),
    /// A native histogram with integer counts.
    Histogram(Box<Histogram>),
    /// A native histogram with float counts.
    FloatHistogram(Box<FloatHistogram>),
}

/// A sample as it is read.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Milliseconds since the epoch.
    pub t: i64,
    /// Start timestamp (ms since epoch), 0 for none.
    pub start: i64,
    /// The value.
    pub value: Value,
}

/// A chunk's bytes, with the times (ms) that its samples lie in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawChunk {
    /// First time.
    pub mint: i64,
    /// Last time.
    pub maxt: i64,
    /// How the bytes are laid out.
    pub encoding: Encoding,
    /// So many samples from its start are visible to this reader. Less than what the header says when a commit is under
    /// way.
    pub samples: u16,
    /// The bytes. They may share memory with other chunks: copy what is kept for long.
    pub bytes: Bytes,
    /// Whether the bytes come from a chunk file.
    pub on_disk: bool,
}

impl Head {
    /// The series that satisfy all matchers, with their samples from `mint` to `maxt` (ms, both inclusive), as they are
    /// now: commits that are not complete at this moment stay invisible. Without matchers all series.
    ///
    /// Samples are read when they are asked for. While the returned set lives, a truncation of what it covers waits for it.
    #[must_use]
    pub fn select(&self, matchers: &[Matcher], mint: i64, maxt: i64) -> SeriesSet {
        let ticket = self.shared.isolation.begin_read(mint, maxt);
        // What a truncation has taken over is no longer the head's to show. Looked at behind the announcement, so that
        // either this reader sees the new bound or the truncation sees this reader.
        let mint = if self.shared.time.initialised() { mint.max(self.shared.time.min()) } else { mint };
        ticket.narrow(mint);
        let refs = self.shared.index.read().select(matchers);
        SeriesSet {
            refs: refs.into_iter(),
            reader: Arc::new(Reader { head: Arc::clone(&self.shared), ticket, mint, maxt }),
        }
    }
}

#[derive(Debug)]
struct Reader {
    head: Arc<Shared>,
    ticket: ReadTicket,
    mint: i64,
    maxt: i64,
}

/// The series a selection found, by ascending ref. See [`Head::select`].
#[derive(Debug)]
pub struct SeriesSet {
    refs: std::vec::IntoIter<u64>,
    reader: Arc<Reader>,
}

impl SeriesSet {
    /// The same series, ordered by their labels.
    #[must_use]
    pub fn sorted(self) -> Self {
        let mut refs: Vec<u64> = self.refs.collect();
        let index = self.reader.head.index.read();
        refs.sort_by(|&a, &b| index.pairs(a).cmp(index.pairs(b)));
        drop(index);
        Self { refs: refs.into_iter(), reader: self.reader }
    }
}

impl Iterator for SeriesSet {
    type Item = Series;

    /// The next series that has a chunk in the range; a sample of it may still lie outside.
    fn next(&mut self) -> Option<Series> {
        let reader = &self.reader;
        loop {
            let series = self.refs.next()?;
            // The reader keeps chunks of its range, but a series created and never used may go meanwhile.
            let Some(labels) = reader.head.index.read().labels(series) else { continue };
            let Some(cell) = reader.head.cell(series >> 8) else { continue };
            let mut chunks = Vec::new();
            let data = cell.data.lock();
            let Some(row) = data.row(series as u8) else { continue };
            let view = reader.head.options.isolation.then(|| reader.ticket.view());
            data.snapshot(series as u8, row, view, reader.mint, reader.maxt, &mut chunks);
            drop(data);
            if !chunks.is_empty() {
                return Some(Series { series: SeriesRef(series), labels, chunks, reader: Arc::clone(reader) });
            }
        }
    }
}

/// One series of a selection: its labels, and its chunks as they were when the iterator reached it.
#[derive(Debug)]
pub struct Series {
    series: SeriesRef,
    labels: Labels,
    chunks: Vec<ChunkSource>,
    reader: Arc<Reader>,
}

impl Series {
    /// Its ref.
    #[must_use]
    pub fn series_ref(&self) -> SeriesRef {
        self.series
    }

    /// Its labels.
    #[must_use]
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Its samples in the range, oldest first. After an error the next chunk follows.
    pub fn samples(&self) -> impl Iterator<Item = Result<Sample, ReadError>> + '_ {
        let (mint, maxt) = (self.reader.mint, self.reader.maxt);
        self.chunks
            .iter()
            .flat_map(|chunk| match self.open(chunk) {
                Ok(samples) => samples,
                Err(error) => vec![Err(error)],
            })
            .filter(move |sample| !matches!(sample, Ok(sample) if sample.t < mint || sample.t > maxt))
    }

    /// Its chunks that overlap the range, oldest first, as bytes. The newest one may still be growing.
    ///
    /// # Errors
    /// When a chunk cannot be read from its file.
    pub fn raw_chunks(&self) -> Result<Vec<RawChunk>, ReadError> {
        self.chunks.iter().map(|chunk| self.raw(chunk)).collect()
    }

    fn raw(&self, chunk: &ChunkSource) -> Result<RawChunk, ReadError> {
        let bytes = match &chunk.data {
            ChunkData::Memory(bytes) => bytes.clone(),
            ChunkData::File(place) => {
                let read = self.reader.head.chunks.read(ChunkRef::from_u64(*place));
                read.map_err(|source| ReadError::File { series: self.series, source })?.data.into()
            }
        };
        let ChunkSource { mint, maxt, encoding, samples, .. } = *chunk;
        let on_disk = matches!(chunk.data, ChunkData::File(_));
        Ok(RawChunk { mint, maxt, encoding, samples, bytes, on_disk })
    }

    /// One chunk's visible samples.
    fn open(&self, chunk: &ChunkSource) -> Result<Vec<Result<Sample, ReadError>>, ReadError> {
        let raw = self.raw(chunk)?;
        let broken = |source| ReadError::Chunk { series: self.series, encoding: raw.encoding, mint: raw.mint, source };
        let visible = usize::from(raw.samples);
        match raw.encoding {
            Encoding::Xor => {
                let samples = XorIter::new(&raw.bytes).map_err(broken)?;
                let float = |(t, v)| Sample { t, start: 0, value: Value::Float(v) };
                Ok(samples.take(visible).map(|sample| sample.map(float).map_err(broken)).collect())
            }
            Encoding::Xor2 => {
                let samples = Xor2Iter::new(&raw.bytes).map_err(broken)?;
                let float = |(t, v, start)| Sample { t, start, value: Value::Float(v) };
                Ok(samples.take(visible).map(|sample| sample.map(float).map_err(broken)).collect())
            }
            Encoding::Histogram | Encoding::HistogramSt => {
                let starts = raw.encoding.has_start_timestamps();
                let samples = HistogramIter::<i64>::new(starts, &raw.bytes).map_err(broken)?;
                let read = |(t, h, start)| Sample { t, start, value: Value::Histogram(Box::new(h)) };
                Ok(samples.take(visible).map(|sample| sample.map(read).map_err(broken)).collect())
            }
            Encoding::FloatHistogram | Encoding::FloatHistogramSt => {
                let starts = raw.encoding.has_start_timestamps();
                let samples = HistogramIter::<f64>::new(starts, &raw.bytes).map_err(broken)?;
                let read = |(t, h, start)| Sample { t, start, value: Value::FloatHistogram(Box::new(h)) };
                Ok(samples.take(visible).map(|sample| sample.map(read).map_err(broken)).collect())
            }
        }
    }
}
