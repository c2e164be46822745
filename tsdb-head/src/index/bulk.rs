//! Many new series at once: what has nothing to do with each other happens beside each other.
//!
//! What one series after the other costs is mostly one dictionary after the other. So the labels of a batch are sorted by
//! name into columns, whose values are numbered in parallel; from these numbers the series are put together and entered, in
//! order; then the columns note who has which value. Three batches are [under way](LabelIndex::advance) at a time, each at
//! another of these stages.

use rayon::prelude::*;
use tsdb_model::varint;

use super::dictionary::{Dictionary, Room};
use super::new_labels::{Cell, Column, NewLabels};
use super::table::SeriesTable;
use super::{Found, IndexFull, LabelIndex, hash_bytes};
use crate::sync::Mutex;

/// Beside a value's number: nobody had it. A value takes two bytes of text at least, but for the empty one, and there are
/// fewer than 2³² bytes of it.
const FRESH: u32 = 1 << 31;

/// Series that are put together at once.
const ROWS: usize = 128;

/// Labels that are [expected](Dictionary::expect) at once.
const EXPECTED: usize = 64;

impl Column {
    /// Finds or makes the values' numbers.
    fn number(&mut self, dictionary: &mut Dictionary, room: Room) -> Result<(), IndexFull> {
        let Self { cells, text, numbers, len, .. } = self;
        numbers.clear();
        numbers.reserve_exact(*len as usize);
        let mut rest = &text[..];
        for cells in cells.chunks(EXPECTED) {
            dictionary.expect(cells.iter().map(|cell| cell.hash));
            for &Cell { hash, len, times } in cells {
                let value;
                (value, rest) = rest.split_at(len as usize);
                let before = dictionary.len();
                let id = dictionary.intern_hashed(value, hash, room).map_err(|_| IndexFull)?;
                numbers.push(if dictionary.len() > before { id | FRESH } else { id });
                numbers.extend(std::iter::repeat_n(id, times as usize - 1));
            }
        }
        Ok(())
    }

    /// Notes which of a batch's series have the values: those that are new.
    fn post(&self, dictionary: &mut Dictionary, new: &NewLabels) {
        let mut note = |row: usize, number: u32| {
            if new.found[row] == Found::New {
                dictionary.add_series(number & !FRESH, new.series[row]);
            }
        };
        if !new.by_ref.is_empty() && self.len as usize > new.by_ref.len() / 8 {
            let mut part = &self.parts[0];
            for &row in &new.by_ref {
                if !part.rows().contains(&row) {
                    let at = self.parts.partition_point(|part| part.row <= row);
                    let Some(before) = at.checked_sub(1).map(|at| &self.parts[at]) else { continue };
                    if !before.rows().contains(&row) {
                        continue;
                    }
                    part = before;
                }
                note(row as usize, self.numbers[(part.at + row - part.row) as usize]);
            }
            return;
        }
        for part in &self.parts {
            part.rows().zip(&self.numbers[part.at as usize..]).for_each(|(row, &number)| note(row as usize, number));
        }
    }
}

impl NewLabels {
    /// Enters the series whose labels nobody has: under their refs, or under those that `fresh` gives them.
    fn enter(&mut self, table: &mut SeriesTable, mut fresh: Option<&mut dyn FnMut() -> u64>) {
        let Self { series, columns, runs, places, found, .. } = self;
        let mut block = Block::default();
        found.reserve_exact(series.len());
        for run in &*runs {
            let places: Vec<(u32, &[u32])> = places[run.places.clone()]
                .iter()
                .map(|place| {
                    let column = &columns[place.column as usize];
                    (column.id, &column.numbers[place.at as usize..][..run.rows as usize])
                })
                .collect();
            for row in 0..run.rows as usize {
                block.push(places.iter().map(|&(name, numbers)| (name, numbers[row])));
                if block.rows.len() == ROWS {
                    block.enter(series, table, found, &mut fresh);
                }
            }
        }
        block.enter(series, table, found, &mut fresh);
    }
}

