//! Labels of the live series: stored once, found by content, listed by label.
//!
//! A series' labels are the bytes `uvarint name id, uvarint value id, …` in the order in which they were given; names and
//! the values of each name are numbered by a [`Dictionary`] each. Two series are the same when these bytes are, so a table
//! of bare refs suffices to find one: its hash is recomputed from the bytes when the table grows.

mod bulk;
mod dictionary;
mod matcher;
mod new_labels;
mod page;
mod postings;
mod rank;
mod table;

use std::collections::{HashMap, HashSet};
use std::hint::black_box;

use hashbrown::HashTable;
use rayon::prelude::*;
use tsdb_model::labels::{LabelPairs, Labels, LabelsBuilder};
use tsdb_model::varint;

use crate::stats::IndexBytes;
use dictionary::Dictionary;
pub use matcher::{MatchOp, Matcher};
pub(crate) use new_labels::NewLabels;
pub(crate) use rank::Rank;
use table::SeriesTable;

/// The text of one label's values exceeds 4 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the values of one label name exceed 4 GiB")]
pub struct IndexFull;

pub(crate) fn hash_bytes(bytes: &[u8]) -> u64 {
    rapidhash::v3::rapidhash_v3(bytes)
}

/// The label index. Not synchronised: the head keeps it under one read-write lock.
#[derive(Debug, Default)]
pub(crate) struct LabelIndex {
    names: Dictionary,
    values: Vec<Dictionary>,
    /// Name ids of the series interned last: the next one mostly has the same names.
    shape: Vec<u32>,
    table: SeriesTable,
}

/// What [`LabelIndex::get_or_insert`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Known(u64),
    New,
}

impl LabelIndex {
    /// The series with exactly these labels in this order. `ids` is scratch space.
    pub(crate) fn find(&self, labels: LabelPairs<'_>, ids: &mut Vec<u8>) -> Option<u64> {
        ids.clear();
        for (i, (name, value)) in labels.into_iter().enumerate() {
            let name = self.name_id(i, name)?;
            let value = self.values[name as usize].find(value)?;
            varint::put_uvarint(ids, name.into());
            varint::put_uvarint(ids, value.into());
        }
        self.table.find(hash_bytes(ids), ids)
    }

    fn name_id(&self, position: usize, name: &[u8]) -> Option<u32> {
        match self.shape.get(position) {
            Some(&id) if self.names.get(id) == name => Some(id),
            _ => self.names.find(name),
        }
    }

    /// Finds the series with these labels or makes `series` (a ref that is not in use) the one that has them.
    pub(crate) fn get_or_insert(
        &mut self,
        series: u64,
        labels: LabelPairs<'_>,
        ids: &mut Vec<u8>,
    ) -> Result<Found, IndexFull> {
        ids.clear();
        // A series with a value that nobody had is new.
        let mut new_value = false;
        for (i, (name, value)) in labels.into_iter().enumerate() {
            let name = self.intern_name(i, name)?;
            let values = &mut self.values[name as usize];
            let before = values.len();
            let value = values.intern(value).map_err(|_| IndexFull)?;
            new_value |= values.len() > before;
            varint::put_uvarint(ids, name.into());
            varint::put_uvarint(ids, value.into());
        }
        let hash = hash_bytes(ids);
        if !new_value && let Some(known) = self.table.find(hash, ids) {
            return Ok(Found::Known(known));
        }
        // A stored label set may repeat a pair; its list holds a series once.
        let (mut rest, mut before) = (&ids[..], Before::default());
        while let Some((name, value)) = next_pair(&mut rest) {
            if before.is_new((name, value)) {
                self.values[name as usize].add_series(value, series);
            }
        }
        self.table.enter(series, hash, ids);
        Ok(Found::New)
    }

    /// The number of a name, which becomes known if it was not.
    fn name(&mut self, name: &[u8]) -> Result<u32, IndexFull> {
        let id = self.names.intern(name).map_err(|_| IndexFull)?;
        if self.values.len() <= id as usize {
            self.values.resize_with(id as usize + 1, Dictionary::default);
        }
        Ok(id)
    }

    fn intern_name(&mut self, position: usize, name: &[u8]) -> Result<u32, IndexFull> {
        if let Some(&id) = self.shape.get(position)
            && self.names.get(id) == name
        {
            return Ok(id);
        }
        let id = self.name(name)?;
        self.shape.truncate(position);
        if self.shape.len() == position {
            self.shape.push(id);
        }
        Ok(id)
    }

    pub(crate) fn contains(&self, series: u64) -> bool {
        self.table.contains(series)
    }

    /// A series' labels in stored order; nothing for an unknown ref.
    pub(crate) fn pairs(&self, series: u64) -> impl Iterator<Item = (&[u8], &[u8])> {
        pairs(self.table.ids(series)).map(|(name, value)| (self.names.get(name), self.values[name as usize].get(value)))
    }

    /// A series' labels as an owned set.
    pub(crate) fn labels(&self, series: u64) -> Option<Labels> {
        let ids = self.table.get(series)?;
        let mut packed = Vec::with_capacity(160);
        for (name, value) in pairs(ids) {
            for text in [self.names.get(name), self.values[name as usize].get(value)] {
                varint::put_uvarint(&mut packed, text.len() as u64);
                packed.extend_from_slice(text);
            }
        }
        // The packed form keeps order and repeats of a set that came so out of a log.
        LabelPairs::from_packed(&packed).ok().map(|pairs| pairs.to_labels())
    }

