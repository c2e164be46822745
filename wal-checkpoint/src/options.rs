//! How a checkpoint is made.

use std::fmt;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use wal_segment::{Compression, DEFAULT_SEGMENT_SIZE};

use crate::damage::DamagePolicy;

/// What to do with start timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StartTimestamps {
    /// As the records hold them.
    #[default]
    Keep,
    /// Dropped: samples and histograms are all written as version 1. The reference does that unless its storage of start
    /// timestamps is switched on.
    Drop,
}

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the sources that have been read and filtered.
    pub done_bytes: u64,
    /// Bytes of all sources.
    pub total_bytes: u64,
}

/// Called from the run's own thread, in order. [`ControlFlow::Break`] ends the run with
/// [`Error::Cancelled`](crate::Error::Cancelled) and nothing changed.
pub type ProgressFn = Arc<dyn Fn(Progress) -> ControlFlow<()> + Send + Sync>;

/// How a checkpoint is made. The defaults are the reference's, but for start timestamps, which are kept.
#[derive(Clone)]
pub struct Options {
    /// How records are compressed that were not compressed like that already.
    pub compression: Compression,
    /// Bytes of a segment of the checkpoint: a multiple of 32 KiB.
    pub segment_size: u64,
    /// What to do about damage.
    pub damage: DamagePolicy,
    /// What to do with start timestamps.
    pub start_timestamps: StartTimestamps,
    /// Threads that read and filter; 0 = as many as the machine has, at most 8. The output does not depend on it. With one
    /// thread no other one is started at all, and every operation on the disk happens in one order.
    pub threads: usize,
    /// Publish into this directory instead of the log's own, which then stays as it is.
    pub publish_in: Option<PathBuf>,
    /// Read and filter, and write nothing: [`Stats`](crate::Stats) then say what a run would do.
    pub dry_run: bool,
    /// Told how far the run has come, about once a megabyte.
    pub progress: Option<ProgressFn>,
}

/// Threads when nobody says how many: reading and filtering is not worth more.
const MAX_THREADS: usize = 8;

impl Options {
    /// The threads to use.
    pub(crate) fn threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS),
            threads => threads,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            compression: Compression::None,
            segment_size: DEFAULT_SEGMENT_SIZE,
            damage: DamagePolicy::default(),
            start_timestamps: StartTimestamps::default(),
            threads: 0,
            publish_in: None,
            dry_run: false,
            progress: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("compression", &self.compression)
            .field("segment_size", &self.segment_size)
            .field("damage", &self.damage)
            .field("start_timestamps", &self.start_timestamps)
            .field("threads", &self.threads)
            .field("publish_in", &self.publish_in)
            .field("dry_run", &self.dry_run)
            .finish_non_exhaustive()
    }
}
