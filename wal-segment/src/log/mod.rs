//! The writer: records in, durable as promised, from many threads at once.
//!
//! One call encodes and compresses outside of every lock. Callers that come while another one writes are combined: the
//! next of them writes and syncs for all, so that one write and one fsync carry as many commits as arrived meanwhile.
//! Nobody waits for a timer.

mod commit;
mod options;
mod writer;

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use tsdb_vfs::Fs;

use crate::Compression;
use crate::error::{Error, Position};
use crate::layout;
use commit::Group;
pub use options::{Durability, LogOptions};
use writer::Writer;

/// A log that is open for writing. All methods take `&self`: it is shared between threads.
///
/// The caller holds the directory's lock: two writers on one directory destroy each other's work.
#[derive(Debug)]
pub struct Log {
    group: Group,
    writer: Arc<Mutex<Writer>>,
    options: LogOptions,
}

/// What opening a log found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct OpenReport {
    /// Number of the new segment that records now go to.
    pub segment: u64,
}

impl Log {
    /// Opens the log in `dir`, which is created if need be, and starts a new segment behind the existing ones, as the
    /// reference does.
    pub fn open(fs: Fs, dir: &Path, options: LogOptions) -> Result<(Self, OpenReport), Error> {
        options.validate()?;
        fs.create_dir_all(dir).map_err(Error::io(dir))?;
        let existing = layout::segments(&fs, dir)?;
        let index = existing.last().map_or(0, |last| last.index + 1);
        let writer = Arc::new(Mutex::new(Writer::create(fs, dir, index, &options)?));
        let log = Self { group: Group::default(), writer, options };
        Ok((log, OpenReport { segment: index }))
    }

    /// Appends records, in order and next to each other, and returns where the first of them begins. When it returns
    /// they are as durable as [`LogOptions::durability`] says; when it fails none of them is in the log.
    ///
    /// Without records, the place where the next one would go.
    pub fn append<'a>(&self, records: impl IntoIterator<Item = &'a [u8]>) -> Result<Position, Error> {
        self.group.append(&self.writer, &self.options, records)
    }

    /// As [`append`](Self::append), of records in the stored form that a reader gave out or a
    /// [`Compressor`](crate::Compressor) made, whatever this log's own compression is. Bytes that are not what their
    /// compression says make a record that no reader takes.
    pub fn append_stored<'a>(
        &self,
        records: impl IntoIterator<Item = (&'a [u8], Compression)>,
    ) -> Result<Position, Error> {
        self.group.append_stored(&self.writer, records)
    }

    /// Makes everything that was appended durable.
    pub fn sync(&self) -> Result<(), Error> {
        self.writer.lock().sync()
    }

    /// Ends the current segment and starts the next, whose number is returned.
    pub fn next_segment(&self) -> Result<u64, Error> {
        self.writer.lock().next_segment()
    }

    /// Number of the segment that records go to.
    pub fn current_segment(&self) -> u64 {
        self.writer.lock().position().segment
    }

    /// Where the next record goes, if it fits the segment.
    pub fn position(&self) -> Position {
        self.writer.lock().position()
    }

    /// Bytes that a crash of the machine would lose now.
    pub fn exposed_bytes(&self) -> u64 {
        self.writer.lock().exposed_bytes()
    }

    /// Removes the segments before `segment`, oldest first, and never the current one. Returns how many.
    pub fn remove_segments_before(&self, segment: u64) -> Result<usize, Error> {
        self.writer.lock().remove_segments_before(segment)
    }

    /// The directory.
    pub fn dir(&self) -> std::path::PathBuf {
        self.writer.lock().dir().to_owned()
    }

    /// Pads the last page with zeros, makes everything durable and reports every failure of that. Dropping a log
    /// without closing it leaves what a killed process leaves.
    pub fn close(self) -> Result<(), Error> {
        self.writer.lock().close()
    }
}