/// The labels of some series as numbers.
#[derive(Default)]
struct Block {
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

impl Block {
    /// Puts a series together.
    #[inline]
    fn push(&mut self, labels: impl Iterator<Item = (u32, u32)>) {
        let start = self.bytes.len();
        let mut fresh = 0;
        for (name, value) in labels {
            fresh |= value & FRESH;
            varint::put_uvarint(&mut self.bytes, name.into());
            varint::put_uvarint(&mut self.bytes, (value & !FRESH).into());
        }
        let ids = &self.bytes[start..];
        self.rows.push(Row { len: ids.len() as u32, fresh: fresh != 0, hash: hash_bytes(ids) });
    }

    /// Enters what was put together, the series behind those that were found before.
    fn enter(
        &mut self,
        series: &mut [u64],
        table: &mut SeriesTable,
        found: &mut Vec<Found>,
        fresh: &mut Option<&mut dyn FnMut() -> u64>,
    ) {
        table.expect(self.rows.iter().map(|row| row.hash));
        let mut rest = &self.bytes[..];
        let series = &mut series[found.len()..];
        for (row, series) in self.rows.iter().zip(series) {
            let ids;
            (ids, rest) = rest.split_at(row.len as usize);
            // A series with a value that nobody had is new.
            let known = if row.fresh { None } else { table.find(row.hash, ids) };
            found.push(known.map_or(Found::New, Found::Known));
            if known.is_none() {
                if let Some(fresh) = fresh {
                    *series = fresh();
                }
                table.enter(*series, row.hash, ids);
            }
        }
        self.bytes.clear();
        self.rows.clear();
    }
}

/// What can be done beside all other tasks of a stage.
enum Task<'t> {
    Enter(&'t mut SeriesTable, &'t mut NewLabels),
    Column {
        dictionary: &'t mut Dictionary,
        /// Its values are numbered, behind noting who has which of those of the other.
        coming: Option<&'t mut Column>,
        posted: Option<(&'t Column, &'t NewLabels)>,
    },
}

impl Task<'_> {
    /// How long it takes, compared with the others.
    fn work(&self) -> usize {
        match self {
            Self::Enter(_, new) => new.len() * 2,
            Self::Column { coming, posted, .. } => {
                let number = coming.as_ref().map_or(0, |column| column.cells.len() + column.text.len() / 32);
                number + posted.map_or(0, |(column, _)| column.cells.len() / 8)
            }
        }
    }

    fn run(self) -> Result<(), IndexFull> {
        match self {
            Self::Enter(table, new) => new.enter(table, None),
            Self::Column { dictionary, coming, posted } => {
                if let Some((column, new)) = posted {
                    column.post(dictionary, new);
                }
                if let Some(column) = coming {
                    column.number(dictionary, Room::Much)?;
                }
            }
        }
        Ok(())
    }
}

impl LabelIndex {
    /// Whether one of a sealed batch's refs is in use.
    pub(crate) fn contains_any(&self, new: &NewLabels) -> bool {
        self.table.contains_any(&new.refs)
    }

