//! What can go wrong, and with what.

use std::io;
use std::path::{Path, PathBuf};

use tsdb_model::SeriesRef;

use crate::index::IndexFull;

/// Opening, truncating or closing a head failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeadError {
    /// A file or directory could not be used.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process writes into the directory.
    #[error("{}: locked by another process", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// An option is out of its range.
    #[error("option {option}: expected {expected}")]
    Option {
        /// Which one.
        option: &'static str,
        /// What it may be.
        expected: &'static str,
    },
    /// A block's `meta.json` cannot be understood, so that nobody knows which samples are in blocks already.
    #[error("{}: {problem}", path.display())]
    BlockMeta {
        /// The file.
        path: PathBuf,
        /// What was wrong with it.
        problem: String,
    },
    /// The log could not be read.
    #[error("reading the log: {0}")]
    Read(#[from] wal_segment::ReadError),
    /// A sound record of the log could not be decoded.
    #[error("decoding a record of the log at {at}: {source}")]
    Decode {
        /// Where it begins.
        at: wal_segment::Location,
        /// Why.
        source: wal_format::DecodeError,
    },
    /// The log could not be opened, written or synced.
    #[error("the log: {0}")]
    Log(#[from] wal_segment::Error),
    /// Chunk files could not be opened or written.
    #[error("chunk files: {0}")]
    Chunks(#[from] head_chunks::files::FilesError),
    /// The checkpoint could not be made.
    #[error("the checkpoint: {0}")]
    Checkpoint(#[from] wal_checkpoint::Error),
    /// Something is damaged, and [`DamagePolicy::Strict`](crate::DamagePolicy::Strict) was asked for.
    #[error("damaged: {problem}{}", at.as_ref().map(|at| format!(" at {at}")).unwrap_or_default())]
    Damaged {
        /// Where, if it is in the log.
        at: Option<wal_segment::Location>,
        /// What.
        problem: String,
    },
    /// A label name has too many values.
    #[error(transparent)]
    IndexFull(#[from] IndexFull),
    /// The head was opened for reading only.
    #[error("the head was opened for reading only")]
    ReadOnly,
}

impl HeadError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}

/// Why one sample was not accepted. The others of the same appender are not affected.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// Older than the newest sample of its series.
    #[error("out of order sample")]
    OutOfOrder,
    /// Older than the head still accepts: inside a block, or more than half a chunk range before the newest sample.
    #[error("out of bounds: {t} is before {min_valid}")]
    OutOfBounds {
        /// The sample's time, ms since epoch.
        t: i64,
        /// The lowest time that is accepted.
        min_valid: i64,
    },
    /// As old as the newest sample of its series, with another value.
    #[error("duplicate sample for timestamp {t}, with another value than before")]
    Duplicate {
        /// The sample's time, ms since epoch.
        t: i64,
    },
    /// No label has a value.
    #[error("empty label set")]
    EmptyLabels,
    /// A label name occurs twice.
    #[error("label name {:?} is not unique", String::from_utf8_lossy(name))]
    DuplicateLabelName {
        /// The name.
        name: Vec<u8>,
    },
    /// The histogram contradicts itself.
    #[error("invalid histogram: {0}")]
    InvalidHistogram(#[from] tsdb_model::histogram::HistogramError),
    /// A start timestamp is not before its sample.
    #[error("start timestamp {start} is not before the sample's {t}")]
    StartNotBeforeSample {
        /// The start timestamp.
        start: i64,
        /// The sample's time.
        t: i64,
    },
    /// The series has a sample that is newer than (or as new as) the start timestamp: most of the time the zero sample of
    /// an earlier scrape, and no reason to worry.
    #[error("start timestamp out of order")]
    OutOfOrderStart,
    /// Every ref was given out, or the log holds the highest there is.
    #[error("no series ref is left")]
    NoRefLeft,
    /// There is no series with this ref, and no labels were given to find or make one.
    #[error("unknown series {0}")]
    UnknownSeries(SeriesRef),
    /// The head was opened for reading only.
    #[error("the head was opened for reading only")]
    ReadOnly,
    /// A label name has too many values.
    #[error(transparent)]
    IndexFull(#[from] IndexFull),
}

/// A commit failed as a whole: nothing of it is in the log, nothing in memory.
#[derive(Debug, thiserror::Error)]
#[error("commit failed, nothing was stored: {0}")]
pub struct CommitError(#[from] pub wal_segment::Error);

/// Reading a series failed part way.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// A chunk could not be read from its file.
    #[error("series {series}: {source}")]
    File {
        /// Whose chunk.
        series: SeriesRef,
        /// Why.
        source: head_chunks::files::FilesError,
    },
    /// A chunk's bytes could not be decoded.
    #[error("series {series}, {encoding} chunk that begins at {mint}: {source}")]
    Chunk {
        /// Whose chunk.
        series: SeriesRef,
        /// How it is encoded.
        encoding: head_chunks::Encoding,
        /// Its first time, ms since epoch.
        mint: i64,
        /// Why.
        source: head_chunks::DecodeError,
    },
}
