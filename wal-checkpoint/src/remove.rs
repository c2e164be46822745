//! Removing what a checkpoint stands for, in an order that no crash can hurt.
//!
//! ```text
//! 1. the checkpoint's name is made durable (again: a crash may have come before it was)
//! 2. segments, oldest first, the directory fsynced after each: what is left has no gap
//! 3. older checkpoints, oldest first: renamed to a temporary's name, so that half of one is never taken for a whole
//! ```
//!
//! A crash in between leaves segments or checkpoints that the newest checkpoint stands for: every reader passes over
//! them, and the next run removes them.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use tsdb_vfs::{FileKind, Fs};
use wal_segment::layout::{self, CHECKPOINT_PREFIX, QUARANTINE_NAME};
use wal_segment::parallel::{self, Block, ParallelOptions};
use wal_segment::{Ledger, ReadError, SegmentRef};

use crate::error::Error;
use crate::hollow;
use crate::source::Group;
use crate::stats::Stats;

/// What a checkpoint's name ends with while it is being written.
pub const TEMPORARY_SUFFIX: &str = ".tmp";

/// What [`retire`] and its parts took away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Removed {
    /// Segments removed.
    pub segments: u64,
    /// Older checkpoints removed.
    pub checkpoints: u64,
    /// Bytes of the removed segments.
    pub bytes: u64,
    /// Damaged files and directories, by their new place: evidence is moved, not removed.
    pub quarantined: Vec<PathBuf>,
}

/// Removes everything that the checkpoint of `stats` stands for: segments up to its number, then older checkpoints.
/// Where the run found damage ([`Stats::damage`]), the damaged file or checkpoint is moved to `quarantine/` instead; with a
/// damaged or doubtful ([`Stats::hollow`]) checkpoint, what is left of the segments that it stands for.
///
/// Does nothing if there was nothing to do ([`Stats::no_op`]), or after a dry run. The newest segment is never removed: a log without
/// segments starts over at number 0, which every reader of the checkpoint then passes over.
pub fn retire(fs: &Fs, dir: &Path, stats: &Stats) -> Result<Removed, Error> {
    if stats.path.is_none() {
        return Ok(Removed::default());
    }
    let previous = stats.previous.map(|index| (index, dir.join(layout::checkpoint_name(index))));
    let mut damaged: Vec<&Path> = stats.damage.iter().map(|damage| damage.location.dir.as_path()).collect();
    damaged.extend(previous.iter().filter(|_| stats.hollow).map(|(_, path)| path.as_path()));
    let segments: Vec<u64> =
        stats.damage.iter().filter(|damage| damage.location.dir == dir).map(|damage| damage.location.segment).collect();
    let doubtful = previous.as_ref().filter(|(_, path)| damaged.contains(&path.as_path())).map(|(index, _)| *index);
    let is_evidence = |index: u64| segments.contains(&index) || doubtful.is_some_and(|doubtful| index <= doubtful);
    let mut removed = Removed::default();
    remove_up_to(fs, dir, stats.to, is_evidence, &mut removed)?;
    delete_checkpoints_before(fs, dir, stats.to, &damaged, &mut removed)?;
    Ok(removed)
}

/// Ends what an interrupted run left unfinished: temporaries are removed, then, if the newest checkpoint is sound, what it
/// stands for: segments up to its number and older checkpoints. Damaged ones are moved to `quarantine/`, as [`retire`]
/// would have done. To be called before a log is truncated again, under the directory's lock.
///
/// # Errors
///
/// [`Error::Damaged`] or [`Error::Read`] if the newest checkpoint can't be read and there are segments or checkpoints that
/// it stands for: they may be the only sound copy, and stay. [`Error::Hollow`] if it holds nothing, they do, and its
/// ledger does not say that nothing was kept.
pub fn clean_up(fs: &Fs, dir: &Path) -> Result<Removed, Error> {
    remove_temporaries(fs, dir)?;
    let checkpoints = layout::checkpoints(fs, dir)?;
    let Some(newest) = checkpoints.last() else { return Ok(Removed::default()) };
    let (known, segments) = Ledger::with_segments(fs, dir)?;
    let stale: Vec<_> = segments.into_iter().filter(|segment| segment.index <= newest.index).collect();
    if stale.is_empty() && checkpoints.len() == 1 {
        return Ok(Removed::default());
    }
    let Group { segments: copy, ledger } = Group::of_checkpoint(fs, newest)?;
    let mut records = 0;
    let count = |block: &mut Block<'_>| std::iter::from_fn(|| block.next().map(drop)).count();
    let missed = parallel::read_with_ledger(fs, &copy, &ledger, &one_thread(), count, |n| {
        records += n;
        Ok::<_, ReadError>(())
    })?;
    if records == 0 && hollow::is_doubtful(fs, newest, &stale)? {
        return Err(Error::Hollow { path: newest.path.clone() });
    }
    if let Some(missed) = missed.into_iter().next() {
        return Err(Error::Damaged(Box::new(missed.into())));
    }
    let mut damaged = Vec::new();
    for segment in &stale {
        if is_damaged(fs, std::slice::from_ref(segment), &known)? {
            damaged.push(segment.index);
        }
    }
    let mut damaged_checkpoints = Vec::new();
    for older in &checkpoints[..checkpoints.len() - 1] {
        let damaged = match Group::of_checkpoint(fs, older) {
            Ok(Group { segments, ledger }) => is_damaged(fs, &segments, &ledger)?,
            Err(Error::Read(ReadError::Gap { .. })) => true,
            Err(error) => return Err(error),
        };
        if damaged {
            damaged_checkpoints.push(older.path.as_path());
        }
    }
    let mut removed = Removed::default();
    remove_up_to(fs, dir, newest.index, |index| damaged.contains(&index), &mut removed)?;
    delete_checkpoints_before(fs, dir, newest.index, &damaged_checkpoints, &mut removed)?;
    Ok(removed)
}

