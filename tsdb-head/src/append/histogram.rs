//! Appending histograms.

use tsdb_model::histogram::{FloatHistogram, Histogram, HistogramError, NativeHistogram};
use tsdb_model::{CounterResetHint, Labels, SeriesRef};
use wal_format::{FloatHistogramSample, HistogramSample, NativeSample};

use super::batch::{AnyHistogram, Staged};
use super::{Appender, refused_at};
use crate::AppendError;

impl Appender {
    /// Appends a histogram with integer counts, see [`append_with_start`](Self::append_with_start).
    ///
    /// # Errors
    /// See [`AppendError`].
    pub fn append_histogram(
        &mut self,
        series: Option<SeriesRef>,
        labels: &Labels,
        start: i64,
        t: i64,
        histogram: Histogram,
    ) -> Result<SeriesRef, AppendError> {
        self.check_time(t)?;
        histogram.validate()?;
        self.append_any_histogram(series, labels, start, t, AnyHistogram::Int(histogram))
    }

    /// Appends a histogram with float counts, see [`append_with_start`](Self::append_with_start).
    ///
    /// # Errors
    /// See [`AppendError`].
    pub fn append_float_histogram(
        &mut self,
        series: Option<SeriesRef>,
        labels: &Labels,
        start: i64,
        t: i64,
        histogram: FloatHistogram,
    ) -> Result<SeriesRef, AppendError> {
        self.check_time(t)?;
        histogram.validate()?;
        self.append_any_histogram(series, labels, start, t, AnyHistogram::Float(histogram))
    }

