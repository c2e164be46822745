//! The strict reader: record after record, and a stop with a place at the first byte that can't be right.

use std::ops::Range;
use std::path::{Path, PathBuf};

use tsdb_vfs::{Fs, VfsFile};

use crate::Compression;
use crate::compression::Decompressor;
use crate::error::{Damage, FrameFault, Location, Position, ReadError};
use crate::format::{PAGE, PAGE_SIZE};
use crate::framer::{Event, Frame, Framer, Tally};
use crate::layout::{self, SegmentRef};
use crate::resync::resume_in_page;
use crate::salvage::DamagedRange;
use crate::write_again::WriteAgain;

/// Bytes that are read at once: large enough that the system call does not show, small enough for the cache.
pub(crate) const READ_SIZE: usize = 256 * 1024;

/// A record and its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// The record, decompressed; valid until the reader goes on.
    pub bytes: &'a [u8],
    /// The record as it is stored: who copies it unchanged need not compress it again.
    pub stored: &'a [u8],
    /// How `stored` is compressed.
    pub compression: Compression,
    /// Checksum of `stored`, verified, when it was one fragment.
    pub checksum: Option<u32>,
    /// Where it begins.
    pub position: Position,
    /// Offset in the segment behind its last fragment.
    pub end: u64,
}

/// Reads segments from the first to the last record and stops at damage. It never changes a file.
///
/// ```
/// # use std::sync::Arc;
/// # use tsdb_vfs::{Fs, RealFs};
/// # use wal_segment::{Log, LogOptions, LogReader};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let tmp = tempfile::tempdir()?;
/// # let dir = tmp.path().join("wal");
/// # let fs: Fs = Arc::new(RealFs::new());
/// # let (log, _) = Log::open(fs.clone(), &dir, LogOptions::default())?;
/// # log.append([b"one".as_slice()])?;
/// let mut reader = LogReader::open(fs, &dir)?;
/// while let Some(record) = reader.next()? {
///     println!("{}: {} bytes", record.position, record.bytes.len());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct LogReader {
    fs: Fs,
    segments: std::vec::IntoIter<SegmentRef>,
    current: Option<SegmentReader>,
    decompressor: Decompressor,
    done: bool,
}

impl LogReader {
    /// Reads all segments in `dir`, a log's or a checkpoint's. A gap in their numbers is an error.
    pub fn open(fs: Fs, dir: &Path) -> Result<Self, ReadError> {
        let segments = layout::segments(&fs, dir)?;
        layout::check_sequence(&segments)?;
        Ok(Self::over(fs, segments))
    }

    /// Reads these segments, in this order.
    pub fn over(fs: Fs, segments: Vec<SegmentRef>) -> Self {
        Self { fs, segments: segments.into_iter(), current: None, decompressor: Decompressor::default(), done: false }
    }

    /// Reads `segment` from `offset` on: records that begin before it are skipped. Everything in a page before `offset`
    /// is looked at, as only there it is known where fragments begin.
    pub fn from_offset(fs: Fs, segment: SegmentRef, offset: u64) -> Result<Self, ReadError> {
        let mut reader = Self::over(fs.clone(), Vec::new());
        let mut current = SegmentReader::open(&fs, segment)?;
        current.restart(Restart::Inside(offset));
        reader.current = Some(current);
        Ok(reader)
    }

    /// The next record; `None` at the end of the last segment. After an error there is no next one.
    #[expect(clippy::should_implement_trait, reason = "the record borrows from the reader, an Iterator's could not")]
    pub fn next(&mut self) -> Result<Option<Record<'_>>, ReadError> {
        let frame = match self.next_frame() {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ok(None),
            Err(e) => {
                self.done = true;
                return Err(e);
            }
        };
        let Some(current) = &self.current else { return Ok(None) };
        match current.record(&frame, &mut self.decompressor) {
            Ok(record) => Ok(Some(record)),
            Err(damage) => {
                self.done = true;
                Err(damage.into())
            }
        }
    }

    /// Where the reader stands: behind the last record it gave out.
    pub fn position(&self) -> Option<Position> {
        self.current.as_ref().map(SegmentReader::position)
    }

    fn next_frame(&mut self) -> Result<Option<Frame>, ReadError> {
        while !self.done {
            if self.current.is_none() {
                match self.segments.next() {
                    Some(segment) => self.current = Some(SegmentReader::open(&self.fs, segment)?),
                    None => break,
                }
            }
            let Some(current) = &mut self.current else { break };
            if let Some(frame) = current.next_frame()? {
                return Ok(Some(frame));
            }
            if self.segments.len() == 0 {
                break;
            }
            self.current = None;
        }
        self.done = true;
        Ok(None)
    }
}

