//! Many new series at once: the values of each label name are entered beside those of the others.
//!
//! What one series after the other costs is mostly one dictionary after the other, and they have nothing to do with each
//! other. So the labels are sorted by name into columns, the columns find or make their values' numbers in parallel, then
//! the series are put together from these in order, and the columns note who has which value, in parallel again.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use rayon::prelude::*;
use tsdb_model::labels::LabelPairs;
use tsdb_model::varint;

use super::dictionary::{Dictionary, Room};
use super::{Found, IndexFull, LabelIndex, hash_bytes};

/// Beside a value's number: nobody had it. A value takes two bytes of text at least, but for the empty one, and there are
/// fewer than 2³² bytes of it.
const FRESH: u32 = 1 << 31;

/// Series with their labels taken apart.
#[derive(Default)]
pub(crate) struct NewLabels<'a> {
    series: Vec<(u64, LabelPairs<'a>)>,
    /// Where the labels of each series end, and whether their names are those of the series before it.
    ends: Vec<(u32, bool)>,
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

/// So many labels are taken apart at once, which takes some 20 MiB: a hostile record has one in two bytes.
const MOST_LABELS: usize = 1 << 19;

/// Series that are put together at once.
const ROWS: usize = 256;

/// Labels that are [expected](Dictionary::expect) at once.
const EXPECTED: usize = 64;

/// The labels of some series as numbers.
struct Composed {
    bytes: Vec<u8>,
    rows: Vec<Row>,
}

struct Row {
    /// Bytes.
    len: u32,
    /// One of its values nobody had.
    fresh: bool,
    hash: u64,
}

/// Puts the series from number `row` on together.
fn compose(new: &NewLabels<'_>, row: usize, names: &[u32], values: &[AtomicU32]) -> Composed {
    let ends = &new.ends[row..new.ends.len().min(row + ROWS)];
    let mut from = row.checked_sub(1).map_or(0, |before| new.ends[before].0) as usize;
    let mut composed = Composed { bytes: Vec::with_capacity(ends.len() * 32), rows: Vec::with_capacity(ends.len()) };
    for &(end, _) in ends {
        let start = composed.bytes.len();
        let mut fresh = 0;
        for at in from..end as usize {
            let value = values[at].load(Relaxed);
            fresh |= value & FRESH;
            varint::put_uvarint(&mut composed.bytes, names[at].into());
            varint::put_uvarint(&mut composed.bytes, (value & !FRESH).into());
        }
        from = end as usize;
        let ids = &composed.bytes[start..];
        composed.rows.push(Row { len: ids.len() as u32, fresh: fresh != 0, hash: hash_bytes(ids) });
    }
    composed
}

impl<'a> NewLabels<'a> {
    /// For `series` series, more or less.
    pub(crate) fn with_capacity(series: usize) -> Self {
        let series = series.min(MOST_LABELS / 8);
        Self { series: Vec::with_capacity(series), ends: Vec::with_capacity(series), labels: Vec::new() }
    }

    /// Adds a series behind the others. `false`, and nothing was added, when that would be too much at once.
    pub(crate) fn push(&mut self, series: u64, labels: LabelPairs<'a>) -> bool {
        let start = self.labels.len();
        if start + labels.len() > MOST_LABELS || self.series.len() == MOST_LABELS {
            return false;
        }
        if start == 0 {
            // The others will be like the first, more or less.
            self.labels.reserve_exact((self.series.capacity() * labels.len()).min(MOST_LABELS));
        }
        self.labels.extend(labels.into_iter().map(|(name, value)| Label { name, value, hash: hash_bytes(value) }));
        let (before, new) = self.labels.split_at(start);
        let alike = before.len() >= new.len()
            && self.ends.len().checked_sub(2).map_or(0, |second| self.ends[second].0 as usize) == start - new.len()
            && before[start - new.len()..].iter().zip(new).all(|(a, b)| a.name == b.name);
        self.series.push((series, labels));
        self.ends.push((self.labels.len() as u32, alike && !self.ends.is_empty()));
        true
    }

    pub(crate) fn len(&self) -> usize {
        self.series.len()
    }

    /// How many have the names of the series before them.
    #[cfg(test)]
    pub(super) fn alike(&self) -> usize {
        self.ends.iter().filter(|end| end.1).count()
    }

    /// Keeps the first `len` series.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.series.truncate(len);
        self.ends.truncate(len);
        self.labels.truncate(self.ends.last().map_or(0, |&(end, _)| end as usize));
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
    /// The labels by name, and the number of each label's name.
    fn sort_by_name(&mut self, new: &NewLabels<'_>) -> Result<(Vec<Column>, Vec<u32>), IndexFull> {
        let mut columns: Vec<Column> = Vec::new();
        let mut names: Vec<u32> = Vec::with_capacity(new.labels.len());
        let mut from = 0;
        for (row, &(end, alike)) in new.ends.iter().enumerate() {
            if alike {
                let len = (end - from) as usize;
                names.extend_from_within(names.len() - len..);
            } else {
                for (position, at) in (from..end).enumerate() {
                    let name = self.intern_name(position, new.labels[at as usize].name)?;
                    if columns.len() <= name as usize {
                        columns.resize_with(name as usize + 1, Column::default);
                    }
                    names.push(name);
                }
            }
            for at in from..end {
                let cells = &mut columns[names[at as usize] as usize].cells;
                if row == 0 && cells.capacity() == 0 {
                    // The others will be like the first, more or less; in all no more than there are labels.
                    cells.reserve_exact(new.labels.len() / end as usize);
                }
                cells.push((at, row as u32));
            }
            from = end;
        }
        Ok((columns, names))
    }

    /// As [`get_or_insert`](Self::get_or_insert) for each of `new` in their order. None of the refs may be in use, and they
    /// are [distinct](NewLabels::are_distinct).
    pub(crate) fn insert_all(&mut self, new: &NewLabels<'_>) -> Result<Vec<Found>, IndexFull> {
        let (columns, names) = self.sort_by_name(new)?;
        let values: Vec<AtomicU32> = new.labels.iter().map(|_| AtomicU32::new(0)).collect();
        self.columns(&columns).try_for_each(|(dictionary, column)| {
            for cells in column.cells.chunks(EXPECTED) {
                dictionary.expect(cells.iter().map(|&(at, _)| new.labels[at as usize].hash));
                for &(at, _) in cells {
                    let Label { value, hash, .. } = new.labels[at as usize];
                    let before = dictionary.len();
                    let id = dictionary.intern_hashed(value, hash, Room::Much).map_err(|_| IndexFull)?;
                    let fresh = if dictionary.len() > before { FRESH } else { 0 };
                    values[at as usize].store(id | fresh, Relaxed);
                }
            }
            Ok(())
        })?;
        let composed: Vec<Composed> = (0..new.ends.len())
            .step_by(ROWS)
            .collect::<Vec<_>>()
            .into_par_iter()
            .with_max_len(1)
            .map(|row| compose(new, row, &names, &values))
            .collect();
        let mut found = Vec::with_capacity(new.series.len());
        let mut series = new.series.iter();
        for Composed { bytes, rows } in &composed {
            self.table.expect(rows.iter().map(|row| row.hash));
            let mut rest = &bytes[..];
            for (row, &(series, _)) in rows.iter().zip(series.by_ref()) {
                let ids;
                (ids, rest) = rest.split_at(row.len as usize);
                // A series with a value that nobody had is new.
                let known = if row.fresh { None } else { self.table.find(row.hash, ids) };
                found.push(known.map_or(Found::New, Found::Known));
                if known.is_none() {
                    self.table.enter(series, row.hash, ids);
                }
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

#[cfg(test)]
mod tests {
    use super::*;
    use tsdb_model::Labels;

    /// A log may name each label as it likes: no column has room for series that will not have it.
    #[test]
    fn many_names_take_no_more_room_than_labels() {
        let alike = |n: usize| (0..7).map(|i| (format!("name{i}"), format!("{n}"))).collect::<Vec<_>>();
        let others = |n: usize| (0..300).map(|i| (format!("name{n}_{i}"), "v".to_owned())).collect::<Vec<_>>();
        let cases: [Vec<Labels>; 3] = [
            (0..2_000).map(|n| Labels::from_pairs(alike(n))).collect(),
            (0..300).map(|n| Labels::from_pairs(others(n))).collect(),
            std::iter::once(Labels::from_pairs(others(0)))
                .chain((0..2_000).map(|n| Labels::from_pairs(alike(n))))
                .collect(),
        ];
        for labels in &cases {
            let mut new = NewLabels::with_capacity(labels.len());
            assert!((0..).zip(labels).all(|(series, labels)| new.push(series, labels.pairs())));
            let mut index = LabelIndex::default();
            let (columns, names) = index.sort_by_name(&new).expect("little text");
            assert_eq!(columns.iter().map(|column| column.cells.len()).sum::<usize>(), names.len());
            let room: usize = columns.iter().map(|column| column.cells.capacity()).sum();
            // Grown by doubling from four, or made at once.
            assert!(room <= 5 * new.labels.len(), "{room} for {}", new.labels.len());
        }
    }
}
