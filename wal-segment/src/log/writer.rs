//! The end of the log: the segment that records go to, and what of it is durable.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tsdb_vfs::Fs;

use crate::Compression;
use crate::error::{Error, Position};
use crate::format::{PAGE, PAGE_SIZE};
use crate::frame::{Piece, fits, frame, pad_page, pieces};
use crate::framer::Tally;
use crate::layout::{self, segment_name};
use crate::ledger::{LedgerEntry, LedgerWriter};
use crate::log::background::Signal;
use crate::log::options::{Durability, LogOptions};
use crate::log::proof::Unproven;
use crate::log::retained::Retained;
use crate::log::segment::{Mark, Segment, SyncJob};

/// Framed bytes are written out when there are so many, so that one call's memory stays bounded.
const WRITE_SIZE: usize = 1024 * 1024;

/// Records from this length on are written from where they are instead of being copied first.
const LARGE: usize = 16 * 1024;

/// Space is reserved in parts of a segment of this size, once there is an eighth of a part in it: a log that hardly grows
/// takes no more than it holds.
const PARTS: u64 = 16;

/// The one place that changes a log's files.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(super) fs: Fs,
    pub(super) dir: PathBuf,
    segment_size: u64,
    durability: Durability,
    background: bool,
    pub(super) current: Segment,
    /// Framed and not written: continues the current segment at `current.len`.
    out: Vec<u8>,
    /// Where the next fragment goes: `current.len + out.len()`.
    offset: u64,
    /// Complete segments that are not durable, oldest first.
    pub(super) unsynced: Vec<Segment>,
    /// A segment before all of them that may not be durable either.
    pub(super) unproven: Option<Arc<Unproven>>,
    /// What is durable and not yet in the ledger.
    pub(super) notes: Vec<LedgerEntry>,
    pub(super) ledger: Option<LedgerWriter>,
    pub(super) retained: Retained,
    pub(super) read_only: Option<Arc<std::io::Error>>,
    /// Wakes the thread that syncs complete segments.
    pub(super) wake: Option<Arc<Signal>>,
    last_sync: Instant,
    /// A segment was removed and the directory not synced.
    removal_unsynced: bool,
    closed: bool,
}

/// Records that are written, synced and acknowledged together.
pub(crate) struct Round<'a>(&'a mut Writer);

impl Round<'_> {
    pub(crate) fn position(&self) -> Position {
        self.0.position()
    }

    /// Frames one stored record; it is written at the latest at the end of the round.
    pub(crate) fn push(&mut self, stored: &[u8], compression: Compression) -> Result<Position, Error> {
        self.0.push(stored, compression)
    }
}

/// What is taken back when it ends early: by a failure, or by a panic in the caller's own iterator of records.
struct Unfinished<'a> {
    writer: &'a mut Writer,
    mark: Option<Mark>,
}

impl<'a> Unfinished<'a> {
    fn begin(writer: &'a mut Writer) -> Self {
        let mark = Some(Mark { position: writer.position(), tally: writer.current.tally });
        Self { writer, mark }
    }

    fn finish(mut self) {
        self.mark = None;
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some(mark) = self.mark {
            self.writer.cut_back(mark);
        }
    }
}

