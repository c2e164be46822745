//! One label name's values, each stored once and known by a small number.
//!
//! ```text
//! text    := per value: uvarint length, bytes        (one growing buffer)
//! symbols := per id: offset into text (u32), postings head (u32)
//! table   := open addressing, a bare u32 id per entry; the hash is recomputed from the text when the table grows
//! ```
//!
//! Ids of values that no series has any more are given out again, and the text is rewritten once more than half of it
//! belongs to nobody.

use hashbrown::HashTable;
use tsdb_model::varint;

use super::hash_bytes;
use super::postings::{PostingLists, PostingsHead};
use crate::stats::IndexBytes;

/// The text of one label name has a 32-bit offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TextFull;

#[derive(Debug, Default)]
pub(crate) struct Dictionary {
    text: Vec<u8>,
    symbols: Vec<Symbol>,
    table: HashTable<u32>,
    free: Vec<u32>,
    lists: PostingLists,
    /// Bytes of `text` that belong to freed symbols.
    dead: usize,
    /// The id found last: scrapes repeat most of their labels from one series to the next.
    last: Option<u32>,
}

/// How much room there is to be for values that are still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// An eighth of what there is: doubling would leave a third of the memory unused on average.
    Little,
    /// As much as there is: many come now, and the rest is [given back](Dictionary::settle) afterwards.
    Much,
}

