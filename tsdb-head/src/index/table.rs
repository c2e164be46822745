//! Which series there are: their labels as numbers, by ref and by content.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use hashbrown::HashTable;

use super::hash_bytes;
use super::page::LabelPage;

/// The live series. What the numbers of their labels mean, the dictionaries know.
#[derive(Debug, Default)]
pub(super) struct SeriesTable {
    /// Label bytes by `ref >> 8`.
    pages: Pages,
    /// Refs below 2³² that carry their own hash in their label bytes.
    known: HashTable<u32>,
    /// The others: a foreign log may hold any ref.
    known_wide: HashTable<u64>,
    len: usize,
}

type Pages = HashMap<u64, LabelPage, BuildHasherDefault<PageHasher>>;

/// The keys are refs, which a log may choose as it likes: mixed well, but with less work than the standard hasher does.
#[derive(Debug, Default)]
struct PageHasher(u64);

impl Hasher for PageHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 ^= hash_bytes(bytes);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn ids_in(pages: &Pages, series: u64) -> &[u8] {
    pages.get(&(series >> 8)).and_then(|page| page.get(series as u8)).unwrap_or_default()
}

impl SeriesTable {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// A series' label bytes; nothing for an unknown ref.
    pub(super) fn ids(&self, series: u64) -> &[u8] {
        ids_in(&self.pages, series)
    }

    /// As [`ids`](Self::ids), apart from a series without labels.
    pub(super) fn get(&self, series: u64) -> Option<&[u8]> {
        self.pages.get(&(series >> 8))?.get(series as u8)
    }

    pub(super) fn contains(&self, series: u64) -> bool {
        self.get(series).is_some()
    }

    /// Whether one of these refs, which ascend, is in use.
    pub(super) fn contains_any(&self, series: &[u64]) -> bool {
        series.chunk_by(|a, b| a >> 8 == b >> 8).any(|some| {
            self.pages
                .get(&(some[0] >> 8))
                .is_some_and(|page| some.iter().any(|&series| page.get(series as u8).is_some()))
        })
    }

    /// The series with these label bytes, whose hash is `hash`.
    pub(super) fn find(&self, hash: u64, ids: &[u8]) -> Option<u64> {
        let narrow = self.known.find(hash, |&series| self.ids(series.into()) == ids);
        narrow.map(|&series| series.into()).or_else(|| {
            if self.known_wide.is_empty() {
                return None;
            }
            self.known_wide.find(hash, |&series| self.ids(series) == ids).copied()
        })
    }

    /// Label bytes with these hashes are entered, or looked for, next.
    pub(super) fn expect(&self, hashes: impl Iterator<Item = u64>) {
        super::touch(&self.known, hashes);
    }

    /// Enters a series whose labels nobody has: the bytes are `ids`, their hash is `hash`.
    pub(super) fn enter(&mut self, series: u64, hash: u64, ids: &[u8]) {
        self.pages.entry(series >> 8).or_default().insert(series as u8, ids);
        let Self { known, known_wide, pages, .. } = self;
        match u32::try_from(series) {
            Ok(narrow) => {
                super::make_room(known, |known| {
                    for (&number, page) in &*pages {
                        for (low, ids) in page.iter() {
                            if let Ok(other) = u32::try_from(number << 8 | u64::from(low))
                                && other != narrow
                            {
                                known.insert_unique(hash_bytes(ids), other, |_| 0);
                            }
                        }
                    }
                });
                known.insert_unique(hash, narrow, |&other| hash_bytes(ids_in(pages, other.into())));
            }
            Err(_) => {
                known_wide.insert_unique(hash, series, |&other| hash_bytes(ids_in(pages, other)));
            }
        }
        self.len += 1;
    }

    /// Forgets a series that is there.
    pub(super) fn remove(&mut self, series: u64) {
        let hash = hash_bytes(self.ids(series));
        match u32::try_from(series) {
            Ok(narrow) => {
                if let Ok(entry) = self.known.find_entry(hash, |&other| other == narrow) {
                    entry.remove();
                }
            }
            Err(_) => {
                if let Ok(entry) = self.known_wide.find_entry(hash, |&other| other == series) {
                    entry.remove();
                }
            }
        }
        if let Some(page) = self.pages.get_mut(&(series >> 8))
            && page.remove(series as u8)
        {
            self.pages.remove(&(series >> 8));
        }
        self.len -= 1;
    }

    /// Gives back what removed series held, if that is worth it.
    pub(super) fn compact(&mut self) {
        let Self { known, pages, .. } = self;
        if known.len() * 4 < known.capacity() {
            known.shrink_to_fit(|&other| hash_bytes(ids_in(pages, other.into())));
        }
    }

    /// All refs, ascending.
    pub(super) fn all(&self) -> Vec<u64> {
        let mut numbers: Vec<u64> = self.pages.keys().copied().collect();
        numbers.sort_unstable();
        numbers.into_iter().flat_map(|number| self.pages[&number].refs(number)).collect()
    }

    /// Bytes of heap in use: label bytes, and the tables that find them.
    pub(super) fn bytes(&self) -> (usize, usize) {
        let page_slot = size_of::<(u64, LabelPage)>() + 1;
        let pages = self.pages.values().map(LabelPage::bytes).sum::<usize>();
        let tables = self.known.allocation_size() + self.known_wide.allocation_size();
        (pages + self.pages.capacity() * 8 / 7 * page_slot, tables)
    }
}
