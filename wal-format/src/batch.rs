//! Encoding: records one after the other in one buffer.

use crate::buffer::Buffer;
use crate::{
    Exemplar, FloatHistogramSample, HistogramSample, Metadata, MmapMarker, OwnedHistogram, Record, RecordEntries,
    Sample, Series, Tombstone, exemplars, histograms, markers, metadata, samples, series, tag, tombstones,
};
use alloc::vec::Vec;
use core::fmt;

/// Which layout to write samples and histograms in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum Version {
    /// Without start timestamps: what every Prometheus reads.
    #[default]
    V1,
    /// With start timestamps: what Prometheus 3.14 writes when start-timestamp storage is switched on.
    V2,
}

/// Ends of the records in the buffer.
#[derive(Clone, Default)]
pub(crate) struct Ends(Vec<usize>);

impl Ends {
    pub(crate) fn push(&mut self, end: usize) {
        self.0.push(end);
    }
}

/// Encoded records, ready for a log. It owns the record boundaries: a batch of histograms that needs two records makes
/// two.
///
/// Bytes are the reference's for the same input. Each method makes one record of all that it is given (histograms: see
/// there); given nothing, a record that is only a tag, as the reference's encoder does. [`clear`](Self::clear) keeps the
/// memory: a batch that is reused allocates nothing.
///
/// ```
/// use tsdb_model::{Labels, SeriesRef};
/// use wal_format::{Batch, Sample, Series, Version};
///
/// let labels = Labels::from_pairs([("__name__", "up")]);
/// let mut batch = Batch::new(Version::V1);
/// batch.series([Series { series: SeriesRef(1), labels: labels.pairs() }]);
/// batch.samples([Sample { series: SeriesRef(1), t: 1000, v: 1.0, st: 0 }]);
/// assert_eq!(batch.records().count(), 2);
/// ```
#[derive(Clone, Default)]
pub struct Batch {
    version: Version,
    out: Buffer,
    ends: Ends,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new(version: Version) -> Self {
        Self { version, ..Self::default() }
    }

    /// Which layout samples and histograms get.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Changes the layout for what comes now.
    pub fn set_version(&mut self, version: Version) {
        self.version = version;
    }

    fn end_record(&mut self) {
        self.ends.push(self.out.len());
    }

    /// A series record.
    pub fn series<'a>(&mut self, series: impl IntoIterator<Item = Series<'a>>) {
        series::encode(&mut self.out, series);
        self.end_record();
    }

    /// A record of float samples.
    #[inline]
    pub fn samples(&mut self, samples: impl IntoIterator<Item = Sample>) {
        samples::encode(&mut self.out, self.version, samples);
        self.end_record();
    }

    /// Integer histograms: in V1 a record of the exponential ones, if there are any (or none at all), then a record of
    /// the ones with custom buckets, if there are any; in V2 one record of all.
    pub fn histograms<'a, I>(&mut self, histograms: I)
    where
        I: IntoIterator<Item = HistogramSample<'a>, IntoIter: Clone>,
    {
        let samples = histograms.into_iter();
        histograms::encode(&mut self.out, &mut self.ends, self.version, &histograms::INTEGER, samples);
    }

    /// Float histograms, split into records as [`histograms`](Self::histograms) are.
    pub fn float_histograms<'a, I>(&mut self, histograms: I)
    where
        I: IntoIterator<Item = FloatHistogramSample<'a>, IntoIter: Clone>,
    {
        let samples = histograms.into_iter();
        histograms::encode(&mut self.out, &mut self.ends, self.version, &histograms::FLOAT, samples);
    }

    /// A tombstone record: a row per interval.
    pub fn tombstones(&mut self, tombstones: impl IntoIterator<Item = Tombstone>) {
        tombstones::encode(&mut self.out, tombstones);
        self.end_record();
    }

    /// A record of exemplars.
    pub fn exemplars<'a>(&mut self, exemplars: impl IntoIterator<Item = Exemplar<'a>>) {
        exemplars::encode(&mut self.out, exemplars);
        self.end_record();
    }

    /// A metadata record.
    pub fn metadata<'a>(&mut self, metadata: impl IntoIterator<Item = Metadata<'a>>) {
        metadata::encode(&mut self.out, metadata);
        self.end_record();
    }

    /// A record of mmap markers.
    pub fn mmap_markers(&mut self, markers: impl IntoIterator<Item = MmapMarker>) {
        markers::encode(&mut self.out, markers);
        self.end_record();
    }

    /// What was decoded, in the version that its tag belongs to. A histogram record that mixes layouts, which the
    /// reference never writes, makes two records; an unknown one makes none, since its content is not known.
    pub fn record(&mut self, record: &Record<'_>) {
        let version = if record.tag.is_some_and(|tag| tag >= tag::SAMPLES_V2) { Version::V2 } else { Version::V1 };
        let version = core::mem::replace(&mut self.version, version);
        match &record.entries {
            RecordEntries::Series(e) => self.series(e.iter().copied()),
            RecordEntries::Samples(e) => self.samples(e.iter().copied()),
            RecordEntries::Histograms(e) => self.histograms(e.iter().map(OwnedHistogram::as_sample)),
            RecordEntries::FloatHistograms(e) => self.float_histograms(e.iter().map(OwnedHistogram::as_sample)),
            RecordEntries::Tombstones(e) => self.tombstones(e.iter().copied()),
            RecordEntries::Exemplars(e) => self.exemplars(e.iter().copied()),
            RecordEntries::Metadata(e) => self.metadata(e.iter().copied()),
            RecordEntries::MmapMarkers(e) => self.mmap_markers(e.iter().copied()),
            RecordEntries::Unknown { .. } => {}
        }
        self.version = version;
    }

    /// A record that is already encoded.
    pub fn raw(&mut self, record: &[u8]) {
        self.out.put_slice(record);
        self.end_record();
    }

    /// The records in the order in which they were made.
    pub fn records(&self) -> impl Iterator<Item = &[u8]> + Clone {
        let bytes = self.out.as_slice();
        self.ends.0.iter().scan(0, move |start, end| Some(&bytes[core::mem::replace(start, *end)..*end]))
    }

    /// How many records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.0.is_empty()
    }

    /// Bytes of all records together.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.out.len()
    }

    /// Forgets the records, keeps the memory.
    pub fn clear(&mut self) {
        self.out.clear();
        self.ends.0.clear();
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("version", &self.version).field("records", &self.len()).finish_non_exhaustive()
    }
}