impl Room {
    fn beside(self, len: usize) -> usize {
        match self {
            Self::Little => len / 8,
            Self::Much => len,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Symbol {
    offset: u32,
    postings: PostingsHead,
}

const FREED: u32 = u32::MAX;

impl Dictionary {
    pub(crate) fn find(&self, value: &[u8]) -> Option<u32> {
        if let Some(id) = self.last
            && self.get(id) == value
        {
            return Some(id);
        }
        self.table.find(hash_bytes(value), |&id| self.get(id) == value).copied()
    }

    /// The id of `value`, which becomes known if it was not.
    pub(crate) fn intern(&mut self, value: &[u8]) -> Result<u32, TextFull> {
        if let Some(id) = self.last
            && self.get(id) == value
        {
            return Ok(id);
        }
        self.intern_hashed(value, hash_bytes(value), Room::Little)
    }

    /// Values with these hashes are interned next.
    pub(crate) fn expect(&self, hashes: impl Iterator<Item = u64>) {
        super::touch(&self.table, hashes);
    }

    /// As [`Dictionary::intern`] for who knows `hash`, that of `value`, and that this is not the value found last.
    pub(crate) fn intern_hashed(&mut self, value: &[u8], hash: u64, room: Room) -> Result<u32, TextFull> {
        if let Some(&id) = self.table.find(hash, |&id| self.get(id) == value) {
            self.last = Some(id);
            return Ok(id);
        }
        let offset = u32::try_from(self.text.len()).ok().filter(|&o| o != FREED).ok_or(TextFull)?;
        if self.text.capacity() - self.text.len() < value.len() + 5 {
            self.text.reserve_exact(room.beside(self.text.len()).max(value.len() + 256));
        }
        varint::put_uvarint(&mut self.text, value.len() as u64);
        self.text.extend_from_slice(value);
        let symbol = Symbol { offset, postings: PostingsHead::EMPTY };
        let new = match self.free.pop() {
            Some(id) => {
                self.symbols[id as usize] = symbol;
                id
            }
            None => {
                if self.symbols.len() == self.symbols.capacity() {
                    self.symbols.reserve_exact(room.beside(self.symbols.len()).max(16));
                }
                self.symbols.push(symbol);
                (self.symbols.len() - 1) as u32
            }
        };
        super::make_room(&mut self.table, |table| {
            for (id, symbol) in (0..).zip(&self.symbols) {
                if symbol.offset != FREED && id != new {
                    table.insert_unique(hash_bytes(text_at(&self.text, symbol.offset)), id, |_| 0);
                }
            }
        });
        let Self { table, symbols, text, .. } = self;
        table.insert_unique(hash, new, |&other| hash_bytes(text_at(text, symbols[other as usize].offset)));
        self.last = Some(new);
        Ok(new)
    }

    /// The bytes of a value; the id must be in use.
    pub(crate) fn get(&self, id: u32) -> &[u8] {
        text_at(&self.text, self.symbols[id as usize].offset)
    }

    /// Notes that a series has this value.
    #[inline]
    pub(crate) fn add_series(&mut self, id: u32, series: u64) {
        self.lists.add(&mut self.symbols[id as usize].postings, series);
    }

    /// Drops the series that `keep` does not want from those that have this value; returns how many are left.
    pub(crate) fn retain_series(&mut self, id: u32, keep: impl FnMut(u64) -> bool) -> usize {
        let head = &mut self.symbols[id as usize].postings;
        self.lists.retain(head, keep);
        self.lists.len(*head)
    }

    /// Calls `each` with the series that have this value, ascending.
    pub(crate) fn for_each_series(&self, id: u32, each: impl FnMut(u64)) {
        self.lists.for_each(self.symbols[id as usize].postings, each);
    }

    /// Forgets a value that no series has any more.
    pub(crate) fn remove(&mut self, id: u32) {
        let hash = hash_bytes(self.get(id));
        if let Ok(entry) = self.table.find_entry(hash, |&other| other == id) {
            entry.remove();
        }
        let len = self.get(id).len();
        self.dead += len + varint::uvarint_len(len as u64);
        self.symbols[id as usize].offset = FREED;
        self.free.push(id);
        self.last = None;
    }

    /// Gives back what removed values held, if that is worth it.
    pub(crate) fn compact(&mut self) {
        if self.table.is_empty() {
            *self = Self::default();
            return;
        }
        if self.dead * 2 > self.text.len() {
            let mut text = Vec::with_capacity(self.text.len() - self.dead);
            for symbol in self.symbols.iter_mut().filter(|symbol| symbol.offset != FREED) {
                let value = text_at(&self.text, symbol.offset);
                symbol.offset = text.len() as u32;
                varint::put_uvarint(&mut text, value.len() as u64);
                text.extend_from_slice(value);
            }
            self.text = text;
            self.dead = 0;
        }
        let Self { table, symbols, text, .. } = self;
        if table.len() * 4 < table.capacity() {
            table.shrink_to_fit(|&id| hash_bytes(text_at(text, symbols[id as usize].offset)));
        }
    }

    /// Gives back nearly all memory that waits for more values.
    pub(crate) fn settle(&mut self) {
        self.text.shrink_to(self.text.len() + self.text.len() / 64);
        self.symbols.shrink_to(self.symbols.len() + self.symbols.len() / 64);
        self.lists.settle();
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// The ids in use, in no particular order.
    pub(crate) fn ids(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.symbols.len() as u32).filter(|&id| self.symbols[id as usize].offset != FREED)
    }

    /// Adds what this dictionary holds to `bytes`.
    pub(crate) fn count(&self, bytes: &mut IndexBytes) {
        bytes.text += self.text.capacity();
        bytes.symbols += self.symbols.capacity() * size_of::<Symbol>() + self.free.capacity() * 4;
        bytes.symbol_tables += self.table.allocation_size();
        bytes.postings += self.lists.bytes();
    }
}

fn text_at(text: &[u8], offset: u32) -> &[u8] {
    let at = &text[offset as usize..];
    // Written by `intern` alone, so it decodes.
    let (len, n) = varint::uvarint(at).unwrap_or_default();
    &at[n..n + len as usize]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn ids_are_stable_and_reused() {
        let mut dict = Dictionary::default();
        let mut ids = HashMap::new();
        for i in 0..5_000u32 {
            ids.insert(i, dict.intern(format!("value-{i}").as_bytes()).unwrap());
        }
        for i in 0..5_000u32 {
            assert_eq!(dict.find(format!("value-{i}").as_bytes()), Some(ids[&i]));
        }
        for i in 0..4_000 {
            dict.remove(ids[&i]);
        }
        let bytes = |dict: &Dictionary| {
            let mut bytes = IndexBytes::default();
            dict.count(&mut bytes);
            bytes.bytes()
        };
        let before = bytes(&dict);
        dict.compact();
        assert!(bytes(&dict) < before * 3 / 4);
        assert_eq!(dict.len(), 1_000);
        for i in 4_000..5_000 {
            assert_eq!(dict.get(ids[&i]), format!("value-{i}").as_bytes());
        }
        assert_eq!(dict.find(b"value-3"), None);
        assert!(dict.intern(b"new").unwrap() < 5_000);
    }
}
