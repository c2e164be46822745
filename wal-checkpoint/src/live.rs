//! The second source: what a head holds in memory, instead of segments that are read again.

use std::fmt;
use std::iter::Peekable;

use tsdb_model::SeriesRef;
use wal_format::{
    Batch, Exemplar, FloatHistogramSample, HistogramSample, Metadata, Sample, Series, Timed, Tombstone, Version,
};
use wal_segment::Compression;

use crate::error::Error;
use crate::filtered::Pile;
use crate::metadata::LatestMetadata;
use crate::options::StartTimestamps;
use crate::publish::Draft;
use crate::stats::{Count, Counts, Records};

/// Live data that can be written down.
///
/// A closure `Fn(&mut LiveWriter) -> Result<(), Error>` is one.
pub trait Live {
    /// Hands everything over that a replay of the log has to find, a series before what refers to it. What the predicate
    /// and the minimum time of the checkpoint exclude is dropped and counted as it is from segments, so it may be handed
    /// over, too.
    fn write(&self, out: &mut LiveWriter<'_, '_>) -> Result<(), Error>;
}

impl<F: Fn(&mut LiveWriter<'_, '_>) -> Result<(), Error>> Live for F {
    fn write(&self, out: &mut LiveWriter<'_, '_>) -> Result<(), Error> {
        self(out)
    }
}

/// Encoded bytes that are collected before they go to the disk.
const FLUSH: usize = 256 * 1024;

/// Takes live data. Each call makes one record of what is kept of its entries (histograms: one or two): a few hundred
/// entries a call give records of the size that a scrape's have.
pub struct LiveWriter<'a, 'fs> {
    keep: &'a dyn Fn(SeriesRef) -> bool,
    mint: i64,
    start_timestamps: StartTimestamps,
    output: &'a mut Output<'fs>,
    metadata: &'a mut LatestMetadata,
    batch: Batch,
    pub(crate) counts: Counts,
}

impl fmt::Debug for LiveWriter<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveWriter").field("mint", &self.mint).field("counts", &self.counts).finish_non_exhaustive()
    }
}

/// Counts entries on their way through a filter.
fn counted<E>(
    entries: impl IntoIterator<Item = E>,
    count: &mut Count,
    keep: impl Fn(&E) -> bool,
) -> impl Iterator<Item = E> {
    entries.into_iter().filter(move |entry| {
        let kept = keep(entry);
        *count += Count { total: 1, dropped: u64::from(!kept) };
        kept
    })
}

/// A record of nothing is not worth writing.
fn unless_empty<I: Iterator>(entries: I) -> Option<Peekable<I>> {
    let mut entries = entries.peekable();
    entries.peek().is_some().then_some(entries)
}

impl<'a, 'fs> LiveWriter<'a, 'fs> {
    pub(crate) fn new(
        keep: &'a dyn Fn(SeriesRef) -> bool,
        mint: i64,
        start_timestamps: StartTimestamps,
        output: &'a mut Output<'fs>,
        metadata: &'a mut LatestMetadata,
    ) -> Self {
        let (batch, counts) = (Batch::default(), Counts::default());
        Self { keep, mint, start_timestamps, output, metadata, batch, counts }
    }

    /// The checkpoint's minimum time: what is older is dropped, so a source may leave it out.
    pub fn mint(&self) -> i64 {
        self.mint
    }

