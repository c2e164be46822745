//! Head chunk files: full chunks of a head, appended to numbered files and read back at random.
//!
//! A directory (`chunks_head`) holds files `000001`, `000002`, … of at most 128 MiB, laid out as in `layout.rs`. They are a
//! second home, not the only one: until a head is truncated, its log holds every sample that is here. So what is damaged
//! here is dropped and *reported*, and its owner rebuilds it from the log.
//!
//! # Promises
//! * A chunk that was written is read back, from the moment [`ChunkFiles::write`] returns: out of memory until it reaches
//!   the file, and out of the file then, its checksum verified on every read.
//! * It is durable once [`ChunkFiles::sync`] has returned, or once its file was finished. After an fsync that failed
//!   nothing is written until the owner has taken note ([`ChunkFiles::recover`]).
//! * Damage costs the chunks that it touches, whatever it is: [`ChunkFiles::iterate`] yields all the others and lists every
//!   stretch that it left out. Reading changes nothing on disk.
//! * Files are read with `pread`, never through a map: a map of a file that somebody cuts kills the process (SIGBUS), and
//!   a lock keeps out only those who ask for it. The page cache behind both is the same; what a map saves is the copy. Of
//!   128 MiB, per 331 bytes: 30 ns with `pread` in pieces of 256 KiB, 16 with a map, 20 with one that is populated ahead; on
//!   two threads 18, 12 and 19. So pieces of a file are read on all threads instead.
//! * Opening for writing makes the directory's name durable, what it creates above it, and what the last file holds: no
//!   chunk is ever durable while one that was written before it, and found by an opening, is not.
//!
//! ```
//! use std::sync::Arc;
//! use head_chunks::Encoding;
//! use head_chunks::files::{ChunkFiles, NewChunk, Options};
//! use head_chunks::xor::XorAppender;
//! use tsdb_model::SeriesRef;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let tmp = tempfile::tempdir()?;
//! # let dir = tmp.path().join("chunks_head");
//! let mut appender = XorAppender::new();
//! appender.append(1_000, 0.5)?;
//!
//! let (files, report) = ChunkFiles::open(Arc::new(tsdb_vfs::RealFs::new()), &dir, Options::default())?;
//! assert!(report.is_sound());
//! let data = appender.to_bytes();
//! let chunk = NewChunk { series: SeriesRef(7), mint: 1_000, maxt: 1_000, encoding: Encoding::Xor, data: &data, out_of_order: false };
//! let chunk_ref = files.write(&chunk)?;
//! assert_eq!(files.read(chunk_ref)?.data, data);
//! files.close()?;
//! # Ok(())
//! # }
//! ```

mod crc;
mod dir;
mod error;
mod heal;
mod layout;
mod pieces;
mod queue;
mod read;
mod scan;
mod settle;
mod writer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use parking_lot::{Mutex, RwLock};
use tsdb_model::SeriesRef;
use tsdb_vfs::{FileKind, Fs, VfsFile};

pub use dir::{FileEntry, file_name, list_files, parse_file_name};
pub use error::{Damage, Fault, FilesError};
pub use heal::{HealReport, QUARANTINE, heal};
pub use layout::{
    ChunkMeta, ChunkRef, FILE_HEADER_LEN, MAGIC, MAX_FILE_LEN, MAX_RECORD_OVERHEAD, PREALLOCATED_LEN, VERSION,
};
pub use read::ScanReport;

use crate::Encoding;
use layout::{RecordHead, record_len};
use queue::{Job, Queue};
use writer::{Position, SharedTail, Tail, Writer};

/// How chunk files are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Records wait in memory until there are so many bytes of them, 64 KiB to 8 MiB and a multiple of 1 KiB. 4 MiB as in
    /// the reference.
    pub write_buffer: usize,
    /// A file is cut before it would exceed so many bytes; [`MAX_FILE_LEN`] as in the reference, and at most 4 GiB, which
    /// is what an offset can say.
    pub max_file_len: u64,
    /// How many chunks may wait for a thread that writes them; 0, as in the reference, writes them at once, without one.
    pub queue: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { write_buffer: 4 << 20, max_file_len: MAX_FILE_LEN, queue: 0 }
    }
}

impl Options {
    fn check(&self) -> Result<(), FilesError> {
        let option = |option, expected, found| Err(FilesError::Option { option, expected, found });
        if !(64 << 10..=8 << 20).contains(&self.write_buffer) || !self.write_buffer.is_multiple_of(1024) {
            return option("write_buffer", "64 KiB to 8 MiB, a multiple of 1 KiB", self.write_buffer as u64);
        }
        if !(PREALLOCATED_LEN..=1 << 32).contains(&self.max_file_len) {
            return option("max_file_len", "128 KiB to 4 GiB", self.max_file_len);
        }
        Ok(())
    }
}

