//! One segment read to its end: what is sound, what is not, and what the ledger says to that.

use tsdb_vfs::Fs;

use crate::compression::Decompressor;
use crate::error::{Damage, ReadError};
use crate::framer::Tally;
use crate::layout::SegmentRef;
use crate::ledger::LedgerEntry;
use crate::salvage::{DamagedRange, Found, SalvageSegment};

/// What is in a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scan {
    /// The segment, with its length as it was read.
    pub(crate) segment: SegmentRef,
    /// Sound records before the first damage.
    pub(crate) sound: u64,
    /// Where the last of them ends; 0 without any.
    pub(crate) sound_to: u64,
    /// Sound records behind the first damage.
    pub(crate) behind: u64,
    /// The damaged ranges, in order.
    pub(crate) damage: Vec<DamagedRange>,
    /// What the ledger says was durable and is not there as it was. Only when [`damage`](Self::damage) does not explain it.
    pub(crate) disputed: Option<Damage>,
    pub(crate) tally: Tally,
}

impl Scan {
    /// Reads a segment, every checksum and every compressed record.
    pub(crate) fn run(fs: &Fs, segment: &SegmentRef, entry: Option<LedgerEntry>) -> Result<Self, ReadError> {
        let mut reader = SalvageSegment::open(fs, segment.clone())?;
        let mut decompressor = Decompressor::default();
        let mut scan = Self {
            segment: segment.clone(),
            sound: 0,
            sound_to: 0,
            behind: 0,
            damage: Vec::new(),
            disputed: None,
            tally: Tally::default(),
        };
        let mut at_entry = None;
        while let Some(found) = reader.next()? {
            let range = match found {
                Found::Damage(range) => Err(range),
                Found::Frame(frame) => match reader.reader.record(&frame, &mut decompressor) {
                    Ok(_) => Ok(()),
                    Err(damage) => Err(DamagedRange { damage, from: frame.start, to: frame.end }),
                },
            };
            match range {
                Err(range) => scan.damage.push(range),
                Ok(()) if scan.damage.is_empty() => {
                    scan.tally = reader.reader.tally();
                    (scan.sound, scan.sound_to) = (scan.tally.records, scan.tally.end);
                    if entry.is_some_and(|entry| entry.offset == scan.tally.end) {
                        at_entry = Some(scan.tally);
                    }
                }
                Ok(()) => scan.behind += 1,
            }
        }
        scan.segment.len = reader.reader.file_len();
        if let Some(entry) = entry {
            scan.disputed = scan.dispute(&reader, entry, at_entry);
        }
        Ok(scan)
    }

    fn dispute(&self, reader: &SalvageSegment, entry: LedgerEntry, at_entry: Option<Tally>) -> Option<Damage> {
        if self.damage.first().is_some_and(|range| range.from < entry.offset) {
            return None;
        }
        let found = match at_entry {
            Some(tally) if entry.sealed => Tally { end: tally.end.max(self.tally.end), ..self.tally },
            Some(tally) => tally,
            None if entry.offset == 0 && !entry.sealed => return None,
            None => self.tally,
        };
        let fault = entry.compare(found).err()?;
        let offset = entry.offset.min(self.sound_to);
        Some(reader.reader.damage(offset, offset, fault))
    }

    /// Where the segment would have to be cut for everything before to be sound.
    pub(crate) fn cut_at(&self) -> Option<u64> {
        self.damage.first().map(|range| range.from)
    }

    /// Whether the damage is what a crash leaves of records that were never durable: nothing that was lies behind it.
    pub(crate) fn is_torn_tail(&self, entry: Option<LedgerEntry>) -> bool {
        let Some(cut_at) = self.cut_at() else { return false };
        match entry {
            Some(entry) => cut_at >= entry.offset,
            None => self.behind == 0,
        }
    }
}
