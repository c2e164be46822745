//! What stands in a `chunks_head` directory.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use tsdb_vfs::{FileKind, Vfs};

use super::FilesError;

/// The name of a chunk file: its number in six digits, or more where six do not do.
#[must_use]
pub fn file_name(number: u32) -> String {
    format!("{number:06}")
}

/// The number that a name stands for: digits only, as the reference reads them.
#[must_use]
pub fn parse_file_name(name: &OsStr) -> Option<u32> {
    let name = name.to_str()?;
    (!name.is_empty() && name.bytes().all(|b| b.is_ascii_digit())).then(|| name.parse().ok())?
}

/// A chunk file as the directory shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Its number.
    pub number: u32,
    /// Where it is; the name need not be the one that [`file_name`] would give.
    pub path: PathBuf,
    /// Its length in bytes.
    pub len: u64,
    /// What has the name; only a regular file is ever opened.
    pub kind: FileKind,
}

/// The chunk files of a directory in the order of their numbers. Other names are left out; of two names for one number
/// (`1` and `000001`) the canonical one counts.
///
/// # Errors
/// When the directory cannot be listed.
pub fn list_files(fs: &dyn Vfs, dir: &Path) -> Result<Vec<FileEntry>, FilesError> {
    let mut files = BTreeMap::new();
    for entry in fs.list(dir).map_err(FilesError::io("list", dir))? {
        let Some(number) = parse_file_name(&entry.name) else { continue };
        let canonical = entry.name == *file_name(number);
        if canonical || !files.contains_key(&number) {
            let path = dir.join(&entry.name);
            files.insert(number, FileEntry { number, path, len: entry.len, kind: entry.kind });
        }
    }
    Ok(files.into_values().collect())
}

/// Creates a directory, and those above it, durably. One that is there already may have been made by a process that died
/// before its name was durable: its name is synced too.
pub(super) fn create_dir(fs: &dyn Vfs, dir: &Path) -> Result<(), FilesError> {
    let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
        return fs.create_dir_all(dir).map_err(FilesError::io("create", dir));
    };
    let made = !fs.dir_exists(dir).map_err(FilesError::io("look at", dir))?;
    if made {
        create_dir(fs, parent)?;
        fs.create_dir(dir).map_err(FilesError::io("create", dir))?;
    }
    let synced = fs.sync_dir(parent);
    if made && synced.is_err() {
        // So that the next attempt finds nothing and begins again.
        fs.remove_dir_all(dir).map_err(FilesError::io("remove", dir))?;
    }
    synced.map_err(FilesError::io("sync", parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_digits_only() {
        let number = |name: &str| parse_file_name(OsStr::new(name));
        assert_eq!(number("000001"), Some(1));
        assert_eq!(number("1"), Some(1));
        assert_eq!(number("4294967295"), Some(u32::MAX));
        for other in ["", "-1", "+2", "4294967296", "1a", "000001.tmp", "١"] {
            assert_eq!(number(other), None, "{other}");
        }
        assert_eq!(file_name(7), "000007");
        assert_eq!(file_name(12_345_678), "12345678");
    }
}
