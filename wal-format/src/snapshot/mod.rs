//! Records of a chunk snapshot: what the head holds in memory, written on shutdown so that the next start need not read
//! the log.
//!
//! A snapshot is a directory `chunk_snapshot.NNNNNN.OOOOOOOOOO` beside `wal/`: the log's last segment and the offset in it
//! up to which the snapshot speaks for it. Inside are segments framed as a log's, but the records are others, and their
//! tags mean something else than a log's do: series, one a record, unsorted; then all tombstones in one record; then
//! exemplars, at most 10,000 a record.
//!
//! ```text
//! series      1, ref u64 BE, labels as in a series record, 8 bytes that are 0 (once the chunk range, ms)
//!             uvarint 0, or uvarint 1 and the open chunk:
//!             first time i64 BE, last time i64 BE, encoding u8, uvarint length, chunk
//!             then by encoding
//!               1, 4 (floats)            4 × { time i64 BE, value f64 BE }: the last is the chunk's last value, its time
//!                                        and the three before are 0 (once the chunk's last four samples)
//!               2, 5 (histograms)        the chunk's last histogram, as in a histogram record
//!               3, 6 (float histograms)  the chunk's last float histogram
//! tombstones  2, uvarint length, 1, repeated { uvarint ref, varint mint, varint maxt }
//! exemplars   3, as an exemplar record behind its tag
//! ```
//! Source: Prometheus 3.14.0, `tsdb/head_wal.go` and `tsdb/tombstones`.
//!
//! ```
//! use tsdb_model::Labels;
//! use wal_format::snapshot::{LastValue, SnapshotChunk, SnapshotRecord, SnapshotSeries};
//!
//! let labels = Labels::from_pairs([("__name__", "up")]);
//! // One sample: 1.5 at 1000 ms.
//! let bytes = &[0, 1, 0xd0, 0x0f, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0];
//! let chunk = SnapshotChunk { mint: 1000, maxt: 1000, encoding: 1, bytes, last: LastValue::float(1.5) };
//! let series = SnapshotSeries { series: 7.into(), labels: labels.pairs(), chunk_range: 0, chunk: Some(chunk) };
//! let mut record = Vec::new();
//! SnapshotRecord::Series(series.clone()).encode(&mut record);
//! assert_eq!(SnapshotRecord::decode(&record)?, SnapshotRecord::Series(series));
//! # Ok::<(), wal_format::DecodeError>(())
//! ```

use crate::buffer::Buffer;
use crate::cursor::Cursor;
use crate::error::{DecodeError, Problem};
use crate::histograms::body;
use crate::{Exemplar, ExemplarBatch, Tombstone, exemplars, tag};
use alloc::boxed::Box;
use alloc::vec::Vec;
use tsdb_model::histogram::{FloatHistogram, Histogram};
use tsdb_model::{LabelPairs, SeriesRef};

#[cfg(feature = "serde")]
mod json;
mod text;

/// Tag of a series.
pub const SERIES: u8 = 1;
/// Tag of the tombstones.
pub const TOMBSTONES: u8 = 2;
/// Tag of exemplars.
pub const EXEMPLARS: u8 = 3;

/// The only format of tombstones there is.
const TOMBSTONE_FORMAT: u8 = 1;

/// A record of a snapshot, texts and chunk still borrowed from its bytes.
#[derive(Clone, PartialEq, Debug)]
pub enum SnapshotRecord<'a> {
    /// One series and its open chunk.
    Series(SnapshotSeries<'a>),
    /// Deleted time ranges of all series.
    Tombstones(Vec<Tombstone>),
    /// Some exemplars.
    Exemplars(Vec<Exemplar<'a>>),
    /// A tag that the reference does not know, or an empty record. It refuses a snapshot that holds one.
    Unknown {
        /// The first byte; `None` for an empty record.
        tag: Option<u8>,
        /// Length of the record in bytes.
        bytes: usize,
    },
}

/// A series of the head.
#[derive(Clone, PartialEq, Debug)]
pub struct SnapshotSeries<'a> {
    /// The ref that log and chunk files use for it.
    pub series: SeriesRef,
    /// Its labels in stored order.
    pub labels: LabelPairs<'a>,
    /// Written as 0 and not read; once the head's chunk range in milliseconds.
    pub chunk_range: i64,
    /// The chunk that was still open; `None` if the series had none.
    pub chunk: Option<SnapshotChunk<'a>>,
}

/// An open chunk.
#[derive(Clone, PartialEq, Debug)]
pub struct SnapshotChunk<'a> {
    /// Time of its first sample, milliseconds since the epoch.
    pub mint: i64,
    /// Time of its last sample, milliseconds since the epoch.
    pub maxt: i64,
    /// Its encoding: 1 XOR, 2 histogram, 3 float histogram, 4 XOR2, 5 and 6 histograms with start timestamps.
    pub encoding: u8,
    /// The chunk as chunk files hold it; not decoded here.
    pub bytes: &'a [u8],
    /// What an appender has to know of its last sample.
    pub last: LastValue,
}

