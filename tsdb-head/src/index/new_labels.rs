//! Series with their labels taken apart, for who enters [many at once](super::bulk).
//!
//! ```text
//! column  := the values of one label name, in the order of their series
//! cells   := per value that is not the one before it: hash, bytes, how often it follows on itself
//! text    := the values of the cells, one behind the other
//! numbers := per value its number in the dictionary, and whether nobody had it
//! runs    := series that follow one another and have the same names in the same order
//! places  := per run and label: column, number of its value there in the first series of the run
//! ```
//!
//! A series with a name twice, as a stored label set may have it, is for [`get_or_insert`](super::LabelIndex::get_or_insert).

use std::collections::HashMap;

use tsdb_model::labels::LabelPairs;

use super::{Found, hash_bytes};

/// So many labels are in a batch at most, which takes some 20 MiB: a hostile record has one in two bytes.
const MOST_LABELS: usize = 1 << 19;

/// And so many names, each of which has a column.
pub(super) const MOST_NAMES: usize = 1 << 12;

/// A batch of series with their labels taken apart.
#[derive(Debug, Default)]
pub(crate) struct NewLabels {
    pub(super) series: Vec<u64>,
    /// Their refs, ascending.
    pub(super) refs: Vec<u64>,
    /// Their numbers by ref, if that is not their order anyway: appenders make series at the same time and commit them one
    /// after the other, and who has a value is best noted in the order of refs.
    pub(super) by_ref: Vec<u32>,
    pub(super) columns: Vec<Column>,
    pub(super) by_name: HashMap<Box<[u8]>, u32>,
    pub(super) runs: Vec<Run>,
    pub(super) places: Vec<Place>,
    pub(super) labels: usize,
    pub(super) found: Vec<Found>,
}

#[derive(Debug, Default)]
pub(super) struct Column {
    pub(super) name: Box<[u8]>,
    /// The name's number in the index.
    pub(super) id: u32,
    pub(super) cells: Vec<Cell>,
    pub(super) text: Vec<u8>,
    pub(super) parts: Vec<Part>,
    /// Of values.
    pub(super) len: u32,
    pub(super) numbers: Vec<u32>,
    /// One more than the last run that has it.
    pub(super) run: u32,
}

#[derive(Debug)]
pub(super) struct Cell {
    pub(super) hash: u64,
    /// Bytes of the value.
    pub(super) len: u32,
    pub(super) times: u32,
}

/// Series that follow one another and have a value in a column.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) row: u32,
    pub(super) rows: u32,
    /// Number of the first one's value there.
    pub(super) at: u32,
}

#[derive(Debug)]
pub(super) struct Run {
    pub(super) row: u32,
    pub(super) rows: u32,
    pub(super) places: std::ops::Range<usize>,
}

#[derive(Debug)]
pub(super) struct Place {
    pub(super) column: u32,
    pub(super) at: u32,
}

/// Whether two values are the same. Neighbouring ones that are not mostly end differently.
#[inline]
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.last_chunk::<8>() == b.last_chunk() && a == b
}

impl Column {
    /// Adds a value of fewer than 2³² bytes; a longer one is not added.
    #[inline]
    fn push(&mut self, value: &[u8]) -> bool {
        if let Some(last) = self.cells.last_mut()
            && same(&self.text[self.text.len() - last.len as usize..], value)
        {
            last.times += 1;
        } else {
            let Ok(len) = u32::try_from(value.len()) else { return false };
            self.cells.push(Cell { hash: hash_bytes(value), len, times: 1 });
            self.text.extend_from_slice(value);
        }
        self.len += 1;
        true
    }

    /// Takes the last value back.
    fn pop(&mut self) {
        let Some(last) = self.cells.last_mut() else { return };
        self.len -= 1;
        last.times -= 1;
        if last.times == 0 {
            let len = self.text.len() - last.len as usize;
            self.text.truncate(len);
            self.cells.pop();
        }
    }

    fn clear(&mut self) {
        self.cells.clear();
        self.text.clear();
        self.parts.clear();
        self.len = 0;
        self.numbers.clear();
        self.run = 0;
    }
}

impl Part {
    pub(super) fn rows(&self) -> std::ops::Range<u32> {
        self.row..self.row + self.rows
    }
}

impl NewLabels {
    /// Adds a series behind the others. `false`, and nothing was added, when it has a name twice or is too much for the batch.
    pub(crate) fn push(&mut self, series: u64, labels: LabelPairs<'_>) -> bool {
        if self.labels + labels.len() > MOST_LABELS || self.series.len() == MOST_LABELS {
            return false;
        }
        if !self.push_alike(labels) && !self.push_other(labels) {
            return false;
        }
        self.labels += labels.len();
        self.series.push(series);
        true
    }

