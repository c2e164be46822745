//! Mending `chunks_head`: damaged files are replaced by copies with every sound chunk, gaps are filled with files without
//! chunks, originals go to `chunks_head/quarantine/`. Nothing is deleted.
//!
//! Replay passes over samples of the log that are older than a series' newest chunk on disk: behind a hole, chunks whose
//! samples the log holds as well are therefore left out too, and what is missing in the hole comes from the log with them.
//!
//! A copy is written beside as `NNNNNN.repair` and made durable; then the original moves to quarantine, then the copy
//! takes its name. A crash in between leaves the copy, which the next run puts in place.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use head_chunks::files::{self, ChunkFiles, ChunkMeta, FILE_HEADER_LEN, FilesError, MAGIC, VERSION};
use tsdb_model::SeriesRef;
use tsdb_vfs::{FileKind, Fs};
use wal_segment::layout::QUARANTINE_NAME;

const COPY: &str = "repair";

/// A step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// An earlier repair ended before this copy had its place.
    Finish {
        /// The copy.
        copy: PathBuf,
    },
    /// A copy with the sound chunks takes the file's place.
    Rewrite {
        /// The file.
        path: PathBuf,
        number: u32,
        /// Records of sound chunks: offset and length.
        kept: Vec<(u64, u64)>,
        /// Sound chunks that are left out because the log has their samples.
        to_log: usize,
        /// Bytes that are not in the copy.
        lost_bytes: u64,
    },
    /// A file without chunks fills a gap.
    Fill {
        /// Its number.
        number: u32,
    },
}

/// Bytes of a record before its length, and behind its data: ref, mint, maxt, encoding; checksum.
const FIXED: u64 = 8 + 8 + 8 + 1;
const CHECKSUM: u64 = 4;
/// A gap of more files is not filled: a stray number in a name must not make millions of files.
const MAX_GAP: u32 = 10_000;

/// What is to be done in `dir` (a `chunks_head`). Changes nothing. `log_begins` says from which time on the log has the
/// samples of a series, and is absent if the log is damaged itself.
pub(crate) fn plan(fs: &Fs, dir: &Path, log_begins: Option<&HashMap<SeriesRef, i64>>) -> Result<Vec<Action>> {
    if !fs.dir_exists(dir)? {
        return Ok(Vec::new());
    }
    let unfinished = unfinished(fs, dir)?;
    if !unfinished.is_empty() {
        // What else there is to do is seen when they have their places.
        return Ok(unfinished);
    }
    let (files, report) = ChunkFiles::open_read_only(fs.clone(), dir)?;
    let mut sound: BTreeMap<u32, Vec<ChunkMeta>> = BTreeMap::new();
    let scan = files.iterate(|chunk| {
        sound.entry(chunk.chunk_ref.file).or_default().push(*chunk);
        Ok::<(), FilesError>(())
    })?;
    let damages = || report.damages.iter().chain(&scan.damages);
    let holes = damages().map(|damage| (damage.file, damage.offset));
    let Some(first_hole) = holes.chain(report.gaps.iter().map(|gap| (gap.start, 0))).min() else {
        return Ok(Vec::new());
    };
    let mut actions = Vec::new();
    for file in &report.files {
        let chunks = sound.remove(&file.number).unwrap_or_default();
        let in_log = |chunk: &ChunkMeta| {
            let behind = (chunk.chunk_ref.file, u64::from(chunk.chunk_ref.offset)) > first_hole;
            let begins = log_begins.and_then(|begins| begins.get(&chunk.series));
            behind && !chunk.out_of_order && begins.is_some_and(|begins| *begins <= chunk.mint)
        };
        let kept: Vec<_> = chunks.iter().filter(|chunk| !in_log(chunk)).map(record).collect();
        let mut damaged = damages().filter(|damage| damage.file == file.number).peekable();
        if damaged.peek().is_some() || kept.len() < chunks.len() {
            let lost_bytes = damaged.map(|damage| damage.len).sum();
            let (path, number, to_log) = (file.path.clone(), file.number, chunks.len() - kept.len());
            actions.push(Action::Rewrite { path, number, kept, to_log, lost_bytes });
        }
    }
    for gap in report.gaps {
        if gap.end - gap.start > MAX_GAP {
            bail!("{}: {} files are missing before {}; too many to fill", dir.display(), gap.end - gap.start, gap.end);
        }
        actions.extend(gap.map(|number| Action::Fill { number }));
    }
    Ok(actions)
}

