//! Following a log that grows.
//!
//! What is not there yet is waited for, never taken for damage: a record counts when it is whole, and a page that is half
//! written, or is taken back by a writer that failed, is looked at again. Only when a later segment exists is a segment
//! final, and only what is wrong then is reported, and passed over.
//!
//! A checkpoint may remove segments before they were read. Then the checkpoint that stands for them is read in their place.

use std::path::{Path, PathBuf};

use tsdb_vfs::Fs;

use crate::compression::Decompressor;
use crate::error::{Position, ReadError};
use crate::format::next_page;
use crate::framer::{Event, Frame};
use crate::layout::{self, CheckpointRef, SegmentRef};
use crate::reader::{Record, Restart, SegmentReader};
use crate::salvage::DamagedRange;

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TailFrom {
    /// The last checkpoint, then every segment behind it.
    #[default]
    Start,
    /// What is appended from now on.
    End,
    /// The first record that begins at this position or behind it. If its segment was removed, the checkpoint that stands
    /// for it comes first.
    At(Position),
}

/// What [`TailReader::next`] came to.
#[derive(Debug)]
#[non_exhaustive]
pub enum TailItem<'a> {
    /// A record of a segment.
    Record(Record<'a>),
    /// A record of the checkpoint with this number.
    Checkpoint {
        /// The checkpoint's number.
        index: u64,
        /// The record; its position is that in the checkpoint's own segments.
        record: Record<'a>,
    },
    /// Bytes that will never be a record. Reading goes on behind them.
    Damage(DamagedRange),
    /// Segments were removed before they were read to the end, and no checkpoint stands for all of them.
    Skipped {
        /// Where the reader stood.
        from: Position,
        /// Where it goes on.
        to: Position,
    },
    /// The writer took back what it had written: the reader stood behind the segment's new end.
    Rewound {
        /// Where the reader stood.
        from: Position,
        /// Where it goes on.
        to: Position,
    },
}

/// Follows a log. [`next`](Self::next) never waits: `None` says that there is nothing new now.
///
/// ```
/// # use std::sync::Arc;
/// # use tsdb_vfs::{Fs, RealFs};
/// # use wal_segment::{Log, LogOptions, TailFrom, TailItem, TailReader};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let tmp = tempfile::tempdir()?;
/// # let dir = tmp.path().join("wal");
/// # let fs: Fs = Arc::new(RealFs::new());
/// # let (log, _) = Log::open(fs.clone(), &dir, LogOptions::default())?;
/// let mut tail = TailReader::open(fs, &dir, TailFrom::Start)?;
/// assert!(tail.next()?.is_none());
/// log.append([b"one".as_slice()])?;
/// assert!(matches!(tail.next()?, Some(TailItem::Record(record)) if record.bytes == b"one"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TailReader {
    fs: Fs,
    dir: PathBuf,
    /// The segment that is being read.
    current: Option<Current>,
    /// What is read before `current`.
    checkpoint: Option<CheckpointTail>,
    /// Where to go on when there is no current segment.
    next: Position,
    decompressor: Decompressor,
}

#[derive(Debug)]
struct Current {
    reader: SegmentReader,
    /// Where to look again for what is not complete.
    from: Restart,
    /// Where a complete page could not be right when it was looked at before.
    suspect: Option<u64>,
    /// A later segment exists: what is here is all there will be.
    last_look: bool,
}

#[derive(Debug)]
struct CheckpointTail {
    index: u64,
    segments: std::vec::IntoIter<SegmentRef>,
    reader: Option<SegmentReader>,
}

enum Step {
    Record(Frame),
    CheckpointRecord(u64, Frame),
    Damage(DamagedRange),
    Moved(TailMove),
    Nothing,
}

enum TailMove {
    Skipped { from: Position, to: Position },
    Rewound { from: Position, to: Position },
}

impl TailReader {
    /// Starts to follow the log in `dir`.
    pub fn open(fs: Fs, dir: &Path, from: TailFrom) -> Result<Self, ReadError> {
        let segments = layout::segments(&fs, dir)?;
        let mut tail = Self {
            fs,
            dir: dir.to_owned(),
            current: None,
            checkpoint: None,
            next: Position::default(),
            decompressor: Decompressor::default(),
        };
        match from {
            TailFrom::Start => {
                if let Some(checkpoint) = layout::last_checkpoint(&tail.fs, dir)? {
                    tail.enter_checkpoint(checkpoint)?;
                } else {
                    tail.next.segment = segments.first().map_or(0, |first| first.index);
                }
            }
            TailFrom::End => {
                if let Some(last) = segments.last() {
                    tail.next = tail.end_of(last)?;
                }
            }
            TailFrom::At(position) => tail.next = position,
        }
        Ok(tail)
    }

