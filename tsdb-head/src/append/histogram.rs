//! Appending histograms.

use tsdb_model::{Labels, SeriesRef};

use super::batch::AnyHistogram;
use super::{Appender, refused};
use crate::AppendError;

impl Appender {
    pub(super) fn append_any_histogram(
        &mut self,
        series: Option<SeriesRef>,
        labels: &Labels,
        start: i64,
        t: i64,
        histogram: AnyHistogram,
    ) -> Result<SeriesRef, AppendError> {
        self.check_time(t)?;
        let series = self.resolve(series, labels, |data, row, series| {
            data.accepts_histogram(row, t, &histogram).map_err(|refusal| refused(refusal, t))?;
            data.pend(row);
            Ok(series)
        })?;
        let st = self.stored_start(start);
        self.buffers.push_histogram(SeriesRef(series), st, t, histogram);
        Ok(SeriesRef(series))
    }
}