/// Where a sound chunk's record begins, and its length.
fn record(chunk: &ChunkMeta) -> (u64, u64) {
    let mut length_field = Vec::new();
    wal_format::varint::put_uvarint(&mut length_field, u64::from(chunk.len));
    let len = FIXED + length_field.len() as u64 + u64::from(chunk.len) + CHECKSUM;
    (u64::from(chunk.chunk_ref.offset), len)
}

fn unfinished(fs: &Fs, dir: &Path) -> Result<Vec<Action>> {
    let entries = fs.list(dir)?;
    let copies = entries.iter().filter(|entry| entry.kind == FileKind::File).map(|entry| dir.join(&entry.name));
    let copies = copies.filter(|path| path.extension() == Some(OsStr::new(COPY)));
    // A copy whose original is still there may not be complete and is written again; so is one for a gap that does not
    // even have its header.
    let mut orphans = Vec::new();
    for copy in copies {
        if !fs.exists(&copy.with_extension(""))? && fs.read(&copy)?.starts_with(&header()) {
            orphans.push(Action::Finish { copy });
        }
    }
    Ok(orphans)
}

/// Does what a plan says; returns where originals went.
pub(crate) fn apply(fs: &Fs, dir: &Path, actions: &[Action]) -> Result<Vec<PathBuf>> {
    let mut quarantined = Vec::new();
    for action in actions {
        match action {
            Action::Finish { copy } => rename(fs, copy, &copy.with_extension(""))?,
            Action::Fill { number } => {
                let path = dir.join(files::file_name(*number));
                let copy = path.with_extension(COPY);
                write_copy(fs, &copy, &header())?;
                rename(fs, &copy, &path)?;
            }
            Action::Rewrite { path, number, kept, .. } => {
                let original = fs.read(path).with_context(|| path.display().to_string())?;
                let mut bytes = header();
                for (offset, len) in kept {
                    let from = usize::try_from(*offset)?;
                    let record = original.get(from..from + usize::try_from(*len)?);
                    bytes.extend_from_slice(record.with_context(|| format!("{}: it changed", path.display()))?);
                }
                let place = dir.join(files::file_name(*number));
                let copy = place.with_extension(COPY);
                write_copy(fs, &copy, &bytes)?;
                quarantined.push(move_away(fs, path)?);
                rename(fs, &copy, &place)?;
            }
        }
        fs.sync_dir(dir)?;
    }
    Ok(quarantined)
}

fn header() -> Vec<u8> {
    let mut bytes = MAGIC.to_be_bytes().to_vec();
    bytes.push(VERSION);
    bytes.resize(FILE_HEADER_LEN, 0);
    bytes
}

/// A copy that an earlier run left half written is written again.
fn write_copy(fs: &Fs, copy: &Path, bytes: &[u8]) -> Result<()> {
    if fs.exists(copy)? {
        fs.remove_file(copy)?;
    }
    fs.write_new(copy, bytes).with_context(|| copy.display().to_string())
}

fn rename(fs: &Fs, from: &Path, to: &Path) -> Result<()> {
    fs.rename(from, to).with_context(|| format!("{} to {}", from.display(), to.display()))
}

/// Moves a file into the quarantine beside it, under a name that nothing there has.
fn move_away(fs: &Fs, path: &Path) -> Result<PathBuf> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let quarantine = dir.join(QUARANTINE_NAME);
    if !fs.dir_exists(&quarantine)? {
        fs.create_dir(&quarantine)?;
        fs.sync_dir(dir)?;
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut place = quarantine.join(&name);
    for n in 1.. {
        if !fs.exists(&place)? {
            break;
        }
        place = quarantine.join(format!("{name}.{n}"));
    }
    rename(fs, path, &place)?;
    fs.sync_dir(&quarantine)?;
    Ok(place)
}