    /// Where the reader stands: everything before it was given out.
    pub fn position(&self) -> Position {
        match &self.current {
            Some(current) => Position { segment: current.reader.segment.index, offset: current.from.offset() },
            None => self.next,
        }
    }

    /// What comes next, or `None` if there is nothing new now: call again later.
    #[expect(clippy::should_implement_trait, reason = "the record borrows from the reader, an Iterator's could not")]
    pub fn next(&mut self) -> Result<Option<TailItem<'_>>, ReadError> {
        Ok(match self.step()? {
            Step::Nothing => None,
            Step::Damage(range) => Some(TailItem::Damage(range)),
            Step::Moved(TailMove::Skipped { from, to }) => Some(TailItem::Skipped { from, to }),
            Step::Moved(TailMove::Rewound { from, to }) => Some(TailItem::Rewound { from, to }),
            Step::Record(frame) => {
                let Some(current) = &self.current else { return Ok(None) };
                Some(match current.reader.record(&frame, &mut self.decompressor) {
                    Ok(record) => TailItem::Record(record),
                    Err(damage) => TailItem::Damage(DamagedRange { damage, from: frame.start, to: frame.end }),
                })
            }
            Step::CheckpointRecord(index, frame) => {
                let Some(reader) = self.checkpoint.as_ref().and_then(|checkpoint| checkpoint.reader.as_ref()) else {
                    return Ok(None);
                };
                Some(match reader.record(&frame, &mut self.decompressor) {
                    Ok(record) => TailItem::Checkpoint { index, record },
                    Err(damage) => TailItem::Damage(DamagedRange { damage, from: frame.start, to: frame.end }),
                })
            }
        })
    }

    fn step(&mut self) -> Result<Step, ReadError> {
        loop {
            if let Some(checkpoint) = &mut self.checkpoint {
                match checkpoint.step(&self.fs) {
                    Ok(Some(step)) => return Ok(step),
                    Ok(None) => self.checkpoint = None,
                    // Replaced by a newer one while it was read: that one stands for this one, too.
                    Err(e) if is_gone(&e) => self.replace_checkpoint(e)?,
                    Err(e) => return Err(e),
                }
                continue;
            }
            if self.current.is_none() && !self.enter_segment()? {
                return match self.find_segment()? {
                    Some(step) => Ok(step),
                    None if self.checkpoint.is_some() => continue,
                    None => Ok(Step::Nothing),
                };
            }
            let Some(current) = &mut self.current else { continue };
            match current.step()? {
                CurrentStep::Give(step) => return Ok(step),
                CurrentStep::Wait if current.last_look => {
                    self.next = Position { segment: current.reader.segment.index + 1, offset: 0 };
                    self.current = None;
                }
                CurrentStep::Wait => {
                    let index = current.reader.segment.index;
                    if !layout::segments(&self.fs, &self.dir)?.iter().any(|segment| segment.index > index) {
                        return Ok(Step::Nothing);
                    }
                    // Everything in this segment was written before the next one was made: look once more.
                    current.last_look = true;
                }
            }
        }
    }

    fn enter_segment(&mut self) -> Result<bool, ReadError> {
        let segments = layout::segments(&self.fs, &self.dir)?;
        let Some(segment) = segments.into_iter().find(|segment| segment.index == self.next.segment) else {
            return Ok(false);
        };
        match SegmentReader::open(&self.fs, segment) {
            Ok(mut reader) => {
                let from = Restart::Inside(self.next.offset);
                reader.restart(from);
                self.current = Some(Current { reader, from, suspect: None, last_look: false });
                Ok(true)
            }
            Err(e) if is_gone(&e) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The segment to go on with is not there: not yet, or no longer.
    fn find_segment(&mut self) -> Result<Option<Step>, ReadError> {
        let segments = layout::segments(&self.fs, &self.dir)?;
        let wanted = self.next.segment;
        if segments.last().is_none_or(|last| last.index < wanted) {
            return Ok(None);
        }
        let from = self.next;
        let first = segments.iter().find(|segment| segment.index > wanted).map_or(wanted + 1, |first| first.index);
        let checkpoint = layout::last_checkpoint(&self.fs, &self.dir)?.filter(|found| found.index >= wanted);
        let Some(checkpoint) = checkpoint else {
            self.next = Position { segment: first, offset: 0 };
            return Ok(Some(Step::Moved(TailMove::Skipped { from, to: self.next })));
        };
        self.enter_checkpoint(checkpoint)?;
        Ok(None)
    }

    fn enter_checkpoint(&mut self, CheckpointRef { index, path }: CheckpointRef) -> Result<(), ReadError> {
        let segments = match layout::segments(&self.fs, &path) {
            Ok(segments) => segments,
            Err(e) if is_gone(&e) => Vec::new(),
            Err(e) => return Err(e),
        };
        self.checkpoint = Some(CheckpointTail { index, segments: segments.into_iter(), reader: None });
        self.next = Position { segment: index + 1, offset: 0 };
        Ok(())
    }

    fn replace_checkpoint(&mut self, gone: ReadError) -> Result<(), ReadError> {
        let index = self.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.index);
        match layout::last_checkpoint(&self.fs, &self.dir)?.filter(|newer| newer.index > index) {
            Some(newer) => self.enter_checkpoint(newer),
            None => Err(gone),
        }
    }

    fn end_of(&self, last: &SegmentRef) -> Result<Position, ReadError> {
        let mut reader = SegmentReader::open(&self.fs, last.clone())?;
        let mut end = 0;
        while let Event::Record(frame) = reader.next_event()? {
            end = frame.end;
        }
        Ok(Position { segment: last.index, offset: end })
    }
}

