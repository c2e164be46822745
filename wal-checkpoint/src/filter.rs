//! What is kept of one record.
//!
//! Every kind is looked at twice at most: once to count what would be dropped, and, if that is some but not all, once
//! more to encode the rest. So nothing is collected on the way, and a record from which nothing is dropped costs no more
//! than the look.

use tsdb_model::SeriesRef;
use tsdb_model::histogram::NativeHistogram;
use wal_format::{
    Batch, Checked, DecodeError, ExemplarBatch, FloatHistogramBatch, HistogramBatch, Metadata, MetadataBatch,
    MetricType, MmapMarkerBatch, NativeEntry, NativeSample, RecordSink, SampleBatch, SeriesBatch, Timed, Tombstone,
    TombstoneBatch, Version, Wire, tag,
};

use crate::options::StartTimestamps;
use crate::stats::{Count, Counts};
use crate::times::{self, Times};

/// What becomes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All of it stays, as it is.
    Copy,
    /// Nothing of it stays here; metadata may have been taken out of it.
    Drop,
    /// What stays has been encoded.
    Rewrite,
}

/// What is to be kept.
pub(crate) struct Wanted<'k, K> {
    pub(crate) keep: &'k K,
    pub(crate) mint: i64,
    pub(crate) start_timestamps: StartTimestamps,
    /// Whether to say which series were kept.
    pub(crate) note_series: bool,
}

/// Filters records, one after the other.
pub(crate) struct Filter<'k, K> {
    wanted: &'k Wanted<'k, K>,
    verdict: Verdict,
    pub(crate) taken: &'k mut Taken,
}

/// What a filter has found, and the memory that it works in.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) counts: Counts,
    /// Holds the records of a [`Verdict::Rewrite`].
    pub(crate) rewritten: Batch,
    /// Of kept series, in the log's order.
    pub(crate) metadata: TakenMetadata,
    /// Kept ones, if they are to be noted.
    pub(crate) series: Vec<SeriesRef>,
}

/// Metadata entries; their texts lie behind each other.
#[derive(Debug, Default)]
pub(crate) struct TakenMetadata {
    texts: Vec<u8>,
    /// Ref, type, end of unit, end of help.
    entries: Vec<(SeriesRef, MetricType, usize, usize)>,
}

impl TakenMetadata {
    fn push(&mut self, entry: Metadata<'_>) {
        self.texts.extend_from_slice(entry.unit);
        let unit = self.texts.len();
        self.texts.extend_from_slice(entry.help);
        self.entries.push((entry.series, entry.metric_type, unit, self.texts.len()));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Metadata<'_>> {
        let mut start = 0;
        self.entries.iter().map(move |&(series, metric_type, unit, help)| {
            let from = std::mem::replace(&mut start, help);
            Metadata { series, metric_type, unit: &self.texts[from..unit], help: &self.texts[unit..help] }
        })
    }

    fn truncate(&mut self, len: usize) {
        self.entries.truncate(len);
        self.texts.truncate(self.entries.last().map_or(0, |&(_, _, _, help)| help));
    }
}

impl Taken {
    /// Forgets everything, keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.counts = Counts::default();
        self.rewritten.clear();
        self.metadata.truncate(0);
        self.series.clear();
    }
}

impl<'k, K: Fn(SeriesRef) -> bool> Filter<'k, K> {
    pub(crate) fn new(wanted: &'k Wanted<'k, K>, taken: &'k mut Taken) -> Self {
        Self { wanted, verdict: Verdict::Drop, taken }
    }

    /// Decides about the next record. What could not be decoded is counted as that and as nothing else.
    pub(crate) fn apply(&mut self, record: &[u8]) -> Result<Verdict, DecodeError> {
        self.taken.rewritten.clear();
        let (counts, metadata) = (self.taken.counts, self.taken.metadata.entries.len());
        let series = self.taken.series.len();
        let decoded = wal_format::dispatch(record, self);
        if let Err(error) = decoded {
            self.taken.counts = counts;
            self.taken.counts.undecodable += Count { total: 1, dropped: 1 };
            self.taken.metadata.truncate(metadata);
            self.taken.series.truncate(series);
            return Err(error);
        }
        Ok(self.verdict)
    }

