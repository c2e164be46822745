//! One segment read to its end: what is sound, what is not, and what the ledger says to that.

use tsdb_vfs::Fs;

use crate::compression::Decompressor;
use crate::error::{Damage, FrameFault, ReadError, TornAt};
use crate::format::{HEADER_SIZE, PAGE_SIZE, room_in_page};
use crate::framer::{Frame, Tally};
use crate::layout::SegmentRef;
use crate::ledger::LedgerEntry;
use crate::salvage::{DamagedRange, Found, SalvageSegment};
use crate::verify::Judge;
use crate::write_again::WriteAgain;

/// Bytes that a disk writes as one.
const SECTOR: u64 = 512;

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
        Self::run_with(fs, segment, entry, u64::MAX, &|_| None, &mut None)
    }

    /// As [`run`](Self::run); a record that `judge` has something against counts as damaged.
    pub(crate) fn run_judged(
        fs: &Fs,
        segment: &SegmentRef,
        entry: Option<LedgerEntry>,
        judge: &Judge<'_>,
    ) -> Result<Self, ReadError> {
        Self::run_with(fs, segment, entry, u64::MAX, judge, &mut None)
    }

    /// As [`run`](Self::run), of a segment at the log's end, whose bytes `again` gets on the way as long as they are sound.
    ///
    /// If `torn`, a crash may have torn it, and an empty record that is half a header counts as torn: the type byte of a
    /// fragment that reached the disk, with the rest of its header in the next sector or in the rest of a short write, which
    /// did not, reads as a whole record of no bytes. So do zeros up to the end of a page that has room for more, if a record
    /// follows: only the last page of a segment is padded.
    pub(crate) fn run_tail(
        fs: &Fs,
        segment: &SegmentRef,
        entry: Option<LedgerEntry>,
        torn: bool,
        again: &mut Option<WriteAgain>,
    ) -> Result<Self, ReadError> {
        let durable = entry.map_or(0, |entry| if entry.sealed { u64::MAX } else { entry.offset });
        Self::run_with(fs, segment, entry, if torn { durable } else { u64::MAX }, &|_| None, again)
    }

    fn run_with(
        fs: &Fs,
        segment: &SegmentRef,
        entry: Option<LedgerEntry>,
        torn_from: u64,
        judge: &Judge<'_>,
        again: &mut Option<WriteAgain>,
    ) -> Result<Self, ReadError> {
        let mut reader = SalvageSegment::open(fs, segment.clone())?;
        reader.reader.window.behind = again.take();
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
        let mut suspect: Option<(Frame, Tally)> = None;
        loop {
            if !scan.damage.is_empty() {
                // The damaged page and what is behind it stay as they are.
                reader.reader.window.behind = None;
            }
            let found = reader.next()?;
            if let Some((half, before)) = suspect.take()
                && is_half_header(&half, found.as_ref(), reader.reader.file_len(), entry.is_some())
            {
                scan.take_back(&reader, &half, before);
            }
            let Some(found) = found else { break };
            if let Found::Frame(frame) = &found
                && entry.is_some()
                && scan.damage.is_empty()
                && scan.tally.end >= torn_from
                && is_hole(scan.tally.end, frame)
            {
                let from = scan.tally.end;
                let damage = reader.reader.damage(from, from, FrameFault::Torn { expected: TornAt::Header });
                scan.damage.push(DamagedRange { damage, from, to: frame.start });
            }
            if let Found::Frame(frame) = &found
                && frame.start >= torn_from
                && frame.end - frame.start == HEADER_SIZE as u64
                && scan.damage.is_empty()
            {
                suspect = Some((*frame, scan.tally));
            }
            let range = match found {
                Found::Damage(range) => Err(range),
                Found::Frame(frame) => {
                    let unusable = |reason| {
                        let fault = FrameFault::Unusable { reason };
                        reader.reader.damage(frame.start, frame.start, fault)
                    };
                    let record = reader.reader.record(&frame, &mut decompressor);
                    record
                        .and_then(|record| judge(record.bytes).map_or(Ok(()), |reason| Err(unusable(reason))))
                        .map_err(|damage| DamagedRange { damage, from: frame.start, to: frame.end })
                }
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
        *again = reader.reader.window.behind.take();
        if let Some(entry) = entry {
            scan.disputed = scan.dispute(&reader, entry, at_entry);
        }
        Ok(scan)
    }

    fn take_back(&mut self, reader: &SalvageSegment, half: &Frame, before: Tally) {
        self.tally = before;
        (self.sound, self.sound_to) = (before.records, before.end);
        let fault = FrameFault::Torn { expected: TornAt::Header };
        let damage = reader.reader.damage(half.start, half.start, fault);
        self.damage.push(DamagedRange { damage, from: half.start, to: half.end });
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

/// Whether records that never reached the disk are missing between `end`, where the one before ended, and `next`, the
/// first of a page.
fn is_hole(end: u64, next: &Frame) -> bool {
    next.start > end && room_in_page(end) >= HEADER_SIZE
}

/// Whether an empty record is the beginning of another one's header, by what follows it. Half a header has zeros behind
/// it; a whole one that happens to look like it has a fragment, the file's end, or too little of its page for another.
/// Padding is zeros, too: of a segment that no ledger knows (`known`) only a header across two sectors is doubted.
fn is_half_header(empty: &Frame, next: Option<&Found>, file_len: u64, known: bool) -> bool {
    if matches!(next, Some(Found::Frame(next)) if next.start == empty.end) {
        return false;
    }
    let crosses_sector = empty.start / SECTOR != (empty.end - 1) / SECTOR;
    let room = room_in_page(empty.end);
    crosses_sector || known && file_len > empty.end && (HEADER_SIZE..PAGE_SIZE).contains(&room)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use tsdb_vfs::SimFs;
    use tsdb_vfs::sim::OpKind;

    use super::*;
    use crate::frame::{frame, pad_page};
    use crate::{Compression, layout};

    /// Records found, and where the segment would be cut, after `bytes` of which all but the first record may be torn.
    fn scanned(bytes: &[u8], durable: Tally) -> (u64, Option<u64>) {
        let fs: Fs = Arc::new(SimFs::new(1));
        let dir = Path::new("/wal");
        fs.create_dir_all(dir).expect("a disk");
        fs.write_new(&dir.join("00000000"), bytes).expect("a disk");
        let segment = layout::segments(&fs, dir).expect("a log").remove(0);
        let entry = LedgerEntry::of(0, durable, false);
        let scan = Scan::run_tail(&fs, &segment, Some(entry), true, &mut None).expect("a file");
        (scan.sound, scan.cut_at())
    }

    /// What is damaged may be so in the cache only: writing it would destroy what the disk has.
    #[test]
    fn a_damaged_page_is_not_written_again() {
        let (mut out, mut offset, mut tally) = (Vec::new(), 0, Tally::default());
        let record = vec![5; 3_000];
        while offset < 40 * PAGE_SIZE as u64 {
            frame(&mut out, &mut offset, &mut tally, &record, Compression::None, None);
        }
        let mut some_written = 0;
        for (page, place) in (0..40).flat_map(|page| [(page, 500), (page, PAGE_SIZE - 500)]) {
            let disk = SimFs::new(1);
            let (fs, dir): (Fs, _) = (Arc::new(disk.clone()), Path::new("/wal"));
            fs.create_dir_all(dir).expect("a disk");
            out[page * PAGE_SIZE + place] ^= 1;
            fs.write_new(&dir.join("00000000"), &out).expect("a disk");
            out[page * PAGE_SIZE + place] ^= 1;
            let segment = layout::segments(&fs, dir).expect("a log").remove(0);
            let mut again = Some(WriteAgain::from(&fs, &segment.path, 0).expect("a file"));
            disk.record_ops();
            let scan = Scan::run_tail(&fs, &segment, None, false, &mut again).expect("a file");
            assert!(scan.damage.len() == 1 && again.is_none());
            let ops = disk.ops();
            let written = ops.iter().filter(|op| op.kind == OpKind::Write).map(|op| op.offset + op.len).max();
            assert!(written.unwrap_or(0) <= (page * PAGE_SIZE) as u64, "page {page} at {place}: up to {written:?}");
            some_written += usize::from(written.is_some());
        }
        assert!(some_written > 40);
    }

    #[test]
    fn half_a_header_with_zeros_behind_it_is_torn_and_an_empty_record_is_not() {
        let (mut out, mut offset, mut tally) = (Vec::new(), 0, Tally::default());
        frame(&mut out, &mut offset, &mut tally, b"durable", Compression::None, None);
        let durable = tally;
        let half = out.len();
        frame(&mut out, &mut offset, &mut tally, b"", Compression::None, None);
        // As it is written: the file ends with it, or a record follows.
        assert_eq!(scanned(&out, durable), (2, None));
        let (mut more, mut end, mut all) = (out.clone(), offset, tally);
        frame(&mut more, &mut end, &mut all, b"next", Compression::None, None);
        assert_eq!(scanned(&more, durable), (3, None));
        // The type byte of a record that came no further, in a file that has its length already, or a page's.
        for len in [half + 8, half + 40] {
            let mut torn = out.clone();
            torn.resize(len, 0);
            assert_eq!(scanned(&torn, durable), (1, Some(half as u64)), "{len}");
        }
        // Padding behind what is known to be durable says nothing.
        pad_page(&mut out, &mut offset);
        assert_eq!(scanned(&out, tally), (2, None));
    }

    #[test]
    fn a_page_that_ends_early_before_a_record_is_torn() {
        let (mut out, mut offset, mut tally) = (Vec::new(), 0, Tally::default());
        frame(&mut out, &mut offset, &mut tally, b"durable", Compression::None, None);
        let durable = tally;
        let end = out.len();
        // The blocks that reached the disk: those before and behind the records that filled the page.
        pad_page(&mut out, &mut offset);
        assert_eq!(scanned(&out, durable), (1, None));
        frame(&mut out, &mut offset, &mut tally, b"next", Compression::None, None);
        assert_eq!(scanned(&out, durable), (1, Some(end as u64)));
        // A page that is full but for less than a header has no hole.
        let (mut out, mut offset, mut tally) = (Vec::new(), 0, Tally::default());
        frame(&mut out, &mut offset, &mut tally, &[1; PAGE_SIZE - 2 * HEADER_SIZE + 1], Compression::None, None);
        let durable = tally;
        pad_page(&mut out, &mut offset);
        frame(&mut out, &mut offset, &mut tally, b"next", Compression::None, None);
        assert_eq!(scanned(&out, durable), (2, None));
    }
}
