//! Appending histograms.

use tsdb_model::histogram::{FloatHistogram, Histogram};
use tsdb_model::{CounterResetHint, Labels, SeriesRef};

use super::batch::AnyHistogram;
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
