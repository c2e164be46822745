//! How a log is written.

use std::time::Duration;

use crate::Compression;
use crate::error::Error;
use crate::format::{DEFAULT_SEGMENT_SIZE, PAGE};

/// When appended records are durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Before [`append`](crate::Log::append) returns.
    Always,
    /// At most this long after it returned.
    Interval(Duration),
    /// When their segment is complete, on [`sync`](crate::Log::sync) and on [`close`](crate::Log::close): the
    /// reference's behaviour. They survive the process from the moment `append` returns, not the machine.
    #[default]
    Rotate,
}

/// How a log is written. The defaults are the reference's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOptions {
    /// Bytes after which a new segment starts: a multiple of 32 KiB, 128 MiB unless told otherwise.
    pub segment_size: u64,
    /// How records are compressed.
    pub compression: Compression,
    /// When they are durable.
    pub durability: Durability,
    /// What is read before the first record is taken.
    pub check: Check,
    /// Whether a ledger is kept beside the log.
    pub ledger: bool,
    /// Whether a thread of the log syncs in the background, with [`Durability::Interval`] and [`Durability::Rotate`].
    /// Without it the callers of `append` do, which makes every operation's order repeatable; an interval then ends with
    /// the first append behind it.
    pub background_sync: bool,
}

/// What opening a log reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Check {
    /// The last checkpoint and every segment: a new segment never stands behind one that the reference would call
    /// damaged, and so delete.
    #[default]
    All,
    /// Only what a crash can have torn, or left on its way to the disk. For a caller that has just read the rest without an
    /// error.
    Tail,
    /// Only what a crash can have torn. Of what else may not be on the disk, a complete segment that another program wrote
    /// before its last, nothing is read or written before [`prove`](crate::Log::prove) is called, or
    /// [`sync`](crate::Log::sync) or [`close`](crate::Log::close). For a caller that reads it while the log is being opened,
    /// and does not want to wait for the disk.
    Torn,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_size: DEFAULT_SEGMENT_SIZE,
            compression: Compression::default(),
            durability: Durability::default(),
            check: Check::default(),
            ledger: true,
            background_sync: true,
        }
    }
}

impl LogOptions {
    pub(crate) fn validate(&self) -> Result<(), Error> {
        if self.segment_size == 0 || !self.segment_size.is_multiple_of(PAGE) {
            return Err(Error::SegmentSize { found: self.segment_size });
        }
        Ok(())
    }
}
