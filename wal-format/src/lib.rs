//! Every record of the Prometheus write-ahead log, both directions, without a disk.
//!
//! A log is a sequence of records; each begins with a tag and holds entries of one sort. The reference knows 13 tags;
//! here they fold into eight [`Kind`]s, because versions and bucket layouts of one thing are one thing to a consumer.
//!
//! * Reading: [`dispatch()`] hands a record to the method of a [`RecordSink`] for its kind, as a batch that is decoded
//!   while it is iterated over: borrowed, without allocating. [`validate`] checks a record beforehand.
//! * Writing: a [`Batch`] collects encoded records, byte for byte what the reference writes for the same input.
//!
//! Bad bytes give a [`DecodeError`] that says where, what was expected and what was found; never a panic, nor memory
//! beyond the record: every count is checked against the bytes that remain. The layouts stand at the top of each module
//! and, with worked examples, in `docs/format/records.md`. How records lie in files is the business of another crate.
//!
//! ```
//! use tsdb_model::SeriesRef;
//! use wal_format::{Batch, Sample, SampleBatch, Version};
//!
//! let mut batch = Batch::new(Version::V1);
//! batch.samples([
//!     Sample { series: SeriesRef(1), t: 1_000, v: 1.5, st: 0 },
//!     Sample { series: SeriesRef(2), t: 1_000, v: 2.5, st: 0 },
//! ]);
//! let record = batch.records().next().unwrap();
//! assert_eq!(record[0], wal_format::tag::SAMPLES);
//!
//! let values: Vec<f64> = SampleBatch::new(record)?.iter().map(|s| s.map(|s| s.v)).collect::<Result<_, _>>()?;
//! assert_eq!(values, [1.5, 2.5]);
//! # Ok::<(), wal_format::DecodeError>(())
//! ```
#![cfg_attr(not(any(test, feature = "std")), no_std)]

extern crate alloc;

mod batch;
mod buffer;
mod cursor;
mod dispatch;
mod entries;
mod error;
mod exemplars;
mod header;
mod histograms;
#[cfg(feature = "serde")]
mod json;
mod kind;
mod markers;
mod metadata;
mod record;
mod samples;
mod series;
pub mod snapshot;
mod start_time;
pub mod tag;
mod text;
mod timed;
mod tombstones;

pub use tsdb_model::varint;

pub use batch::{Batch, Version};
pub use dispatch::{RecordSink, dispatch, validate};
pub use entries::Checked;
pub use error::{DecodeError, Problem};
pub use exemplars::{Exemplar, ExemplarBatch, ExemplarIter};
pub use histograms::body::Wire;
pub use histograms::{
    FloatHistogramBatch, FloatHistogramEntry, FloatHistogramIter, FloatHistogramSample, HistogramBatch, HistogramEntry,
    HistogramIter, HistogramSample, HistogramView, NativeEntry, NativeSample,
};
pub use kind::{Kind, KindSet};
pub use markers::{MmapMarker, MmapMarkerBatch, MmapMarkerIter};
pub use metadata::{Metadata, MetadataBatch, MetadataIter, MetricType};
pub use record::{OwnedHistogram, Record, RecordEntries};
pub use samples::{Sample, SampleBatch, SampleIter};
pub use series::{Series, SeriesBatch, SeriesIter};
pub use timed::Timed;
pub use tombstones::{Tombstone, TombstoneBatch, TombstoneIter};
