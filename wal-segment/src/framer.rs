//! The framing state machine: bytes in, records out, no I/O.
//!
//! Every reader drives this one. It says "record", "need more" or "this can't be right"; what the end of the bytes means
//! (torn, or wait) is the driver's to say, through [`Framer::finish`].
//!
//! ```text
//!            ┌──── full ────┐             ┌─ middle ─┐
//!            ▼              │             ▼          │
//!  start ─ between records ─┴─ first ─ inside a record ─ last ─▶ between records
//!            ▲ zeros to the page's end        │ zeros: damage, unless fewer than 7 bytes are left of the page
//! ```
//!
//! A framer that is started in the middle of a segment (at any page), or that goes on after damage, first skips the
//! fragments of a record whose beginning it has not seen.

use crate::Compression;
use crate::chain::combine;
use crate::error::{FrameFault, TornAt};
use crate::format::{FragmentHeader, HEADER_SIZE, PAGE, checksum, next_page, room_in_page};

/// What [`Framer::advance`] came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A record is complete; [`Framer::stored`] gives its bytes.
    Record(Frame),
    /// The bytes end here; the same call with more of them goes on.
    NeedMore,
    /// Every record that begins before [`Framer::set_limit`]'s offset was given out.
    Limit,
    /// The bytes at `offset` can't be right. The framer stays there: every further call says the same until
    /// [`Framer::resume_at`].
    Fault {
        /// Where the record begins that is interrupted; equal to `offset` between records.
        record_start: u64,
        /// Offset of the fragment or padding in the segment.
        offset: u64,
        /// What is wrong.
        fault: FrameFault,
    },
}

/// A record's place in its segment. Its bytes are still compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Offset of the first fragment's header.
    pub start: u64,
    /// Offset behind the last fragment's data.
    pub end: u64,
    /// How the stored bytes are compressed.
    pub compression: Compression,
    /// Checksum of the stored bytes, when they are one fragment.
    pub(crate) checksum: Option<u32>,
    /// Where the stored bytes are.
    pub(crate) source: Source,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// One fragment: borrowed from the driver's window (offsets in it).
    Window { from: usize, to: usize },
    /// Several: put together in the framer.
    Assembled,
}

/// A record that has begun and is not complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Partial {
    start: u64,
    compression: Compression,
}

/// The state machine; one per segment, or one that is [`reset`](Framer::reset) for each.
#[derive(Debug)]
pub struct Framer {
    offset: u64,
    /// Records that begin here or behind are somebody else's.
    limit: u64,
    partial: Option<Partial>,
    assembled: Vec<u8>,
    /// Skipping the fragments of a record that began before this framer's first page.
    skipping: bool,
    /// End of the last fragment that was skipped.
    skipped_to: Option<u64>,
    /// First of the pages of zeros just before `offset`.
    zero_page: Option<u64>,
    tally: Tally,
}

/// What a framer has passed since it was reset; the ledger compares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Complete records.
    pub records: u64,
    /// CRC-32C over the headers of all fragments, in order: it covers types, lengths and checksums, and so the data.
    pub chain: u32,
    /// Bytes of headers that the chain covers.
    pub chained: u64,
    /// End of the last fragment.
    pub end: u64,
    /// Header of the first fragment that holds [`TELLING`] bytes or more; zeros without any.
    pub first: [u8; HEADER_SIZE],
    /// Header of the last such fragment; zeros without any.
    pub last: [u8; HEADER_SIZE],
}

/// A fragment of so many bytes has a header that no other one has, for all practical purposes.
pub const TELLING: u16 = 16;

impl Tally {
    /// Takes the next fragment's header in.
    #[inline]
    pub(crate) fn chain(&mut self, head: &[u8; HEADER_SIZE], end: u64) {
        if u16::from_be_bytes([head[1], head[2]]) >= TELLING {
            if self.first[0] == 0 {
                self.first = *head;
            }
            self.last = *head;
        }
        self.chain = crc32c::crc32c_append(self.chain, head);
        self.chained += HEADER_SIZE as u64;
        self.end = end;
    }

    /// Takes in what follows, as it was found by somebody who began in the middle.
    pub(crate) fn append(&mut self, behind: Self) {
        let first = if self.first[0] == 0 { behind.first } else { self.first };
        let last = if behind.last[0] == 0 { self.last } else { behind.last };
        *self = Self {
            records: self.records + behind.records,
            chain: combine(self.chain, behind.chain, behind.chained),
            chained: self.chained + behind.chained,
            end: self.end.max(behind.end),
            first,
            last,
        };
    }
}

