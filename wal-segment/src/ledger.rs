//! The ledger: what was durable, kept beside the log.
//!
//! The log's format cannot show that a page of zeros once held records, that two pages were swapped, or that a segment
//! lost its end; nor can it tell a tail that was never synced from one that was. `headwater-ledger` in the log's directory
//! can: after each sync it notes, per segment, how many records are durable, where the last of them ends, and a chained
//! checksum over all fragment headers up to there (which cover the data through their own checksums). A segment is in it,
//! durably and with no records, before the first one is written: so ours are told from those that others wrote.
//!
//! Deleting it never hurts: then only what the format shows is known. The reference ignores the file, as its name is no
//! number. It is written after the log was synced and not synced itself before the segment is complete, so it never
//! claims more than there is.
//!
//! ```text
//! file   := header slot*
//! header := magic(8) "HWLEDGR1", base(8) number of the first segment that has slots, zeros(44), crc(4)
//! slot   := segment(8) offset(8) records(8) chain(4) state(4) sequence(8) first(7) last(7) zeros(6) crc(4)
//! state  := 1 open, 2 sealed: nothing of the segment lies behind offset but padding
//! first, last := headers of the first and the last fragment before offset that hold 16 bytes or more: whose the segment is
//! ```
//!
//! All numbers are big-endian, checksums CRC-32C over what stands before them. Each segment has two slots, written in
//! turn: a torn one leaves the other. No slot crosses a disk's sector, so that of several writes without a sync each is
//! there or not.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use tsdb_vfs::{Fs, VfsFile};

use crate::error::{FrameFault, ReadError};
use crate::format::{HEADER_SIZE, checksum};
use crate::framer::Tally;
use crate::layout::LEDGER_NAME;

const MAGIC: &[u8; 8] = b"HWLEDGR1";
const SLOT: usize = 64;
const OPEN: u32 = 1;
const SEALED: u32 = 2;

/// No ledger is read or written for directories whose segment numbers are further apart.
const MAX_SEGMENTS: u64 = 1 << 20;

/// What was durable of one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerEntry {
    /// Number of the segment.
    pub segment: u64,
    /// Where the last durable record ends.
    pub offset: u64,
    /// Durable records.
    pub records: u64,
    /// CRC-32C over the headers of all fragments up to `offset`.
    pub chain: u32,
    /// Whether the segment ends there, padding aside.
    pub sealed: bool,
    /// Header of the segment's first fragment of 16 bytes or more before `offset`; zeros without any.
    pub first: [u8; HEADER_SIZE],
    /// Header of the last one; zeros without any.
    pub last: [u8; HEADER_SIZE],
}

impl LedgerEntry {
    pub(crate) fn of(segment: u64, tally: Tally, sealed: bool) -> Self {
        let Tally { records, chain, end: offset, first, last, .. } = tally;
        Self { segment, offset, records, chain, sealed, first, last }
    }

    /// Compares what was found up to [`offset`](Self::offset), or up to the segment's end if that comes first.
    pub(crate) fn compare(&self, found: Tally) -> Result<(), FrameFault> {
        if (self.offset, self.records, self.chain) == (found.end, found.records, found.chain) {
            return Ok(());
        }
        Err(FrameFault::Ledger {
            expected: self.records,
            offset: self.offset,
            chain: self.chain,
            found: found.records,
            found_chain: found.chain,
        })
    }

    /// Compares what was found up to the segment's end: all of it if the entry is [`sealed`](Self::sealed), and else
    /// whether less is there than was durable. An entry without records says nothing: what stands there now is what
    /// another program has written since.
    pub(crate) fn compare_end(&self, found: Tally) -> Result<(), FrameFault> {
        let more = found.end >= self.offset && found.records >= self.records;
        if (!self.sealed || self.records == 0) && more { Ok(()) } else { self.compare(found) }
    }

    fn encode(&self, sequence: u64) -> [u8; SLOT] {
        let mut slot = [0; SLOT];
        slot[..8].copy_from_slice(&self.segment.to_be_bytes());
        slot[8..16].copy_from_slice(&self.offset.to_be_bytes());
        slot[16..24].copy_from_slice(&self.records.to_be_bytes());
        slot[24..28].copy_from_slice(&self.chain.to_be_bytes());
        slot[28..32].copy_from_slice(&if self.sealed { SEALED } else { OPEN }.to_be_bytes());
        slot[32..40].copy_from_slice(&sequence.to_be_bytes());
        slot[40..47].copy_from_slice(&self.first);
        slot[47..54].copy_from_slice(&self.last);
        seal(slot)
    }

