//! Making durable, on opening, what an earlier process has left. Otherwise a power cut could take it and keep what is
//! written behind it: chunks would be missing in the middle, and nothing would say so.
//!
//! After a failed fsync the kernel counts pages as clean that the disk does not have, and says so once: syncing again
//! proves nothing. So whom an fsync fails leaves a mark beside the file, and the next opening writes the file once more. The
//! mark need not be durable: a power cut takes what is in doubt along with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tsdb_vfs::{Vfs, VfsFile};

use super::dir::{FileEntry, file_name, parse_file_name};
use super::layout::PREALLOCATED_LEN;
use super::{FilesError, OpenFile};

/// What a mark's name has behind the file's. The reference ignores names that are no numbers.
const MARK: &str = "unsynced";

fn mark_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{}.{MARK}", file_name(number)))
}

/// Notes that an fsync of a file has failed.
pub(super) fn mark(fs: &dyn Vfs, dir: &Path, number: u32) {
    // A disk that takes not even this will hardly take another chunk.
    let _marked = fs.create_new(&mark_path(dir, number));
}

/// Makes the last file, its name and every marked file durable.
pub(super) fn settle(
    fs: &dyn Vfs,
    dir: &Path,
    last: Option<&FileEntry>,
    files: &BTreeMap<u32, OpenFile>,
) -> Result<(), FilesError> {
    let mut marks = Vec::new();
    for entry in fs.list(dir).map_err(FilesError::io("list", dir))? {
        let path = dir.join(&entry.name);
        if path.extension().is_some_and(|extension| extension == MARK)
            && let Some(number) = path.file_stem().and_then(parse_file_name)
        {
            if let Some(open) = files.get(&number) {
                rewrite(fs, open)?;
                sync(fs, dir, number, open)?;
            }
            marks.push(path);
        }
    }
    let Some(last) = last else { return Ok(()) };
    if let Some(open) = files.get(&last.number) {
        sync(fs, dir, last.number, open)?;
    }
    fs.sync_dir(dir).map_err(FilesError::io("sync", dir))?;
    marks.iter().try_for_each(|mark| fs.remove_file(mark).map_err(FilesError::io("remove", mark)))
}

fn sync(fs: &dyn Vfs, dir: &Path, number: u32, open: &OpenFile) -> Result<(), FilesError> {
    open.file.sync_all().map_err(|source| {
        mark(fs, dir, number);
        FilesError::Io { action: "sync", path: open.path.clone(), source }
    })
}

/// Writes a file's bytes to where they are. What cannot be read is damage, and found as such.
fn rewrite(fs: &dyn Vfs, open: &OpenFile) -> Result<(), FilesError> {
    let file: Box<dyn VfsFile> = fs.open_write(&open.path).map_err(FilesError::io("open", &open.path))?;
    let mut piece = vec![0; PREALLOCATED_LEN as usize];
    let mut offset = 0;
    while let Ok(read) = open.file.read_full_at(&mut piece, offset)
        && read > 0
    {
        file.write_all_at(&piece[..read], offset).map_err(FilesError::io("write", &open.path))?;
        offset += read as u64;
    }
    Ok(())
}
