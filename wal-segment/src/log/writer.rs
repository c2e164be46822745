//! The end of the log: the segment that records go to, and what of it is durable.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tsdb_vfs::{Fs, VfsFile};

use crate::Compression;
use crate::error::{Error, Position};
use crate::format::PAGE;
use crate::frame::{fits, frame, pad_page};
use crate::framer::Tally;
use crate::layout::{self, segment_name};
use crate::log::options::{Durability, LogOptions};

/// Framed bytes are written out when there are so many, so that one call's memory stays bounded.
const WRITE_SIZE: usize = 1024 * 1024;

/// A segment that is being written, or is complete and not yet durable.
#[derive(Debug)]
struct Segment {
    index: u64,
    file: Arc<dyn VfsFile>,
    path: PathBuf,
    /// Bytes written.
    len: u64,
    /// Bytes durable.
    durable: u64,
    /// What was framed, up to `offset` of the writer for the current segment.
    tally: Tally,
}

/// The one place that changes a log's files.
#[derive(Debug)]
pub(crate) struct Writer {
    fs: Fs,
    dir: PathBuf,
    segment_size: u64,
    durability: Durability,
    current: Segment,
    /// Framed and not written: continues the current segment at `current.len`.
    out: Vec<u8>,
    /// Where the next fragment goes: `current.len + out.len()`.
    offset: u64,
    /// Complete segments that are not durable, oldest first.
    unsynced: Vec<Segment>,
    read_only: Option<Arc<std::io::Error>>,
    closed: bool,
}

