//! From a ref or labels to a series, made if there is none.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tsdb_model::{Labels, SeriesRef};

use super::Appender;
use crate::AppendError;
use crate::index::{Found, canonical};
use crate::partition::Partition;

impl Appender {
    /// Finds or makes the series and calls `then` with its partition (locked), its row and its ref.
    pub(super) fn resolve<T>(
        &mut self,
        series: Option<SeriesRef>,
        labels: &Labels,
        mut then: impl FnMut(&mut Partition, usize, u64) -> Result<T, AppendError>,
    ) -> Result<T, AppendError> {
        if let Some(series) = series
            && let Some(result) = self.with_series(series.0, &mut then)
        {
            return result;
        }
        let labels = match canonical(labels) {
            Err(name) => return Err(AppendError::DuplicateLabelName { name }),
            Ok(labels) if labels.is_empty() => {
                return Err(match series {
                    Some(series) if series.0 != 0 => AppendError::UnknownSeries(series),
                    _ => AppendError::EmptyLabels,
                });
            }
            Ok(labels) => labels,
        };
        let head = Arc::clone(&self.head);
        let mut ids = std::mem::take(&mut self.buffers.ids);
        // Collection takes the index for writing: while it is held, a series that was found stays.
        let index = head.index.read();
        if let Some(known) = index.find(labels.pairs(), &mut ids)
            && let Some(result) = self.with_series(known, &mut then)
        {
            self.buffers.ids = ids;
            return result;
        }
        drop(index);
        let mut index = head.index.write();
        let fresh = head.last_ref.load(Ordering::SeqCst).checked_add(1).ok_or(AppendError::NoRefLeft)?;
        let found = index.get_or_insert(fresh, labels.pairs(), &mut ids);
        self.buffers.ids = ids;
        let series = match found? {
            Found::Known(series) => series,
            Found::New => {
                head.last_ref.store(fresh, Ordering::SeqCst);
                self.create(fresh);
                fresh
            }
        };
        self.with_series(series, &mut then).unwrap_or(Err(AppendError::UnknownSeries(SeriesRef(series))))
    }

    /// Puts a series without samples into its partition; the index is held for writing.
    fn create(&mut self, series: u64) {
        let cell = Arc::clone(self.head.directory.write().get_or_insert(series >> 8));
        self.head.unlogged.lock().insert(series);
        let mut data = cell.data.lock();
        let row = data.insert(series as u8);
        data.mark_unlogged(row);
        // Until this appender has finished, the series is not collected.
        data.pend(row);
        drop(data);
        self.buffers.created.push(series);
        self.cell = Some(cell);
    }

    /// Calls `then` if the series is alive.
    fn with_series<T>(
        &mut self,
        series: u64,
        then: &mut impl FnMut(&mut Partition, usize, u64) -> Result<T, AppendError>,
    ) -> Option<Result<T, AppendError>> {
        if !self.load_cell(series >> 8) {
            return None;
        }
        let mut data = self.cell.as_ref()?.data.lock();
        let row = data.row(series as u8)?;
        let result = then(&mut data, row, series);
        if result.is_ok() && data.is_unlogged(row) {
            self.buffers.unlogged.push(series);
        }
        Some(result)
    }

    /// Makes `self.cell` the partition with this number; `false` if there is none.
    #[inline]
    pub(super) fn load_cell(&mut self, number: u64) -> bool {
        match &self.cell {
            Some(cell) if cell.number == number && !cell.dead.load(Ordering::SeqCst) => true,
            _ => {
                self.cell = self.head.cell(number);
                self.cell.is_some()
            }
        }
    }
}