    /// The layout that samples and histograms of a record are written in again.
    fn target(&self, version: Version) -> Version {
        match self.wanted.start_timestamps {
            StartTimestamps::Keep => version,
            StartTimestamps::Drop => Version::V1,
        }
    }

    /// Sets the verdict for a record of `count` entries, where `same_form` says that nothing but dropped entries could
    /// make it another one. True if what is kept is to be encoded.
    fn decide(&mut self, count: Count, same_form: bool) -> bool {
        self.verdict = match count {
            Count { total, dropped } if dropped == total => Verdict::Drop,
            Count { dropped: 0, .. } if same_form => Verdict::Copy,
            _ => Verdict::Rewrite,
        };
        self.verdict == Verdict::Rewrite
    }

    fn unknown_record(&mut self) {
        self.taken.counts.unknown += Count { total: 1, dropped: 1 };
        self.verdict = Verdict::Drop;
    }

    /// Histograms of one kind: counts them and decides.
    fn look<'a, B: Wire + 'a>(
        &mut self,
        entries: impl Iterator<Item = Result<NativeEntry<'a, B>, DecodeError>>,
        version: Version,
    ) -> Result<(Count, bool), DecodeError> {
        let mint = self.wanted.mint;
        let count = count(entries, |h| h.t() >= mint)?;
        Ok((count, self.decide(count, self.target(version) == version)))
    }
}

/// Counts the entries of a record and those that are not to be kept.
fn count<E>(
    entries: impl Iterator<Item = Result<E, DecodeError>>,
    keep: impl Fn(&E) -> bool,
) -> Result<Count, DecodeError> {
    let mut count = Count::default();
    for entry in entries {
        count += Count { total: 1, dropped: u64::from(!keep(&entry?)) };
    }
    Ok(count)
}

/// The entries of a record that [`count`] has found to be sound which are to be kept.
fn kept<E>(
    entries: impl Iterator<Item = Result<E, DecodeError>>,
    keep: impl Fn(&E) -> bool,
) -> impl Iterator<Item = E> {
    entries.filter_map(Result::ok).filter(move |entry| keep(entry))
}

/// Copies of a record's histograms from `mint` on.
struct Owned<B: Wire>(Vec<(SeriesRef, i64, i64, NativeHistogram<B>)>);

impl<B: Wire> Owned<B> {
    fn taker(&mut self, mint: i64) -> impl FnMut(SeriesRef, i64, i64, &NativeHistogram<B>) {
        move |series, t, st, histogram| {
            if t >= mint {
                self.0.push((series, t, st, histogram.clone()));
            }
        }
    }

    fn samples(&self) -> impl Iterator<Item = NativeSample<'_, B>> + Clone {
        self.0.iter().map(|(series, t, st, histogram)| NativeSample { series: *series, t: *t, st: *st, histogram })
    }
}