/// What a round that failed goes back to.
#[derive(Debug, Clone, Copy)]
struct Mark {
    position: Position,
    tally: Tally,
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

impl Writer {
    pub(crate) fn create(fs: Fs, dir: &Path, index: u64, options: &LogOptions) -> Result<Self, Error> {
        let current = Segment::create(&fs, dir, index)?;
        Ok(Self {
            fs,
            dir: dir.to_owned(),
            segment_size: options.segment_size,
            durability: options.durability,
            current,
            out: Vec::new(),
            offset: 0,
            unsynced: Vec::new(),
            read_only: None,
            closed: false,
        })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn position(&self) -> Position {
        Position { segment: self.current.index, offset: self.offset }
    }

    pub(crate) fn exposed_bytes(&self) -> u64 {
        self.unsynced.iter().chain([&self.current]).map(|segment| segment.len - segment.durable).sum()
    }

    /// Runs `push` on a round and writes what it pushed: all of it, or nothing.
    pub(crate) fn round(
        &mut self,
        push: impl FnOnce(&mut Round<'_>) -> Result<Option<Position>, Error>,
    ) -> Result<Position, Error> {
        self.check_writable()?;
        let mark = Mark { position: self.position(), tally: self.current.tally };
        let pushed = push(&mut Round(self)).and_then(|first| {
            self.flush()?;
            Ok(first)
        });
        match pushed {
            Ok(first) => {
                if self.durability == Durability::Always {
                    self.sync()?;
                }
                Ok(first.unwrap_or(mark.position))
            }
            Err(e) => {
                self.cut_back(mark);
                Err(e)
            }
        }
    }

    fn check_writable(&self) -> Result<(), Error> {
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
        frame(&mut self.out, &mut self.offset, &mut self.current.tally, stored, compression);
        if self.out.len() >= WRITE_SIZE {
            self.flush()?;
        }
        Ok(position)
    }

    fn flush(&mut self) -> Result<(), Error> {
        if self.out.is_empty() {
            return Ok(());
        }
        self.current.file.write_all_at(&self.out, self.current.len).map_err(Error::io(&self.current.path))?;
        self.current.len = self.offset;
        self.out.clear();
        Ok(())
    }

    /// Takes back what a failed round has written. If that fails, too, nothing may follow what is there.
    fn cut_back(&mut self, mark: Mark) {
        self.out.clear();
        let to = mark.position;
        let cut = self.cut_segments(to);
        // The segment stays the current one even if a later one was begun in the round: that one is empty now.
        if to.segment == self.current.index {
            self.current.len = to.offset;
            self.current.tally = mark.tally;
        } else {
            self.current.len = 0;
            self.current.tally = Tally::default();
            for segment in &mut self.unsynced {
                let keep = if segment.index == to.segment { to.offset } else { 0 };
                segment.len = segment.len.min(keep);
                segment.durable = segment.durable.min(keep);
            }
        }
        self.current.durable = self.current.durable.min(self.current.len);
        self.offset = self.current.len;
        if let Err(e) = cut {
            self.read_only.get_or_insert(Arc::new(e));
        }
    }

    fn cut_segments(&self, to: Position) -> std::io::Result<()> {
        if to.segment == self.current.index {
            return self.current.file.set_len(to.offset);
        }
        self.current.file.set_len(0)?;
        for index in to.segment..self.current.index {
            let file = self.fs.open_write(&self.dir.join(segment_name(index)))?;
            file.set_len(if index == to.segment { to.offset } else { 0 })?;
        }
        Ok(())
    }

    /// Ends the segment as the reference does: the page that holds anything is filled with zeros.
    fn rotate(&mut self) -> Result<u64, Error> {
        pad_page(&mut self.out, &mut self.offset);
        self.flush()?;
        if self.durability != Durability::Rotate {
            self.sync()?;
        }
        let next = Segment::create(&self.fs, &self.dir, self.current.index + 1)?;
        let complete = std::mem::replace(&mut self.current, next);
        self.offset = 0;
        if complete.durable < complete.len {
            self.unsynced.push(complete);
            self.sync()?;
        }
        Ok(self.current.index)
    }

    pub(crate) fn next_segment(&mut self) -> Result<u64, Error> {
        self.check_writable()?;
        self.rotate()
    }

    /// Makes everything that was written durable, oldest segment first.
    pub(crate) fn sync(&mut self) -> Result<(), Error> {
        self.check_writable()?;
        let mut synced = Ok(());
        for segment in self.unsynced.iter_mut().chain([&mut self.current]) {
            if segment.durable == segment.len {
                continue;
            }
            if let Err(e) = segment.file.sync_data() {
                synced = Err((segment.path.clone(), Arc::new(e)));
                break;
            }
            segment.durable = segment.len;
        }
        self.unsynced.retain(|segment| segment.durable < segment.len);
        synced.map_err(|(path, source)| {
            // What a failed fsync covered is in nobody's hands: no later fsync may claim it.
            self.read_only = Some(source.clone());
            Error::Io { path, source }
        })
    }

    pub(crate) fn remove_segments_before(&mut self, segment: u64) -> Result<usize, Error> {
        let mut removed = 0;
        for old in layout::segments(&self.fs, &self.dir)? {
            if old.index >= segment.min(self.current.index) {
                break;
            }
            self.fs.remove_file(&old.path).map_err(Error::io(&old.path))?;
            self.unsynced.retain(|unsynced| unsynced.index != old.index);
            removed += 1;
        }
        if removed > 0 {
            self.fs.sync_dir(&self.dir).map_err(Error::io(&self.dir))?;
        }
        Ok(removed)
    }

    pub(crate) fn close(&mut self) -> Result<(), Error> {
        self.check_writable()?;
        if !self.offset.is_multiple_of(PAGE) {
            pad_page(&mut self.out, &mut self.offset);
            self.flush()?;
        }
        self.sync()?;
        self.closed = true;
        Ok(())
    }
}

impl Segment {
    fn create(fs: &Fs, dir: &Path, index: u64) -> Result<Self, Error> {
        let path = dir.join(segment_name(index));
        let file = Arc::from(fs.create_new(&path).map_err(Error::io(&path))?);
        fs.sync_dir(dir).map_err(Error::io(dir))?;
        Ok(Self { index, file, path, len: 0, durable: 0, tally: Tally::default() })
    }
}
