//! The transactional appender.

mod batch;
mod commit;
mod histogram;
mod resolve;

use std::sync::Arc;

use tsdb_model::staleness::is_stale;
use tsdb_model::{Labels, SeriesRef};
use wal_format::Sample;

pub(crate) use batch::{AnyHistogram, AppendBuffers};
pub(crate) use commit::stale_histogram;

use crate::AppendError;
use crate::head::Shared;
use crate::isolation::AppendTicket;
use crate::partition::{Partition, PartitionCell, Refusal};
use crate::sync::atomic::Ordering;

/// A transaction: samples are checked as they are appended, and become visible and durable together by
/// [`commit`](Self::commit). Dropping an appender rolls it back.
///
/// A sample that is refused is refused alone: the others stay. What an appender holds is not visible to itself either: two
/// samples with one time and two values are both taken, and the second is left out at commit.
#[derive(Debug)]
pub struct Appender {
    head: Arc<Shared>,
    /// `None` until the first sample of a head that had no time yet.
    open: Option<Open>,
    buffers: AppendBuffers,
    /// The partition used last.
    cell: Option<Arc<PartitionCell>>,
    /// The one before: the series of a commit mostly lie in two, which are gone through twice.
    cell_before: Option<Arc<PartitionCell>>,
}

#[derive(Debug)]
struct Open {
    ticket: AppendTicket,
    min_valid: i64,
}

/// What a commit did with the samples of its appender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Committed {
    /// Samples that are in the head now.
    pub appended: u64,
    /// Samples that are not: equal to one that is there, or overtaken by another appender meanwhile. They may be in the
    /// log; replay leaves them out again.
    pub left_out: u64,
}

impl Appender {
    pub(crate) fn new(head: Arc<Shared>) -> Self {
        let mut buffers = head.buffers.lock().pop().unwrap_or_default();
        let cell = buffers.cell.take();
        let mut appender = Self { head, open: None, buffers, cell, cell_before: None };
        if appender.head.time.initialised() && appender.head.log.is_some() {
            appender.begin();
        }
        appender
    }

    fn begin(&mut self) {
        let ticket = self.head.isolation.begin_append();
        self.open = Some(Open { ticket, min_valid: self.head.time.appendable_min_valid() });
    }

    /// Appends a float to the series with this ref or, without one (or if it is gone), to the series with these labels,
    /// which is made if there is none. Returns the series' ref, for next time.
    ///
    /// # Errors
    /// See [`AppendError`]. The sample is not part of the transaction then.
    pub fn append(
        &mut self,
        series: Option<SeriesRef>,
        labels: &Labels,
        t: i64,
        v: f64,
    ) -> Result<SeriesRef, AppendError> {
        self.append_with_start(series, labels, 0, t, v)
    }

    /// As [`append`](Self::append), with the time (ms) since when a counter counts; 0 means none. Kept only with
    /// [`HeadOptions::start_timestamps`](crate::HeadOptions::start_timestamps).
    ///
    /// # Errors
    /// See [`AppendError`].
    pub fn append_with_start(
        &mut self,
        series: Option<SeriesRef>,
        labels: &Labels,
        start: i64,
        t: i64,
        v: f64,
    ) -> Result<SeriesRef, AppendError> {
        self.check_time(t)?;
        if is_stale(v) && self.buffers.has_histograms() {
            let known = self.resolve(series, labels, |_, _, series| Ok(series))?;
            if let Some(stale) = self.buffers.stale_as_histogram(known, v) {
                return self.append_any_histogram(Some(SeriesRef(known)), labels, start, t, stale);
            }
        }
        let series = self.resolve(series, labels, |data, row, series| {
            accept_float(data, row, t, v)?;
            data.pend(row);
            Ok(series)
        })?;
        let st = self.stored_start(start);
        self.buffers.push_float(Sample { series: SeriesRef(series), t, v, st });
        Ok(SeriesRef(series))
    }

