//! One thread's share of a round: the records of a block of pages, decoded and put down flat.
//!
//! ```text
//! entries  := per sample value, time and low byte of the ref, in the log's order, in runs: neighbours of one partition
//! wide     := what does not fit an entry: histograms, start timestamps, times beyond 48 bits
//! events   := series records and dropped series, in order
//! together := the series of the series records again, their labels taken apart
//! ```
//!
//! Applying needs the log's order per series only, and a series lies in one partition: so the runs of a round are sorted
//! by partition, and the partitions are then applied independently.

use std::collections::HashMap;

use tsdb_model::SeriesRef;
use tsdb_model::histogram::{FloatHistogram, Histogram};
use wal_format::{
    DecodeError, ExemplarBatch, FloatHistogramBatch, HistogramBatch, MetadataBatch, MmapMarkerBatch, RecordSink,
    Sample, SampleBatch, Series, SeriesBatch, TombstoneBatch,
};

use super::entries::{self, ENTRY_BYTES, Entries, Entry};
use super::floors::Floors;
use super::read::BLOCK;
use super::report::Counts;
use crate::index::NewLabels;

/// A lane stops decoding when it holds so many bytes, if not before: a small block of a log may unpack to a great deal.
pub(super) const LANE_BYTES: usize = 24 << 20;

/// A sample that does not fit an [`Entry`].
#[derive(Debug)]
pub(super) struct Wide {
    pub(super) st: i64,
    pub(super) t: i64,
    pub(super) value: WideValue,
}

#[derive(Debug)]
pub(super) enum WideValue {
    Float(f64),
    Histogram(Box<Histogram>),
    FloatHistogram(Box<FloatHistogram>),
}

/// What changes which series there are.
#[derive(Debug)]
pub(super) enum Event {
    /// A series record: its bytes in `Lane::series`, and how many entries stand before it.
    Series(std::ops::Range<usize>, u32),
    /// A tombstone over all times: the series goes, and its ref means nothing from here on.
    Drop(SeriesRef),
}

/// The series of a lane's series records, if they may be taken together.
#[derive(Debug, Default)]
pub(super) struct Together {
    pub(super) labels: NewLabels,
    /// How many entries stand before the record of each.
    pub(super) entries: Vec<u32>,
    /// Something is in the way: the lane's events say which series there are, in order.
    pub(super) broken: bool,
}

impl Together {
    fn push(&mut self, series: Series<'_>, entries: usize) {
        self.broken = self.broken || !self.labels.push(series.series.0, series.labels);
        self.entries.push(entries as u32);
    }

    /// Forgets all, and keeps the room that it took.
    pub(super) fn clear(&mut self) {
        self.labels.clear();
        self.entries.clear();
        self.broken = false;
    }
}

#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) entries: Entries,
    pub(super) wide: Vec<Wide>,
    wide_bytes: usize,
    pub(super) series: Vec<u8>,
    pub(super) events: Vec<Event>,
    pub(super) together: Together,
    pub(super) counts: Counts,
    /// Highest ref in a tombstone.
    pub(super) highest_ref: u64,
    /// Newest time of a sample by alias: its series record is kept until then.
    pub(super) expiries: HashMap<u64, i64>,
    histogram: Histogram,
    float_histogram: FloatHistogram,
}

