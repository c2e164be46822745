//! Sizes and counts of a head.

use crate::head::Shared;
use crate::partition::PartitionCell;

/// What a head holds, and in how much memory. Bytes are counted from capacities; the allocator adds its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct HeadStats {
    /// Series.
    pub series: usize,
    /// Partitions of up to 256 series.
    pub partitions: usize,
    /// Labels, their index and the table that finds a series by its labels.
    pub index: IndexBytes,
    /// What an append touches of a series, one cache line each.
    pub hot_bytes: usize,
    /// What else every series has, whatever it holds.
    pub cold_bytes: usize,
    /// Open chunks.
    pub open_chunk_bytes: usize,
    /// Entries for chunks on disk.
    pub mapped_bytes: usize,
    /// Full chunks that are not on disk yet.
    pub finished_bytes: usize,
    /// Which commits brought the newest samples.
    pub isolation_bytes: usize,
    /// Partitions and the table that finds them by ref.
    pub directory_bytes: usize,
}

/// What labels take, by what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct IndexBytes {
    /// Label names and values, each stored once.
    pub text: usize,
    /// Per value: where its text is, and the series that has it or the number of a list.
    pub symbols: usize,
    /// The tables that find values by their text.
    pub symbol_tables: usize,
    /// The series of values that more than one has.
    pub postings: usize,
    /// Per series: the numbers of its labels.
    pub ids: usize,
    /// The table that finds a series by its labels.
    pub series_table: usize,
}

impl IndexBytes {
    /// All bytes together.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.text + self.symbols + self.symbol_tables + self.postings + self.ids + self.series_table
    }
}

impl HeadStats {
    /// All bytes together.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.index.bytes()
            + self.hot_bytes
            + self.cold_bytes
            + self.open_chunk_bytes
            + self.mapped_bytes
            + self.finished_bytes
            + self.isolation_bytes
            + self.directory_bytes
    }
}

pub(crate) fn collect(shared: &Shared) -> HeadStats {
    let mut stats = HeadStats::default();
    {
        let index = shared.index.read();
        stats.series = index.len();
        stats.index = index.bytes();
    }
    let directory = shared.directory.read();
    stats.directory_bytes = directory.bytes();
    for cell in directory.all() {
        let [hot, cold, open, mapped, finished, isolation] = cell.data.lock().bytes();
        stats.partitions += 1;
        stats.hot_bytes += hot;
        stats.cold_bytes += cold;
        stats.open_chunk_bytes += open;
        stats.mapped_bytes += mapped;
        stats.finished_bytes += finished;
        stats.isolation_bytes += isolation;
        stats.directory_bytes += size_of::<PartitionCell>() + 16;
    }
    stats
}
