//! What replay found.

use std::path::PathBuf;
use std::time::Duration;

use wal_segment::{FrameFault, Location};

/// How far a running replay is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes of the log read so far, checkpoint included.
    pub bytes_done: u64,
    /// Bytes of the log in all.
    pub bytes_total: u64,
    /// Segment being read.
    pub segment: u64,
    /// Last segment.
    pub last_segment: u64,
}

/// What was in the log, entry by entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counts {
    /// Records of any kind.
    pub records: u64,
    /// Series, repeats included.
    pub series: u64,
    /// Float samples.
    pub samples: u64,
    /// Integer histograms.
    pub histograms: u64,
    /// Float histograms.
    pub float_histograms: u64,
    /// Tombstone rows. Those over all times drop their series; the others are not applied yet, and stay in the log.
    pub tombstones: u64,
    /// Exemplars: read past, and kept in the log.
    pub exemplars: u64,
    /// Metadata entries: read past, and kept in the log.
    pub metadata: u64,
    /// Records of mmap markers, which mean nothing in this log.
    pub mmap_markers: u64,
    /// Records with a tag that is not known, and empty ones.
    pub unknown_records: u64,
    /// Sound records that could not be decoded; nothing of them was used.
    pub undecodable: u64,
    /// Histograms of unknown schemas.
    pub unknown_schemas: u64,
    /// Samples older than what is valid.
    pub before_min_valid: u64,
    /// Samples that went into the head.
    pub applied: u64,
    /// Samples that the series had already, in a chunk file or because the log repeats itself.
    pub already_there: u64,
    /// Samples of refs that no series record explains.
    pub unknown_refs: u64,
    /// Series records with the labels of a series that is there under another ref.
    pub aliases: u64,
    /// Series records with a ref and labels that are there already.
    pub repeated_series: u64,
    /// Series that a tombstone over all times dropped.
    pub dropped_series: u64,
}

impl Counts {
    pub(super) fn add(&mut self, other: &Self) {
        // Taken apart so that a new count cannot be forgotten here.
        let Self {
            records,
            series,
            samples,
            histograms,
            float_histograms,
            tombstones,
            exemplars,
            metadata,
            mmap_markers,
            unknown_records,
            undecodable,
            unknown_schemas,
            before_min_valid,
            applied,
            already_there,
            unknown_refs,
            aliases,
            repeated_series,
            dropped_series,
        } = other;
        self.records += records;
        self.series += series;
        self.samples += samples;
        self.histograms += histograms;
        self.float_histograms += float_histograms;
        self.tombstones += tombstones;
        self.exemplars += exemplars;
        self.metadata += metadata;
        self.mmap_markers += mmap_markers;
        self.unknown_records += unknown_records;
        self.undecodable += undecodable;
        self.unknown_schemas += unknown_schemas;
        self.before_min_valid += before_min_valid;
        self.applied += applied;
        self.already_there += already_there;
        self.unknown_refs += unknown_refs;
        self.aliases += aliases;
        self.repeated_series += repeated_series;
        self.dropped_series += dropped_series;
    }

    /// Samples of all three kinds.
    #[must_use]
    pub fn all_samples(&self) -> u64 {
        self.samples + self.histograms + self.float_histograms
    }
}

/// The chunk files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ChunkFileReport {
    /// Files.
    pub files: usize,
    /// Sound chunks.
    pub chunks: u64,
    /// Bytes of chunk data.
    pub bytes: u64,
    /// Chunks with out-of-order samples: not read yet, kept in their files.
    pub out_of_order: u64,
    /// Chunks that end before what is valid.
    pub before_min_valid: u64,
    /// Chunks of refs that no series record explains.
    pub unknown_refs: u64,
    /// Chunks of times that others of their series cover; they are left out.
    pub out_of_sequence: u64,
}

/// What else lies in the directory that this version reads past.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Preserved {
    /// Records of the out-of-order log. Nothing of it is changed.
    pub wbl_records: u64,
    /// Series that the out-of-order log or out-of-order chunks refer to; their records are kept in checkpoints.
    pub out_of_order_series: u64,
    /// Snapshots. The log holds all that is in them.
    pub snapshots: Vec<PathBuf>,
}

