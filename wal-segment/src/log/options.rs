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
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_size: DEFAULT_SEGMENT_SIZE,
            compression: Compression::default(),
            durability: Durability::default(),
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
