//! What a PATH names: a data directory, a log, a checkpoint, a segment; and the walk over its records.

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use tsdb_vfs::{FileKind, Fs};
use wal_segment::layout::{self, CHECKPOINT_PREFIX};
use wal_segment::{Item, Ledger, Record, SalvageReader, SegmentRef};

use crate::context::Context;

/// What the directory of a chunk snapshot is called, before the segment and the offset that it speaks for.
pub(crate) const SNAPSHOT_PREFIX: &str = "chunk_snapshot.";

/// What part of a data directory a log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The newest checkpoint.
    Checkpoint,
    /// Segments of the write-ahead log; also what stands alone (one directory, one segment).
    Log,
    /// Segments of the out-of-order log.
    OutOfOrder,
    /// Segments of a chunk snapshot, whose records are of another sort.
    Snapshot,
}

/// Segments that are read one after the other.
#[derive(Debug, Clone)]
pub(crate) struct LogPart {
    /// What it is.
    pub(crate) role: Role,
    /// What stands before a segment's name where its file is named: empty, or a path that ends in `/`.
    pub(crate) prefix: String,
    /// The segments by number.
    pub(crate) segments: Vec<SegmentRef>,
    /// The number the first segment has to have, if something stands before it.
    pub(crate) follows: Option<u64>,
}

impl LogPart {
    /// Bytes of all segments.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.len).sum()
    }
}

/// A step of a walk over the records.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    /// A sound record.
    Record(Record<'a>),
    /// Bytes that hold no record, or segments that are missing.
    Fault(Fault),
}

/// What is wrong at a place of a log.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    /// What.
    pub(crate) error: String,
    /// The file's number.
    pub(crate) segment: u64,
    /// Where the damaged record begins in it.
    pub(crate) offset: u64,
}

/// The logs of a data directory in the order a replay reads them: newest checkpoint, segments behind it, `wbl/`.
pub(crate) fn data_dir(fs: &Fs, dir: &Path) -> Result<Vec<LogPart>> {
    let mut parts = Vec::new();
    let wal = dir.join("wal");
    if fs.dir_exists(&wal)? {
        let checkpoint = layout::last_checkpoint(fs, &wal)?;
        if let Some(checkpoint) = &checkpoint {
            let prefix = format!("wal/{}/", file_name(&checkpoint.path));
            let segments = layout::segments(fs, &checkpoint.path)?;
            parts.push(LogPart { role: Role::Checkpoint, prefix, segments, follows: None });
        }
        let mut segments = layout::segments(fs, &wal)?;
        segments.retain(|segment| checkpoint.as_ref().is_none_or(|checkpoint| segment.index > checkpoint.index));
        let follows = checkpoint.map(|checkpoint| checkpoint.index + 1);
        parts.push(LogPart { role: Role::Log, prefix: "wal/".into(), segments, follows });
    }
    let wbl = dir.join("wbl");
    if fs.dir_exists(&wbl)? {
        let segments = layout::segments(fs, &wbl)?;
        parts.push(LogPart { role: Role::OutOfOrder, prefix: "wbl/".into(), segments, follows: None });
    }
    Ok(parts)
}

/// The logs that `path` names: a data directory's, or one directory of segments, or one segment.
pub(crate) fn resolve(fs: &Fs, path: &Path) -> Result<Vec<LogPart>> {
    // A path that ends in a dot or a symbolic link is a directory all the same.
    if fs.dir_exists(path)? {
        return resolve_dir(fs, path);
    }
    let metadata = fs.metadata(path).with_context(|| path.display().to_string())?;
    let Some(index) = path.file_name().and_then(layout::parse_segment_name) else {
        bail!("{}: not a directory and not a segment (a segment's name is its number)", path.display());
    };
    if metadata.kind != FileKind::File {
        bail!("{}: expected a segment, found {}", path.display(), metadata.kind);
    }
    let segment = SegmentRef { index, path: path.to_owned(), len: metadata.len };
    // Beside others of its sort a segment is known by its directory's name.
    let role = std::path::absolute(path).ok().and_then(|path| Some(role_of(&file_name(path.parent()?))));
    Ok(vec![LogPart { role: role.unwrap_or(Role::Log), prefix: String::new(), segments: vec![segment], follows: None }])
}