    /// As [`append_many`](Self::append_many) for histograms with integer counts, which stay the caller's: their memory may
    /// take those of the next scrape.
    pub fn append_many_histograms(&mut self, samples: &[HistogramSample<'_>], refused: impl FnMut(usize, AppendError)) {
        self.append_many_native(samples, Histogram::validate, refused);
    }

    /// As [`append_many_histograms`](Self::append_many_histograms) with float counts.
    pub fn append_many_float_histograms(
        &mut self,
        samples: &[FloatHistogramSample<'_>],
        refused: impl FnMut(usize, AppendError),
    ) {
        self.append_many_native(samples, FloatHistogram::validate, refused);
    }

    fn append_many_native<B: Staged>(
        &mut self,
        samples: &[NativeSample<'_, B>],
        validate: impl Fn(&NativeHistogram<B>) -> Result<(), HistogramError>,
        mut refused: impl FnMut(usize, AppendError),
    ) {
        let mut i = 0;
        for run in samples.chunk_by(|a, b| a.series.0 >> 8 == b.series.0 >> 8) {
            if !self.append_run_together(run, &validate) {
                // Somewhere in it something is refused or unusual: one by one.
                for (n, sample) in run.iter().enumerate() {
                    if let Err(error) = self.append_one(sample, &validate) {
                        refused(i + n, error);
                    }
                }
            }
            i += run.len();
        }
    }

    fn append_one<B: Staged>(
        &mut self,
        sample: &NativeSample<'_, B>,
        validate: impl Fn(&NativeHistogram<B>) -> Result<(), HistogramError>,
    ) -> Result<(), AppendError> {
        let NativeSample { series, t, st, histogram } = *sample;
        self.check_time(t)?;
        validate(histogram)?;
        let histogram = B::any(histogram.clone());
        match self.append_any_histogram(Some(series), &Labels::empty(), st, t, histogram) {
            Err(AppendError::EmptyLabels) => Err(AppendError::UnknownSeries(series)),
            result => result.map(drop),
        }
    }

    /// Takes histograms of one partition if nothing about any of them needs a closer look; `false`, and nothing changed,
    /// otherwise.
    fn append_run_together<B: Staged>(
        &mut self,
        run: &[NativeSample<'_, B>],
        validate: impl Fn(&NativeHistogram<B>) -> Result<(), HistogramError>,
    ) -> bool {
        let Some(first) = run.first() else { return true };
        if !self.buffers.take_together(run)
            || run.iter().any(|sample| validate(sample.histogram).is_err() || self.check_time(sample.t).is_err())
            || !self.load_cell(first.series.0 >> 8)
        {
            return false;
        }
        let Some(cell) = &self.cell else { return false };
        let mut data = cell.data.lock();
        // All rows are asked for at once, where one after the other would be waited for.
        let mut later = true;
        for sample in run {
            later &= data.row(sample.series.0 as u8).is_some_and(|row| sample.t > data.max_time(row));
        }
        if !later {
            return false;
        }
        for sample in run {
            let Some(row) = data.row(sample.series.0 as u8) else { continue };
            data.pend(row);
            if data.is_unlogged(row) {
                self.buffers.unlogged.push(sample.series.0);
            }
        }
        drop(data);
        self.buffers.copy_together(run, self.head.options.start_timestamps);
        true
    }

    /// As [`append_start_zero`](Self::append_start_zero) for the series of `histogram`, the sample of time `t` that the
    /// start timestamp belongs to: an empty histogram of its schema and bounds.
    ///
    /// # Errors
    /// [`AppendError::StartNotBeforeSample`], [`AppendError::OutOfOrderStart`], and those of
    /// [`append_histogram`](Self::append_histogram).
    pub fn append_histogram_start_zero(
        &mut self,
        series: Option<SeriesRef>,
        labels: &Labels,
        t: i64,
        start: i64,
        histogram: &Histogram,
    ) -> Result<SeriesRef, AppendError> {
        let zero = Histogram {
            counter_reset_hint: CounterResetHint::CounterReset,
            schema: histogram.schema,
            zero_threshold: histogram.zero_threshold,
            custom_values: histogram.custom_values.clone(),
            ..Histogram::default()
        };
        self.append_zero(series, labels, t, start, AnyHistogram::Int(zero))
    }

    /// As [`append_histogram_start_zero`](Self::append_histogram_start_zero) for float histograms.
    ///
    /// # Errors
    /// As there.
    pub fn append_float_histogram_start_zero(
        &mut self,
        series: Option<SeriesRef>,
        labels: &Labels,
        t: i64,
        start: i64,
        histogram: &FloatHistogram,
    ) -> Result<SeriesRef, AppendError> {
        let zero = FloatHistogram {
            counter_reset_hint: CounterResetHint::CounterReset,
            schema: histogram.schema,
            zero_threshold: histogram.zero_threshold,
            custom_values: histogram.custom_values.clone(),
            ..FloatHistogram::default()
        };
        self.append_zero(series, labels, t, start, AnyHistogram::Float(zero))
    }

    fn append_zero(
        &mut self,
        series: Option<SeriesRef>,
        labels: &Labels,
        t: i64,
        start: i64,
        zero: AnyHistogram,
    ) -> Result<SeriesRef, AppendError> {
        let series = self.resolve_for_zero(series, labels, t, start)?;
        self.check_time(start)?;
        self.append_any_histogram(Some(series), labels, 0, start, zero).map_err(|error| match error {
            AppendError::OutOfOrder => AppendError::OutOfOrderStart,
            other => other,
        })
    }

    /// The time is checked already.
    pub(super) fn append_any_histogram(
        &mut self,
        series: Option<SeriesRef>,
        labels: &Labels,
        start: i64,
        t: i64,
        histogram: AnyHistogram,
    ) -> Result<SeriesRef, AppendError> {
        let series = self.resolve(series, labels, |data, row, series| {
            data.accepts_histogram(row, t, &histogram).map_err(|refusal| refused_at(refusal, t))?;
            data.pend(row);
            Ok(series)
        })?;
        let st = self.stored_start(start);
        self.buffers.push_histogram(SeriesRef(series), st, t, histogram);
        Ok(SeriesRef(series))
    }
}