/// Where reading goes on in a segment, and what is known of that place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Restart {
    /// Anywhere: records that begin before it are not given out.
    Inside(u64),
    /// A record begins here.
    Record(u64),
    /// Behind damage: pieces of a record whose beginning is lost may follow.
    Damage(u64),
}

impl Restart {
    pub(crate) fn offset(self) -> u64 {
        let (Self::Inside(offset) | Self::Record(offset) | Self::Damage(offset)) = self;
        offset
    }
}

/// One segment, strictly: the window over its file and the framer on it.
#[derive(Debug)]
pub(crate) struct SegmentReader {
    pub(crate) segment: SegmentRef,
    pub(crate) window: Window,
    framer: Framer,
    /// Records that begin before this are not given out.
    from: u64,
}

impl SegmentReader {
    pub(crate) fn open(fs: &Fs, segment: SegmentRef) -> Result<Self, ReadError> {
        let window = Window::open(fs, &segment.path)?;
        Ok(Self { segment, window, framer: Framer::new(), from: 0 })
    }

    /// Forgets what was read and goes on from a place that is known.
    pub(crate) fn restart(&mut self, from: Restart) {
        let offset = from.offset();
        let page = offset / PAGE * PAGE;
        self.window.seek(page);
        match from {
            Restart::Inside(_) => self.framer.reset_at_page(page),
            Restart::Record(_) => self.framer.reset_at_record(offset),
            Restart::Damage(_) => self.framer.resume_at(offset),
        }
        self.from = offset;
    }

    pub(crate) fn start_block(&mut self, pages: Range<u64>) {
        self.framer.reset_at_page(pages.start);
        self.framer.set_limit(pages.end);
        self.window.seek(pages.start);
        self.window.limit = pages.end;
        self.from = 0;
    }

    fn position(&self) -> Position {
        Position { segment: self.segment.index, offset: self.framer.offset() }
    }

    /// Bytes of the file, as far as it was read.
    pub(crate) fn file_len(&self) -> u64 {
        self.window.end()
    }

    pub(crate) fn partial_start(&self) -> Option<u64> {
        self.framer.partial_start()
    }

    pub(crate) fn skipped_to(&self) -> Option<u64> {
        self.framer.skipped_to()
    }

    pub(crate) fn zero_page(&self) -> Option<u64> {
        self.framer.zero_page()
    }

    pub(crate) fn tally(&self) -> Tally {
        self.framer.tally()
    }

    /// The next whole record's frame; `None` at the segment's clean end, or the block's.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame>, ReadError> {
        loop {
            match self.next_event()? {
                Event::Record(frame) if frame.start < self.from => {}
                Event::Record(frame) => return Ok(Some(frame)),
                Event::NeedMore | Event::Limit => return Ok(None),
                Event::Fault { record_start, offset, fault } => {
                    return Err(self.damage(record_start, offset, fault).into());
                }
            }
        }
    }

    /// What comes next when the file's end is the segment's: [`Event::NeedMore`] stands for a clean end.
    pub(crate) fn next_event(&mut self) -> Result<Event, ReadError> {
        loop {
            match self.framer.advance(self.window.bytes(), self.window.base) {
                Event::NeedMore if self.window.fill(self.framer.offset())? => {}
                Event::NeedMore => {
                    let torn = self.framer.finish(self.window.rest(self.framer.offset()));
                    return Ok(torn.unwrap_or(Event::NeedMore));
                }
                event => return Ok(event),
            }
        }
    }

    /// What comes next while the file may still grow: [`Event::NeedMore`] at its end, whatever lies before that.
    pub(crate) fn next_event_live(&mut self) -> Result<Event, ReadError> {
        loop {
            match self.framer.advance(self.window.bytes(), self.window.base) {
                Event::NeedMore if self.window.fill(self.framer.offset())? => {}
                event => return Ok(event),
            }
        }
    }

    /// The file's length as it is now.
    pub(crate) fn len_now(&self) -> Result<u64, ReadError> {
        self.window.file.len().map_err(ReadError::io(&self.window.path))
    }

    /// Moves behind a fault and says what was passed over.
    pub(crate) fn pass(
        &mut self,
        record_start: u64,
        offset: u64,
        fault: FrameFault,
    ) -> Result<DamagedRange, ReadError> {
        let to = self.resume_behind(offset, &fault)?;
        Ok(DamagedRange { damage: self.damage(record_start, offset, fault), from: record_start, to })
    }

    /// Moves behind a fault at `offset` and says where that is.
    fn resume_behind(&mut self, offset: u64, fault: &FrameFault) -> Result<u64, ReadError> {
        let page = offset / PAGE * PAGE;
        while self.window.end() < page + PAGE && self.window.fill(offset)? {}
        let page_bytes = self.window.rest(page);
        let page_bytes = &page_bytes[..page_bytes.len().min(PAGE_SIZE)];
        let to = page + resume_in_page(page_bytes, (offset - page) as usize, fault) as u64;
        self.framer.resume_at(to);
        Ok(to)
    }

    pub(crate) fn stored(&self, frame: &Frame) -> &[u8] {
        self.framer.stored(frame, self.window.bytes())
    }

    pub(crate) fn record<'a>(
        &'a self,
        frame: &Frame,
        decompressor: &'a mut Decompressor,
    ) -> Result<Record<'a>, Damage> {
        let stored = self.stored(frame);
        let position = Position { segment: self.segment.index, offset: frame.start };
        match decompressor.decode(frame.compression, stored) {
            Ok(bytes) => {
                let Frame { compression, checksum, end, .. } = *frame;
                Ok(Record { bytes, stored, compression, checksum, position, end })
            }
            Err(reason) => {
                let fault = FrameFault::Decompress { compression: frame.compression, reason };
                Err(self.damage(frame.start, frame.start, fault))
            }
        }
    }

    pub(crate) fn damage(&self, record_start: u64, offset: u64, fault: FrameFault) -> Damage {
        let location =
            Location { dir: self.segment.dir().to_owned(), segment: self.segment.index, record_start, offset };
        Damage { location, fault }
    }
}

