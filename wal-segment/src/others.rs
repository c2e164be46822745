//! What a ledger is worth when another program has written to the log since.
//!
//! The reference's repair cuts the damaged segment behind its last sound record, pads it to its page, deletes every segment
//! behind it and goes on under their numbers. A ledger that is taken at its word calls all of that loss. Nothing in the
//! log says who wrote it; but a segment that begins with a whole record which is none of ours, and holds neither our first
//! nor our last fragment anywhere, is not our segment with something wrong: swapped, stale and zeroed pages leave one of
//! the two, or a beginning that cannot be read.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use tsdb_vfs::{Fs, VfsFile};

use crate::error::{Damage, Location, ReadError};
use crate::format::{HEADER_SIZE, PAGE};
use crate::framer::{Event, Framer, Tally};
use crate::layout::{self, SegmentRef};
use crate::ledger::{Ledger, LedgerEntry};

type Head = [u8; HEADER_SIZE];

/// Bytes that are searched at a time.
const PIECE: usize = 1024 * 1024;

impl Ledger {
    /// What is to be [`believed`](Self::believed) of the ledger in `dir`, and the segments there, in the order in which they have
    /// to be asked for.
    ///
    /// # Errors
    /// When one of them cannot be read or listed.
    pub fn with_segments(fs: &Fs, dir: &Path) -> Result<(Self, Vec<SegmentRef>), ReadError> {
        let ledger = Self::load(fs, dir)?;
        let segments = layout::segments(fs, dir)?;
        Ok((ledger.believed(fs, &segments), segments))
    }

    /// What is to be believed of it, given the segments that its directory holds, all of them, listed after it was
    /// [`load`](Self::load)ed: it must not know of segments that a living log has begun since.
    ///
    /// Entries of segments that another program has rewritten, or cut while it repaired the log, are dropped
    /// ([`others_from`](Self::others_from)); so are those behind the last segment: what should be there is
    /// [`missing`](Self::missing). A segment that cannot be read counts as ours: whoever reads it will say so.
    pub fn believed(mut self, fs: &Fs, segments: &[SegmentRef]) -> Self {
        if self.is_empty() {
            return self;
        }
        let mut held: Vec<&SegmentRef> = segments.iter().collect();
        // It speaks of the first of two names for a number.
        held.dedup_by_key(|segment| segment.index);
        let known: Vec<Option<LedgerEntry>> =
            held.iter().map(|segment| self.get(segment.index).filter(|e| e.records > 0 || e.sealed)).collect();
        let firsts: Vec<_> = (held.iter().zip(&known))
            .map(|(segment, entry)| entry.and_then(|_| first_of(fs, segment).unwrap_or_default()))
            .collect();
        let foreign: Vec<_> = (0..held.len())
            .map(|i| match &known[i] {
                Some(entry) => is_anothers(fs, held[i], firsts[i], entry, &known).unwrap_or_default(),
                // Before the first that it knows is what was there when it began.
                None => {
                    self.get(held[i].index).is_none() && self.first_segment().is_some_and(|first| first < held[i].index)
                }
            })
            .collect();
        // The repair leaves nothing of ours behind the place that it mended.
        let mended = (0..held.len()).find(|&i| foreign[i] && known[i].is_some());
        let mut others = None;
        // Whether the segment behind is another program's.
        let mut behind = false;
        for i in (0..held.len()).rev() {
            let begins_as_ours = known[i].as_ref().is_some_and(|entry| firsts[i] == Some(entry.first));
            let stale = match &known[i] {
                _ if foreign[i] => true,
                Some(_) if mended.is_some_and(|mended| mended < i) => !begins_as_ours,
                // It begins the next segment before anybody has something for it.
                _ if held[i].len == 0 => behind,
                Some(entry) => behind && was_cut(fs, held[i], entry).unwrap_or_default(),
                None => false,
            };
            if stale {
                self.retain(|known| known != held[i].index);
                others = Some(held[i].index);
            }
            behind = foreign[i] || stale && !begins_as_ours;
        }
        let last = segments.last().map(|segment| segment.index);
        let gone = |entry: &&LedgerEntry| entry.records > 0 && Some(entry.segment) > last;
        // Those were deleted by the repair that made room for the others.
        let missing = if others.is_none() { self.entries().filter(gone).copied().collect() } else { Vec::new() };
        self.retain(|known| Some(known) <= last);
        self.found(others, missing);
        self
    }