impl SnapshotChunk<'_> {
    /// Samples in the chunk: every encoding begins with their number. `None` if the chunk is shorter than that.
    #[must_use]
    pub fn samples(&self) -> Option<u16> {
        // The histogram encodings with start timestamps keep the counter-reset header in the upper two bits.
        let mask = if matches!(self.encoding, 5 | 6) { 0x3fff } else { u16::MAX };
        self.bytes.first_chunk().map(|bytes| u16::from_be_bytes(*bytes) & mask)
    }
}

/// The last sample of an open chunk.
#[derive(Clone, PartialEq, Debug)]
pub enum LastValue {
    /// Times and values as they are stored. Only the last value means something today.
    Floats([(i64, f64); 4]),
    /// The last histogram, its resolution as stored.
    Histogram(Box<Histogram>),
    /// The last float histogram, its resolution as stored.
    FloatHistogram(Box<FloatHistogram>),
}

impl LastValue {
    /// The last value of a chunk of floats, as the reference writes it.
    #[must_use]
    pub const fn float(v: f64) -> Self {
        Self::Floats([(0, 0.0), (0, 0.0), (0, 0.0), (0, v)])
    }

    fn read(cursor: &mut Cursor<'_>, encoding: u8) -> Result<Self, DecodeError> {
        Ok(match encoding {
            1 | 4 => {
                let mut floats = [(0, 0.0); 4];
                for (t, v) in &mut floats {
                    *t = cursor.be64("the time of a last sample")? as i64;
                    *v = cursor.float("a last value")?;
                }
                Self::Floats(floats)
            }
            2 | 5 => {
                let mut h = Box::default();
                body::read_stored(cursor, &mut *h)?;
                Self::Histogram(h)
            }
            _ => {
                let mut h = Box::default();
                body::read_stored(cursor, &mut *h)?;
                Self::FloatHistogram(h)
            }
        })
    }

    fn put(&self, out: &mut Buffer) {
        match self {
            Self::Floats(floats) => {
                for (t, v) in floats {
                    out.put_be64(*t as u64);
                    out.put_float(*v);
                }
            }
            Self::Histogram(h) => body::put(out, h),
            Self::FloatHistogram(h) => body::put(out, h),
        }
    }
}

impl<'a> SnapshotRecord<'a> {
    /// The names of the kinds that are known.
    pub const NAMES: [&'static str; 3] = ["snapshot_series", "snapshot_tombstones", "snapshot_exemplars"];

    /// Decodes a record of a snapshot; an unknown tag and an empty record are no error.
    ///
    /// Bytes behind a series or behind the tombstones are passed over, as the reference does. A series that is cut off is
    /// an error here; the reference takes it for one without a chunk if it is cut off before that.
    ///
    /// # Errors
    /// Where the record ends too early, a count or length that cannot be, an encoding or a format of tombstones that does
    /// not exist.
    pub fn decode(record: &'a [u8]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(record);
        Ok(match record.first().copied() {
            Some(SERIES) => Self::Series(read_series(&mut cursor)?),
            Some(TOMBSTONES) => Self::Tombstones(read_tombstones(&mut cursor)?),
            Some(EXEMPLARS) => {
                // Behind the tag it is a log's exemplar record.
                Self::Exemplars(ExemplarBatch::of_tagged(record).iter().collect::<Result<_, _>>()?)
            }
            tag => Self::Unknown { tag, bytes: record.len() },
        })
    }

    /// Appends the record to `out`, byte for byte what the reference writes for the same content. An unknown record gives
    /// nothing: its bytes are not known.
    ///
    /// # Panics
    /// If a chunk's last value is not of its encoding's sort, which no reader would understand.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut buffer = Buffer::default();
        match self {
            Self::Series(series) => put_series(&mut buffer, series),
            Self::Tombstones(tombstones) => put_tombstones(&mut buffer, tombstones),
            Self::Exemplars(list) => exemplars::encode(&mut buffer, list.iter().copied()),
            Self::Unknown { .. } => {}
        }
        let start = out.len();
        out.extend_from_slice(buffer.as_slice());
        if let (Self::Exemplars(_), Some(first)) = (self, out.get_mut(start)) {
            debug_assert_eq!(*first, tag::EXEMPLARS);
            *first = EXEMPLARS;
        }
    }

    /// The first byte; `None` for an empty record.
    #[must_use]
    pub const fn tag(&self) -> Option<u8> {
        match self {
            Self::Series(_) => Some(SERIES),
            Self::Tombstones(_) => Some(TOMBSTONES),
            Self::Exemplars(_) => Some(EXEMPLARS),
            Self::Unknown { tag, .. } => *tag,
        }
    }