    /// Appends many floats to the series with these labels, each made if there is none, and puts the refs into the samples.
    /// `refused` is told of each one that is not taken, by its position; what has no partner in the other list is left
    /// alone.
    ///
    /// The series of a target's first scrape are made together: far cheaper than one at a time.
    pub fn append_many_by_labels(
        &mut self,
        labels: &[Labels],
        samples: &mut [Sample],
        mut refused: impl FnMut(usize, AppendError),
    ) {
        if self.buffers.has_histograms() {
            // Histograms in this transaction: staleness markers are decided one by one.
            for (i, (sample, labels)) in samples.iter_mut().zip(labels).enumerate() {
                match self.append_with_start(None, labels, sample.st, sample.t, sample.v) {
                    Ok(series) => sample.series = series,
                    Err(error) => refused(i, error),
                }
            }
            return;
        }
        let mut in_time = Vec::with_capacity(samples.len());
        for (i, (sample, labels)) in samples.iter().zip(labels).enumerate() {
            match self.check_time(sample.t) {
                Ok(()) => in_time.push((i, labels)),
                Err(error) => refused(i, error),
            }
        }
        let take = |appender: &mut Self, i: usize, series: u64| {
            let sample: &mut Sample = &mut samples[i];
            let taken = appender.with_series(series, &mut |data, row, _| {
                accept_float(data, row, sample.t, sample.v)?;
                data.pend(row);
                Ok(())
            })?;
            Some(taken.map(|()| {
                let series = SeriesRef(series);
                sample.series = series;
                let st = appender.stored_start(sample.st);
                appender.buffers.push_float(Sample { series, t: sample.t, v: sample.v, st });
            }))
        };
        self.resolve_many(in_time.into_iter(), take, refused);
    }

    /// Appends many floats by ref. `refused` is told of each one that is not taken, by its position; a ref that no series
    /// has is [`AppendError::UnknownSeries`].
    ///
    /// Samples of one scrape in the order of their refs share locks and cache lines: the fast way in.
    pub fn append_many(&mut self, samples: &[Sample], mut refused: impl FnMut(usize, AppendError)) {
        let mut i = 0;
        while let Some(first) = samples.get(i) {
            if let Err(error) = self.check_time(first.t) {
                refused(i, error);
                i += 1;
                continue;
            }
            let number = first.series.0 >> 8;
            if !self.load_cell(number) {
                refused(i, AppendError::UnknownSeries(first.series));
                i += 1;
                continue;
            }
            // Without histograms in this transaction nothing is decided sample by sample.
            let plain = !self.buffers.has_histograms();
            let run = samples[i..].iter().take_while(|sample| sample.series.0 >> 8 == number).count();
            if plain {
                self.append_plain(&samples[i..i + run], |at, error| refused(i + at, error));
            } else {
                self.append_run(number, &samples[i..i + run], |at, error| refused(i + at, error));
            }
            i += run;
        }
    }

    /// Appends samples of the partition whose cell is loaded; no series has histograms in this transaction.
    fn append_plain(&mut self, samples: &[Sample], mut refused: impl FnMut(usize, AppendError)) {
        let (Some(cell), Some(open)) = (&self.cell, &self.open) else { return };
        let own_bound = open.min_valid;
        if let Some(oldest) = samples.iter().map(|sample| sample.t).filter(|&t| t >= own_bound).min() {
            open.ticket.announce(oldest);
        }
        // Read after the announcement, as in `check_time`.
        let bound = self.head.time.min_valid().max(own_bound);
        let starts = self.head.options.start_timestamps;
        let (floats, unlogged) = self.buffers.floats_and_unlogged();
        floats.reserve(samples.len());
        let mut data = cell.data.lock();
        for (i, sample) in samples.iter().enumerate() {
            let (series, t, v) = (sample.series, sample.t, sample.v);
            if t < bound {
                let min_valid = if t < own_bound { own_bound } else { bound };
                refused(i, AppendError::OutOfBounds { t, min_valid });
                continue;
            }
            match data.begin_float(series.0 as u8, t, v) {
                Some(Ok(is_unlogged)) => {
                    if is_unlogged {
                        unlogged.push(series.0);
                    }
                    floats.push(Sample { series, t, v, st: if starts { sample.st } else { 0 } });
                }
                Some(Err(refusal)) => refused(i, refused_at(refusal, t)),
                None => refused(i, AppendError::UnknownSeries(series)),
            }
        }
    }

    /// Appends samples of one partition, whose cell is loaded.
    fn append_run(&mut self, number: u64, samples: &[Sample], mut refused: impl FnMut(usize, AppendError)) {
        let Some(cell) = self.cell.clone() else { return };
        let mut data = cell.data.lock();
        for (i, sample) in samples.iter().enumerate() {
            match self.take_float(&mut data, sample) {
                Ok(true) => {}
                Err(error) => refused(i, error),
                Ok(false) => {
                    // A staleness marker for a series that got histograms in this transaction: the slow way decides.
                    drop(data);
                    let empty = Labels::empty();
                    let Sample { series, st, t, v } = *sample;
                    if let Err(error) = self.append_with_start(Some(series), &empty, st, t, v) {
                        refused(i, error);
                    }
                    self.load_cell(number);
                    data = cell.data.lock();
                }
            }
        }
    }