    /// Segments that held durable records when the ledger was written, at the log's end, and are not there. Those at its
    /// beginning may have been removed because nobody needed them any more.
    pub fn missing_from(&self, dir: &Path) -> impl Iterator<Item = Damage> {
        self.missing().iter().filter_map(move |entry| {
            let location = Location { dir: dir.to_owned(), segment: entry.segment, record_start: 0, offset: 0 };
            Some(Damage { location, fault: entry.compare(Tally::default()).err()? })
        })
    }
}

/// Whether another program has written this segment, whose first telling fragment is `first`, from its beginning.
fn is_anothers(
    fs: &Fs,
    segment: &SegmentRef,
    first: Option<Head>,
    entry: &LedgerEntry,
    known: &[Option<LedgerEntry>],
) -> io::Result<bool> {
    let Some(first) = first else { return Ok(false) };
    // Not a segment of ours under another's number either.
    if known.iter().flatten().any(|known| known.first == first) {
        return Ok(false);
    }
    if entry.first == Head::default() {
        return Ok(entry.sealed);
    }
    Ok(!holds(&*fs.open_read(&segment.path)?, &[entry.first, entry.last])?)
}

/// Whether this segment of ours, with another program's behind it, is what the reference's repair made of it: what was kept,
/// in a new file of whole pages and in the other program's compression. Zeros in place of the end look the same; other
/// records, as many and as long, do not.
fn was_cut(fs: &Fs, segment: &SegmentRef, entry: &LedgerEntry) -> io::Result<bool> {
    let (mut at_entry, mut all) = (None, Tally::default());
    let sound = walk(&*fs.open_read(&segment.path)?, |tally| {
        all = tally;
        at_entry = at_entry.or(Some(tally).filter(|tally| tally.end == entry.offset));
        ControlFlow::Continue(())
    })?;
    let found = at_entry.unwrap_or(all);
    Ok(sound && (found.records, found.end) != (entry.records, entry.offset))
}

/// What tells the segment from others, if that is in a whole record, with nothing but whole records before it.
fn first_of(fs: &Fs, segment: &SegmentRef) -> io::Result<Option<Head>> {
    if segment.len == 0 {
        return Ok(None);
    }
    let mut first = Head::default();
    walk(&*fs.open_read(&segment.path)?, |tally| {
        first = tally.first;
        if first == Head::default() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(Some(first).filter(|first| *first != Head::default()))
}

/// Shows what was passed after every record, until that breaks off, and says whether nothing was wrong up to there.
fn walk(file: &dyn VfsFile, mut passed: impl FnMut(Tally) -> ControlFlow<()>) -> io::Result<bool> {
    let (mut framer, mut piece, mut at) = (Framer::new(), vec![0; PAGE as usize], 0);
    loop {
        let len = file.read_full_at(&mut piece, at)?;
        let rest = loop {
            match framer.advance(&piece[..len], at) {
                Event::Record(_) if passed(framer.tally()).is_break() => return Ok(true),
                Event::Record(_) => {}
                Event::NeedMore => break &piece[(framer.offset() - at) as usize..len],
                Event::Limit | Event::Fault { .. } => return Ok(false),
            }
        };
        if len < piece.len() {
            return Ok(framer.finish(rest).is_none());
        }
        // A fragment ends in its page.
        at = framer.offset();
    }
}

/// Whether one of these stands anywhere in the file.
fn holds(file: &dyn VfsFile, heads: &[Head]) -> io::Result<bool> {
    let (mut piece, mut at) = (vec![0; PIECE], 0);
    loop {
        let len = file.read_full_at(&mut piece, at)?;
        if piece[..len].windows(HEADER_SIZE).any(|found| heads.iter().any(|head| head == found)) {
            return Ok(true);
        }
        if len < PIECE {
            return Ok(false);
        }
        at += (PIECE - HEADER_SIZE + 1) as u64;
    }
}
