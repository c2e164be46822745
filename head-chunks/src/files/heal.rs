//! Making damaged chunk files whole again, for Prometheus' sake: it gives up a damaged file and all later ones, and does
//! not start at all with a broken header or a gap in the sequence.
//!
//! A chunk's reference is its offset, so nothing that is sound may move. Damage is overwritten in place by a *filler*: a
//! record of exactly its length that belongs to no series. The file as it was is copied to `quarantine/` first.

use std::path::{Path, PathBuf};

use tsdb_model::SeriesRef;
use tsdb_vfs::Vfs;

use super::layout::{FILE_HEADER_LEN, PREALLOCATED_LEN, file_header, filler};
use super::{ChunkRef, Damage, Fault, FilesError, file_name};

/// What healing did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HealReport {
    /// Copies of files as they were.
    pub quarantined: Vec<PathBuf>,
    /// Damage that is no more: overwritten by fillers, cut off at the end of a file, or a header put right.
    pub healed: Vec<Damage>,
    /// Damage that stayed: in files that cannot be read, or too short for a filler.
    pub left: Vec<Damage>,
    /// Files without chunks that close a gap in the sequence.
    pub created: Vec<PathBuf>,
}

/// The folder beside the chunk files that keeps what was damaged. The reference ignores names that are no numbers.
pub const QUARANTINE: &str = "quarantine";

/// Makes the files of `dir` whole: `damages` as [`super::ChunkFiles::iterate`] reported them, `gaps` as opening did.
///
/// Can be interrupted and repeated: copies are durable before anything is overwritten. Nobody else may use the directory.
///
/// # Errors
/// When the disk refuses; what was done by then stays done.
pub fn heal(
    fs: &dyn Vfs,
    dir: &Path,
    damages: &[Damage],
    gaps: &[core::ops::Range<u32>],
) -> Result<HealReport, FilesError> {
    let mut report = HealReport::default();
    for of_file in damages.chunk_by(|a, b| a.file == b.file) {
        heal_file(fs, dir, of_file, &mut report)?;
    }
    for number in gaps.iter().cloned().flatten() {
        let path = dir.join(file_name(number));
        fs.write_new(&path, &file_header()).map_err(FilesError::io("create", &path))?;
        report.created.push(path);
    }
    if !report.created.is_empty() {
        fs.sync_dir(dir).map_err(FilesError::io("sync", dir))?;
    }
    Ok(report)
}

fn heal_file(fs: &dyn Vfs, dir: &Path, damages: &[Damage], report: &mut HealReport) -> Result<(), FilesError> {
    let Some(first) = damages.first() else { return Ok(()) };
    if damages.iter().any(|damage| damage.fault == Fault::Unreadable) {
        report.left.extend_from_slice(damages);
        return Ok(());
    }
    report.quarantined.push(quarantine(fs, dir, first)?);
    let path = &first.path;
    let io = |action| FilesError::io(action, path);
    let file = fs.open_write(path).map_err(io("open"))?;
    for damage in damages {
        let at = ChunkRef { file: damage.file, offset: damage.offset as u32 };
        if damage.offset == 0 {
            file.write_all_at(&file_header(), 0).map_err(io("write"))?;
        } else if damage.at_end {
            file.set_len(damage.offset).map_err(io("truncate"))?;
        } else if let Some(filler) = filler(at, damage.len) {
            file.write_all_at(&filler, damage.offset).map_err(io("write"))?;
        } else {
            report.left.push(damage.clone());
            continue;
        }
        report.healed.push(damage.clone());
    }
    file.sync_all().map_err(io("sync"))
}

/// Copies a file as it is, durably, under a name that was free.
fn quarantine(fs: &dyn Vfs, dir: &Path, damage: &Damage) -> Result<PathBuf, FilesError> {
    let folder = dir.join(QUARANTINE);
    if !fs.dir_exists(&folder).map_err(FilesError::io("look at", &folder))? {
        fs.create_dir(&folder).map_err(FilesError::io("create", &folder))?;
    }
    let mut n = 1;
    let copy = loop {
        let copy = folder.join(format!("{}.{n}", file_name(damage.file)));
        if !fs.exists(&copy).map_err(FilesError::io("look at", &copy))? {
            break copy;
        }
        n += 1;
    };
    let from = fs.open_read(&damage.path).map_err(FilesError::io("open", &damage.path))?;
    let to = fs.create_new(&copy).map_err(FilesError::io("create", &copy))?;
    let mut piece = vec![0; PREALLOCATED_LEN as usize];
    let mut offset = 0;
    loop {
        let read = from.read_full_at(&mut piece, offset).map_err(FilesError::io("read", &damage.path))?;
        if read == 0 {
            break;
        }
        to.write_all_at(&piece[..read], offset).map_err(FilesError::io("write", &copy))?;
        offset += read as u64;
    }
    to.sync_all().map_err(FilesError::io("sync", &copy))?;
    fs.sync_dir(&folder).map_err(FilesError::io("sync", &folder))?;
    // The folder's own name too: who made it may have died before that was durable.
    fs.sync_dir(dir).map_err(FilesError::io("sync", dir))?;
    Ok(copy)
}

/// The series that a filler belongs to: none, and another one for every filler, as the reference refuses two chunks of one
/// series that are out of order.
pub(super) fn filler_series(at: ChunkRef) -> SeriesRef {
    SeriesRef(1 << 63 | at.to_u64())
}

const _: () = assert!(FILE_HEADER_LEN == 8);
