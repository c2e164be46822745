//! The writer: records in, durable as promised, from many threads at once.
//!
//! One call encodes and compresses outside of every lock. Callers that come while another one writes are combined: the
//! next of them writes and syncs for all, so that one write and one fsync carry as many commits as arrived meanwhile.
//! Nobody waits for a timer.

mod background;
mod commit;
mod open;
mod options;
mod proof;
mod recover;
mod retained;
mod segment;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tsdb_vfs::Fs;

use crate::Compression;
use crate::error::{Error, Position};
use crate::ledger::LedgerWriter;
use background::Background;
use commit::Group;
pub use open::{Healed, OpenReport};
pub use options::{Check, Durability, LogOptions};
use proof::Unproven;
pub use recover::Recovered;
pub(crate) use segment::SegmentFile;
use writer::Writer;

/// A log that is open for writing. All methods take `&self`: it is shared between threads.
///
/// The caller holds the directory's lock: two writers on one directory destroy each other's work.
///
/// # Failures
///
/// An `append` that fails to write is taken back: the log is as before, and works on; after a full disk as soon as there is
/// space. After a failed sync, or if taking back fails, the log is read-only until [`recover`](Self::recover).
#[derive(Debug)]
pub struct Log {
    group: Group,
    writer: Arc<Mutex<Writer>>,
    background: Option<Background>,
    pending_recovery: Mutex<Option<Recovered>>,
    options: LogOptions,
}

impl Log {
    /// Opens the log in `dir`, which is created if need be, and starts a new segment behind the existing ones, as the
    /// reference does. A torn tail is healed first, see [`OpenReport`].
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] if there is damage that no crash explains: [`repair`](crate::repair) it first.
    pub fn open(fs: Fs, dir: &Path, options: LogOptions) -> Result<(Self, OpenReport), Error> {
        options.validate()?;
        let open::Prepared { report, ledger, unproven } = open::prepare(&fs, dir, &options)?;
        let first = unproven.as_ref().map(Unproven::index);
        let ledger = match options.ledger {
            true => Some(LedgerWriter::replace(&fs, dir, &ledger, first, report.segment).map_err(Error::io(dir))?),
            false => None,
        };
        let mut writer = Writer::create(fs, dir, report.segment, &options, ledger)?;
        writer.unproven = unproven.map(Arc::new);
        let writer = Arc::new(Mutex::new(writer));
        let background = if options.background_sync && options.durability != Durability::Always {
            let interval = writer.lock().interval();
            Some(Background::start(writer.clone(), interval).map_err(Error::io(dir))?)
        } else {
            None
        };
        let log = Self { group: Group::default(), writer, background, pending_recovery: Mutex::new(None), options };
        Ok((log, report))
    }

    /// The segments that [`open`](Self::open) with [`Check::Tail`] or [`Check::Torn`], as the options say, neither reads nor
    /// writes: they can be read while it is at work on those behind them.
    ///
    /// # Errors
    ///
    /// When the directory cannot be listed, or a segment is missing.
    pub fn settled(fs: &Fs, dir: &Path, options: &LogOptions) -> Result<Vec<crate::SegmentRef>, Error> {
        open::settled(fs, dir, options)
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

    /// Makes everything durable: what was appended, and what [`prove`](Self::prove) is for.
    pub fn sync(&self) -> Result<(), Error> {
        match self.background {
            Some(_) => {
                self.check()?;
                background::sync_outside(&self.writer)?;
                self.check()?;
            }
            None => self.writer.lock().sync()?,
        }
        proof::prove_outside(&self.writer)
    }

    /// Makes durable what [`Check::Torn`] has left for later. A thread of the log's does that meanwhile if it has one
    /// ([`LogOptions::background_sync`]), and tries again with each of its syncs should it fail; else the caller does.
    ///
    /// # Errors
    ///
    /// When the segment cannot be read, written or synced. What is appended does not depend on it: the log can be written to
    /// as before.
    pub fn prove(&self) -> Result<(), Error> {
        let wake = self.writer.lock().wake.clone();
        match wake {
            Some(wake) => wake.request(),
            None => proof::prove_outside(&self.writer)?,
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Error> {
        self.writer.lock().check_writable()
    }

    /// Ends the current segment and starts the next, whose number is returned.
    pub fn next_segment(&self) -> Result<u64, Error> {
        self.writer.lock().next_segment()
    }

    /// Number of the segment that records go to.
    pub fn current_segment(&self) -> u64 {
        self.position().segment
    }

    /// Where the next record goes, if it fits the segment.
    pub fn position(&self) -> Position {
        self.writer.lock().position()
    }

    /// Everything before this is durable.
    pub fn durable_position(&self) -> Position {
        self.writer.lock().durable_position()
    }

    /// Bytes that a crash of the machine would lose now.
    pub fn exposed_bytes(&self) -> u64 {
        self.writer.lock().exposed_bytes()
    }

    /// The failure that made the log read-only.
    pub fn read_only_since(&self) -> Option<Arc<std::io::Error>> {
        self.writer.lock().read_only_since()
    }

    /// Makes a read-only log writable again: cuts it, durably, to what is durable, opens the next segment, and returns the
    /// records that were cut off. If that fails the log stays read-only, and another call tries again.
    ///
    /// Nothing that a failed fsync covered counts as durable, whatever a later one says. A log that is not read-only stays
    /// as it is.
    pub fn recover(&self) -> Result<Recovered, Error> {
        let mut pending = self.pending_recovery.lock();
        self.writer.lock().recover(&mut pending)
    }

    /// Removes the segments before `segment`, oldest first, and never the current one. Returns how many.
    pub fn remove_segments_before(&self, segment: u64) -> Result<usize, Error> {
        self.writer.lock().remove_segments_before(segment)
    }

    /// The directory.
    pub fn dir(&self) -> PathBuf {
        self.writer.lock().dir().to_owned()
    }

    /// Pads the last page with zeros, makes everything durable and reports every failure of that. Dropping a log
    /// without closing it leaves what a killed process leaves.
    pub fn close(self) -> Result<(), Error> {
        let Self { writer, background, .. } = self;
        drop(background);
        writer.lock().close()?;
        proof::prove_outside(&writer)
    }
}
