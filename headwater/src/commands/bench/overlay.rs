//! A directory as if it had no chunk files, for timing the replay of the log alone; nothing is copied or moved.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use tsdb_vfs::{DirEntry, Fs, Metadata, Vfs, VfsFile, VfsLock};

const HIDDEN: &str = "chunks_head";

/// The file system below, but `chunks_head` is empty, and nothing can be written.
#[derive(Debug)]
pub(crate) struct WithoutChunks(pub(crate) Fs);

fn is_hidden(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == OsStr::new(HIDDEN))
}

fn visible(path: &Path) -> io::Result<&Path> {
    if is_hidden(path) { Err(io::ErrorKind::NotFound.into()) } else { Ok(path) }
}

fn read_only<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl Vfs for WithoutChunks {
    fn open_read(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        self.0.open_read(visible(path)?)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        if is_hidden(dir) { Ok(Vec::new()) } else { self.0.list(dir) }
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.0.metadata(visible(path)?)
    }

    fn dir_exists(&self, path: &Path) -> io::Result<bool> {
        self.0.dir_exists(path)
    }

    fn create_new(&self, _: &Path) -> io::Result<Box<dyn VfsFile>> {
        read_only()
    }

    fn open_write(&self, _: &Path) -> io::Result<Box<dyn VfsFile>> {
        read_only()
    }

    fn create_dir(&self, _: &Path) -> io::Result<()> {
        read_only()
    }

    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        read_only()
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        read_only()
    }

    fn remove_file(&self, _: &Path) -> io::Result<()> {
        read_only()
    }

    fn remove_dir_all(&self, _: &Path) -> io::Result<()> {
        read_only()
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        read_only()
    }

    fn lock(&self, _: &Path) -> io::Result<Box<dyn VfsLock>> {
        read_only()
    }
}