    /// Takes a float for a series of this partition; `false` when it is none that simply goes in.
    #[inline(always)]
    fn take_float(&mut self, data: &mut Partition, sample: &Sample) -> Result<bool, AppendError> {
        // Field by field: copying the sample as a whole would wait for fields that were just written.
        let (series, t, v) = (sample.series, sample.t, sample.v);
        let st = self.stored_start(sample.st);
        self.check_time(t)?;
        if is_stale(v) && self.buffers.has_histograms() && data.row(series.0 as u8).is_some() {
            return Ok(false);
        }
        let begun = data.begin_float(series.0 as u8, t, v).ok_or(AppendError::UnknownSeries(series))?;
        if begun.map_err(|refusal| refused_at(refusal, t))? {
            self.buffers.unlogged.push(series.0);
        }
        self.buffers.push_float(Sample { series, t, v, st });
        Ok(true)
    }

    /// Appends a zero at the time since when a counter counts, so that its first increase is seen. `t` is the time of the
    /// sample it belongs to.
    ///
    /// # Errors
    /// [`AppendError::StartNotBeforeSample`], and those of [`append`](Self::append): most scrapes of a long-lived counter
    /// get [`AppendError::OutOfOrder`], since its zero is there already.
    pub fn append_start_zero(
        &mut self,
        series: Option<SeriesRef>,
        labels: &Labels,
        t: i64,
        start: i64,
    ) -> Result<SeriesRef, AppendError> {
        let series = self.resolve_for_zero(series, labels, t, start)?;
        self.append(Some(series), labels, start, 0.0)
    }

    /// The series of a zero sample. As in the reference, a fresh head opens at the sample's time, not at the start
    /// timestamp's, also if the zero is then refused, and labels are looked at before the time is.
    fn resolve_for_zero(
        &mut self,
        series: Option<SeriesRef>,
        labels: &Labels,
        t: i64,
        start: i64,
    ) -> Result<SeriesRef, AppendError> {
        let opened = self.open_at(t).map(drop);
        if start >= t {
            return Err(AppendError::StartNotBeforeSample { start, t });
        }
        opened?;
        self.resolve(series, labels, |_, _, series| Ok(SeriesRef(series)))
    }

    fn stored_start(&self, start: i64) -> i64 {
        if self.head.options.start_timestamps { start } else { 0 }
    }

    /// Opens the transaction if this is the first sample of a fresh head.
    fn open_at(&mut self, t: i64) -> Result<&Open, AppendError> {
        if self.open.is_none() {
            if self.head.log.is_none() {
                return Err(AppendError::ReadOnly);
            }
            if self.head.time.below_representable_window(t) {
                return Err(AppendError::OutOfBounds { t, min_valid: i64::MIN });
            }
            self.head.time.init(t);
            self.begin();
        }
        self.open.as_ref().ok_or(AppendError::ReadOnly)
    }

    #[inline]
    fn check_time(&mut self, t: i64) -> Result<(), AppendError> {
        let open = match &self.open {
            Some(open) => open,
            None => self.open_at(t)?,
        };
        let bound = open.min_valid;
        if t < bound {
            return Err(AppendError::OutOfBounds { t, min_valid: bound });
        }
        open.ticket.announce(t);
        // A truncation since this appender began: what it takes now would be lost behind it.
        let bound = self.head.time.min_valid();
        if t < bound {
            return Err(AppendError::OutOfBounds { t, min_valid: bound });
        }
        Ok(())
    }

    /// Gives everything up: as if this appender had never been. Series it made stay until they are collected.
    pub fn rollback(self) {
        drop(self);
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        self.release_pending();
        let mut buffers = std::mem::take(&mut self.buffers);
        buffers.clear();
        buffers.cell = self.cell.take().filter(|cell| !cell.dead.load(Ordering::SeqCst));
        let mut pool = self.head.buffers.lock();
        if pool.len() < 16 {
            pool.push(buffers);
        } else if !buffers.refs.is_empty() {
            drop(pool);
            self.head.refs.lock().take_back(buffers.refs);
        }
    }
}

#[inline]
fn accept_float(data: &Partition, row: usize, t: i64, v: f64) -> Result<(), AppendError> {
    data.accepts_float(row, t, v).map_err(|refusal| refused_at(refusal, t))
}

fn refused_at(refusal: Refusal, t: i64) -> AppendError {
    match refusal {
        Refusal::OutOfOrder => AppendError::OutOfOrder,
        Refusal::Duplicate => AppendError::Duplicate { t },
    }
}
