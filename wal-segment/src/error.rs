//! What can go wrong, and where.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::Compression;
use crate::format::FragmentType;

/// Where a record begins: the offset of its first fragment's header in its segment. Ordered as the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// Number of the segment.
    pub segment: u64,
    /// Bytes from the segment's start.
    pub offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08}:{}", self.segment, self.offset)
    }
}

/// Where damage was met. The reader's driver adds it once; what repair cuts is derived from it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Location {
    /// The directory that holds the segment: a log or a checkpoint.
    pub dir: PathBuf,
    /// Number of the segment.
    pub segment: u64,
    /// Where the record begins that the damage interrupts; equal to `offset` between records.
    pub record_start: u64,
    /// Where the fragment, padding or missing byte is that can't be right.
    pub offset: u64,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dir, segment, record_start, offset } = self;
        write!(f, "{}/{segment:08} at {offset}", dir.display())?;
        if record_start != offset { write!(f, " (in the record that begins at {record_start})") } else { Ok(()) }
    }
}

/// What is wrong with the bytes at a place of a segment: expected and found, no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameFault {
    /// The type byte names no fragment type, sets a reserved bit, or claims two compressions.
    #[error("expected a fragment's type byte, found {found:#04x}")]
    Type {
        /// The byte.
        found: u8,
    },
    /// The length reaches beyond the page: a fragment never does.
    #[error("expected a fragment of at most {room} bytes (what is left of the page), found length {found}")]
    Length {
        /// Bytes that are left of the page behind the header.
        room: usize,
        /// The header's length.
        found: u16,
    },
    /// The data do not have the header's checksum.
    #[error("expected checksum {expected:#010x}, found {found:#010x}")]
    Checksum {
        /// As the header says.
        expected: u32,
        /// As the data are.
        found: u32,
    },
    /// A fragment that can't follow the one before: a middle or last one without a first, or a new record inside one.
    #[error("found a {found} fragment {}", if *.inside_record { "inside a record" } else { "outside of a record" })]
    Order {
        /// The fragment.
        found: FragmentType,
        /// Whether a record had begun and was not complete.
        inside_record: bool,
    },
    /// Fragments of one record disagree about its compression.
    #[error("expected a fragment with compression {expected}, as the record began, found {found}")]
    MixedCompression {
        /// As the record's first fragment says.
        expected: Compression,
        /// As this fragment says.
        found: Compression,
    },
    /// A byte of the padding is not zero.
    #[error("expected zeros up to the page's end, found {found:#04x} at {at}")]
    Padding {
        /// Offset of the byte in the segment.
        at: u64,
        /// The byte.
        found: u8,
    },
    /// The page ends in zeros although the record is not complete.
    #[error("expected the record's next fragment, found the page's end")]
    PaddingInsideRecord,
    /// Data follow a page of zeros: no writer makes one, and the reference reads over it.
    #[error("expected no data behind a page of zeros (at {page})")]
    ZeroPage {
        /// Offset of the first page of zeros.
        page: u64,
    },
    /// The record can't be decompressed.
    #[error("expected a record compressed with {compression}: {reason}")]
    Decompress {
        /// As its fragments say.
        compression: Compression,
        /// What the decoder or the cap says.
        reason: DecompressFault,
    },
    /// A sound record that its reader can't use.
    #[error("expected a record that can be decoded: {reason}")]
    Unusable {
        /// What the reader says.
        reason: String,
    },
    /// The segment ends inside a header, a fragment, or between two fragments of a record.
    #[error("expected {expected}, found the end of the segment")]
    Torn {
        /// What is missing.
        expected: TornAt,
    },
    /// A sound frame where the ledger says otherwise.
    #[error(
        "the ledger says that {expected} records end at {offset} with chain {chain:#010x}, found {found} with {found_chain:#010x}"
    )]
    Ledger {
        /// Records in the segment up to `offset`, as synced.
        expected: u64,
        /// Where the last synced record ends.
        offset: u64,
        /// Chained checksum of the fragment headers up to there, as synced.
        chain: u32,
        /// Records found up to there.
        found: u64,
        /// Chained checksum found.
        found_chain: u32,
    },
}

