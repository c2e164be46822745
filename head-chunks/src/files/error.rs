//! What can be wrong with chunk files, and where.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::ChunkRef;

/// Why an operation on chunk files failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FilesError {
    /// The file system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There is no file of that number.
    #[error("chunk {chunk_ref}: no such chunk file in {}", dir.display())]
    NoSuchFile {
        /// The directory.
        dir: PathBuf,
        /// The chunk that was asked for.
        chunk_ref: ChunkRef,
    },
    /// No sound chunk stands there.
    #[error("{}, offset {}: {fault}", path.display(), chunk_ref.offset)]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The chunk that was asked for.
        chunk_ref: ChunkRef,
        /// What was found.
        fault: Fault,
    },
    /// The chunk cannot be stored: no file may become that long.
    #[error("a chunk of {len} bytes does not fit a chunk file of {max} bytes")]
    TooLarge {
        /// Length of the chunk in bytes.
        len: usize,
        /// The most bytes that a file may have.
        max: u64,
    },
    /// An option is out of its range.
    #[error("{option}: expected {expected}, found {found}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// Its range.
        expected: &'static str,
        /// What was given.
        found: u64,
    },
    /// A write to files that were opened read-only.
    #[error("{}: opened read-only", dir.display())]
    ReadOnly {
        /// The directory.
        dir: PathBuf,
    },
    /// The files were closed.
    #[error("{}: closed", dir.display())]
    Closed {
        /// The directory.
        dir: PathBuf,
    },
    /// An fsync failed earlier: what it covered may be lost although it can still be read. Nothing is written before
    /// [`super::ChunkFiles::recover`].
    #[error("{}: an fsync failed earlier, contents since the last one are uncertain", path.display())]
    SyncFailed {
        /// The file whose contents are uncertain.
        path: PathBuf,
    },
}

impl FilesError {
    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

/// What is wrong at one place of a chunk file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Fault {
    /// The file is shorter than its header.
    #[error("expected a file header of 8 bytes, the file has {found}")]
    FileHeaderLength {
        /// Length of the file.
        found: u64,
    },
    /// The file does not begin as a chunk file does.
    #[error("expected the magic number 0x0130bc91, found {found:#010x}")]
    Magic {
        /// What stands there.
        found: u32,
    },
    /// A format version that nobody has written yet.
    #[error("expected version 1, found {found}")]
    Version {
        /// What stands there.
        found: u8,
    },
    /// It is no regular file, or could not be opened.
    #[error("the file cannot be read")]
    Unreadable,
    /// The file ends inside a record.
    #[error("a record of {needed} bytes, the file has {available} more")]
    Torn {
        /// Bytes that the record claims, at least.
        needed: u64,
        /// Bytes from the record's start to the end of the file.
        available: u64,
    },
    /// The length of the chunk is no number of 64 bits.
    #[error("expected the chunk's length, found a varint of more than 64 bits")]
    LengthField,
    /// The checksum does not match the record.
    #[error("expected checksum {expected:#010x}, found {found:#010x}")]
    Checksum {
        /// Stored behind the record.
        expected: u32,
        /// Calculated from its bytes.
        found: u32,
    },
    /// A sound record whose encoding is none of the six.
    #[error("expected an encoding from 1 to 6, found {found:#04x}")]
    Encoding {
        /// The encoding byte.
        found: u8,
    },
    /// Zeros where a record would begin, and more data behind them.
    #[error("zeros instead of a record, but {after} bytes further on there is more")]
    Hole {
        /// Zero bytes before the next that is not.
        after: u64,
    },
    /// The reference is before the first record, or on zeros: no chunk was ever stored there.
    #[error("expected a record, found the end of the file's contents")]
    NoRecord,
}

/// A stretch of a file whose chunks are lost; everything else in the file is sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file's number.
    pub file: u32,
    /// The file.
    pub path: PathBuf,
    /// Where the damage begins.
    pub offset: u64,
    /// How many bytes were skipped until the next sound record or the end of the file.
    pub len: u64,
    /// Whether it reaches the end of the file: a write that a crash tore looks like this.
    pub at_end: bool,
    /// What was found first.
    pub fault: Fault,
}

impl core::fmt::Display for Damage {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}, offset {}, {} bytes lost: {}", self.path.display(), self.offset, self.len, self.fault)
    }
}
