//! What a checkpoint read, kept and dropped.

use std::ops::AddAssign;
use std::path::PathBuf;
use std::time::Duration;

use crate::damage::Damage;

/// Entries of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Entries read, the dropped ones included.
    pub total: u64,
    /// Entries that are not in the checkpoint.
    pub dropped: u64,
}

impl Count {
    /// Entries that are in the checkpoint.
    pub fn kept(&self) -> u64 {
        self.total - self.dropped
    }
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.total += other.total;
        self.dropped += other.dropped;
    }
}

/// Entries by kind, and records that are of no kind a checkpoint keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Series, repeats included.
    pub series: Count,
    /// Float samples.
    pub samples: Count,
    /// Native histograms with integer counts.
    pub histograms: Count,
    /// Native histograms with float counts.
    pub float_histograms: Count,
    /// Tombstone rows: one interval of one series each.
    pub tombstones: Count,
    /// Exemplars.
    pub exemplars: Count,
    /// Metadata entries. Of each kept series only the last is kept.
    pub metadata: Count,
    /// Whole *records* whose tag is unknown, that are empty, or that hold markers of memory-mapped chunks (which mean
    /// something in the out-of-order log only). All are dropped, as the reference does.
    pub unknown: Count,
    /// Whole *records* that can't be decoded: dropped in a salvage run, listed in [`Stats::damage`].
    pub undecodable: Count,
}

impl Counts {
    /// Samples of all three kinds, as the reference counts them.
    pub fn all_samples(&self) -> Count {
        let mut sum = self.samples;
        sum += self.histograms;
        sum += self.float_histograms;
        sum
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        // Taken apart so that a new kind can't be forgotten here.
        let Self {
            series,
            samples,
            histograms,
            float_histograms,
            tombstones,
            exemplars,
            metadata,
            unknown,
            undecodable,
        } = other;
        self.series += series;
        self.samples += samples;
        self.histograms += histograms;
        self.float_histograms += float_histograms;
        self.tombstones += tombstones;
        self.exemplars += exemplars;
        self.metadata += metadata;
        self.unknown += unknown;
        self.undecodable += undecodable;
    }
}

/// What became of the records that were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Records {
    /// Records read.
    pub read: u64,
    /// Records from which nothing was dropped: copied as they are.
    pub copied: u64,
    /// Records from which something was dropped, encoded again.
    pub rewritten: u64,
    /// Records of which nothing is left.
    pub dropped: u64,
    /// Records written, those made anew (metadata at the end) included.
    pub written: u64,
}

impl AddAssign for Records {
    fn add_assign(&mut self, other: Self) {
        let Self { read, copied, rewritten, dropped, written } = other;
        self.read += read;
        self.copied += copied;
        self.rewritten += rewritten;
        self.dropped += dropped;
        self.written += written;
    }
}

/// What a run of [`checkpoint`](crate::checkpoint()) did.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// The published directory; `None` if there was nothing to do, or in a dry run.
    pub path: Option<PathBuf>,
    /// Whether nothing was to be written. Bytes written are then those of the records, without frames.
    pub dry_run: bool,
    /// First segment read (after the previous checkpoint, if there is one).
    pub from: u64,
    /// Last segment read, the number of the checkpoint.
    pub to: u64,
    /// Number of the previous checkpoint that was read.
    pub previous: Option<u64>,
    /// Entries read and dropped.
    pub counts: Counts,
    /// Records read and written.
    pub records: Records,
    /// Bytes of the segment files read.
    pub in_bytes: u64,
    /// Bytes of the segment files written.
    pub out_bytes: u64,
    /// Segment files written.
    pub out_segments: u64,
    /// Damage that a salvage run read over, in the order of the log. Empty in a strict run.
    pub damage: Vec<Damage>,
    /// Series records that were written because no sound one of the sources has them: of
    /// [living series](crate::Source::with_living). Those that are younger than the sources are among them.
    pub supplied: u64,
    /// Whether the previous checkpoint holds no record while segments that it stands for are there and not empty, and no
    /// ledger says that nothing of them was kept. Nothing of them is in the new checkpoint either;
    /// [`retire`](crate::retire) moves both to `quarantine/` instead of removing them.
    pub hollow: bool,
    /// Time the run took.
    pub elapsed: Duration,
}

impl Stats {
    /// Whether there was nothing to do: the range holds no segment that the previous checkpoint does not stand for.
    /// Nothing has been written then.
    pub fn no_op(&self) -> bool {
        self.path.is_none() && !self.dry_run
    }
}