impl<K: Fn(SeriesRef) -> bool> RecordSink for Filter<'_, K> {
    type Error = DecodeError;

    fn series(&mut self, batch: SeriesBatch<'_>) -> Result<(), DecodeError> {
        let keep = self.wanted.keep;
        let count = count(batch.iter(), |s| keep(s.series))?;
        self.taken.counts.series += count;
        if self.wanted.note_series {
            self.taken.series.extend(kept(batch.iter(), |s| keep(s.series)).map(|s| s.series));
        }
        if self.decide(count, true) {
            self.taken.rewritten.series(kept(batch.iter(), |s| keep(s.series)));
        }
        Ok(())
    }

    fn samples(&mut self, batch: SampleBatch<'_>) -> Result<(), DecodeError> {
        let mint = self.wanted.mint;
        let count = match scan(batch.record(), mint) {
            Some(Times { total, below }) => Count { total, dropped: below },
            // Not a sound record: the decoder says where.
            None => count(batch.iter(), |s| s.t >= mint)?,
        };
        self.taken.counts.samples += count;
        let version = self.target(batch.version());
        if self.decide(count, version == batch.version()) {
            self.taken.rewritten.set_version(version);
            self.taken.rewritten.samples(kept(batch.iter(), |s| s.t >= mint));
        }
        Ok(())
    }

    fn histograms(&mut self, batch: HistogramBatch<'_>) -> Result<(), DecodeError> {
        let (count, rewrite) = self.look(batch.iter(), batch.version())?;
        self.taken.counts.histograms += count;
        if rewrite {
            let mut owned = Owned(Vec::new());
            let Checked { .. } = batch.for_each(&mut NativeHistogram::default(), owned.taker(self.wanted.mint))?;
            self.taken.rewritten.set_version(self.target(batch.version()));
            self.taken.rewritten.histograms(owned.samples());
        }
        Ok(())
    }

    fn float_histograms(&mut self, batch: FloatHistogramBatch<'_>) -> Result<(), DecodeError> {
        let (count, rewrite) = self.look(batch.iter(), batch.version())?;
        self.taken.counts.float_histograms += count;
        if rewrite {
            let mut owned = Owned(Vec::new());
            let Checked { .. } = batch.for_each(&mut NativeHistogram::default(), owned.taker(self.wanted.mint))?;
            self.taken.rewritten.set_version(self.target(batch.version()));
            self.taken.rewritten.float_histograms(owned.samples());
        }
        Ok(())
    }

    fn tombstones(&mut self, batch: TombstoneBatch<'_>) -> Result<(), DecodeError> {
        let (keep, mint) = (self.wanted.keep, self.wanted.mint);
        let wanted = |t: &Tombstone| t.maxt >= mint && keep(t.series);
        let count = count(batch.iter(), wanted)?;
        self.taken.counts.tombstones += count;
        if self.decide(count, true) {
            self.taken.rewritten.tombstones(kept(batch.iter(), wanted));
        }
        Ok(())
    }

    fn exemplars(&mut self, batch: ExemplarBatch<'_>) -> Result<(), DecodeError> {
        let mint = self.wanted.mint;
        let count = count(batch.iter(), |e| e.t >= mint)?;
        self.taken.counts.exemplars += count;
        if self.decide(count, true) {
            self.taken.rewritten.exemplars(kept(batch.iter(), |e| e.t >= mint));
        }
        Ok(())
    }

    fn metadata(&mut self, batch: MetadataBatch<'_>) -> Result<(), DecodeError> {
        let total = batch.validate()?.entries as u64;
        // How many are dropped is known when all have been seen.
        self.taken.counts.metadata += Count { total, dropped: 0 };
        let keep = self.wanted.keep;
        for entry in kept(batch.iter(), |m| keep(m.series)) {
            self.taken.metadata.push(entry);
        }
        self.verdict = Verdict::Drop;
        Ok(())
    }

    fn mmap_markers(&mut self, _: MmapMarkerBatch<'_>) -> Result<(), DecodeError> {
        // They speak of chunks of the out-of-order log, whose segments no checkpoint is made of.
        self.unknown_record();
        Ok(())
    }

    fn unknown(&mut self, _: Option<u8>, _: &[u8]) -> Result<(), DecodeError> {
        self.unknown_record();
        Ok(())
    }
}

/// Counts a record's samples, and those before `mint`; `None` if it is not sound.
fn scan(record: &[u8], mint: i64) -> Option<Times> {
    match record {
        [tag::SAMPLES, body @ ..] => times::scan_v1(body, mint),
        [tag::SAMPLES_V2, body @ ..] => times::scan_v2(body, mint),
        _ => None,
    }
}