impl CheckpointTail {
    fn step(&mut self, fs: &Fs) -> Result<Option<Step>, ReadError> {
        loop {
            let Some(reader) = &mut self.reader else {
                let Some(segment) = self.segments.next() else { return Ok(None) };
                self.reader = Some(SegmentReader::open(fs, segment)?);
                continue;
            };
            match reader.next_event()? {
                Event::Record(frame) => return Ok(Some(Step::CheckpointRecord(self.index, frame))),
                Event::NeedMore | Event::Limit => self.reader = None,
                Event::Fault { record_start, offset, fault } => {
                    return reader.pass(record_start, offset, fault).map(|range| Some(Step::Damage(range)));
                }
            }
        }
    }
}

enum CurrentStep {
    Give(Step),
    Wait,
}

impl Current {
    fn step(&mut self) -> Result<CurrentStep, ReadError> {
        loop {
            let event = if self.last_look { self.reader.next_event()? } else { self.reader.next_event_live()? };
            match event {
                Event::Record(frame) if frame.start < self.from.offset() => {}
                Event::Record(frame) => {
                    self.from = Restart::Record(frame.end);
                    return Ok(CurrentStep::Give(Step::Record(frame)));
                }
                Event::Fault { record_start, offset, fault } if self.last_look || self.suspect == Some(offset) => {
                    let range = self.reader.pass(record_start, offset, fault)?;
                    self.from = Restart::Damage(range.to);
                    return Ok(CurrentStep::Give(Step::Damage(range)));
                }
                // A page that is complete in the file is read once more, one that is not may still become right.
                Event::Fault { offset, .. } if self.reader.len_now()? >= next_page(offset) => {
                    self.suspect = Some(offset);
                    self.reader.restart(self.from);
                }
                Event::Fault { .. } | Event::NeedMore | Event::Limit => return self.wait(),
            }
        }
    }

    /// Forgets what was read of the unfinished record: the writer may take it back and write another in its place.
    fn wait(&mut self) -> Result<CurrentStep, ReadError> {
        let (segment, done, len) = (self.reader.segment.index, self.from.offset(), self.reader.len_now()?);
        let rewound = len < done && !matches!(self.from, Restart::Inside(_));
        if rewound {
            self.from = Restart::Record(len);
        }
        self.suspect = None;
        self.reader.restart(self.from);
        if !rewound {
            return Ok(CurrentStep::Wait);
        }
        let (from, to) = (Position { segment, offset: done }, Position { segment, offset: len });
        Ok(CurrentStep::Give(Step::Moved(TailMove::Rewound { from, to })))
    }
}

fn is_gone(e: &ReadError) -> bool {
    matches!(e, ReadError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
}