/// What opening a directory found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// The chunk files, in the order of their numbers.
    pub files: Vec<FileEntry>,
    /// The last file, when it held nothing but zeros and was removed: a crash right after its creation leaves one.
    pub removed_empty: Option<PathBuf>,
    /// Numbers that are missing between the first file and the last.
    pub gaps: Vec<core::ops::Range<u32>>,
    /// Files that do not begin as chunk files do, or cannot be opened. What is sound in them is read all the same.
    pub damages: Vec<Damage>,
}

impl OpenReport {
    /// Whether nothing was missing or damaged. Says nothing of the records: [`ChunkFiles::iterate`] looks at those.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.gaps.is_empty() && self.damages.is_empty()
    }
}

/// A chunk to write.
#[derive(Debug, Clone, Copy)]
pub struct NewChunk<'a> {
    /// The series it belongs to; not 0.
    pub series: SeriesRef,
    /// Time of its first sample, milliseconds since the epoch.
    pub mint: i64,
    /// Time of its last sample.
    pub maxt: i64,
    /// How `data` is laid out.
    pub encoding: Encoding,
    /// The chunk's bytes.
    pub data: &'a [u8],
    /// Whether it holds out-of-order samples.
    pub out_of_order: bool,
}

/// The chunk files of one directory: one writer, many readers, shared by reference.
#[derive(Debug)]
pub struct ChunkFiles {
    shared: Arc<Shared>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

/// What writer and readers share. Locks are taken in the order position, writer, then tail or files.
#[derive(Debug)]
struct Shared {
    fs: Fs,
    dir: PathBuf,
    options: Options,
    read_only: bool,
    closed: AtomicBool,
    position: Mutex<Position>,
    writer: Mutex<Writer>,
    tail: SharedTail,
    files: RwLock<BTreeMap<u32, OpenFile>>,
    queue: Option<Queue>,
}

/// A file that chunks are read from.
#[derive(Debug, Clone)]
struct OpenFile {
    path: PathBuf,
    file: Arc<dyn VfsFile>,
}

impl ChunkFiles {
    /// Opens a directory for reading and writing; creates it if it is not there. New chunks go to a new file. The caller
    /// holds whatever lock keeps others out.
    ///
    /// What the last file holds is made durable; one of which an fsync failed is written once more. What opening changes
    /// besides is a last file of nothing but zeros, or of no length: it is removed, as the reference does. Whatever else is
    /// wrong is in the report.
    ///
    /// # Errors
    /// When the directory cannot be created or listed, or an option is out of range; never because of what is in a file.
    pub fn open(fs: Fs, dir: &Path, options: Options) -> Result<(Self, OpenReport), FilesError> {
        options.check()?;
        dir::create_dir(&*fs, dir)?;
        Self::open_with(fs, dir, options, false)
    }

    /// Opens a directory for reading only: nothing is created, changed or removed. One that is not there holds no files.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn open_read_only(fs: Fs, dir: &Path) -> Result<(Self, OpenReport), FilesError> {
        Self::open_with(fs, dir, Options::default(), true)
    }