    /// Series, before anything that refers to them.
    pub fn series<'e>(&mut self, entries: impl IntoIterator<Item = Series<'e>>) -> Result<(), Error> {
        let keep = self.keep;
        let kept = counted(entries, &mut self.counts.series, |s| keep(s.series));
        if let Some(kept) = unless_empty(kept) {
            self.batch.series(kept);
        }
        self.flush_when_large()
    }

    /// Float samples. They are written with start timestamps if any of them has one.
    pub fn samples(&mut self, entries: &[Sample]) -> Result<(), Error> {
        let mint = self.mint;
        self.batch.set_version(self.version(entries.iter().any(|s| s.st != 0)));
        let kept = counted(entries.iter().copied(), &mut self.counts.samples, |s| s.t >= mint);
        if let Some(kept) = unless_empty(kept) {
            self.batch.samples(kept);
        }
        self.flush_when_large()
    }

    /// Integer histograms. They are written with start timestamps if any of them has one.
    pub fn histograms(&mut self, entries: &[HistogramSample<'_>]) -> Result<(), Error> {
        let kept = self.timed(entries, |counts| &mut counts.histograms);
        self.batch.set_version(self.version(kept.iter().any(|s| s.st != 0)));
        if !kept.is_empty() {
            self.batch.histograms(kept.iter().copied());
        }
        self.flush_when_large()
    }

    /// Float histograms. They are written with start timestamps if any of them has one.
    pub fn float_histograms(&mut self, entries: &[FloatHistogramSample<'_>]) -> Result<(), Error> {
        let kept = self.timed(entries, |counts| &mut counts.float_histograms);
        self.batch.set_version(self.version(kept.iter().any(|s| s.st != 0)));
        if !kept.is_empty() {
            self.batch.float_histograms(kept.iter().copied());
        }
        self.flush_when_large()
    }

    /// Deleted time ranges.
    pub fn tombstones(&mut self, entries: impl IntoIterator<Item = Tombstone>) -> Result<(), Error> {
        let (keep, mint) = (self.keep, self.mint);
        let wanted = |t: &Tombstone| t.maxt >= mint && keep(t.series);
        let kept = counted(entries, &mut self.counts.tombstones, wanted);
        if let Some(kept) = unless_empty(kept) {
            self.batch.tombstones(kept);
        }
        self.flush_when_large()
    }

    /// Exemplars.
    pub fn exemplars<'e>(&mut self, entries: impl IntoIterator<Item = Exemplar<'e>>) -> Result<(), Error> {
        let mint = self.mint;
        let kept = counted(entries, &mut self.counts.exemplars, |e| e.t >= mint);
        if let Some(kept) = unless_empty(kept) {
            self.batch.exemplars(kept);
        }
        self.flush_when_large()
    }

    /// Metadata; the last of a series counts.
    pub fn metadata<'e>(&mut self, entries: impl IntoIterator<Item = Metadata<'e>>) {
        for entry in entries {
            // How many are dropped is known when all have been handed over.
            self.counts.metadata.total += 1;
            if (self.keep)(entry.series) {
                self.metadata.set(entry);
            }
        }
    }

    fn version(&self, any_start_timestamp: bool) -> Version {
        match self.start_timestamps {
            StartTimestamps::Keep if any_start_timestamp => Version::V2,
            StartTimestamps::Keep | StartTimestamps::Drop => Version::V1,
        }
    }

    fn timed<E: Timed + Copy>(&mut self, entries: &[E], count: impl Fn(&mut Counts) -> &mut Count) -> Vec<E> {
        let mint = self.mint;
        counted(entries.iter().copied(), count(&mut self.counts), |e| e.t() >= mint).collect()
    }

    fn flush_when_large(&mut self) -> Result<(), Error> {
        if self.batch.byte_len() >= FLUSH { self.flush() } else { Ok(()) }
    }

    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        self.output.write(&self.batch)?;
        self.batch.clear();
        Ok(())
    }
}

/// Compresses encoded records and appends them to a checkpoint.
pub(crate) struct Output<'fs> {
    /// None in a dry run.
    draft: Option<Draft<'fs>>,
    pub(crate) records: Records,
    /// Stored bytes appended.
    pub(crate) bytes: u64,
    compression: Compression,
    pile: Pile,
}

impl<'fs> Output<'fs> {
    pub(crate) fn new(draft: Option<Draft<'fs>>, compression: Compression) -> Self {
        Self { draft, records: Records::default(), bytes: 0, compression, pile: Pile::default() }
    }

    /// Appends stored records.
    pub(crate) fn append(&mut self, pile: &Pile) -> Result<(), Error> {
        self.bytes += pile.bytes();
        match &mut self.draft {
            Some(draft) => draft.append(pile.iter()),
            None => Ok(()),
        }
    }

    /// The checkpoint, complete.
    pub(crate) fn into_draft(self) -> Option<Draft<'fs>> {
        self.draft
    }

    /// Appends the records of a batch.
    pub(crate) fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        let mut pile = std::mem::take(&mut self.pile);
        pile.clear();
        batch.records().for_each(|record| pile.push(record, self.compression));
        self.records.written += pile.len();
        let appended = self.append(&pile);
        self.pile = pile;
        appended
    }
}