/// Whether anything in these segments is no record, or not what was durable: the run that made the checkpoint may have
/// read over it, and been killed before it moved the evidence.
fn is_damaged(fs: &Fs, segments: &[SegmentRef], ledger: &Ledger) -> Result<bool, Error> {
    let all_valid = |block: &mut Block<'_>| {
        let mut valid = true;
        while let Some(record) = block.next() {
            valid &= wal_format::validate(record.bytes).is_ok();
        }
        valid
    };
    let mut sound = true;
    let read = parallel::read_with_ledger(fs, segments, ledger, &one_thread(), all_valid, |valid| {
        sound &= valid;
        Ok(())
    });
    match read {
        Ok(missed) => Ok(!sound || !missed.is_empty()),
        Err(ReadError::Damage(_)) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Every operation on the disk in one order.
fn one_thread() -> ParallelOptions {
    ParallelOptions { threads: 1, ..ParallelOptions::default() }
}

/// Removes the segments that checkpoint `index` stands for, which must be there and sound: its number and below, oldest
/// first, but never the newest segment.
pub fn remove_segments(fs: &Fs, dir: &Path, index: u64) -> Result<Removed, Error> {
    let mut removed = Removed::default();
    remove_up_to(fs, dir, index, |_| false, &mut removed)?;
    Ok(removed)
}

/// Removes the checkpoints before number `index`.
pub fn delete_older(fs: &Fs, dir: &Path, index: u64) -> Result<Removed, Error> {
    let mut removed = Removed::default();
    delete_checkpoints_before(fs, dir, index, &[], &mut removed)?;
    Ok(removed)
}

/// Removes what an interrupted run left of a checkpoint, and returns how many there were. Nothing else is looked at.
pub fn remove_temporaries(fs: &Fs, dir: &Path) -> Result<u64, Error> {
    let mut removed = 0;
    for entry in fs.list(dir).map_err(Error::io(dir))? {
        let Some(name) = entry.name.to_str() else { continue };
        let temporary = name.starts_with(CHECKPOINT_PREFIX) && name.ends_with(TEMPORARY_SUFFIX);
        if !temporary || entry.kind != FileKind::Dir {
            continue;
        }
        let path = dir.join(name);
        fs.remove_dir_all(&path).map_err(Error::io(&path))?;
        removed += 1;
    }
    Ok(removed)
}

fn remove_up_to(
    fs: &Fs,
    dir: &Path,
    index: u64,
    is_evidence: impl Fn(u64) -> bool,
    removed: &mut Removed,
) -> Result<(), Error> {
    fs.sync_dir(dir).map_err(Error::io(dir))?;
    let segments = layout::segments(fs, dir)?;
    let Some(newest) = segments.last().map(|segment| segment.index) else { return Ok(()) };
    for segment in segments.iter().filter(|segment| segment.index <= index && segment.index < newest) {
        if is_evidence(segment.index) {
            removed.quarantined.push(quarantine(fs, dir, &segment.path)?);
        } else {
            fs.remove_file(&segment.path).map_err(Error::io(&segment.path))?;
            removed.segments += 1;
            removed.bytes += segment.len;
        }
        // One name at a time: a crash that kept a later removal and lost an earlier one would leave a gap, and the
        // reference does not start over a gap.
        fs.sync_dir(dir).map_err(Error::io(dir))?;
    }
    Ok(())
}

fn delete_checkpoints_before(
    fs: &Fs,
    dir: &Path,
    index: u64,
    damaged: &[&Path],
    removed: &mut Removed,
) -> Result<(), Error> {
    for old in layout::checkpoints(fs, dir)?.into_iter().filter(|old| old.index < index) {
        if damaged.contains(&old.path.as_path()) {
            removed.quarantined.push(quarantine(fs, dir, &old.path)?);
        } else {
            let mut doomed = old.path.clone().into_os_string();
            doomed.push(TEMPORARY_SUFFIX);
            let doomed = PathBuf::from(doomed);
            if fs.exists(&doomed).map_err(Error::io(&doomed))? {
                fs.remove_dir_all(&doomed).map_err(Error::io(&doomed))?;
            }
            fs.rename(&old.path, &doomed).map_err(Error::io(&doomed))?;
            fs.sync_dir(dir).map_err(Error::io(dir))?;
            fs.remove_dir_all(&doomed).map_err(Error::io(&doomed))?;
            removed.checkpoints += 1;
        }
        fs.sync_dir(dir).map_err(Error::io(dir))?;
    }
    Ok(())
}

/// Moves a damaged segment or checkpoint of the log at `dir` to `quarantine/` beside it, durably and under the first free
/// name, which is returned.
pub fn quarantine(fs: &Fs, dir: &Path, path: &Path) -> Result<PathBuf, Error> {
    let place = dir.join(QUARANTINE_NAME);
    match fs.create_dir(&place) {
        Ok(()) => fs.sync_dir(dir).map_err(Error::io(dir))?,
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
        Err(e) => return Err(Error::io(&place)(e)),
    }
    let name = path.file_name().unwrap_or_default();
    let mut target = place.join(name);
    let mut n = 1;
    while fs.exists(&target).map_err(Error::io(&target))? {
        let mut numbered = name.to_owned();
        numbered.push(format!(".{n}"));
        target = place.join(numbered);
        n += 1;
    }
    fs.rename(path, &target).map_err(Error::io(&target))?;
    fs.sync_dir(&place).map_err(Error::io(&place))?;
    fs.sync_dir(dir).map_err(Error::io(dir))?;
    Ok(target)
}
