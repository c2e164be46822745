//! The traits: what a log needs of a file system, and nothing else.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, IoSlice};
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

/// A shared file system, as every layer above takes it.
pub type Fs = Arc<dyn Vfs>;

/// What stands under a name, the name itself not followed if it is a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link, wherever it leads.
    Symlink,
    /// A FIFO, socket or device.
    Other,
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FileKind::File => "a regular file",
            FileKind::Dir => "a directory",
            FileKind::Symlink => "a symbolic link",
            FileKind::Other => "a FIFO, socket or device",
        })
    }
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The bare name.
    pub name: OsString,
    /// What it names.
    pub kind: FileKind,
    /// Length in bytes of a regular file, 0 of anything else.
    pub len: u64,
}

/// What is known of a path without opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// What it names.
    pub kind: FileKind,
    /// Length in bytes of a regular file, 0 of anything else.
    pub len: u64,
}

/// A file system: names, directories and locks.
///
/// The last component of a file's path is never followed if it is a symbolic link. A change of names (create, rename,
/// remove) is visible at once and durable only after [`sync_dir`](Vfs::sync_dir) of the directory it happened in.
pub trait Vfs: Send + Sync + fmt::Debug {
    /// Creates a regular file for reading and writing. [`io::ErrorKind::AlreadyExists`] if anything has that name.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn VfsFile>>;

    /// Opens an existing regular file for reading; [`NotRegular`](crate::NotRegular) for anything else.
    fn open_read(&self, path: &Path) -> io::Result<Box<dyn VfsFile>>;

    /// Opens an existing regular file for reading and writing, its contents kept;
    /// [`NotRegular`](crate::NotRegular) for anything else.
    fn open_write(&self, path: &Path) -> io::Result<Box<dyn VfsFile>>;

    /// Everything in a directory, sorted by name. An entry that vanishes while the directory is read may be left out.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;

    /// Kind and length of what has this name, a symbolic link not followed. [`io::ErrorKind::NotFound`] if nothing has.
    fn metadata(&self, path: &Path) -> io::Result<Metadata>;

    /// Whether there is a directory at `path`, reached through links or not. Errors other than "not there" are errors.
    fn dir_exists(&self, path: &Path) -> io::Result<bool>;

    /// Creates a directory whose parent exists. [`io::ErrorKind::AlreadyExists`] if anything has that name.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Creates a directory and every missing parent; fine if it is there already. Makes nothing durable: each parent in
    /// which a name appeared needs its own [`sync_dir`](Vfs::sync_dir).
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Gives a file or directory another name on the same file system. A regular file that has the new name is replaced
    /// atomically, and so is an empty directory by a directory; a directory that is not empty is an error.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a name that is not a directory's. Open handles stay usable.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory and all in it, links not followed. Not atomic: a failure leaves some of it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable: every create, rename and remove that happened in it before this call.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Takes the exclusive lock that `path` stands for, creating the file if need be, without waiting:
    /// [`io::ErrorKind::WouldBlock`] if another holder, in this process or another, has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn VfsLock>>;

    /// Whether anything has this name, a dangling symbolic link included.
    fn exists(&self, path: &Path) -> io::Result<bool> {
        match self.metadata(path) {
            Ok(_) => Ok(true),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// A whole file's bytes; for small files, as it allocates their length.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open_read(path)?;
        let mut bytes = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
        let n = file.read_full_at(&mut bytes, 0)?;
        bytes.truncate(n);
        Ok(bytes)
    }

    /// Creates a file with these bytes and makes them, not yet the name, durable. If that fails the file may be there,
    /// in part.
    fn write_new(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let file = self.create_new(path)?;
        file.write_all_at(bytes, 0)?;
        file.sync_all()
    }
}

/// An open regular file, usable from many threads at once.
///
/// Bytes and length are visible at once to every handle and durable only after [`sync_data`](VfsFile::sync_data). After
/// a sync that **failed** nothing is known of what was written since the last one that succeeded, and a sync repeated
/// with success proves nothing: the kernel may have dropped the pages and marked them clean.
pub trait VfsFile: Send + Sync + fmt::Debug {
    /// Reads into `buf` from `offset`; may read less than asked for, 0 only at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes `buf` at `offset`, extending the file (with zeros, if `offset` lies behind its end). May write less than
    /// given: the count says how much.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize>;

    /// As [`write_at`](VfsFile::write_at), from several buffers in one call.
    fn write_vectored_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;

    /// The file's length in bytes, as of now.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts or extends (with zeros) the file to `len` bytes.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes the bytes durable, and of the metadata what is needed to read them back: the length.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes bytes and all metadata durable.
    fn sync_all(&self) -> io::Result<()>;

    /// Reserves space for `offset..offset + len`, extending the file with zeros if it is shorter, so that later writes
    /// there cannot meet a full disk. Where the file system has no such operation, the file is only extended.
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Reserves space for `offset..offset + len`, which lies behind the file's end, and leaves the length as it is: writes
    /// there are cheaper and do not meet a full disk. A hint; where the file system has no such operation, nothing happens.
    /// [`set_len`](VfsFile::set_len), to the length that the file has, too, gives back what lies behind the end.
    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        let _ = (offset, len);
        Ok(())
    }

    /// The file's bytes as they are now, for random reads.
    ///
    /// Real files are mapped into memory: a process that cuts a mapped file kills the reader with SIGBUS. Map only files
    /// of a directory whose lock is held, and read others with [`read_at`](VfsFile::read_at).
    fn map(&self) -> io::Result<Map>;

    /// Reads until `buf` is full or the file ends, and says how much that was.
    fn read_full_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    /// Reads all of `buf`; [`io::ErrorKind::UnexpectedEof`] if the file ends before that.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        if self.read_full_at(buf, offset)? < buf.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    /// Writes all of `buf`, going on after short writes and interruptions. After an error any part of it may have been
    /// written.
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_vectored_at(&mut [IoSlice::new(buf)], offset)
    }

    /// As [`write_all_at`](VfsFile::write_all_at), from several buffers. `bufs` is used up on the way.
    fn write_all_vectored_at(&self, mut bufs: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        // Leading empty buffers would make a finished write look like a disk that accepts nothing.
        IoSlice::advance_slices(&mut bufs, 0);
        while !bufs.is_empty() {
            let written = match &*bufs {
                [one] => self.write_at(one, offset),
                many => self.write_vectored_at(many, offset),
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    IoSlice::advance_slices(&mut bufs, n);
                    offset += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// A held lock. Dropping it releases it; the lock file stays where it is.
pub trait VfsLock: Send + Sync + fmt::Debug {
    /// Whether the lock file still has its name. Who unlinks it (Prometheus does, releasing *its* lock) lets others lock
    /// a new file of that name, so a long-running holder may want to ask.
    fn is_current(&self) -> io::Result<bool>;
}

/// A file's bytes, see [`VfsFile::map`].
pub struct Map(Repr);

enum Repr {
    Mapped(memmap2::Mmap),
    Owned(Box<[u8]>),
}

impl Map {
    pub(crate) fn mapped(map: memmap2::Mmap) -> Self {
        Map(Repr::Mapped(map))
    }

    /// A map over bytes in memory: for file systems that have nothing to map.
    pub fn owned(bytes: impl Into<Box<[u8]>>) -> Self {
        Map(Repr::Owned(bytes.into()))
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Repr::Mapped(map) => map,
            Repr::Owned(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Map {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map").field("len", &self.len()).finish_non_exhaustive()
    }
}
