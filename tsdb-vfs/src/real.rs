//! The operating system's files.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::vfs::{DirEntry, FileKind, Map, Metadata, Vfs, VfsFile, VfsLock};
use crate::{NotRegular, is_not_regular};

/// How often taking a lock starts over because the lock file was unlinked meanwhile, before it counts as taken.
const LOCK_ATTEMPTS: usize = 16;

/// Most buffers that one pwritev(2) takes; more are a short write.
const IOV_MAX: usize = 1024;

/// The operating system's file system (Unix).
///
/// # Locks
///
/// [`lock`](Vfs::lock) is an exclusive `flock(2)`, as Prometheus takes it on the file `lock` of its data directory.
/// Prometheus unlinks that file *after* it let go of the lock, so a lock taken in between is one on a file without a
/// name, beside which a third process could lock a new one. Therefore the inode is compared with the name's once the
/// lock is held, and taking it starts over if they differ. For the same reason our own release leaves the file in place:
/// Prometheus then says that it found one of a previous run, and nothing else changes.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealFs {
    _private: (),
}

impl RealFs {
    /// The operating system's file system.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Vfs for RealFs {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        // O_CREAT|O_EXCL does not follow links and refuses everything that is there.
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        Ok(Box::new(RealFile(file)))
    }

    fn open_read(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        Ok(Box::new(RealFile(open_regular(path, OpenOptions::new().read(true))?)))
    }

    fn open_write(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        Ok(Box::new(RealFile(open_regular(path, OpenOptions::new().read(true).write(true))?)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            // Not followed: this is lstat(2).
            let Metadata { kind, len } = match entry.metadata() {
                Ok(found) => describe(&found),
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            entries.push(DirEntry { name: entry.file_name(), kind, len });
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        Ok(describe(&std::fs::symlink_metadata(path)?))
    }

    fn dir_exists(&self, path: &Path) -> io::Result<bool> {
        match std::fs::metadata(path) {
            Ok(found) => Ok(found.is_dir()),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir_all(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        OpenOptions::new().read(true).custom_flags(flags(OFlags::DIRECTORY)).open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn VfsLock>> {
        for _ in 0..LOCK_ATTEMPTS {
            let file = open_regular(path, OpenOptions::new().read(true).write(true).create(true).truncate(false))?;
            file.try_lock()?;
            let lock = RealLock { file, path: path.to_owned() };
            if lock.is_current()? {
                return Ok(Box::new(lock));
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }
}

fn flags(flags: OFlags) -> i32 {
    // The kernel's flag word; what rustix holds as unsigned, std wants signed.
    flags.bits().cast_signed()
}

/// Opens without following a link, without waiting for a FIFO's writer, and refuses what is not a regular file: a
/// hostile directory can neither lead out of itself nor hang its reader.
fn open_regular(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let opened = options.custom_flags(flags(OFlags::NOFOLLOW | OFlags::NONBLOCK)).open(path).and_then(|file| {
        match describe(&file.metadata()?).kind {
            FileKind::File => Ok(file),
            found => Err(NotRegular { found }.into()),
        }
    });
    opened.map_err(|e| if is_not_regular(&e) { e } else { explain_refusal(path, e) })
}

/// The kernel refuses links, directories and sockets with a different number each; the name's kind says it in one way.
fn explain_refusal(path: &Path, e: io::Error) -> io::Error {
    let refusals = [Errno::LOOP, Errno::ISDIR, Errno::NXIO, Errno::MLINK];
    if !refusals.iter().any(|errno| e.raw_os_error() == Some(errno.raw_os_error())) {
        return e;
    }
    match std::fs::symlink_metadata(path).map(|m| describe(&m).kind) {
        Ok(FileKind::File) | Err(_) => e,
        Ok(found) => NotRegular { found }.into(),
    }
}

fn describe(found: &std::fs::Metadata) -> Metadata {
    let kind = found.file_type();
    if kind.is_file() {
        return Metadata { kind: FileKind::File, len: found.len() };
    }
    let kind = if kind.is_dir() {
        FileKind::Dir
    } else if kind.is_symlink() {
        FileKind::Symlink
    } else {
        FileKind::Other
    };
    Metadata { kind, len: 0 }
}

#[derive(Debug)]
struct RealFile(File);

impl VfsFile for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(buf, offset)
    }

    fn write_vectored_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(&self.0, &bufs[..bufs.len().min(IOV_MAX)], offset)?)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        let reserved = rustix::io::retry_on_intr(|| {
            rustix::fs::fallocate(&self.0, rustix::fs::FallocateFlags::empty(), offset, len)
        });
        match reserved {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                let end = offset.checked_add(len).ok_or(io::ErrorKind::InvalidInput)?;
                if self.len()? < end { self.set_len(end) } else { Ok(()) }
            }
            other => Ok(other?),
        }
    }

    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        let reserved = rustix::io::retry_on_intr(|| {
            rustix::fs::fallocate(&self.0, rustix::fs::FallocateFlags::KEEP_SIZE, offset, len)
        });
        match reserved {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            other => Ok(other?),
        }
    }

    fn map(&self) -> io::Result<Map> {
        if self.len()? == 0 {
            return Ok(Map::owned([]));
        }
        // SAFETY: the mapping is read-only, and its contract (`VfsFile::map`) asks for a file that nobody cuts or
        // overwrites while it is mapped: callers map only files of a directory whose lock they hold.
        let map = unsafe { memmap2::Mmap::map(&self.0)? };
        Ok(Map::mapped(map))
    }
}

/// Holds the flock by holding the file open.
#[derive(Debug)]
struct RealLock {
    file: File,
    path: PathBuf,
}

impl VfsLock for RealLock {
    fn is_current(&self) -> io::Result<bool> {
        let held = self.file.metadata()?;
        match std::fs::symlink_metadata(&self.path) {
            Ok(named) => Ok((held.dev(), held.ino()) == (named.dev(), named.ino())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }
}