impl Writer {
    pub(crate) fn create(
        fs: Fs,
        dir: &Path,
        index: u64,
        options: &LogOptions,
        ledger: Option<LedgerWriter>,
    ) -> Result<Self, Error> {
        let current = Segment::create(&fs, dir, index)?;
        let mut writer = Self {
            fs,
            dir: dir.to_owned(),
            segment_size: options.segment_size,
            durability: options.durability,
            background: options.background_sync,
            current,
            out: Vec::new(),
            offset: 0,
            unsynced: Vec::new(),
            unproven: None,
            notes: Vec::new(),
            ledger,
            retained: Retained::new(options.durability),
            read_only: None,
            wake: None,
            last_sync: Instant::now(),
            removal_unsynced: false,
            closed: false,
        };
        writer.note_birth(index)?;
        Ok(writer)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn position(&self) -> Position {
        Position { segment: self.current.index, offset: self.offset }
    }

    pub(crate) fn exposed_bytes(&self) -> u64 {
        let ours: u64 = self.unsynced.iter().chain([&self.current]).map(|segment| segment.len - segment.durable).sum();
        ours + self.unproven.as_ref().map_or(0, |unproven| unproven.len())
    }

    pub(crate) fn read_only_since(&self) -> Option<Arc<std::io::Error>> {
        self.read_only.clone()
    }

    /// Runs `push` on a round and writes what it pushed: all of it, or nothing.
    pub(crate) fn round(
        &mut self,
        push: impl FnOnce(&mut Round<'_>) -> Result<Option<Position>, Error>,
    ) -> Result<Position, Error> {
        self.check_writable()?;
        let start = self.position();
        let round = Unfinished::begin(self);
        let first = push(&mut Round(round.writer))?;
        round.writer.flush()?;
        round.finish();
        if self.must_sync() {
            self.sync()?;
        }
        Ok(first.unwrap_or(start))
    }

    fn must_sync(&self) -> bool {
        match self.durability {
            Durability::Always => true,
            Durability::Interval(d) if !self.background => self.last_sync.elapsed() >= d,
            Durability::Interval(_) => self.retained.is_full(),
            Durability::Rotate => !self.background && !self.unsynced.is_empty(),
        }
    }

    pub(super) fn check_writable(&self) -> Result<(), Error> {
        match &self.read_only {
            _ if self.closed => Err(Error::Closed),
            Some(cause) => Err(Error::ReadOnly { dir: self.dir.clone(), cause: cause.clone() }),
            None => Ok(()),
        }
    }

    fn push(&mut self, stored: &[u8], compression: Compression) -> Result<Position, Error> {
        if !fits(self.offset, stored.len(), self.segment_size) {
            self.rotate()?;
        }
        let position = self.position();
        if stored.len() >= LARGE {
            self.write_large(stored, compression)?;
            return Ok(position);
        }
        frame(&mut self.out, &mut self.offset, &mut self.current.tally, stored, compression, None);
        if self.out.len() >= WRITE_SIZE {
            self.flush()?;
        }
        Ok(position)
    }

    /// Writes what is framed, and a record behind it, without moving the record's bytes: only its headers are put together.
    fn write_large(&mut self, stored: &[u8], compression: Compression) -> Result<(), Error> {
        let mut data = Vec::with_capacity(stored.len() / PAGE_SIZE + 2);
        let out = &mut self.out;
        pieces(&mut self.offset, &mut self.current.tally, stored, compression, None, |piece| match piece {
            Piece::Head(head) => out.extend_from_slice(&head),
            Piece::Padding(zeros) => out.resize(out.len() + zeros, 0),
            Piece::Data(bytes) => data.push((out.len(), bytes)),
        });
        self.reserve();
        let mut parts = Vec::with_capacity(2 * data.len() + 1);
        let mut from = 0;
        for &(to, bytes) in &data {
            parts.extend([IoSlice::new(&self.out[from..to]), IoSlice::new(bytes)]);
            from = to;
        }
        parts.push(IoSlice::new(&self.out[from..]));
        let Segment { index, file, len, .. } = &mut self.current;
        let mut at = Position { segment: *index, offset: *len };
        if self.retained.is_on() {
            for part in &parts {
                self.retained.keep(at, part);
                at.offset += part.len() as u64;
            }
        }
        file.write_all(&mut parts, *len).map_err(Error::io(&file.path))?;
        *len = self.offset;
        self.out.clear();
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        if self.out.is_empty() {
            return Ok(());
        }
        self.reserve();
        let Segment { index, file, len, .. } = &mut self.current;
        file.write_all(&mut [IoSlice::new(&self.out)], *len).map_err(Error::io(&file.path))?;
        self.retained.keep(Position { segment: *index, offset: *len }, &self.out);
        *len = self.offset;
        self.out.clear();
        Ok(())
    }

    /// Reserves space for what is to be written and some more, without changing the file's length: that a page of the log
    /// has its place on disk already saves the kernel a fifth of the work of taking it in.
    fn reserve(&mut self) {
        let part = self.segment_size / PARTS;
        let Segment { file, len, reserved, .. } = &mut self.current;
        if *len < part / 8 || *reserved >= self.offset {
            return;
        }
        let from = (*reserved).max(*len);
        let to = (self.offset + part).min(self.segment_size).max(self.offset);
        // Also if it fails, on a disk that is nearly full: the write itself says so, if it has to.
        *reserved = to;
        if let Err(e) = file.reserve(from, to - from) {
            tracing::debug!(path = %file.path.display(), error = %e, "no space can be reserved");
        }
    }

    /// Gives back what is reserved and was not needed. If that fails the file takes more space than it needs until it is
    /// opened again; nothing else is wrong with it.
    fn release(&mut self) {
        let Segment { file, len, reserved, .. } = &mut self.current;
        if *reserved > *len
            && let Err(e) = file.release(*len)
        {
            tracing::debug!(path = %file.path.display(), error = %e, "space behind the segment's end is not given back");
        }
        *reserved = *len;
    }

    /// Takes back what a failed round has written. If that fails, too, nothing may follow what is there.
    fn cut_back(&mut self, mark: Mark) {
        self.out.clear();
        let to = mark.position;
        self.notes.retain(|note| Position { segment: note.segment, offset: note.offset } <= to && !note.sealed);
        let cut = self.cut_files(to);
        self.retained.cut(to);
        for segment in self.unsynced.iter_mut().chain([&mut self.current]) {
            segment.cut_back(mark);
        }
        self.unsynced.retain(|segment| segment.durable < segment.len);
        self.offset = self.current.len;
        if let Err(e) = cut {
            self.read_only.get_or_insert(Arc::new(e));
        }
    }

    /// The current segment stays the current one, even if it was begun in the round: then it is empty now. Durable at once:
    /// a segment that is whole after the cut would never be synced again, and a crash could undo the cut behind its back.
    fn cut_files(&self, to: Position) -> std::io::Result<()> {
        if to.segment == self.current.index {
            return self.current.file.cut(to.offset);
        }
        self.current.file.cut(0)?;
        for index in to.segment..self.current.index {
            let file = self.fs.open_write(&self.dir.join(segment_name(index)))?;
            file.set_len(if index == to.segment { to.offset } else { 0 })?;
            file.sync_data()?;
        }
        Ok(())
    }

    /// Ends the segment as the reference does: the page that holds anything is filled with zeros. What is in it is
    /// durable before anything goes to the next one, unless the reference's weaker order was asked for.
    pub(super) fn rotate(&mut self) -> Result<u64, Error> {
        pad_page(&mut self.out, &mut self.offset);
        self.flush()?;
        self.release();
        let weak = self.durability == Durability::Rotate;
        if !weak || !self.unsynced.is_empty() {
            self.sync_files()?;
        }
        let index = self.current.index + 1;
        let next = Segment::create(&self.fs, &self.dir, index).and_then(|next| {
            self.note_birth(index)?;
            Ok(next)
        });
        let next = match next {
            Ok(next) => next,
            Err(e) => return Err(self.creation_failed(e)),
        };
        let complete = std::mem::replace(&mut self.current, next);
        self.offset = 0;
        if complete.durable < complete.len {
            self.unsynced.push(complete);
            if let Some(wake) = &self.wake {
                wake.request();
            }
        } else {
            self.notes.push(complete.entry(true));
        }
        Ok(self.current.index)
    }

    /// A segment whose file is there although creating it failed can't be created again: only [`recover`] gets past it.
    ///
    /// [`recover`]: crate::Log::recover
    fn creation_failed(&mut self, e: Error) -> Error {
        let path = self.dir.join(segment_name(self.current.index + 1));
        if self.fs.exists(&path).unwrap_or(true)
            && let Error::Io { source, .. } = &e
        {
            self.read_only.get_or_insert(source.clone());
        }
        e
    }

    pub(crate) fn next_segment(&mut self) -> Result<u64, Error> {
        self.check_writable()?;
        let rotation = Unfinished::begin(self);
        let index = rotation.writer.rotate()?;
        rotation.finish();
        if !self.background && self.durability == Durability::Rotate {
            self.sync()?;
        }
        self.write_notes();
        Ok(index)
    }

    /// Makes everything that was written durable, oldest segment first.
    pub(crate) fn sync(&mut self) -> Result<(), Error> {
        self.check_writable()?;
        self.sync_files()?;
        self.write_notes();
        Ok(())
    }

    fn sync_files(&mut self) -> Result<(), Error> {
        for job in self.sync_jobs() {
            job.run().map_err(|e| self.sync_failed(&job, e))?;
            self.synced(&job);
        }
        Ok(())
    }

    /// What a sync has to do, oldest segment first.
    pub(super) fn sync_jobs(&self) -> Vec<SyncJob> {
        if self.read_only.is_some() || self.closed {
            return Vec::new();
        }
        let exposed = self.unsynced.iter().chain([&self.current]).filter(|segment| segment.durable < segment.len);
        exposed
            .map(|Segment { index, file, len, tally, .. }| SyncJob {
                file: file.clone(),
                index: *index,
                len: *len,
                // What is framed and not yet written is not in the file: between rounds that is nothing.
                tally: *tally,
            })
            .collect()
    }

    pub(super) fn synced(&mut self, job: &SyncJob) {
        self.last_sync = Instant::now();
        self.retained.forget(Position { segment: job.index, offset: job.len });
        let current = self.current.index;
        for segment in self.unsynced.iter_mut().chain([&mut self.current]).filter(|s| s.index == job.index) {
            // It may have been cut back meanwhile.
            if segment.len >= job.len && segment.durable < job.len {
                segment.durable = job.len;
                segment.durable_tally = job.tally;
                // It may have grown and been completed since the job was made: then this was not yet all of it.
                let sealed = job.index != current && segment.len == job.len;
                self.notes.push(LedgerEntry::of(job.index, job.tally, sealed));
            }
        }
        self.unsynced.retain(|segment| segment.durable < segment.len);
    }

    pub(super) fn sync_failed(&mut self, job: &SyncJob, source: Arc<std::io::Error>) -> Error {
        // What a failed fsync covered is in nobody's hands: no later fsync may claim it.
        self.read_only.get_or_insert(source.clone());
        Error::NotDurable { path: job.file.path.clone(), from: self.durable_end(), source }
    }

    /// Everything before this is durable.
    pub(crate) fn durable_position(&self) -> Position {
        match &self.unproven {
            Some(unproven) => Position { segment: unproven.index(), offset: 0 },
            None => self.durable_end(),
        }
    }

    /// Everything before this that was appended since the log was opened is durable.
    pub(super) fn durable_end(&self) -> Position {
        let oldest = self.unsynced.first().unwrap_or(&self.current);
        Position { segment: oldest.index, offset: oldest.durable }
    }

    pub(super) fn write_notes(&mut self) {
        let notes = std::mem::take(&mut self.notes);
        let sealed = notes.iter().any(|note| note.sealed);
        self.write_ledger(&notes, sealed);
    }

    /// Says, durably, that a new segment is ours, before there is anything in it. Without that a crash that reorders
    /// what was never synced would look like damage to what was.
    pub(super) fn note_birth(&mut self, segment: u64) -> Result<(), Error> {
        let Some(ledger) = &mut self.ledger else { return Ok(()) };
        let written = ledger.note(LedgerEntry::of(segment, Tally::default(), false)).and_then(|()| ledger.sync());
        written.map_err(Error::io(self.dir.join(layout::LEDGER_NAME)))
    }

    /// The ledger follows the log: a failure here costs protection, never records.
    fn write_ledger(&mut self, notes: &[LedgerEntry], sync: bool) {
        let Some(ledger) = &mut self.ledger else { return };
        let written = notes.iter().try_for_each(|&note| ledger.note(note));
        if let Err(e) = written.and_then(|()| if sync { ledger.sync() } else { Ok(()) }) {
            tracing::warn!(dir = %self.dir.display(), error = %e, "the ledger can't be written");
        }
    }

    pub(crate) fn remove_segments_before(&mut self, segment: u64) -> Result<usize, Error> {
        let mut removed = 0;
        for old in layout::segments(&self.fs, &self.dir)? {
            if old.index >= segment.min(self.current.index) {
                break;
            }
            // One by one: removals that reach the disk in another order would leave a gap, which no reader accepts. One
            // whose sync failed in an earlier call comes before all others.
            if std::mem::replace(&mut self.removal_unsynced, true) {
                self.fs.sync_dir(&self.dir).map_err(Error::io(&self.dir))?;
            }
            self.fs.remove_file(&old.path).map_err(Error::io(&old.path))?;
            self.fs.sync_dir(&self.dir).map_err(Error::io(&self.dir))?;
            self.removal_unsynced = false;
            self.unsynced.retain(|unsynced| unsynced.index != old.index);
            self.unproven.take_if(|unproven| unproven.index() == old.index);
            removed += 1;
        }
        Ok(removed)
    }

    pub(crate) fn close(&mut self) -> Result<(), Error> {
        self.check_writable()?;
        if !self.offset.is_multiple_of(PAGE) {
            let padding = Unfinished::begin(self);
            pad_page(&mut padding.writer.out, &mut padding.writer.offset);
            padding.writer.flush()?;
            padding.finish();
        }
        self.release();
        self.sync_files()?;
        self.notes.push(self.current.entry(true));
        self.write_notes();
        self.closed = true;
        Ok(())
    }

    /// After [`recover`](super::recover): everything before the new segment is durable, nothing is in it.
    pub(super) fn start_over(&mut self, current: Segment) {
        let cut: Vec<_> = self.unsynced.iter().chain([&self.current]).map(Segment::durable_entry).collect();
        self.current = current;
        self.offset = 0;
        self.out.clear();
        self.unsynced.clear();
        self.notes = cut;
        self.retained.clear();
        self.read_only = None;
        self.write_notes();
    }

    pub(super) fn interval(&self) -> Option<Duration> {
        match self.durability {
            Durability::Interval(d) => Some(d),
            _ => None,
        }
    }
}