/// What a torn segment lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TornAt {
    /// The rest of a fragment's header.
    Header,
    /// The rest of a fragment's data.
    Data,
    /// The next fragment of the record.
    Fragment,
}

impl fmt::Display for TornAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "the rest of a fragment's header",
            Self::Data => "the rest of a fragment's data",
            Self::Fragment => "the record's next fragment",
        })
    }
}

/// Why a record can't be decompressed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecompressFault {
    /// The stored bytes claim to unpack to more than they can, or than the cap.
    #[error("it claims {claimed} bytes, the limit is {limit}")]
    TooLarge {
        /// Bytes claimed.
        claimed: u64,
        /// Bytes that the stored length or the cap allows.
        limit: u64,
    },
    /// The decoder refuses them.
    #[error("{0}")]
    Decoder(String),
}

/// Damage in a log: what, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{location}: {fault}")]
pub struct Damage {
    /// Where.
    pub location: Location,
    /// What.
    pub fault: FrameFault,
}

/// Why reading a log stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The bytes are not a log from here on.
    #[error(transparent)]
    Damage(#[from] Damage),
    /// The file system refused.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
    /// A segment is missing between two others.
    #[error("{dir}: expected segment {expected:08}, found {found:08}", dir = .dir.display())]
    Gap {
        /// The directory.
        dir: PathBuf,
        /// Number that follows the segment before.
        expected: u64,
        /// Number that was found.
        found: u64,
    },
}

impl ReadError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    /// The damage, if that is what stopped the reader.
    pub fn damage(&self) -> Option<&Damage> {
        match self {
            Self::Damage(damage) => Some(damage),
            _ => None,
        }
    }
}

/// Why a log could not be opened or written. Cheap to clone: one failure of a group commit is every caller's.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Reading what is there failed.
    #[error(transparent)]
    Read(#[from] Arc<ReadError>),
    /// The file system refused. After a failed append the log is as it was before it.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Its answer.
        source: Arc<io::Error>,
    },
    /// A sync failed. The records from `from` on, those of this call among them, are not durable and the log is read-only
    /// until [`recover`](crate::Log::recover) hands them back.
    #[error("{path}: nothing from {from} on is durable: {source}", path = .path.display())]
    NotDurable {
        /// The segment's file.
        path: PathBuf,
        /// Everything before this is durable.
        from: Position,
        /// The file system's answer.
        source: Arc<io::Error>,
    },
    /// The log has damage that no crash explains: opening it for write would make the reference delete what follows.
    /// [`repair`](crate::repair) it first.
    #[error("{0}: repair it before it is written to")]
    Damaged(Damage),
    /// An earlier failure left the log in a state that nothing may be appended to.
    #[error("{dir}: the log is read-only since: {cause}", dir = .dir.display())]
    ReadOnly {
        /// The log's directory.
        dir: PathBuf,
        /// The failure.
        cause: Arc<io::Error>,
    },
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
    /// A record that no reader would give out again.
    #[error("expected a record of at most {limit} bytes, found {len}")]
    RecordTooLarge {
        /// Its length in bytes.
        len: usize,
        /// The longest that is taken.
        limit: usize,
    },
    /// A segment size that is zero or no multiple of a page.
    #[error("expected a segment size that is a multiple of 32768 bytes, found {found}")]
    SegmentSize {
        /// Bytes asked for.
        found: u64,
    },
}

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source: Arc::new(source) }
    }

    /// Whether the disk or the quota is full: the log works again as soon as space returns.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if tsdb_vfs::is_disk_full(source))
    }
}

impl From<ReadError> for Error {
    fn from(e: ReadError) -> Self {
        Self::Read(Arc::new(e))
    }
}