/// A piece of the log, or of a chunk file, that could not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplayDamage {
    /// Where, if it is in the log or a checkpoint.
    pub at: Option<Location>,
    /// What, and where if it is in a chunk file.
    pub problem: String,
    /// Whether it is only the end of the log's last segment: what a crash in the middle of a write leaves.
    pub torn_end: bool,
    /// The segment reads without an error, and holds something else than the ledger says was durable: pages that are zeros,
    /// missing or swapped, a file that was cut.
    pub missed: Option<Missed>,
}

/// Records of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missed {
    /// Those that were durable.
    pub expected: u64,
    /// Those that are there. As many as expected are not the same ones.
    pub found: u64,
}

impl ReplayDamage {
    pub(super) fn new(at: Option<Location>, problem: String) -> Self {
        Self { at, problem, torn_end: false, missed: None }
    }

    /// What the ledger says was durable and is not there as it was.
    pub(super) fn missed(lost: wal_segment::Damage) -> Self {
        let missed = match lost.fault {
            FrameFault::Ledger { expected, found, .. } => Some(Missed { expected, found }),
            _ => None,
        };
        let problem = format!("{}; durable records are gone", lost.fault);
        Self { at: Some(lost.location), problem, torn_end: false, missed }
    }

    /// Whether what was durable of this segment is known to be missed.
    pub(super) fn speaks_of(&self, segment: &Location) -> bool {
        self.missed.is_some()
            && self.at.as_ref().is_some_and(|at| (&at.dir, at.segment) == (&segment.dir, segment.segment))
    }

    /// Whether it is in the log at `dir` or in a checkpoint of it.
    pub(super) fn is_below(&self, dir: &std::path::Path) -> bool {
        self.at.as_ref().is_some_and(|at| at.dir.starts_with(dir))
    }
}

/// What the log and the chunk files hold of series whose labels are nowhere: their records were damaged, or a checkpoint
/// left them out. It stays where it is, and nobody knows whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Nameless {
    /// Series, by their refs. Samples that stand before the record of their series count, too. Exact up to 2¹⁸ times 256
    /// neighbouring refs, and then at least so many.
    pub series: u64,
    /// Samples in the log that are not older than what is valid; also in [`Counts::unknown_refs`].
    pub samples: u64,
    /// Chunks in chunk files; also in [`ChunkFileReport::unknown_refs`].
    pub chunks: u64,
    /// Samples in them; the log may have the same ones.
    pub chunk_samples: u64,
    /// First and last time (ms) of all of these.
    pub times: Option<(i64, i64)>,
}

/// What opening a head found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ReplayReport {
    /// The number of the checkpoint that was read.
    pub checkpoint: Option<u64>,
    /// Segments read behind it: first and last.
    pub segments: Option<(u64, u64)>,
    /// Bytes of log read, checkpoint included.
    pub bytes: u64,
    /// What was in checkpoint and log.
    pub counts: Counts,
    /// What was in the chunk files.
    pub chunk_files: ChunkFileReport,
    /// What was read past.
    pub preserved: Preserved,
    /// What could not be used. The head holds everything else.
    pub damage: Vec<ReplayDamage>,
    /// What there is of series without labels.
    pub nameless: Nameless,
    /// Where the originals of repaired files are.
    pub quarantined: Vec<PathBuf>,
    /// The lowest valid time (ms) that was applied, if there is one.
    pub min_valid_time: Option<i64>,
    /// Series without samples, not kept.
    pub empty_series: u64,
    /// Time for the chunk files.
    pub chunk_files_time: Duration,
    /// Time for the checkpoint.
    pub checkpoint_time: Duration,
    /// Time for the segments.
    pub segments_time: Duration,
}

impl ReplayReport {
    /// Whether nothing was damaged but the end of the log, as after a crash.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damage.iter().all(|damage| damage.torn_end)
    }
}