    fn decode(slot: &[u8; SLOT]) -> Option<(u64, Self)> {
        if !is_sound(slot) {
            return None;
        }
        let sealed = match u32_at(slot, 28) {
            OPEN => false,
            SEALED => true,
            _ => return None,
        };
        let (segment, offset, records) = (u64_at(slot, 0), u64_at(slot, 8), u64_at(slot, 16));
        let head = |at| std::array::from_fn(|i| slot[at + i]);
        let (first, last) = (head(40), head(47));
        Some((u64_at(slot, 32), Self { segment, offset, records, chain: u32_at(slot, 24), sealed, first, last }))
    }
}

fn seal(mut slot: [u8; SLOT]) -> [u8; SLOT] {
    let crc = checksum(&slot[..SLOT - 4]);
    slot[SLOT - 4..].copy_from_slice(&crc.to_be_bytes());
    slot
}

fn is_sound(slot: &[u8; SLOT]) -> bool {
    checksum(&slot[..SLOT - 4]) == u32_at(slot, SLOT - 4)
}

fn u64_at(slot: &[u8; SLOT], at: usize) -> u64 {
    slot[at..at + 8].iter().fold(0, |n, &byte| n << 8 | u64::from(byte))
}

fn u32_at(slot: &[u8; SLOT], at: usize) -> u32 {
    slot[at..at + 4].iter().fold(0, |n, &byte| n << 8 | u32::from(byte))
}

/// A directory's ledger as it was read. Empty if there is none, or none that can be trusted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ledger {
    entries: BTreeMap<u64, LedgerEntry>,
    others: Option<u64>,
    missing: Vec<LedgerEntry>,
}

