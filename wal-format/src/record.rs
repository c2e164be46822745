//! A whole record decoded into memory: for tools that print, filter and compare. Replay has no use for it.

use crate::histograms::body::Wire;
use crate::{
    DecodeError, Exemplar, ExemplarBatch, FloatHistogramBatch, HistogramBatch, Kind, Metadata, MetadataBatch,
    MmapMarker, MmapMarkerBatch, NativeEntry, NativeSample, Sample, SampleBatch, Series, SeriesBatch, Tombstone,
    TombstoneBatch,
};
use alloc::vec::Vec;
use tsdb_model::SeriesRef;
use tsdb_model::histogram::NativeHistogram;

/// A record and its entries, texts still borrowed from its bytes.
///
/// With the feature `serde` it serializes to the JSON of `headwater records --json`; its `Display` is the text form: one
/// line for the record, one for each entry.
///
/// ```
/// use wal_format::{Batch, Record, Tombstone, Version};
/// let mut batch = Batch::new(Version::V1);
/// batch.tombstones([Tombstone { series: 7.into(), mint: 0, maxt: 9 }]);
/// let record = Record::decode(batch.records().next().unwrap())?;
/// assert_eq!(record.to_string(), "tombstones (tag 3): 1 entry\n  ref=7 mint=0 maxt=9\n");
/// # Ok::<(), wal_format::DecodeError>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Record<'a> {
    /// The first byte; `None` for an empty record.
    pub tag: Option<u8>,
    /// What it holds.
    pub entries: RecordEntries<'a>,
    /// Histograms of unknown schemas that are not among the entries.
    pub skipped: usize,
}

/// The entries of a [`Record`], by kind.
#[derive(Clone, PartialEq, Debug)]
pub enum RecordEntries<'a> {
    /// Series refs and labels.
    Series(Vec<Series<'a>>),
    /// Float samples.
    Samples(Vec<Sample>),
    /// Integer histograms.
    Histograms(Vec<OwnedHistogram<i64>>),
    /// Float histograms.
    FloatHistograms(Vec<OwnedHistogram<f64>>),
    /// Deleted time ranges.
    Tombstones(Vec<Tombstone>),
    /// Exemplars.
    Exemplars(Vec<Exemplar<'a>>),
    /// Type, unit and help.
    Metadata(Vec<Metadata<'a>>),
    /// Mmap markers.
    MmapMarkers(Vec<MmapMarker>),
    /// An unknown tag, or an empty record.
    Unknown {
        /// Length of the record in bytes.
        bytes: usize,
    },
}

/// A histogram taken out of a record.
#[derive(Clone, PartialEq, Debug)]
pub struct OwnedHistogram<B: Wire> {
    /// Which series.
    pub series: SeriesRef,
    /// Milliseconds since the epoch.
    pub t: i64,
    /// Start timestamp in milliseconds since the epoch, 0 = none.
    pub st: i64,
    /// The histogram.
    pub histogram: NativeHistogram<B>,
}

impl<B: Wire> OwnedHistogram<B> {
    /// The same, borrowed, for a [`Batch`](crate::Batch).
    #[must_use]
    pub const fn as_sample(&self) -> NativeSample<'_, B> {
        let Self { series, t, st, ref histogram } = *self;
        NativeSample { series, t, st, histogram }
    }
}

impl<B: Wire> From<NativeEntry<'_, B>> for OwnedHistogram<B> {
    fn from(entry: NativeEntry<'_, B>) -> Self {
        Self { series: entry.series, t: entry.t, st: entry.st, histogram: entry.histogram.to_histogram() }
    }
}

impl<'a> Record<'a> {
    /// Decodes a record of any kind; an unknown tag and an empty record are no error.
    ///
    /// Memory grows with the record: an entry takes at most some 20 times its bytes.
    pub fn decode(record: &'a [u8]) -> Result<Self, DecodeError> {
        let entries = match Kind::of_record(record) {
            None => RecordEntries::Unknown { bytes: record.len() },
            Some(kind) => decode_entries(kind, record)?,
        };
        let skipped = match entries {
            RecordEntries::Histograms(_) | RecordEntries::FloatHistograms(_) => crate::validate(record)?.skipped,
            _ => 0,
        };
        Ok(Self { tag: record.first().copied(), entries, skipped })
    }