    fn open_with(fs: Fs, dir: &Path, options: Options, read_only: bool) -> Result<(Self, OpenReport), FilesError> {
        // A head that never filled a chunk, or whose chunks were thrown away, has no directory; a reader makes none.
        let none = read_only && !fs.dir_exists(dir).map_err(FilesError::io("look for", dir))?;
        let files = if none { Vec::new() } else { list_files(&*fs, dir)? };
        let mut report = OpenReport { files, ..OpenReport::default() };
        let mut files = BTreeMap::new();
        let last = report.files.last().map_or(0, |file| file.number);
        for entry in std::mem::take(&mut report.files) {
            match open_file(&fs, &entry) {
                Ok(file) => {
                    let fault = first_fault(&*file, entry.len);
                    if fault.is_some() && entry.number == last && !read_only && is_zeros(&*file, entry.len) {
                        fs.remove_file(&entry.path).map_err(FilesError::io("remove", &entry.path))?;
                        fs.sync_dir(dir).map_err(FilesError::io("sync", dir))?;
                        report.removed_empty = Some(entry.path);
                        continue;
                    }
                    report.damages.extend(fault.map(|fault| header_damage(&entry, fault)));
                    files.insert(entry.number, OpenFile { path: entry.path.clone(), file });
                }
                Err(fault) => report.damages.push(header_damage(&entry, fault)),
            }
            report.files.push(entry);
        }
        if !read_only {
            settle::settle(&*fs, dir, report.files.last(), &files)?;
        }
        // Behind what is left: the number of a removed file may have left a gap before it.
        let highest = report.files.last().map_or(last.saturating_sub(1), |file| file.number);
        let pairs = report.files.iter().zip(report.files.iter().skip(1));
        report.gaps = pairs.map(|(a, b)| a.number.saturating_add(1)..b.number).filter(|gap| !gap.is_empty()).collect();
        let shared = Shared {
            fs,
            dir: dir.into(),
            options,
            read_only,
            closed: AtomicBool::new(false),
            position: Mutex::new(Position { number: highest, offset: 0 }),
            writer: Writer::new(),
            tail: RwLock::new(Tail::default()),
            files: RwLock::new(files),
            queue: (options.queue > 0 && !read_only).then(|| Queue::new(options.queue)),
        };
        let shared = Arc::new(shared);
        let worker = shared.queue.is_some().then(|| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.queue.iter().for_each(|queue| queue.work(&shared)))
        });
        Ok((Self { shared, worker: Mutex::new(worker) }, report))
    }

    /// Stores a chunk and says where. It can be read at once; see the module for when it is durable.
    ///
    /// # Errors
    /// When it was not stored: the disk refused, an earlier fsync failed, the files are read-only or closed, or the chunk is
    /// too large for any file. The caller still has it; a later attempt may succeed. With a queue the error may be that of
    /// an earlier chunk, which still waits and stays readable.
    pub fn write(&self, chunk: &NewChunk<'_>) -> Result<ChunkRef, FilesError> {
        let shared = &*self.shared;
        shared.check_writable()?;
        let len = record_len(chunk.data.len()) as u64;
        let max = shared.options.max_file_len;
        if len + FILE_HEADER_LEN as u64 > max {
            return Err(FilesError::TooLarge { len: chunk.data.len(), max });
        }
        let head = RecordHead {
            series: chunk.series,
            mint: chunk.mint,
            maxt: chunk.maxt,
            encoding: chunk.encoding,
            out_of_order: chunk.out_of_order,
        };
        let mut position = shared.position.lock();
        let before = (position.number, position.offset);
        let reserved = position.reserve(len, max);
        let taken = match &shared.queue {
            Some(queue) => queue.push(Job { at: reserved, head, data: chunk.data.to_vec() }),
            None => shared.put(reserved, &head, chunk.data),
        };
        taken.map(|()| reserved).inspect_err(|_| {
            // Gives the place back; when the file before it was finished already, the next attempt begins one again.
            let (number, offset) = before;
            let open = shared.queue.is_some() || shared.writer.lock().number() == Some(number);
            *position = Position { number, offset: if open { offset } else { 0 } };
        })
    }

    /// Removes the files whose numbers are below `before`, oldest first and each durably, so that a crash leaves no gap. If the current file
    /// holds chunks, the next one goes to a new file. The current file is never removed.
    ///
    /// # Errors
    /// When a file cannot be removed: it and those after it stay.
    pub fn truncate(&self, before: u32) -> Result<(), FilesError> {
        let shared = &*self.shared;
        shared.check_writable()?;
        let mut position = shared.position.lock();
        if position.offset > FILE_HEADER_LEN as u64 {
            position.cut();
        }
        let current = shared.tail.read().number;
        let old: Vec<_> = shared.files.read().range(..before).map(|(n, open)| (*n, open.path.clone())).collect();
        for (number, path) in old {
            if number == current {
                break;
            }
            match shared.fs.remove_file(&path) {
                Ok(()) => {}
                Err(gone) if gone.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(FilesError::Io { action: "remove", path, source }),
            }
            shared.files.write().remove(&number);
            shared.fs.sync_dir(&shared.dir).map_err(FilesError::io("sync", &shared.dir))?;
        }
        Ok(())
    }

    /// The next chunk goes to a new file.
    pub fn cut_new_file(&self) {
        self.shared.position.lock().cut();
    }

    /// Bytes of all files as the file system counts them, what waits to be written not included.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn size(&self) -> Result<u64, FilesError> {
        Ok(list_files(&*self.shared.fs, &self.shared.dir)?.iter().map(|file| file.len).sum())
    }

    /// Hands what waits to the file: readable by other processes then, durable not yet.
    ///
    /// # Errors
    /// When the disk refuses; everything stays readable, and the next flush tries again.
    pub fn flush(&self) -> Result<(), FilesError> {
        self.shared.drain()?;
        self.shared.writer.lock().flush(&self.shared)
    }

    /// Gives back what the write buffer has room for and does not hold, up to [`Options::write_buffer`] bytes: after a time
    /// of much writing, when little is expected. It grows again with what is written.
    pub fn trim(&self) {
        self.shared.tail.write().bytes.shrink_to_fit();
    }

    /// Makes everything that was written durable.
    ///
    /// # Errors
    /// When the disk refuses. After a failed fsync nothing is written until [`ChunkFiles::recover`].
    pub fn sync(&self) -> Result<(), FilesError> {
        self.shared.drain()?;
        self.shared.writer.lock().sync(&self.shared)
    }

    /// Takes note of a failed fsync: says which file's contents are uncertain since its last successful one, leaves that
    /// file as it is, and lets writing go on in a new one. `None` when no fsync failed.
    pub fn recover(&self) -> Option<PathBuf> {
        let mut position = self.shared.position.lock();
        let path = self.shared.writer.lock().recover()?;
        position.cut();
        Some(path)
    }

    /// Makes everything durable and ends all use: later calls fail. Closing again does nothing.
    ///
    /// Dropping without closing loses what waits in memory.
    ///
    /// # Errors
    /// As [`ChunkFiles::sync`].
    pub fn close(&self) -> Result<(), FilesError> {
        let _position = self.shared.position.lock();
        if self.shared.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        self.shared.drain()?;
        let mut writer = self.shared.writer.lock();
        writer.finish(&self.shared)?;
        self.shared.closed.store(true, Ordering::Release);
        self.shared.files.write().clear();
        drop(writer);
        self.stop();
        Ok(())
    }

    /// Whether no chunk waits in the queue; always so without one.
    #[must_use]
    pub fn is_queue_empty(&self) -> bool {
        self.shared.queue.as_ref().is_none_or(Queue::is_empty)
    }

    fn stop(&self) {
        if let Some(queue) = &self.shared.queue {
            queue.close();
        }
        if let Some(worker) = self.worker.lock().take() {
            // It does not panic, and if it did, its message was printed.
            let _ended = worker.join();
        }
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }
}

