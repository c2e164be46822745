//! Dropping old chunks, and the series that have none left.

use head_chunks::packed::PackedState;

use super::{NO_TIME, Partition, Rare};

/// What is left of a partition after its old chunks went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Oldest time of any chunk, `i64::MAX` without one.
    pub(crate) mint: i64,
    /// Lowest number of a chunk file that is still needed, `u32::MAX` without one.
    pub(crate) first_file: u32,
    /// Chunks that were dropped.
    pub(crate) dropped: usize,
}

impl Partition {
    /// Drops every chunk that ends before `mint`.
    pub(crate) fn drop_chunks_before(&mut self, mint: i64) -> Kept {
        self.floor = NO_TIME;
        let mut kept = Kept { mint: i64::MAX, first_file: u32::MAX, dropped: 0 };
        for row in 0..self.hot.len() {
            let hot = &self.hot[row];
            if hot.xor.num_samples() > 0 && hot.xor.last_t() < mint {
                // What is older has gone before or goes with it.
                self.drop_open_xor(row, NO_TIME);
                kept.dropped += 1;
            }
            kept.dropped += usize::from(self.drop_rare_before(row, mint));
            let (hot, cold) = (&mut self.hot[row], &mut self.cold[row]);
            kept.dropped += self.mapped.truncate(&mut cold.newest, mint);
            if hot.xor.num_samples() == 0 && hot.xor.last_t() < mint {
                hot.xor = PackedState::new_after(NO_TIME);
            }
            // The oldest chunk is not always in the oldest file: a hole may have been filled later.
            for chunk in self.mapped.chain(cold.newest) {
                kept.first_file = kept.first_file.min((chunk.chunk >> 32) as u32);
                kept.mint = kept.mint.min(chunk.mint);
            }
            if let Some(open) = self.open_mint(row) {
                kept.mint = kept.mint.min(open);
            }
        }
        let before = self.finished.len();
        self.finished.retain(|done| done.maxt >= mint);
        kept.dropped += before - self.finished.len();
        kept.mint = self.finished.iter().map(|done| done.mint).min().unwrap_or(i64::MAX).min(kept.mint);
        kept
    }

    pub(super) fn open_mint(&self, row: usize) -> Option<i64> {
        if self.hot[row].xor.num_samples() > 0 {
            return Some(self.cold[row].mint);
        }
        self.rares.get(row).map(Rare::open_mint)
    }

    /// The low ref bytes of the series that nobody needs: no chunk, and no sample on its way.
    pub(crate) fn empty_series(&self) -> impl Iterator<Item = u8> + '_ {
        self.rank.iter().enumerate().filter(|&(row, low)| self.is_unused(row, low)).map(|(_, low)| low)
    }

    /// Whether the series has no samples and none on the way.
    pub(crate) fn is_unused(&self, row: usize, low: u8) -> bool {
        self.hot[row].pending & !super::UNLOGGED == 0 && !self.gate.holds(low) && self.max_time(row) == NO_TIME
    }

    /// Removes a series with whatever it holds. Returns whether it was there.
    pub(crate) fn remove(&mut self, low: u8) -> bool {
        let Some(row) = self.rank.row(low) else { return false };
        self.floor = NO_TIME;
        self.drop_open_xor(row, NO_TIME);
        self.drop_rare(row);
        self.mapped.clear(&mut self.cold[row].newest);
        self.finished.retain(|done| done.low != low);
        self.hot.remove(row);
        self.cold.remove(row);
        self.rares.remove_row(row);
        self.rank.remove(low);
        true
    }

    /// Gives memory back after series were removed.
    pub(crate) fn shrink(&mut self) {
        self.hot.shrink_to_fit();
        self.cold.shrink_to_fit();
        self.rares.shrink();
    }
}
