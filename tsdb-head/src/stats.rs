//! Sizes and counts of a head.

use crate::head::Shared;

/// What a head holds, and in how much memory. Bytes are counted from capacities; the allocator adds its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct HeadStats {
    /// Series.
    pub series: usize,
    /// Partitions of up to 256 series.
    pub partitions: usize,
    /// Labels, their index and the table that finds a series by its labels.
    pub index_bytes: usize,
    /// What every series has, whatever it holds.
    pub row_bytes: usize,
    /// Open chunks.
    pub open_chunk_bytes: usize,
    /// Entries for chunks on disk.
    pub mapped_bytes: usize,
    /// Full chunks that are not on disk yet.
    pub finished_bytes: usize,
    /// Everything else that grows with the series: partitions, their table, isolation.
    pub other_bytes: usize,
}

impl HeadStats {
    /// All bytes together.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.index_bytes
            + self.row_bytes
            + self.open_chunk_bytes
            + self.mapped_bytes
            + self.finished_bytes
            + self.other_bytes
    }
}

pub(crate) fn collect(shared: &Shared) -> HeadStats {
    let mut stats = HeadStats::default();
    {
        let index = shared.index.read();
        stats.series = index.len();
        stats.index_bytes = index.bytes();
    }
    let directory = shared.directory.read();
    stats.other_bytes = directory.bytes();
    for cell in directory.all() {
        let [rows, open, mapped, finished, other] = cell.data.lock().bytes();
        stats.partitions += 1;
        stats.row_bytes += rows;
        stats.open_chunk_bytes += open;
        stats.mapped_bytes += mapped;
        stats.finished_bytes += finished;
        stats.other_bytes += other;
    }
    stats
}
