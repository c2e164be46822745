//! The salvaging reader: every sound record there is, and what lies between them.

use std::path::Path;

use tsdb_vfs::Fs;

use crate::compression::Decompressor;
use crate::error::{Damage, ReadError};
use crate::framer::{Event, Frame};
use crate::layout::{self, SegmentRef};
use crate::ledger::Ledger;
use crate::reader::{Record, SegmentReader};

/// What [`SalvageReader::next`] came to.
#[derive(Debug)]
pub enum Item<'a> {
    /// A sound record.
    Record(Record<'a>),
    /// Bytes that are none, or a record that can't be decompressed.
    Damage(DamagedRange),
    /// Segments are missing: the next one read is `found`.
    Gap {
        /// Number that follows the segment before.
        expected: u64,
        /// Number that was found.
        found: u64,
    },
}

/// Bytes of a segment that hold no record that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedRange {
    /// Where and what.
    pub damage: Damage,
    /// Start of the range: where the damaged record begins, or the damage itself.
    pub from: u64,
    /// Where reading goes on in the segment.
    pub to: u64,
}

/// Reads all that can be read: behind damage it goes on at the next sound fragment of the page, the next page or the next
/// segment. It never changes a file.
#[derive(Debug)]
pub struct SalvageReader {
    fs: Fs,
    segments: std::vec::IntoIter<SegmentRef>,
    current: Option<SalvageSegment>,
    last: Option<u64>,
    decompressor: Decompressor,
    ledger: Ledger,
    /// Whether something in the current segment was damaged.
    damaged: bool,
}

impl SalvageReader {
    /// Reads all segments in `dir`, a log's or a checkpoint's.
    pub fn open(fs: Fs, dir: &Path) -> Result<Self, ReadError> {
        let segments = layout::segments(&fs, dir)?;
        Ok(Self::over(fs, segments))
    }

    /// Reads these segments, in this order.
    pub fn over(fs: Fs, segments: Vec<SegmentRef>) -> Self {
        Self {
            fs,
            segments: segments.into_iter(),
            current: None,
            last: None,
            decompressor: Decompressor::default(),
            ledger: Ledger::default(),
            damaged: false,
        }
    }

    /// Compares what it reads with what `ledger` says was durable: at the end of a segment in which no damage explains it,
    /// records that are missing or other ones are damage of no bytes ([`FrameFault::Ledger`](crate::FrameFault::Ledger)).
    #[must_use]
    pub fn comparing(self, ledger: Ledger) -> Self {
        Self { ledger, ..self }
    }

    /// The next record, damage or gap; `None` at the end. After an error of the file system the next call goes on with
    /// the next segment.
    #[expect(clippy::should_implement_trait, reason = "the record borrows from the reader, an Iterator's could not")]
    pub fn next(&mut self) -> Result<Option<Item<'_>>, ReadError> {
        let found = loop {
            let Some(current) = &mut self.current else {
                let Some(segment) = self.segments.next() else { return Ok(None) };
                let (expected, found) = (self.last.map(|last| last + 1), segment.index);
                self.last = Some(found);
                self.current = Some(SalvageSegment::open(&self.fs, segment)?);
                self.damaged = false;
                if let Some(expected) = expected.filter(|&expected| expected != found) {
                    return Ok(Some(Item::Gap { expected, found }));
                }
                continue;
            };
            match current.next() {
                Ok(Some(found)) => {
                    self.damaged |= matches!(found, Found::Damage(_));
                    break found;
                }
                Ok(None) => {
                    let missed = if self.damaged { None } else { current.missed(&self.ledger) };
                    self.current = None;
                    if let Some(range) = missed {
                        return Ok(Some(Item::Damage(range)));
                    }
                }
                Err(e) => {
                    self.current = None;
                    return Err(e);
                }
            }
        };
        let (Some(current), decompressor) = (&self.current, &mut self.decompressor) else { return Ok(None) };
        Ok(Some(match found {
            Found::Damage(range) => Item::Damage(range),
            Found::Frame(frame) => match current.reader.record(&frame, decompressor) {
                Ok(record) => Item::Record(record),
                Err(damage) => Item::Damage(DamagedRange { damage, from: frame.start, to: frame.end }),
            },
        }))
    }
}

/// One segment, salvaging.
#[derive(Debug)]
pub(crate) struct SalvageSegment {
    pub(crate) reader: SegmentReader,
}

#[derive(Debug)]
pub(crate) enum Found {
    Frame(Frame),
    Damage(DamagedRange),
}

impl SalvageSegment {
    pub(crate) fn open(fs: &Fs, segment: SegmentRef) -> Result<Self, ReadError> {
        Ok(Self { reader: SegmentReader::open(fs, segment)? })
    }

    /// What the ledger misses in this segment, all of which was read.
    fn missed(&self, ledger: &Ledger) -> Option<DamagedRange> {
        let found = self.reader.tally();
        let fault = ledger.get(self.reader.segment.index)?.compare_end(found).err()?;
        let damage = self.reader.damage(found.end, found.end, fault);
        Some(DamagedRange { damage, from: found.end, to: found.end })
    }

    pub(crate) fn next(&mut self) -> Result<Option<Found>, ReadError> {
        Ok(match self.reader.next_event()? {
            Event::Record(frame) => Some(Found::Frame(frame)),
            Event::NeedMore | Event::Limit => None,
            Event::Fault { record_start, offset, fault } => {
                Some(Found::Damage(self.reader.pass(record_start, offset, fault)?))
            }
        })
    }
}