/// A piece of a file that moves forward with its reader.
#[derive(Debug)]
pub(crate) struct Window {
    file: Box<dyn VfsFile>,
    path: PathBuf,
    buf: Vec<u8>,
    len: usize,
    /// Offset in the file of the first byte in the buffer, always a page's.
    pub(crate) base: u64,
    /// Bytes behind this are wanted only for the end of a record: they are read a page at a time.
    pub(crate) limit: u64,
    /// Gets what is forgotten, which the framer has found sound.
    pub(crate) behind: Option<WriteAgain>,
}

impl Window {
    pub(crate) fn open(fs: &Fs, path: &Path) -> Result<Self, ReadError> {
        let file = fs.open_read(path).map_err(ReadError::io(path))?;
        Ok(Self { file, path: path.to_owned(), buf: Vec::new(), len: 0, base: 0, limit: u64::MAX, behind: None })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buf[..self.len]
    }

    /// Offset in the file behind the last byte in the buffer.
    pub(crate) fn end(&self) -> u64 {
        self.base + self.len as u64
    }

    /// What there is from `offset` on.
    pub(crate) fn rest(&self, offset: u64) -> &[u8] {
        self.bytes().get((offset - self.base) as usize..).unwrap_or_default()
    }

    /// Forgets everything and goes on at a page.
    pub(crate) fn seek(&mut self, page: u64) {
        self.base = page;
        self.len = 0;
    }

    /// Reads on; what lies before the page of `offset` is forgotten. False at the end of the file as it is now.
    pub(crate) fn fill(&mut self, offset: u64) -> Result<bool, ReadError> {
        let page = offset / PAGE * PAGE;
        let keep_from = ((page - self.base) as usize).min(self.len);
        if let Some(behind) = &mut self.behind {
            behind.pass(&self.buf[..keep_from], self.base);
        }
        self.buf.copy_within(keep_from..self.len, 0);
        self.len -= keep_from;
        self.base += keep_from as u64;
        if self.len == 0 {
            self.base = page;
        }
        if self.buf.len() < READ_SIZE + PAGE_SIZE {
            self.buf.resize(READ_SIZE + PAGE_SIZE, 0);
        }
        let ahead = self.limit.saturating_sub(self.base + self.len as u64).clamp(PAGE, READ_SIZE as u64) as usize;
        let to = (self.len + ahead).div_ceil(PAGE_SIZE) * PAGE_SIZE;
        let to = to.min(self.buf.len());
        let n = self
            .file
            .read_full_at(&mut self.buf[self.len..to], self.base + self.len as u64)
            .map_err(ReadError::io(&self.path))?;
        self.len += n;
        Ok(n > 0)
    }
}