impl Lane {
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.wide.clear();
        self.wide_bytes = 0;
        self.series.clear();
        self.events.clear();
        self.together.clear();
        self.counts = Counts::default();
        self.highest_ref = 0;
        self.expiries.clear();
    }

    /// When an entry's sample was.
    pub(super) fn time(&self, entry: Entry) -> i64 {
        if entry.is_wide() { self.wide[entry.value as usize].t } else { entry.t() }
    }

    /// No series that is made later gets this ref.
    fn reserve(&mut self, series: SeriesRef) {
        self.highest_ref = self.highest_ref.max(series.0);
    }

    /// Whether it holds a tombstone over all times of a series.
    pub(super) fn drops_series(&self) -> bool {
        self.events.iter().any(|event| matches!(event, Event::Drop(_)))
    }

    /// Bytes of what it holds.
    pub(super) fn bytes(&self) -> usize {
        self.bytes_of_log() + self.together.labels.bytes() + self.series.len()
    }

    /// Without what it holds twice.
    fn bytes_of_log(&self) -> usize {
        self.entries.bytes() + self.wide_bytes + self.series.len() + self.events.len() * size_of::<Event>()
    }

    /// Bytes of what it would hold if nothing had been there already: the next blocks may have as much that is not.
    pub(super) fn most_bytes(&self) -> usize {
        let dropped = self.counts.already_there + self.counts.before_min_valid;
        self.bytes_of_log() + dropped as usize * ENTRY_BYTES
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes() >= LANE_BYTES
    }

    /// Gives back what an unusual block made the buffers grow to.
    pub(super) fn shrink(&mut self) {
        const USUAL: usize = 4 << 20;
        if self.together.labels.len() == 0 {
            // New series come together, and then none for a while.
            self.together = Together::default();
        }
        // Nothing of it is wanted any more, and what holds something keeps its room.
        self.clear();
        self.entries.shrink_to(USUAL);
        self.series.shrink_to(64 << 10);
        self.wide.shrink_to(1 << 12);
    }

    fn push_wide(&mut self, series: u64, wide: Wide) {
        let index = self.wide.len();
        self.wide_bytes += size_of::<Wide>()
            + match &wide.value {
                WideValue::Float(_) => 0,
                WideValue::Histogram(h) => histogram_bytes(h.positive_buckets.len() + h.negative_buckets.len()),
                WideValue::FloatHistogram(h) => histogram_bytes(h.positive_buckets.len() + h.negative_buckets.len()),
            };
        self.wide.push(wide);
        self.entries.push_wide(series, index);
    }

    /// Forgets what was put down since `mark`: the record could not be decoded to its end.
    fn undo(&mut self, mark: Mark) {
        self.entries.undo(mark.entries);
        self.wide.truncate(mark.wide);
        self.series.truncate(mark.series);
        self.events.truncate(mark.events);
    }

    fn mark(&self) -> Mark {
        Mark {
            entries: self.entries.mark(),
            wide: self.wide.len(),
            series: self.series.len(),
            events: self.events.len(),
        }
    }
}

fn histogram_bytes(buckets: usize) -> usize {
    size_of::<Histogram>() + buckets * 8 + 64
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    entries: entries::Mark,
    wide: usize,
    series: usize,
    events: usize,
}

/// Puts one record after the other into a lane.
pub(super) struct Decoder<'a> {
    pub(super) lane: &'a mut Lane,
    pub(super) min_valid: i64,
    /// Refs that stand for another series.
    pub(super) aliases: &'a HashMap<u64, u64>,
    pub(super) floors: &'a Floors,
}

impl Decoder<'_> {
    /// Puts a record down, or nothing of it if it cannot be decoded.
    pub(super) fn record(&mut self, record: &[u8]) -> Result<(), DecodeError> {
        let mark = self.lane.mark();
        self.lane.counts.records += 1;
        let result = wal_format::dispatch(record, self);
        if result.is_err() {
            self.lane.counts.undecodable += 1;
            self.lane.undo(mark);
        }
        self.lane.entries.close_run();
        result
    }

    fn target(&mut self, series: SeriesRef, t: i64) -> u64 {
        if self.aliases.is_empty() {
            return series.0;
        }
        match self.aliases.get(&series.0) {
            None => series.0,
            Some(&target) => {
                let expiry = self.lane.expiries.entry(series.0).or_insert(t);
                *expiry = t.max(*expiry);
                target
            }
        }
    }

    /// Takes a record of samples if each of them fits an entry and stands for the series that it names; otherwise the
    /// lane has to be put back to where it was.
    fn plain_samples(&mut self, batch: &SampleBatch<'_>) -> Result<bool, DecodeError> {
        let Self { lane, min_valid, floors, .. } = self;
        let (min_valid, floors) = (*min_valid, *floors);
        let mut writer = lane.entries.writer(batch.max_len());
        let (mut skipped, mut old, mut odd) = (0_u64, 0_u64, 0_i64);
        let result = batch.for_each(|Sample { series, t, v, st }| {
            if writer.is_elsewhere(series.0, t) {
                writer.turn(series.0, t, floors, min_valid);
            }
            if let Some(refused) = writer.refusal() {
                skipped += 1;
                old += u64::from(refused.is_old());
                odd |= i64::from(refused.is_odd());
                return;
            }
            odd |= st | i64::from(!writer.put(series.0, v.to_bits()));
        });
        let at = writer.written();
        let len = writer.end();
        if odd != 0 {
            return Ok(false);
        }
        lane.entries.keep(len);
        let counts = &mut lane.counts;
        counts.samples += at as u64 + skipped;
        counts.before_min_valid += old;
        result?;
        counts.already_there += skipped - old;
        Ok(true)
    }

    fn wide(&mut self, series: SeriesRef, st: i64, t: i64, value: WideValue) {
        let target = self.target(series, t);
        self.lane.push_wide(target, Wide { st, t, value });
    }
}

