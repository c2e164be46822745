//! Writing: one file at its end, behind a buffer that can be read while it waits.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use tsdb_vfs::VfsFile;

use super::layout::{FILE_HEADER_LEN, MAX_RECORD_OVERHEAD, PREALLOCATED_LEN, RecordHead, file_header, put_record};
use super::{ChunkRef, FilesError, OpenFile, Shared, file_name, settle};

/// The file that is written to, and how far.
#[derive(Debug)]
pub(super) struct Writer {
    current: Option<Current>,
    /// The file of which an fsync failed: nothing is written until the owner has taken note.
    sync_failed: Option<PathBuf>,
}

#[derive(Debug)]
struct Current {
    number: u32,
    path: PathBuf,
    file: Arc<dyn VfsFile>,
    /// Whether anything was written since the last fsync.
    dirty: bool,
    /// An fsync failed: another one, even with success, would prove nothing.
    suspect: bool,
}

/// Records that wait to be written, readable meanwhile: `bytes` belong at `start` of file `number`.
///
/// Only the writer changes it, under its own lock; it holds the read lock while the bytes go to the file, so that readers
/// never wait for the disk.
#[derive(Debug, Default)]
pub(super) struct Tail {
    pub(super) number: u32,
    pub(super) start: u64,
    pub(super) bytes: Vec<u8>,
}

impl Tail {
    /// Where the next record goes.
    pub(super) fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// Room for `most` bytes more: the buffer grows as it is used, up to `capacity`, since many a head is opened and
    /// writes little.
    fn make_room(&mut self, most: usize, capacity: usize) {
        let needed = self.bytes.len() + most;
        if needed > self.bytes.capacity() {
            let wanted = (2 * self.bytes.capacity()).clamp(64 << 10, capacity).max(needed);
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
    }
}

impl Writer {
    pub(super) fn new() -> Mutex<Self> {
        Mutex::new(Self { current: None, sync_failed: None })
    }

    /// Puts a record at `at`, the place that was reserved for it: behind the last one, or first in the file after it.
    pub(super) fn put(
        &mut self,
        shared: &Shared,
        at: ChunkRef,
        head: &RecordHead,
        data: &[u8],
    ) -> Result<(), FilesError> {
        self.check()?;
        if self.current.as_ref().is_none_or(|current| current.number != at.file) {
            self.cut(shared, at.file)?;
        }
        let capacity = shared.options.write_buffer;
        let most = MAX_RECORD_OVERHEAD + data.len();
        // A record larger than the buffer is flushed alone, at the end.
        if most < capacity && shared.tail.read().bytes.len() + most > capacity {
            self.flush(shared)?;
        }
        {
            let mut tail = shared.tail.write();
            debug_assert_eq!(tail.end(), u64::from(at.offset), "the position and the file differ");
            tail.make_room(most, capacity);
            put_record(head, data, &mut tail.bytes);
        }
        if most >= capacity {
            // The record is in memory and stays readable: if this fails, the next flush tries again.
            self.flush(shared)?;
        }
        Ok(())
    }

    /// The number of the file that is open for writing.
    pub(super) fn number(&self) -> Option<u32> {
        self.current.as_ref().map(|current| current.number)
    }

    fn check(&self) -> Result<(), FilesError> {
        match &self.sync_failed {
            Some(path) => Err(FilesError::SyncFailed { path: path.clone() }),
            None => Ok(()),
        }
    }

    /// Finishes the current file and begins number `number`.
    fn cut(&mut self, shared: &Shared, number: u32) -> Result<(), FilesError> {
        self.finish(shared)?;
        let path = shared.dir.join(file_name(number));
        let file: Arc<dyn VfsFile> = shared.fs.create_new(&path).map_err(FilesError::io("create", &path))?.into();
        if let Err(error) = begin(shared, &*file, &path) {
            // An empty file would be taken for damage; if it cannot be removed, it is at least removed on the next open.
            let _unremovable = shared.fs.remove_file(&path);
            return Err(error);
        }
        shared.files.write().insert(number, OpenFile { path: path.clone(), file: Arc::clone(&file) });
        *shared.tail.write() = Tail { number, start: FILE_HEADER_LEN as u64, bytes: Vec::new() };
        self.current = Some(Current { number, path, file, dirty: false, suspect: false });
        Ok(())
    }

