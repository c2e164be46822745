//! What is kept of one record.
//!
//! Every kind is looked at twice at most: once to count what would be dropped, and, if that is some but not all, once
//! more to encode the rest. So nothing is collected on the way, and a record from which nothing is dropped costs no more
//! than the look.

use tsdb_model::SeriesRef;
use tsdb_model::histogram::NativeHistogram;
use wal_format::{
    Batch, Checked, DecodeError, ExemplarBatch, FloatHistogramBatch, HistogramBatch, Metadata, MetadataBatch,
    MmapMarkerBatch, NativeEntry, NativeSample, RecordSink, SampleBatch, SeriesBatch, Timed, Tombstone, TombstoneBatch,
    Version, Wire, tag,
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

/// Filters records, one after the other.
pub(crate) struct Filter<'k, K, M> {
    keep: &'k K,
    mint: i64,
    start_timestamps: StartTimestamps,
    /// Takes the metadata of kept series.
    metadata: M,
    verdict: Verdict,
    pub(crate) counts: Counts,
    /// Holds the records of a [`Verdict::Rewrite`].
    pub(crate) rewritten: Batch,
}

impl<'k, K: Fn(SeriesRef) -> bool, M: FnMut(Metadata<'_>)> Filter<'k, K, M> {
    pub(crate) fn new(keep: &'k K, mint: i64, start_timestamps: StartTimestamps, metadata: M) -> Self {
        Self {
            keep,
            mint,
            start_timestamps,
            metadata,
            verdict: Verdict::Drop,
            counts: Counts::default(),
            rewritten: Batch::default(),
        }
    }

    /// Decides about the next record. What could not be decoded is counted as that and as nothing else.
    pub(crate) fn apply(&mut self, record: &[u8]) -> Result<Verdict, DecodeError> {
        self.rewritten.clear();
        let before = self.counts;
        let decoded = wal_format::dispatch(record, self);
        if let Err(error) = decoded {
            self.counts = before;
            self.counts.undecodable += Count { total: 1, dropped: 1 };
            return Err(error);
        }
        Ok(self.verdict)
    }

    /// The layout that samples and histograms of a record are written in again.
    fn target(&self, version: Version) -> Version {
        match self.start_timestamps {
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
        self.counts.unknown += Count { total: 1, dropped: 1 };
        self.verdict = Verdict::Drop;
    }

    /// Histograms of one kind: counts them and decides.
    fn look<'a, B: Wire + 'a>(
        &mut self,
        entries: impl Iterator<Item = Result<NativeEntry<'a, B>, DecodeError>>,
        version: Version,
    ) -> Result<(Count, bool), DecodeError> {
        let mint = self.mint;
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
struct Owned<B>(Vec<(SeriesRef, i64, i64, NativeHistogram<B>)>);

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

impl<K: Fn(SeriesRef) -> bool, M: FnMut(Metadata<'_>)> RecordSink for Filter<'_, K, M> {
    type Error = DecodeError;

    fn series(&mut self, batch: SeriesBatch<'_>) -> Result<(), DecodeError> {
        let keep = self.keep;
        let count = count(batch.iter(), |s| keep(s.series))?;
        self.counts.series += count;
        if self.decide(count, true) {
            self.rewritten.series(kept(batch.iter(), |s| keep(s.series)));
        }
        Ok(())
    }

    fn samples(&mut self, batch: SampleBatch<'_>) -> Result<(), DecodeError> {
        let mint = self.mint;
        let count = match scan(batch.record(), mint) {
            Some(Times { total, below }) => Count { total, dropped: below },
            // Not a sound record: the decoder says where.
            None => count(batch.iter(), |s| s.t >= mint)?,
        };
        self.counts.samples += count;
        let version = self.target(batch.version());
        if self.decide(count, version == batch.version()) {
            self.rewritten.set_version(version);
            self.rewritten.samples(kept(batch.iter(), |s| s.t >= mint));
        }
        Ok(())
    }

    fn histograms(&mut self, batch: HistogramBatch<'_>) -> Result<(), DecodeError> {
        let (count, rewrite) = self.look(batch.iter(), batch.version())?;
        self.counts.histograms += count;
        if rewrite {
            let mut owned = Owned(Vec::new());
            let Checked { .. } = batch.for_each(&mut NativeHistogram::default(), owned.taker(self.mint))?;
            self.rewritten.set_version(self.target(batch.version()));
            self.rewritten.histograms(owned.samples());
        }
        Ok(())
    }

    fn float_histograms(&mut self, batch: FloatHistogramBatch<'_>) -> Result<(), DecodeError> {
        let (count, rewrite) = self.look(batch.iter(), batch.version())?;
        self.counts.float_histograms += count;
        if rewrite {
            let mut owned = Owned(Vec::new());
            let Checked { .. } = batch.for_each(&mut NativeHistogram::default(), owned.taker(self.mint))?;
            self.rewritten.set_version(self.target(batch.version()));
            self.rewritten.float_histograms(owned.samples());
        }
        Ok(())
    }

    fn tombstones(&mut self, batch: TombstoneBatch<'_>) -> Result<(), DecodeError> {
        let (keep, mint) = (self.keep, self.mint);
        let wanted = |t: &Tombstone| t.maxt >= mint && keep(t.series);
        let count = count(batch.iter(), wanted)?;
        self.counts.tombstones += count;
        if self.decide(count, true) {
            self.rewritten.tombstones(kept(batch.iter(), wanted));
        }
        Ok(())
    }

    fn exemplars(&mut self, batch: ExemplarBatch<'_>) -> Result<(), DecodeError> {
        let mint = self.mint;
        let count = count(batch.iter(), |e| e.t >= mint)?;
        self.counts.exemplars += count;
        if self.decide(count, true) {
            self.rewritten.exemplars(kept(batch.iter(), |e| e.t >= mint));
        }
        Ok(())
    }

    fn metadata(&mut self, batch: MetadataBatch<'_>) -> Result<(), DecodeError> {
        let total = batch.validate()?.entries as u64;
        // How many are dropped is known when all have been seen.
        self.counts.metadata += Count { total, dropped: 0 };
        let keep = self.keep;
        for entry in kept(batch.iter(), |m| keep(m.series)) {
            (self.metadata)(entry);
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