    /// Its name in text and JSON: `snapshot_series`, `snapshot_tombstones`, `snapshot_exemplars`, `unknown`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Series(_) => Self::NAMES[0],
            Self::Tombstones(_) => Self::NAMES[1],
            Self::Exemplars(_) => Self::NAMES[2],
            Self::Unknown { .. } => "unknown",
        }
    }

    /// How many entries.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Series(_) => 1,
            Self::Tombstones(entries) => entries.len(),
            Self::Exemplars(entries) => entries.len(),
            Self::Unknown { .. } => 0,
        }
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keeps the entries for which `keep` says so of their series and time range (first and last millisecond; `None` for a
    /// series without a chunk). False if there were entries and none is left.
    #[must_use]
    pub fn retain(&mut self, mut keep: impl FnMut(SeriesRef, Option<(i64, i64)>) -> bool) -> bool {
        match self {
            Self::Series(series) => keep(series.series, series.chunk.as_ref().map(|chunk| (chunk.mint, chunk.maxt))),
            Self::Tombstones(entries) => {
                entries.retain(|entry| keep(entry.series, Some((entry.mint, entry.maxt))));
                !entries.is_empty()
            }
            Self::Exemplars(entries) => {
                entries.retain(|entry| keep(entry.series, Some((entry.t, entry.t))));
                !entries.is_empty()
            }
            Self::Unknown { .. } => false,
        }
    }
}

fn read_series<'a>(cursor: &mut Cursor<'a>) -> Result<SnapshotSeries<'a>, DecodeError> {
    let series = SeriesRef(cursor.be64("a series ref")?);
    let labels = cursor.labels()?;
    let chunk_range = cursor.be64("a chunk range")? as i64;
    let chunk = match cursor.uvarint("whether there is a chunk")? {
        0 => None,
        _ => Some(read_chunk(cursor)?),
    };
    Ok(SnapshotSeries { series, labels, chunk_range, chunk })
}

fn read_chunk<'a>(cursor: &mut Cursor<'a>) -> Result<SnapshotChunk<'a>, DecodeError> {
    let mint = cursor.be64("a chunk's first time")? as i64;
    let maxt = cursor.be64("a chunk's last time")? as i64;
    let before = *cursor;
    let encoding = cursor.byte("a chunk encoding")?;
    if !(1..=6).contains(&encoding) {
        return Err(before.error(Problem::Byte { expected: "a chunk encoding of 1 to 6", found: encoding }));
    }
    let bytes = cursor.text("a chunk")?;
    let last = LastValue::read(cursor, encoding)?;
    Ok(SnapshotChunk { mint, maxt, encoding, bytes, last })
}

fn put_series(out: &mut Buffer, entry: &SnapshotSeries<'_>) {
    out.put_byte(SERIES);
    out.put_be64(entry.series.0);
    out.put_labels(&entry.labels);
    out.put_be64(entry.chunk_range as u64);
    out.put_uvarint(u64::from(entry.chunk.is_some()));
    if let Some(chunk) = &entry.chunk {
        let fits = match &chunk.last {
            LastValue::Floats(_) => matches!(chunk.encoding, 1 | 4),
            LastValue::Histogram(_) => matches!(chunk.encoding, 2 | 5),
            LastValue::FloatHistogram(_) => matches!(chunk.encoding, 3 | 6),
        };
        assert!(fits, "a chunk of encoding {} with a last value of another sort", chunk.encoding);
        out.put_be64(chunk.mint as u64);
        out.put_be64(chunk.maxt as u64);
        out.put_byte(chunk.encoding);
        out.put_text(chunk.bytes);
        chunk.last.put(out);
    }
}

fn read_tombstones(cursor: &mut Cursor<'_>) -> Result<Vec<Tombstone>, DecodeError> {
    let record = cursor.record();
    let len = cursor.text("encoded tombstones")?.len();
    // Read in place, so that offsets are the record's.
    let mut inner = Cursor::at(&record[..cursor.pos()], cursor.pos() - len);
    let before = inner;
    let format = inner.byte("a format of tombstones")?;
    if format != TOMBSTONE_FORMAT {
        return Err(before.error(Problem::Byte { expected: "tombstones of format 1", found: format }));
    }
    let mut tombstones = Vec::new();
    while !inner.is_at_end() {
        tombstones.push(Tombstone {
            series: SeriesRef(inner.uvarint("a series ref")?),
            mint: inner.varint("a minimum time")?,
            maxt: inner.varint("a maximum time")?,
        });
    }
    Ok(tombstones)
}

fn put_tombstones(out: &mut Buffer, tombstones: &[Tombstone]) {
    let mut inner = Buffer::default();
    inner.put_byte(TOMBSTONE_FORMAT);
    for Tombstone { series, mint, maxt } in tombstones {
        inner.put_uvarint(series.0);
        inner.put_varint(*mint);
        inner.put_varint(*maxt);
    }
    out.put_byte(TOMBSTONES);
    out.put_text(inner.as_slice());
}