fn resolve_dir(fs: &Fs, dir: &Path) -> Result<Vec<LogPart>> {
    if looks_like_data_dir(fs, dir)? {
        return data_dir(fs, dir);
    }
    let segments = layout::segments(fs, dir)?;
    let name = file_name(dir);
    let known =
        matches!(&*name, "wal" | "wbl") || [CHECKPOINT_PREFIX, SNAPSHOT_PREFIX].iter().any(|p| name.starts_with(p));
    if segments.is_empty() && !known {
        bail!("{}: not a data directory (no wal, wbl or chunks_head in it) and no segments in it", dir.display());
    }
    Ok(vec![LogPart { role: role_of(&name), prefix: String::new(), segments, follows: None }])
}

/// What sort of log lies in a directory of this name.
fn role_of(name: &str) -> Role {
    match name {
        "wbl" => Role::OutOfOrder,
        _ if name.starts_with(SNAPSHOT_PREFIX) => Role::Snapshot,
        _ => Role::Log,
    }
}

/// True if `dir` holds at least one of the directories that only a Prometheus data directory holds.
pub(crate) fn looks_like_data_dir(fs: &Fs, dir: &Path) -> Result<bool> {
    let entries = fs.list(dir).with_context(|| dir.display().to_string())?;
    Ok(entries.iter().any(|entry| {
        let name = entry.name.to_string_lossy();
        entry.kind == FileKind::Dir
            && (matches!(&*name, "wal" | "wbl" | "chunks_head") || name.starts_with(SNAPSHOT_PREFIX))
    }))
}

/// Fails unless `dir` is a data directory: working on any other would be a mistake of the caller.
pub(crate) fn require_data_dir(fs: &Fs, dir: &Path) -> Result<()> {
    if !looks_like_data_dir(fs, dir)? {
        bail!("{}: not a Prometheus data directory (no wal, wbl, chunks_head or snapshot in it)", dir.display());
    }
    Ok(())
}

/// How often a reading command starts over before it gives up on a directory that changes faster than it reads.
const ATTEMPTS: usize = 5;

/// Reads what lies in `path`, and reads again from the start when files vanished meanwhile: a server that wrote a checkpoint
/// removes the segments behind it, and what they held is in the checkpoint.
pub(crate) fn start_over_if_truncated<T>(
    context: &Context,
    path: &Path,
    mut read: impl FnMut() -> Result<T>,
) -> Result<T> {
    for _ in 1..ATTEMPTS {
        match read() {
            Err(error) if vanished(&error) && context.fs.metadata(path).is_ok() => {
                context.warn(format_args!("{}: truncated while it was read ({error}): starting over", path.display()));
            }
            other => return other,
        }
    }
    read()
}

fn vanished(error: &anyhow::Error) -> bool {
    let io = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.into_iter().any(|error| error.kind() == std::io::ErrorKind::NotFound)
}

/// Every record and every fault of `part` in order, as long as `visit` wants more.
pub(crate) fn walk(
    fs: &Fs,
    part: &LogPart,
    mut visit: impl FnMut(Step<'_>) -> Result<ControlFlow<()>>,
) -> Result<ControlFlow<()>> {
    if let (Some(expected), Some(first)) = (part.follows, part.segments.first())
        && first.index != expected
        && visit(Step::Fault(gap(expected, first.index)))?.is_break()
    {
        return Ok(ControlFlow::Break(()));
    }
    let ledger = match part.segments.first() {
        Some(first) => Ledger::with_segments(fs, first.dir())?.0,
        None => Ledger::default(),
    };
    let mut reader = SalvageReader::over(fs.clone(), part.segments.clone()).comparing(ledger);
    while let Some(item) = reader.next()? {
        let step = match item {
            Item::Record(record) => Step::Record(record),
            Item::Damage(range) => {
                let location = &range.damage.location;
                let (segment, offset) = (location.segment, location.record_start);
                Step::Fault(Fault { error: range.damage.fault.to_string(), segment, offset })
            }
            Item::Gap { expected, found } => Step::Fault(gap(expected, found)),
        };
        if visit(step)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn gap(expected: u64, found: u64) -> Fault {
    let error = format!("segments are missing: expected {expected:08}, found {found:08}");
    Fault { error, segment: found, offset: 0 }
}

/// The last part of a path as text.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