impl Default for Framer {
    fn default() -> Self {
        Self::new()
    }
}

impl Framer {
    /// A framer for a segment's first byte.
    pub fn new() -> Self {
        Self {
            offset: 0,
            limit: u64::MAX,
            partial: None,
            assembled: Vec::new(),
            skipping: false,
            skipped_to: None,
            zero_page: None,
            tally: Tally::default(),
        }
    }

    /// Starts over at a segment's first byte, keeping buffers.
    pub fn reset(&mut self) {
        let assembled = std::mem::take(&mut self.assembled);
        *self = Self { assembled, ..Self::new() };
        self.assembled.clear();
    }

    /// Starts over at a page's first byte in the middle of a segment: fragments of a record that began earlier are
    /// skipped.
    pub fn reset_at_page(&mut self, offset: u64) {
        debug_assert_eq!(offset % PAGE, 0);
        self.reset();
        self.resume_at(offset);
        self.skipping = offset > 0;
    }

    /// Goes on at `offset`, dropping the record that was interrupted and skipping what else there is of it.
    pub fn resume_at(&mut self, offset: u64) {
        self.offset = offset;
        self.partial = None;
        self.zero_page = None;
        self.skipping = true;
        self.skipped_to = None;
    }

    /// Goes on at `offset`, where a record is known to begin.
    pub fn reset_at_record(&mut self, offset: u64) {
        self.reset();
        self.offset = offset;
    }

    /// Stops before the first record that begins at `limit` or behind it; until the next reset. Fragments there are not
    /// part of the [`tally`](Self::tally)'s chain either.
    pub fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// Offset in the segment of the next byte to look at. The driver may forget everything before it.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Where the record begins that has begun and is not complete.
    pub fn partial_start(&self) -> Option<u64> {
        self.partial.map(|partial| partial.start)
    }

    /// Records, chained checksum and end since the last reset.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// End of the last fragment that was skipped because its record's beginning was not seen.
    pub(crate) fn skipped_to(&self) -> Option<u64> {
        self.skipped_to
    }

    /// First of the pages of zeros that lie directly before [`offset`](Self::offset).
    pub(crate) fn zero_page(&self) -> Option<u64> {
        self.zero_page
    }

    /// The stored bytes of the record that the last [`Event::Record`] spoke of; `window` as then.
    pub fn stored<'a>(&'a self, frame: &Frame, window: &'a [u8]) -> &'a [u8] {
        match frame.source {
            Source::Window { from, to } => &window[from..to],
            Source::Assembled => &self.assembled,
        }
    }

    /// Looks at the bytes from [`offset`](Self::offset) on. `window` holds the segment's bytes from offset `base` on
    /// and should hold whole pages: a fragment that is cut by the window's end needs more.
    pub fn advance(&mut self, window: &[u8], base: u64) -> Event {
        loop {
            if self.offset >= self.limit && self.partial.is_none() {
                return Event::Limit;
            }
            let at = (self.offset - base) as usize;
            let input = window.get(at..).unwrap_or_default();
            let room = room_in_page(self.offset);
            let step = if room < HEADER_SIZE || input.first() == Some(&0) {
                self.padding(input, room)
            } else {
                self.fragment(input, at, room)
            };
            match step {
                Ok(Progress::Again) => {}
                Ok(Progress::NeedMore) => return Event::NeedMore,
                Ok(Progress::Record(frame)) => return Event::Record(frame),
                Err(fault) => return self.fault(fault),
            }
        }
    }

    /// What it means that the segment ends after `rest`, the bytes from [`offset`](Self::offset) on that
    /// [`advance`](Self::advance) wanted more for. `None`: it ends cleanly.
    pub fn finish(&self, rest: &[u8]) -> Option<Event> {
        let fault = match rest.first() {
            None if self.partial.is_none() => return None,
            None => FrameFault::Torn { expected: TornAt::Fragment },
            // The end of a page that was not written out: zeros, as far as it goes.
            Some(0) if self.partial.is_none() => return self.zeros(rest).err().map(|fault| self.fault(fault)),
            Some(0) => FrameFault::Torn { expected: TornAt::Fragment },
            Some(_) if room_in_page(self.offset) < HEADER_SIZE => self.zeros(rest).err()?,
            Some(_) if rest.len() < HEADER_SIZE => FrameFault::Torn { expected: TornAt::Header },
            Some(_) => FrameFault::Torn { expected: TornAt::Data },
        };
        Some(self.fault(fault))
    }