impl Ledger {
    /// Reads the ledger in `dir`. A missing, damaged or foreign file is no error: it says nothing.
    pub fn load(fs: &Fs, dir: &Path) -> Result<Self, ReadError> {
        let path = dir.join(LEDGER_NAME);
        match fs.metadata(&path) {
            Ok(found) if found.len <= (2 * MAX_SEGMENTS + 1) * SLOT as u64 => {}
            Ok(_) => return Ok(Self::default()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(ReadError::io(path)(e)),
        }
        match fs.read(&path) {
            Ok(bytes) => Ok(Self::decode(&bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound || tsdb_vfs::is_not_regular(&e) => Ok(Self::default()),
            Err(e) => Err(ReadError::io(path)(e)),
        }
    }

    fn decode(bytes: &[u8]) -> Self {
        let mut entries: BTreeMap<u64, (u64, LedgerEntry)> = BTreeMap::new();
        let mut slots = bytes.chunks_exact(SLOT).filter_map(|slot| <&[u8; SLOT]>::try_from(slot).ok());
        if !slots.next().is_some_and(|header| header.starts_with(MAGIC) && is_sound(header)) {
            return Self::default();
        }
        for (sequence, entry) in slots.filter_map(LedgerEntry::decode) {
            let newest = entries.entry(entry.segment).or_insert((sequence, entry));
            if newest.0 < sequence {
                *newest = (sequence, entry);
            }
        }
        let entries = entries.into_iter().map(|(segment, (_, entry))| (segment, entry)).collect();
        Self { entries, ..Self::default() }
    }

    /// What was durable of this segment.
    pub fn get(&self, segment: u64) -> Option<LedgerEntry> {
        self.entries.get(&segment).copied()
    }

    /// Number of the first segment that it knows.
    pub fn first_segment(&self) -> Option<u64> {
        self.entries.first_key_value().map(|(&segment, _)| segment)
    }

    /// Number of the last segment that it knows.
    pub fn last_segment(&self) -> Option<u64> {
        self.entries.last_key_value().map(|(&segment, _)| segment)
    }

    /// All entries, by segment.
    pub fn entries(&self) -> impl Iterator<Item = &LedgerEntry> {
        self.entries.values()
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The first segment that another program has written or cut since, once that was asked
    /// ([`believed`](Self::believed)).
    pub fn others_from(&self) -> Option<u64> {
        self.others
    }

    /// What was durable at the log's end and is not there, file and all, once that was asked
    /// ([`believed`](Self::believed)).
    pub fn missing(&self) -> &[LedgerEntry] {
        &self.missing
    }

    pub(crate) fn found(&mut self, others: Option<u64>, missing: Vec<LedgerEntry>) {
        (self.others, self.missing) = (others, missing);
    }

    /// Nobody waits for this segment any more.
    pub(crate) fn forget(&mut self, segment: u64) {
        self.entries.remove(&segment);
        self.missing.retain(|entry| entry.segment != segment);
    }

    /// Notes what is durable of a segment, instead of what was known of it.
    pub fn insert(&mut self, entry: LedgerEntry) {
        self.entries.insert(entry.segment, entry);
    }

    /// Replaces the ledger in `dir` by this one, atomically and durably. For directories that no [`Log`](crate::Log) has
    /// open: theirs would go on in a file that has lost its name.
    pub fn store(&self, fs: &Fs, dir: &Path) -> io::Result<()> {
        LedgerWriter::replace(fs, dir, self, None, self.last_segment().map_or(0, |last| last + 1)).map(drop)
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(u64) -> bool) {
        self.entries.retain(|&segment, _| keep(segment));
    }
}

/// The ledger of a log that is being written.
#[derive(Debug)]
pub(crate) struct LedgerWriter {
    file: Box<dyn VfsFile>,
    base: u64,
    sequence: u64,
    /// Slots that each segment's entries were written to: the next goes to the other one.
    turns: BTreeMap<u64, u64>,
    last: Option<LedgerEntry>,
}

impl LedgerWriter {
    /// Replaces the ledger in `dir` by one with these entries, and room for what comes to be known of `first` and those behind
    /// it, atomically. Nothing durable is forgotten if that fails.
    pub(crate) fn replace(
        fs: &Fs,
        dir: &Path,
        ledger: &Ledger,
        first: Option<u64>,
        next_segment: u64,
    ) -> io::Result<Self> {
        let known = ledger.first_segment();
        let oldest = known.into_iter().chain(first).min().unwrap_or(next_segment);
        let base = if next_segment - oldest.min(next_segment) < MAX_SEGMENTS { oldest } else { next_segment };
        let (path, temporary) = paths(dir);
        if fs.exists(&temporary)? {
            fs.remove_file(&temporary)?;
        }
        let mut header = [0; SLOT];
        header[..8].copy_from_slice(MAGIC);
        header[8..16].copy_from_slice(&base.to_be_bytes());
        let mut bytes = seal(header).to_vec();
        for entry in ledger.entries().filter(|entry| entry.segment >= base) {
            let at = slot_offset(base, entry.segment, 0);
            bytes.resize(bytes.len().max(at + 2 * SLOT), 0);
            bytes[at..at + SLOT].copy_from_slice(&entry.encode(0));
        }
        fs.write_new(&temporary, &bytes)?;
        fs.rename(&temporary, &path)?;
        fs.sync_dir(dir)?;
        Ok(Self { file: fs.open_write(&path)?, base, sequence: 1, turns: BTreeMap::new(), last: None })
    }

    /// Notes what is durable now.
    pub(crate) fn note(&mut self, entry: LedgerEntry) -> io::Result<()> {
        if self.last == Some(entry) || entry.segment < self.base || entry.segment - self.base >= MAX_SEGMENTS {
            return Ok(());
        }
        let turn = self.turns.entry(entry.segment).or_default();
        *turn = 1 - *turn;
        let at = slot_offset(self.base, entry.segment, *turn);
        self.file.write_all_at(&entry.encode(self.sequence), at as u64)?;
        self.sequence += 1;
        self.last = Some(entry);
        Ok(())
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

fn slot_offset(base: u64, segment: u64, turn: u64) -> usize {
    SLOT + ((segment - base) * 2 + turn) as usize * SLOT
}

fn paths(dir: &Path) -> (PathBuf, PathBuf) {
    (dir.join(LEDGER_NAME), dir.join(format!("{LEDGER_NAME}.tmp")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(segment: u64, records: u64) -> LedgerEntry {
        LedgerEntry { segment, offset: records * 10, records, chain: 7, sealed: false, first: [1; 7], last: [2; 7] }
    }

    fn file(slots: &[[u8; SLOT]]) -> Vec<u8> {
        let mut header = [0; SLOT];
        header[..8].copy_from_slice(MAGIC);
        [&[seal(header)], slots].concat().concat()
    }

    #[test]
    fn the_newest_sound_slot_of_a_segment_counts() {
        let mut bytes = file(&[entry(3, 2).encode(2), entry(3, 1).encode(1)]);
        assert_eq!(Ledger::decode(&bytes).get(3), Some(entry(3, 2)));
        bytes[SLOT + 20] ^= 1;
        assert_eq!(Ledger::decode(&bytes).get(3), Some(entry(3, 1)));
    }

    #[test]
    fn every_damaged_bit_is_noticed() {
        let bytes = file(&[entry(3, 2).encode(2)]);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Ledger::decode(&damaged).is_empty(), "bit {bit}");
        }
    }

    #[test]
    fn any_length_is_read_without_complaint() {
        let bytes = file(&[entry(3, 2).encode(2), [0; SLOT]]);
        (0..=bytes.len()).for_each(|len| assert!(Ledger::decode(&bytes[..len]).entries().count() <= 1));
    }
}
