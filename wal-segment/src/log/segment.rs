//! A segment that is not durable yet: its file, what is written, what of that is on disk.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tsdb_vfs::{Fs, VfsFile};

use crate::error::{Error, Position};
use crate::framer::Tally;
use crate::layout::segment_name;
use crate::ledger::LedgerEntry;

/// A segment's file. A failed fsync is remembered: the kernel tells of it once, and a second caller would take the
/// silence for success.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    file: Box<dyn VfsFile>,
    pub(crate) path: PathBuf,
    failed: Mutex<Option<Arc<std::io::Error>>>,
}

impl SegmentFile {
    pub(crate) fn new(file: Box<dyn VfsFile>, path: PathBuf) -> Self {
        Self { file, path, failed: Mutex::new(None) }
    }

    /// Whether a sync has failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.lock().is_some()
    }

    /// Writes all of it, one call if the disk takes it.
    pub(crate) fn write_all(&self, parts: &mut [IoSlice<'_>], offset: u64) -> std::io::Result<()> {
        self.file.write_all_vectored_at(parts, offset)
    }

    /// Reserves space behind the end.
    pub(crate) fn reserve(&self, offset: u64, len: u64) -> std::io::Result<()> {
        self.file.reserve(offset, len)
    }

    /// Gives back what is reserved behind the end, which is at `len`.
    pub(crate) fn release(&self, len: u64) -> std::io::Result<()> {
        self.file.set_len(len)
    }

    /// Cuts the file, durably.
    pub(super) fn cut(&self, len: u64) -> std::io::Result<()> {
        self.file.set_len(len)?;
        self.file.sync_data()
    }

    pub(crate) fn sync(&self) -> Result<(), Arc<std::io::Error>> {
        let mut failed = self.failed.lock();
        if let Some(e) = &*failed {
            return Err(e.clone());
        }
        self.file.sync_data().map_err(|e| failed.insert(Arc::new(e)).clone())
    }
}

/// A segment that is being written, or is complete and not yet durable.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) index: u64,
    pub(super) file: Arc<SegmentFile>,
    /// Bytes written, and the records in them.
    pub(super) len: u64,
    pub(super) tally: Tally,
    /// Bytes durable, and the records in them.
    pub(super) durable: u64,
    pub(super) durable_tally: Tally,
    /// Space is reserved up to here, or could not be.
    pub(super) reserved: u64,
}

/// What a round that failed goes back to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pub(super) position: Position,
    pub(super) tally: Tally,
}

/// One file's part of a sync that runs without the writer's lock.
#[derive(Debug)]
pub(super) struct SyncJob {
    pub(super) file: Arc<SegmentFile>,
    pub(super) index: u64,
    pub(super) len: u64,
    pub(super) tally: Tally,
}

impl Segment {
    pub(super) fn create(fs: &Fs, dir: &Path, index: u64) -> Result<Self, Error> {
        let path = dir.join(segment_name(index));
        let file = fs.create_new(&path).map_err(Error::io(&path))?;
        fs.sync_dir(dir).map_err(Error::io(dir))?;
        let file = Arc::new(SegmentFile::new(file, path));
        let none = Tally::default();
        Ok(Self { index, file, len: 0, tally: none, durable: 0, durable_tally: none, reserved: 0 })
    }

    pub(super) fn entry(&self, sealed: bool) -> LedgerEntry {
        LedgerEntry::of(self.index, self.tally, sealed)
    }

    pub(super) fn durable_entry(&self) -> LedgerEntry {
        LedgerEntry::of(self.index, self.durable_tally, true)
    }

    pub(super) fn cut_back(&mut self, mark: Mark) {
        let (len, tally) = match self.index.cmp(&mark.position.segment) {
            std::cmp::Ordering::Less => return,
            std::cmp::Ordering::Equal => (mark.position.offset, mark.tally),
            std::cmp::Ordering::Greater => (0, Tally::default()),
        };
        // The cut has given back what lay behind it.
        (self.len, self.tally, self.reserved) = (len, tally, 0);
        if self.durable > len {
            (self.durable, self.durable_tally) = (len, tally);
        }
    }
}

impl SyncJob {
    pub(super) fn run(&self) -> Result<(), Arc<std::io::Error>> {
        self.file.sync()
    }
}
