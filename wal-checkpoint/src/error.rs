//! Why a checkpoint could not be made or its sources not be removed.

use std::io;
use std::path::PathBuf;

use wal_segment::ReadError;

use crate::damage::Damage;

/// Why a run failed. Nothing that existed before has been changed then, unless it says so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system refused.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
    /// A source is damaged, and the run was to be strict about it. No segment and no checkpoint has been touched.
    #[error("damaged: {0}")]
    Damaged(Box<Damage>),
    /// A source can't be read at all, or a segment is missing between two others.
    #[error(transparent)]
    Read(ReadError),
    /// The first segment to read does not follow the previous checkpoint.
    #[error("{dir}: expected segment {expected:08} after the checkpoint, asked to begin at {from:08}", dir = .dir.display())]
    Gap {
        /// The log's directory.
        dir: PathBuf,
        /// The segment behind the previous checkpoint.
        expected: u64,
        /// The segment that was asked for.
        from: u64,
    },
    /// A segment of the range is not there: it was removed, or never written.
    #[error("{dir}: expected segments {from:08} to {to:08}, found none numbered {missing:08}", dir = .dir.display())]
    Missing {
        /// The log's directory.
        dir: PathBuf,
        /// First segment of the range.
        from: u64,
        /// Last segment of the range.
        to: u64,
        /// The missing one.
        missing: u64,
    },
    /// The checkpoint could not be written.
    #[error("cannot write the checkpoint: {0}")]
    Write(#[from] wal_segment::Error),
    /// What was read back from the new checkpoint is not what was written to it. It has not been published.
    #[error("{path}: wrote {expected} records, read back {found} or other ones", path = .path.display())]
    ReadBack {
        /// The temporary directory, which has been removed.
        path: PathBuf,
        /// Records written.
        expected: u64,
        /// Records read back.
        found: u64,
    },
    /// The new checkpoint can't be read back at all. It has not been published.
    #[error("reading back {path}: {error}", path = .path.display())]
    Unreadable {
        /// The temporary directory, which has been removed.
        path: PathBuf,
        /// Where and why.
        #[source]
        error: ReadError,
    },
    /// The newest checkpoint holds no record, segments that it stands for are still there and are not empty, and no ledger
    /// says that nothing of them was kept: it may have been emptied by a crash.
    #[error("{path}: an empty checkpoint, and segments that it stands for are not", path = .path.display())]
    Hollow {
        /// The checkpoint.
        path: PathBuf,
    },
    /// The caller's progress function asked for the end.
    #[error("cancelled")]
    Cancelled,
    /// Live data handed in from memory could not be had.
    #[error("live data: {0}")]
    Live(Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Damage(damage) => Self::Damaged(Box::new(damage.into())),
            other => Self::Read(other),
        }
    }
}
