//! Many new series at once: the values of each label name are entered beside those of the others.
//!
//! What one series after the other costs is mostly one dictionary after the other, and they have nothing to do with each
//! other. So the labels are sorted by name into columns, the columns find or make their values' numbers in parallel, then
//! the series are put together from these in order, and the columns note who has which value, in parallel again.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use rayon::prelude::*;
use tsdb_model::labels::LabelPairs;
use tsdb_model::varint;

use super::dictionary::Dictionary;
use super::{Found, IndexFull, LabelIndex, hash_bytes};

/// Beside a value's number: nobody had it. A value takes two bytes of text at least, but for the empty one, and there are
/// fewer than 2³² bytes of it.
const FRESH: u32 = 1 << 31;

/// Series with their labels taken apart.
#[derive(Default)]
pub(crate) struct NewLabels<'a> {
    series: Vec<(u64, LabelPairs<'a>)>,
    /// Where the labels of each series end.
    ends: Vec<u32>,
    labels: Vec<Label<'a>>,
}

struct Label<'a> {
    name: &'a [u8],
    value: &'a [u8],
    /// That of `value`.
    hash: u64,
}

/// The labels of one name: their places among all labels, and the series they are of.
#[derive(Debug, Default)]
struct Column {
    cells: Vec<(u32, u32)>,
}

impl<'a> NewLabels<'a> {
    /// Adds a series behind the others.
    pub(crate) fn push(&mut self, series: u64, labels: LabelPairs<'a>) {
        self.labels.extend(labels.into_iter().map(|(name, value)| Label { name, value, hash: hash_bytes(value) }));
        self.series.push((series, labels));
        self.ends.push(self.labels.len() as u32);
    }

    pub(crate) fn series(&self) -> &[(u64, LabelPairs<'a>)] {
        &self.series
    }

    /// Whether no two series have the same ref.
    pub(crate) fn are_distinct(&self) -> bool {
        let mut refs: Vec<u64> = self.series.iter().map(|&(series, _)| series).collect();
        refs.sort_unstable();
        refs.is_sorted_by(|a, b| a < b)
    }
}

impl LabelIndex {
    /// As [`get_or_insert`](Self::get_or_insert) for each of `new` in their order. None of the refs may be in use, and they
    /// are [distinct](NewLabels::are_distinct).
    pub(crate) fn insert_all(&mut self, new: &NewLabels<'_>) -> Result<Vec<Found>, IndexFull> {
        let mut columns: Vec<Column> = Vec::new();
        let mut names = Vec::with_capacity(new.labels.len());
        let mut from = 0;
        for (row, &end) in new.ends.iter().enumerate() {
            for (position, at) in (from..end).enumerate() {
                let name = self.intern_name(position, new.labels[at as usize].name)?;
                if columns.len() <= name as usize {
                    columns.resize_with(name as usize + 1, Column::default);
                }
                columns[name as usize].cells.push((at, row as u32));
                names.push(name);
            }
            from = end;
        }
        let values: Vec<AtomicU32> = new.labels.iter().map(|_| AtomicU32::new(0)).collect();
        self.columns(&columns).try_for_each(|(dictionary, column)| {
            for &(at, _) in &column.cells {
                let Label { value, hash, .. } = new.labels[at as usize];
                let before = dictionary.len();
                let id = dictionary.intern_hashed(value, hash).map_err(|_| IndexFull)?;
                let fresh = if dictionary.len() > before { FRESH } else { 0 };
                values[at as usize].store(id | fresh, Relaxed);
            }
            Ok(())
        })?;
        let mut found = Vec::with_capacity(new.series.len());
        let mut ids = Vec::new();
        let mut from = 0;
        for (&(series, _), &end) in new.series.iter().zip(&new.ends) {
            ids.clear();
            let mut fresh = 0;
            for at in from as usize..end as usize {
                let value = values[at].load(Relaxed);
                fresh |= value & FRESH;
                varint::put_uvarint(&mut ids, names[at].into());
                varint::put_uvarint(&mut ids, (value & !FRESH).into());
            }
            from = end;
            let hash = hash_bytes(&ids);
            // A series with a value that nobody had is new.
            let known = if fresh == 0 { self.find_ids(hash, &ids) } else { None };
            found.push(known.map_or(Found::New, Found::Known));
            if known.is_none() {
                self.enter(series, hash, &ids);
            }
        }
        self.columns(&columns).for_each(|(dictionary, column)| {
            let value = |at: u32| values[at as usize].load(Relaxed) & !FRESH;
            for (n, &(at, row)) in column.cells.iter().enumerate() {
                if found[row as usize] != Found::New {
                    continue;
                }
                // A stored label set may repeat a pair; its list holds a series once.
                let earlier = column.cells[..n].iter().rev().take_while(|cell| cell.1 == row);
                if !earlier.into_iter().any(|&(other, _)| value(other) == value(at)) {
                    dictionary.add_series(value(at), new.series[row as usize].0);
                }
            }
        });
        Ok(found)
    }

    fn columns<'s>(
        &'s mut self,
        columns: &'s [Column],
    ) -> impl IndexedParallelIterator<Item = (&'s mut Dictionary, &'s Column)> {
        self.values.par_iter_mut().zip(columns).with_max_len(1)
    }
}