impl RecordSink for Decoder<'_> {
    type Error = DecodeError;

    fn series(&mut self, batch: SeriesBatch<'_>) -> Result<(), DecodeError> {
        let lane = &mut *self.lane;
        let mut count = 0;
        for series in &batch {
            match series {
                Ok(series) => lane.together.push(series, lane.entries.len()),
                Err(error) => {
                    // What came of the record is nothing.
                    lane.together.broken = true;
                    return Err(error);
                }
            }
            count += 1;
        }
        lane.counts.series += count;
        let start = lane.series.len();
        if lane.series.capacity() - start < batch.record().len() {
            // At once for the whole block, if its records are not compressed.
            lane.series.reserve((BLOCK as usize).max(start).max(batch.record().len()));
        }
        lane.series.extend_from_slice(batch.record());
        self.lane.events.push(Event::Series(start..self.lane.series.len(), self.lane.entries.len() as u32));
        Ok(())
    }

    fn samples(&mut self, batch: SampleBatch<'_>) -> Result<(), DecodeError> {
        if self.aliases.is_empty() {
            let mark = self.lane.mark();
            if self.plain_samples(&batch)? {
                return Ok(());
            }
            self.lane.undo(mark);
        }
        let min_valid = self.min_valid;
        let (mut all, mut old) = (0u64, 0u64);
        let result = batch.for_each(|Sample { series, t, v, st }| {
            all += 1;
            if t < min_valid {
                old += 1;
                return;
            }
            let target = self.target(series, t);
            if st != 0 || !self.lane.entries.push_float(target, t, v) {
                self.lane.push_wide(target, Wide { st, t, value: WideValue::Float(v) });
            }
        });
        self.lane.counts.samples += all;
        self.lane.counts.before_min_valid += old;
        result
    }

    fn histograms(&mut self, batch: HistogramBatch<'_>) -> Result<(), DecodeError> {
        let mut scratch = std::mem::take(&mut self.lane.histogram);
        let mut old = 0;
        let min_valid = self.min_valid;
        let checked = batch.for_each(&mut scratch, |series, t, st, histogram| {
            if t < min_valid {
                old += 1;
            } else {
                self.wide(series, st, t, WideValue::Histogram(Box::new(histogram.clone())));
            }
        });
        self.lane.histogram = scratch;
        let checked = checked?;
        self.lane.counts.histograms += checked.entries as u64;
        self.lane.counts.unknown_schemas += checked.skipped as u64;
        self.lane.counts.before_min_valid += old;
        Ok(())
    }

    fn float_histograms(&mut self, batch: FloatHistogramBatch<'_>) -> Result<(), DecodeError> {
        let mut scratch = std::mem::take(&mut self.lane.float_histogram);
        let mut old = 0;
        let min_valid = self.min_valid;
        let checked = batch.for_each(&mut scratch, |series, t, st, histogram| {
            if t < min_valid {
                old += 1;
            } else {
                self.wide(series, st, t, WideValue::FloatHistogram(Box::new(histogram.clone())));
            }
        });
        self.lane.float_histogram = scratch;
        let checked = checked?;
        self.lane.counts.float_histograms += checked.entries as u64;
        self.lane.counts.unknown_schemas += checked.skipped as u64;
        self.lane.counts.before_min_valid += old;
        Ok(())
    }

    fn tombstones(&mut self, batch: TombstoneBatch<'_>) -> Result<(), DecodeError> {
        for tombstone in batch {
            let tombstone = tombstone?;
            self.lane.counts.tombstones += 1;
            self.lane.reserve(tombstone.series);
            if tombstone.mint == i64::MIN && tombstone.maxt == i64::MAX {
                self.lane.together.broken = true;
                self.lane.events.push(Event::Drop(tombstone.series));
            }
        }
        Ok(())
    }

    fn exemplars(&mut self, batch: ExemplarBatch<'_>) -> Result<(), DecodeError> {
        self.lane.counts.exemplars += batch.validate()?.entries as u64;
        // They stay in the log, and must not come to belong to a series that is made later.
        batch.iter().try_for_each(|entry| entry.map(|entry| self.lane.reserve(entry.series)))
    }

    fn metadata(&mut self, batch: MetadataBatch<'_>) -> Result<(), DecodeError> {
        self.lane.counts.metadata += batch.validate()?.entries as u64;
        batch.iter().try_for_each(|entry| entry.map(|entry| self.lane.reserve(entry.series)))
    }

    fn mmap_markers(&mut self, _: MmapMarkerBatch<'_>) -> Result<(), DecodeError> {
        // They mean something in the out-of-order log only.
        self.lane.counts.mmap_markers += 1;
        Ok(())
    }

    fn unknown(&mut self, _tag: Option<u8>, _record: &[u8]) -> Result<(), DecodeError> {
        self.lane.counts.unknown_records += 1;
        Ok(())
    }
}