    /// Forgets these series; values and names that only they had go with them.
    pub(crate) fn remove(&mut self, gone: &[u64]) {
        let mut affected: HashMap<(u32, u32), ()> = HashMap::new();
        let set: HashSet<u64> = gone.iter().copied().collect();
        for &series in gone {
            if !self.contains(series) {
                continue;
            }
            affected.extend(pairs(self.table.ids(series)).map(|pair| (pair, ())));
            self.table.remove(series);
        }
        for &(name, value) in affected.keys() {
            let values = &mut self.values[name as usize];
            if values.retain_series(value, |series| !set.contains(&series)) == 0 {
                values.remove(value);
            }
        }
        self.compact();
    }

    fn compact(&mut self) {
        for name in self.names.ids().collect::<Vec<_>>() {
            let values = &mut self.values[name as usize];
            values.compact();
            if values.len() == 0 {
                self.names.remove(name);
                self.shape.clear();
            }
        }
        self.names.compact();
        if self.names.len() == 0 {
            self.shape.clear();
        }
        self.table.compact();
    }

    /// Gives back most of the memory that waits for more series: a replay has brought all that there are, and new ones come
    /// more slowly. `parallel` is for a thread of a pool of ours.
    pub(crate) fn settle(&mut self, parallel: bool) {
        self.names.settle();
        if parallel {
            self.values.par_iter_mut().with_max_len(1).for_each(Dictionary::settle);
        } else {
            self.values.iter_mut().for_each(Dictionary::settle);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// All refs, ascending.
    pub(crate) fn all(&self) -> Vec<u64> {
        self.table.all()
    }

    /// The label names in use, sorted.
    pub(crate) fn label_names(&self) -> Vec<Vec<u8>> {
        let mut names: Vec<_> = self.names.ids().map(|id| self.names.get(id).to_vec()).collect();
        names.sort_unstable();
        names
    }

    /// The values a label name has, sorted.
    pub(crate) fn label_values(&self, name: &[u8]) -> Vec<Vec<u8>> {
        let Some(name) = self.names.find(name) else { return Vec::new() };
        let dict = &self.values[name as usize];
        let mut values: Vec<_> = dict.ids().map(|id| dict.get(id).to_vec()).collect();
        values.sort_unstable();
        values
    }

    /// Bytes of heap in use, counted from capacities.
    pub(crate) fn bytes(&self) -> IndexBytes {
        let mut bytes = IndexBytes::default();
        for dictionary in std::iter::once(&self.names).chain(&self.values) {
            dictionary.count(&mut bytes);
        }
        (bytes.ids, bytes.series_table) = self.table.bytes();
        bytes
    }
}

/// Before an entry is added to a table that is full: a larger one, in which `fill` puts all there are. It goes through them
/// in the order in which their bytes lie in memory, where the table's own growing would jump to the bytes of each.
fn make_room(table: &mut HashTable<u32>, fill: impl FnOnce(&mut HashTable<u32>)) {
    const WORTH_IT: usize = 1 << 10;
    if table.len() < table.capacity() || table.len() < WORTH_IT {
        return;
    }
    // Twice as large, unless much of it is what was removed.
    let mut larger = HashTable::with_capacity(table.len() * 3 / 2);
    fill(&mut larger);
    debug_assert_eq!(larger.len(), table.len());
    *table = larger;
}

/// Has the lines of a table fetched that entries with these hashes are in, or will be: all at once, where entering one after
/// the other waits for the lines of each.
fn touch(table: &HashTable<u32>, hashes: impl Iterator<Item = u64>) {
    // Smaller ones are in a cache that is near.
    const WORTH_IT: usize = 1 << 14;
    if table.len() < WORTH_IT {
        return;
    }
    for hash in hashes {
        black_box(table.find(hash, |&other| black_box(other) == u32::MAX));
    }
}

fn next_pair(ids: &mut &[u8]) -> Option<(u32, u32)> {
    let (name, n) = varint::uvarint(ids).ok()?;
    let (value, m) = varint::uvarint(&ids[n..]).ok()?;
    *ids = &ids[n + m..];
    Some((name as u32, value as u32))
}

/// The pairs of a label set that came before: a hostile one has half a million of them.
#[derive(Default)]
struct Before {
    few: [(u32, u32); 24],
    len: usize,
    many: HashSet<(u32, u32)>,
}

impl Before {
    fn is_new(&mut self, pair: (u32, u32)) -> bool {
        if self.few[..self.len].contains(&pair) {
            return false;
        }
        if let Some(free) = self.few.get_mut(self.len) {
            *free = pair;
            self.len += 1;
            return true;
        }
        self.many.insert(pair)
    }
}

fn pairs(mut ids: &[u8]) -> impl Iterator<Item = (u32, u32)> {
    std::iter::from_fn(move || next_pair(&mut ids))
}

/// Labels as the head keys them: without empty values. `Err` names a label name that occurs twice; an empty set comes
/// back empty.
pub(crate) fn canonical(labels: &Labels) -> Result<std::borrow::Cow<'_, Labels>, Vec<u8>> {
    let mut previous: Option<&[u8]> = None;
    let mut has_empty = false;
    for (name, value) in labels {
        if value.is_empty() {
            has_empty = true;
        } else {
            if previous == Some(name) {
                return Err(name.to_vec());
            }
            previous = Some(name);
        }
    }
    if !has_empty {
        return Ok(std::borrow::Cow::Borrowed(labels));
    }
    let mut builder = LabelsBuilder::new();
    for (name, value) in labels.iter().filter(|(_, value)| !value.is_empty()) {
        builder.set(name, value);
    }
    Ok(std::borrow::Cow::Owned(builder.build()))
}

#[cfg(test)]
mod tests;