    /// Flushes and syncs the current file and forgets it: the next record begins another.
    pub(super) fn finish(&mut self, shared: &Shared) -> Result<(), FilesError> {
        self.sync(shared)?;
        self.current = None;
        Ok(())
    }

    /// Hands what waits to the file; readable from there by everyone, durable not yet.
    ///
    /// If it fails, everything still waits and is readable, and the next attempt writes the same bytes to the same place.
    pub(super) fn flush(&mut self, shared: &Shared) -> Result<(), FilesError> {
        self.check()?;
        let Some(current) = &mut self.current else { return Ok(()) };
        let tail = shared.tail.upgradable_read();
        if tail.bytes.is_empty() {
            return Ok(());
        }
        current.dirty = true;
        current.file.write_all_at(&tail.bytes, tail.start).map_err(FilesError::io("write", &current.path))?;
        let mut tail = parking_lot::RwLockUpgradableReadGuard::upgrade(tail);
        tail.start = tail.end();
        tail.bytes.clear();
        Ok(())
    }

    /// Flushes and makes durable.
    pub(super) fn sync(&mut self, shared: &Shared) -> Result<(), FilesError> {
        self.flush(shared)?;
        let Some(current) = &mut self.current else { return Ok(()) };
        if current.dirty && !current.suspect {
            if let Err(source) = current.file.sync_data() {
                self.sync_failed = Some(current.path.clone());
                settle::mark(&*shared.fs, &shared.dir, current.number);
                return Err(FilesError::Io { action: "sync", path: current.path.clone(), source });
            }
            current.dirty = false;
        }
        Ok(())
    }

    /// Takes note of a failed fsync. What has its place in that file still goes there, but is not synced any more.
    pub(super) fn recover(&mut self) -> Option<PathBuf> {
        let path = self.sync_failed.take()?;
        if let Some(current) = &mut self.current {
            current.suspect = true;
        }
        Some(path)
    }
}

/// Length, header and name of a new file, all durable before a record goes in.
///
/// The reference writes the header unsynced and last, which is how files of zeros come about after a power cut.
fn begin(shared: &Shared, file: &dyn VfsFile, path: &std::path::Path) -> Result<(), FilesError> {
    file.allocate(0, PREALLOCATED_LEN).map_err(FilesError::io("preallocate", path))?;
    file.write_all_at(&file_header(), 0).map_err(FilesError::io("write", path))?;
    file.sync_all().map_err(FilesError::io("sync", path))?;
    shared.fs.sync_dir(&shared.dir).map_err(FilesError::io("sync", &shared.dir))
}

/// The place that the next chunk gets, ahead of the writer when there is a queue between them.
#[derive(Debug)]
pub(super) struct Position {
    /// The last file's number; 0 before the first.
    pub(super) number: u32,
    /// Where the next record goes in it; 0 when a new file has to begin.
    pub(super) offset: u64,
}

impl Position {
    /// Reserves room for a record of `len` bytes.
    pub(super) fn reserve(&mut self, len: u64, max: u64) -> ChunkRef {
        if self.offset == 0 || self.offset + len > max {
            self.number += 1;
            self.offset = FILE_HEADER_LEN as u64;
        }
        let reserved = ChunkRef { file: self.number, offset: self.offset as u32 };
        self.offset += len;
        reserved
    }

    /// The next record begins a new file.
    pub(super) fn cut(&mut self) {
        self.offset = 0;
    }
}

pub(super) type SharedTail = RwLock<Tail>;