    /// Adds labels if their names are those of the series before.
    fn push_alike(&mut self, labels: LabelPairs<'_>) -> bool {
        let Self { runs, places, columns, .. } = self;
        let Some(run) = runs.last_mut().filter(|run| run.places.len() == labels.len()) else { return false };
        let places = &places[run.places.clone()];
        let column = |place: &Place| place.column as usize;
        let fits = |(name, value): (&[u8], &[u8]), place: &Place| {
            let column = &mut columns[column(place)];
            *column.name == *name && column.push(value)
        };
        let mut fits = fits;
        let added = labels.into_iter().zip(places).take_while(|(label, place)| fits(*label, place)).count();
        if added < places.len() {
            places[..added].iter().for_each(|place| columns[column(place)].pop());
            return false;
        }
        run.rows += 1;
        true
    }

    /// Begins a run with these labels.
    fn push_other(&mut self, labels: LabelPairs<'_>) -> bool {
        let (start, run) = (self.places.len(), self.runs.len() as u32 + 1);
        for (name, value) in labels {
            let column = match self.by_name.get(name) {
                Some(&column) => column,
                None if self.columns.len() == MOST_NAMES => break,
                None => {
                    let column = self.columns.len() as u32;
                    self.columns.push(Column { name: name.into(), ..Column::default() });
                    self.by_name.insert(name.into(), column);
                    column
                }
            };
            let Column { run: last, len, .. } = &mut self.columns[column as usize];
            if *last == run || u32::try_from(value.len()).is_err() {
                break;
            }
            *last = run;
            self.places.push(Place { column, at: *len });
        }
        let places = &self.places[start..];
        if places.len() < labels.len() {
            places.iter().for_each(|place| self.columns[place.column as usize].run = 0);
            self.places.truncate(start);
            return false;
        }
        for (place, (_, value)) in places.iter().zip(labels) {
            self.columns[place.column as usize].push(value);
        }
        self.end_run();
        let row = self.series.len() as u32;
        self.runs.push(Run { row, rows: 1, places: start..self.places.len() });
        true
    }

    /// Tells the columns of the last run which series are theirs.
    pub(super) fn end_run(&mut self) {
        let Some(Run { row, rows, places }) = self.runs.last() else { return };
        for place in &self.places[places.clone()] {
            let parts = &mut self.columns[place.column as usize].parts;
            match parts.last_mut() {
                Some(last) if last.row + last.rows == *row => last.rows += rows,
                _ => parts.push(Part { row: *row, rows: *rows, at: place.at }),
            }
        }
    }

    /// No more series come.
    pub(crate) fn seal(&mut self) {
        if self.refs.len() == self.series.len() {
            return;
        }
        self.end_run();
        if self.series.is_sorted() {
            self.refs.extend_from_slice(&self.series);
            return;
        }
        // It is made of ascending pieces, one per commit.
        self.by_ref.extend(0..self.series.len() as u32);
        self.by_ref.sort_by_key(|&row| self.series[row as usize]);
        self.refs.extend(self.by_ref.iter().map(|&row| self.series[row as usize]));
    }

    /// Forgets all series, and keeps the room that they took, unless it is for very many names.
    pub(crate) fn clear(&mut self) {
        if self.columns.len() > MOST_NAMES / 8 {
            *self = Self::default();
            return;
        }
        self.series.clear();
        self.refs.clear();
        self.by_ref.clear();
        self.columns.iter_mut().for_each(Column::clear);
        self.runs.clear();
        self.places.clear();
        self.labels = 0;
        self.found.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.series.len()
    }

    /// Bytes that it takes, more or less, but for text.
    pub(crate) fn bytes(&self) -> usize {
        self.series.len() * 64 + self.labels * 40 + self.columns.len() * 400
    }

    /// How many have the names of the series before them.
    #[cfg(test)]
    pub(super) fn alike(&self) -> usize {
        self.runs.iter().map(|run| run.rows as usize - 1).sum()
    }

    pub(crate) fn series(&self) -> &[u64] {
        &self.series
    }

    /// What the index said of each, once they are entered.
    pub(crate) fn found(&self) -> &[Found] {
        &self.found
    }

    /// The highest ref of a sealed batch, 0 without any.
    pub(crate) fn highest(&self) -> u64 {
        self.refs.last().copied().unwrap_or(0)
    }

    /// Whether no two series of a sealed batch have the same ref.
    pub(crate) fn are_distinct(&self) -> bool {
        self.refs.is_sorted_by(|a, b| a < b)
    }

    /// Whether two sealed batches have a ref in common.
    pub(crate) fn have_one_of(&self, other: &Self) -> bool {
        let (mut a, mut b) = (&self.refs[..], &other.refs[..]);
        while let (Some(x), Some(y)) = (a.first(), b.first()) {
            match x.cmp(y) {
                std::cmp::Ordering::Less => a = &a[a.partition_point(|x| x < y)..],
                std::cmp::Ordering::Greater => b = &b[b.partition_point(|y| y < x)..],
                std::cmp::Ordering::Equal => return true,
            }
        }
        false
    }
}