    /// Takes three batches, which are sealed and come one after the other, a stage further: the values of `coming` are numbered,
    /// the series of `numbered` are entered, and it is noted who of `entered` has which label. In the end it is as if
    /// [`get_or_insert`](Self::get_or_insert) had been called for each series in order.
    ///
    /// None of a batch's refs may be in use when it comes, nor twice in it or in the batch before it.
    pub(crate) fn advance(
        &mut self,
        coming: Option<&mut NewLabels>,
        numbered: Option<&mut NewLabels>,
        entered: Option<&NewLabels>,
    ) -> Result<(), IndexFull> {
        let mut coming = coming;
        for column in coming.iter_mut().flat_map(|new| new.columns.iter_mut()).filter(|column| column.len > 0) {
            column.id = self.name(&column.name)?;
        }
        let Self { values, table, .. } = self;
        let mut columns: Vec<(Option<&mut Column>, Option<&Column>)> = Vec::new();
        columns.resize_with(values.len(), Default::default);
        for column in coming.into_iter().flat_map(|new| new.columns.iter_mut()).filter(|column| column.len > 0) {
            let id = column.id as usize;
            columns[id].0 = Some(column);
        }
        for column in entered.iter().flat_map(|new| &new.columns).filter(|column| column.len > 0) {
            columns[column.id as usize].1 = Some(column);
        }
        let mut tasks: Vec<Task<'_>> = Vec::new();
        if let Some(new) = numbered {
            tasks.push(Task::Enter(table, new));
        }
        for (dictionary, (coming, posted)) in values.iter_mut().zip(columns) {
            if coming.is_some() || posted.is_some() {
                tasks.push(Task::Column { dictionary, coming, posted: posted.zip(entered) });
            }
        }
        // The longest ones first: then the threads end together, more or less.
        tasks.sort_by_cached_key(|task| std::cmp::Reverse(task.work()));
        let tasks = Mutex::new(tasks.into_iter());
        let next = || tasks.lock().next();
        let work = |_| std::iter::from_fn(next).try_for_each(Task::run);
        (0..rayon::current_num_threads()).into_par_iter().with_max_len(1).try_for_each(work)
    }

    /// Takes a batch that comes alone and is not sealed: what is new in it gets refs from `fresh`, whatever ref it has.
    pub(crate) fn insert_fresh(
        &mut self,
        new: &mut NewLabels,
        mut fresh: impl FnMut() -> u64,
    ) -> Result<(), IndexFull> {
        new.end_run();
        for column in new.columns.iter_mut().filter(|column| column.len > 0) {
            column.id = self.name(&column.name)?;
            column.number(&mut self.values[column.id as usize], Room::Little)?;
        }
        new.enter(&mut self.table, Some(&mut fresh));
        for column in new.columns.iter().filter(|column| column.len > 0) {
            column.post(&mut self.values[column.id as usize], new);
        }
        Ok(())
    }

    /// A batch that comes alone.
    #[cfg(test)]
    pub(super) fn insert_all(&mut self, new: &mut NewLabels) -> Result<(), IndexFull> {
        new.seal();
        self.advance(Some(new), None, None)?;
        self.advance(None, Some(new), None)?;
        self.advance(None, None, Some(new))
    }
}

#[cfg(test)]
mod tests {
    use super::super::new_labels::{MOST_NAMES, Part};
    use super::*;
    use tsdb_model::Labels;

    /// A log may name each label as it likes: no column has room for series that will not have it.
    #[test]
    fn many_names_take_no_more_room_than_labels() {
        let alike = |n: usize| (0..7).map(|i| (format!("name{i}"), format!("{n}"))).collect::<Vec<_>>();
        let others = |n: usize| (0..300).map(|i| (format!("name{n}_{i}"), "v".to_owned())).collect::<Vec<_>>();
        let cases: [(Vec<Labels>, usize); 3] = [
            ((0..2_000).map(|n| Labels::from_pairs(alike(n))).collect(), 2_000),
            ((0..300).map(|n| Labels::from_pairs(others(n))).collect(), MOST_NAMES / 300),
            (
                std::iter::once(Labels::from_pairs(others(0)))
                    .chain((0..2_000).map(|n| Labels::from_pairs(alike(n))))
                    .collect(),
                2_001,
            ),
        ];
        for (labels, fit) in &cases {
            let mut new = NewLabels::default();
            let taken = (0..).zip(labels).take_while(|(series, labels)| new.push(*series, labels.pairs())).count();
            assert_eq!(taken, *fit);
            let mut index = LabelIndex::default();
            index.insert_all(&mut new).expect("little text");
            assert_eq!(new.columns.iter().map(|column| column.len as usize).sum::<usize>(), new.labels);
            let room: usize = new
                .columns
                .iter()
                .map(|column| {
                    column.cells.capacity() * size_of::<Cell>()
                        + column.parts.capacity() * size_of::<Part>()
                        + column.text.capacity()
                        + column.numbers.capacity() * 4
                })
                .sum();
            // Grown by doubling from four, or made at once.
            assert!(room <= 160 * new.labels, "{room} for {}", new.labels);
        }
    }
}
