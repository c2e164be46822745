//! The label bytes of up to 256 series whose refs differ in the low byte only.
//!
//! ```text
//! offsets := per live ref, in ref order: u32 offset into bytes
//! bytes   := per series, in order of arrival: uvarint length, label ids
//! ```

use tsdb_model::varint;

use super::Rank;

#[derive(Debug, Default)]
pub(crate) struct LabelPage {
    rank: Rank,
    offsets: Vec<u32>,
    bytes: Vec<u8>,
    dead: usize,
}

impl LabelPage {
    pub(crate) fn insert(&mut self, low: u8, ids: &[u8]) {
        let row = self.rank.insert(low);
        if self.offsets.capacity() == self.offsets.len() {
            self.offsets.reserve_exact(64);
        }
        self.offsets.insert(row, self.bytes.len() as u32);
        let need = ids.len() + varint::uvarint_len(ids.len() as u64);
        if self.bytes.capacity() - self.bytes.len() < need {
            self.bytes.reserve_exact(need.max(512).max(self.bytes.len() / 2));
        }
        varint::put_uvarint(&mut self.bytes, ids.len() as u64);
        self.bytes.extend_from_slice(ids);
        if self.offsets.len() == 256 {
            // No more can come.
            self.bytes.shrink_to_fit();
        }
    }

    pub(crate) fn get(&self, low: u8) -> Option<&[u8]> {
        Some(self.at(self.offsets[self.rank.row(low)?]))
    }

    /// The series in order of their refs: low bytes and label bytes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.rank.iter().zip(&self.offsets).map(|(low, &offset)| (low, self.at(offset)))
    }

    fn at(&self, offset: u32) -> &[u8] {
        let at = &self.bytes[offset as usize..];
        // Written by `insert` alone, so it decodes.
        let (len, n) = varint::uvarint(at).unwrap_or_default();
        &at[n..n + len as usize]
    }

    /// Removes one series; true when none is left.
    pub(crate) fn remove(&mut self, low: u8) -> bool {
        let len = self.get(low).map_or(0, <[u8]>::len);
        if let Some(row) = self.rank.remove(low) {
            self.offsets.remove(row);
            self.dead += len + varint::uvarint_len(len as u64);
        }
        if self.dead * 2 > self.bytes.len() {
            self.rewrite();
        }
        self.rank.is_empty()
    }

    fn rewrite(&mut self) {
        let mut fresh = Self { bytes: Vec::with_capacity(self.bytes.len() - self.dead), ..Self::default() };
        for low in self.rank.iter() {
            if let Some(ids) = self.get(low) {
                fresh.insert(low, ids);
            }
        }
        fresh.offsets.shrink_to_fit();
        *self = fresh;
    }

    /// The refs of this page, which is the `number`th.
    pub(crate) fn refs(&self, number: u64) -> impl Iterator<Item = u64> + use<> {
        self.rank.iter().map(move |low| number << 8 | u64::from(low))
    }

    pub(crate) fn bytes(&self) -> usize {
        self.offsets.capacity() * 4 + self.bytes.capacity()
    }
}