    fn fault(&self, fault: FrameFault) -> Event {
        let offset = self.offset;
        Event::Fault { record_start: self.partial_start().unwrap_or(offset), offset, fault }
    }

    fn padding(&mut self, input: &[u8], room: usize) -> Result<Progress, FrameFault> {
        let whole = input.len() >= room;
        let padding = &input[..room.min(input.len())];
        if room >= HEADER_SIZE && self.partial.is_some() && !padding.is_empty() {
            return Err(FrameFault::PaddingInsideRecord);
        }
        self.zeros(padding)?;
        if !whole {
            return Ok(Progress::NeedMore);
        }
        if room as u64 == PAGE {
            self.zero_page.get_or_insert(self.offset);
        }
        self.offset += room as u64;
        Ok(Progress::Again)
    }

    fn zeros(&self, padding: &[u8]) -> Result<(), FrameFault> {
        // A fold has no early exit and so runs on vectors; a byte that is not zero is the exception.
        if padding.iter().fold(0, |all, &byte| all | byte) == 0 {
            return Ok(());
        }
        match padding.iter().position(|&byte| byte != 0) {
            Some(i) => Err(FrameFault::Padding { at: self.offset + i as u64, found: padding[i] }),
            None => Ok(()),
        }
    }

    #[inline]
    fn fragment(&mut self, input: &[u8], at: usize, room: usize) -> Result<Progress, FrameFault> {
        let Some(&first) = input.first() else { return Ok(Progress::NeedMore) };
        if let Some(page) = self.zero_page {
            return Err(FrameFault::ZeroPage { page });
        }
        let Some(head) = input.first_chunk::<HEADER_SIZE>() else {
            FragmentHeader::decode_type(first)?;
            return Ok(Progress::NeedMore);
        };
        let header = FragmentHeader::decode(head)?;
        let length = usize::from(header.length);
        if length > room - HEADER_SIZE {
            return Err(FrameFault::Length { room: room - HEADER_SIZE, found: header.length });
        }
        let Some(data) = input.get(HEADER_SIZE..HEADER_SIZE + length) else { return Ok(Progress::NeedMore) };
        let found = checksum(data);
        if found != header.crc {
            return Err(FrameFault::Checksum { expected: header.crc, found });
        }
        let begins_at = self.offset;
        let progress = self.join(header, data, at + HEADER_SIZE)?;
        if begins_at < self.limit {
            self.tally.chain(head, self.offset);
        }
        Ok(progress)
    }

    /// Takes a sound fragment into the record that it belongs to.
    #[inline]
    fn join(&mut self, header: FragmentHeader, data: &[u8], at: usize) -> Result<Progress, FrameFault> {
        let FragmentHeader { fragment, compression, .. } = header;
        let end = self.offset + (HEADER_SIZE + data.len()) as u64;
        if self.skipping && !fragment.begins_record() {
            self.offset = end;
            self.skipped_to = Some(end);
            return Ok(Progress::Again);
        }
        if fragment.begins_record() == self.partial.is_some() {
            return Err(FrameFault::Order { found: fragment, inside_record: self.partial.is_some() });
        }
        let partial = self.partial.unwrap_or(Partial { start: self.offset, compression });
        if partial.compression != compression {
            return Err(FrameFault::MixedCompression { expected: partial.compression, found: compression });
        }
        self.skipping = false;
        self.offset = end;
        let whole = fragment.begins_record() && fragment.ends_record();
        if !whole {
            if fragment.begins_record() {
                self.assembled.clear();
            }
            self.assembled.extend_from_slice(data);
        }
        if !fragment.ends_record() {
            self.partial = Some(partial);
            return Ok(Progress::Again);
        }
        self.partial = None;
        self.tally.records += 1;
        let source = if whole { Source::Window { from: at, to: at + data.len() } } else { Source::Assembled };
        let checksum = whole.then_some(header.crc);
        Ok(Progress::Record(Frame { start: partial.start, end, compression, checksum, source }))
    }

    /// Where to look for the next record after a fault: the next page. Never the place of the fault itself.
    pub fn next_page(&self) -> u64 {
        next_page(self.offset)
    }
}

enum Progress {
    Again,
    NeedMore,
    Record(Frame),
}