    /// Its kind; `None` if unknown.
    #[must_use]
    pub const fn kind(&self) -> Option<Kind> {
        Some(match self.entries {
            RecordEntries::Series(_) => Kind::Series,
            RecordEntries::Samples(_) => Kind::Samples,
            RecordEntries::Histograms(_) => Kind::Histograms,
            RecordEntries::FloatHistograms(_) => Kind::FloatHistograms,
            RecordEntries::Tombstones(_) => Kind::Tombstones,
            RecordEntries::Exemplars(_) => Kind::Exemplars,
            RecordEntries::Metadata(_) => Kind::Metadata,
            RecordEntries::MmapMarkers(_) => Kind::MmapMarkers,
            RecordEntries::Unknown { .. } => return None,
        })
    }

    /// How many entries.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.entries {
            RecordEntries::Series(e) => e.len(),
            RecordEntries::Samples(e) => e.len(),
            RecordEntries::Histograms(e) => e.len(),
            RecordEntries::FloatHistograms(e) => e.len(),
            RecordEntries::Tombstones(e) => e.len(),
            RecordEntries::Exemplars(e) => e.len(),
            RecordEntries::Metadata(e) => e.len(),
            RecordEntries::MmapMarkers(e) => e.len(),
            RecordEntries::Unknown { .. } => 0,
        }
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keeps the entries for which `keep` says so of their series and time range (first and last millisecond; `None`
    /// where an entry has no time).
    pub fn retain(&mut self, mut keep: impl FnMut(SeriesRef, Option<(i64, i64)>) -> bool) {
        let mut at = |series, t| keep(series, Some((t, t)));
        match &mut self.entries {
            RecordEntries::Samples(e) => e.retain(|e| at(e.series, e.t)),
            RecordEntries::Histograms(e) => e.retain(|e| at(e.series, e.t)),
            RecordEntries::FloatHistograms(e) => e.retain(|e| at(e.series, e.t)),
            RecordEntries::Exemplars(e) => e.retain(|e| at(e.series, e.t)),
            RecordEntries::Tombstones(e) => e.retain(|e| keep(e.series, Some((e.mint, e.maxt)))),
            RecordEntries::Series(e) => e.retain(|e| keep(e.series, None)),
            RecordEntries::Metadata(e) => e.retain(|e| keep(e.series, None)),
            RecordEntries::MmapMarkers(e) => e.retain(|e| keep(e.series, None)),
            RecordEntries::Unknown { .. } => {}
        }
    }
}

fn decode_entries(kind: Kind, record: &[u8]) -> Result<RecordEntries<'_>, DecodeError> {
    Ok(match kind {
        Kind::Series => RecordEntries::Series(SeriesBatch::of_tagged(record).iter().collect::<Result<_, _>>()?),
        Kind::Samples => {
            let batch = SampleBatch::of_tagged(record);
            let mut samples = Vec::with_capacity(batch.max_len());
            batch.for_each(|sample| samples.push(sample))?;
            RecordEntries::Samples(samples)
        }
        Kind::Histograms => {
            let entries = HistogramBatch::of_tagged(record).iter();
            RecordEntries::Histograms(entries.map(|e| e.map(Into::into)).collect::<Result<_, _>>()?)
        }
        Kind::FloatHistograms => {
            let entries = FloatHistogramBatch::of_tagged(record).iter();
            RecordEntries::FloatHistograms(entries.map(|e| e.map(Into::into)).collect::<Result<_, _>>()?)
        }
        Kind::Tombstones => {
            RecordEntries::Tombstones(TombstoneBatch::of_tagged(record).iter().collect::<Result<_, _>>()?)
        }
        Kind::Exemplars => RecordEntries::Exemplars(ExemplarBatch::of_tagged(record).iter().collect::<Result<_, _>>()?),
        Kind::Metadata => RecordEntries::Metadata(MetadataBatch::of_tagged(record).iter().collect::<Result<_, _>>()?),
        Kind::MmapMarkers => {
            RecordEntries::MmapMarkers(MmapMarkerBatch::of_tagged(record).iter().collect::<Result<_, _>>()?)
        }
    })
}