impl Drop for ChunkFiles {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    /// Puts a record at its place.
    fn put(&self, at: ChunkRef, head: &RecordHead, data: &[u8]) -> Result<(), FilesError> {
        match self.writer.lock().put(self, at, head, data) {
            // Too large for the buffer and not written yet, but it was taken: the next flush tries again.
            Err(_) if self.holds(at) => Ok(()),
            put => put,
        }
    }

    fn drain(&self) -> Result<(), FilesError> {
        self.queue.as_ref().map_or(Ok(()), Queue::drain)
    }

    fn check_writable(&self) -> Result<(), FilesError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(FilesError::Closed { dir: self.dir.clone() });
        }
        if self.read_only {
            return Err(FilesError::ReadOnly { dir: self.dir.clone() });
        }
        Ok(())
    }

    /// Whether the record at `chunk_ref` waits in memory.
    fn holds(&self, chunk_ref: ChunkRef) -> bool {
        let tail = self.tail.read();
        tail.number == chunk_ref.file && (tail.start..tail.end()).contains(&chunk_ref.offset.into())
    }
}

fn open_file(fs: &Fs, entry: &FileEntry) -> Result<Arc<dyn VfsFile>, Fault> {
    if entry.kind != FileKind::File {
        return Err(Fault::Unreadable);
    }
    fs.open_read(&entry.path).map(Arc::from).map_err(|_| Fault::Unreadable)
}

fn first_fault(file: &dyn VfsFile, len: u64) -> Option<Fault> {
    let mut header = [0; FILE_HEADER_LEN];
    match file.read_full_at(&mut header[..FILE_HEADER_LEN.min(len as usize)], 0) {
        Ok(read) => layout::check_file_header(&header[..read]).err(),
        Err(_) => Some(Fault::Unreadable),
    }
}

/// Whether all of a file is zeros. Files that a crash leaves so are preallocated ones: no need to read a large one.
fn is_zeros(file: &dyn VfsFile, len: u64) -> bool {
    let mut bytes = vec![0; len.min(PREALLOCATED_LEN) as usize];
    len <= PREALLOCATED_LEN && file.read_full_at(&mut bytes, 0).is_ok() && bytes.iter().all(|b| *b == 0)
}

fn header_damage(entry: &FileEntry, fault: Fault) -> Damage {
    let len = entry.len.min(FILE_HEADER_LEN as u64);
    Damage { file: entry.number, path: entry.path.clone(), offset: 0, len, at_end: entry.len <= len, fault }
}
