//! Reading on many threads: blocks of pages, each with the records that *begin* in it, delivered in order.
//!
//! A record that begins in a block belongs to it, wherever it ends; the thread that has the block reads on as far as the
//! record goes. The next block's thread skips those fragments without having seen their beginning. Whether what one
//! skipped is exactly what the other read is compared when the results are put in order, so that this reader stops at
//! the same places as [`LogReader`](crate::LogReader).
//!
//! ```text
//!   block 0            block 1            block 2
//! |-------------------|-------------------|-----------
//!   ▓▓▓▓▓ ▓▓▓▓▓▓▓ ▓▓▓▓▓▓▓▓▓ ▓▓▓▓ ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓ ▓▓▓▓▓
//!                 └ of 0 ─┘      └─── of 1 ────┘
//! ```

use std::ops::Range;

use tsdb_vfs::Fs;

use crate::Compression;
use crate::compression::Decompressor;
use crate::error::{Damage, FrameFault, Location, ReadError};
use crate::format::{FragmentType, PAGE};
use crate::framer::{Frame, Tally};
use crate::layout::SegmentRef;
use crate::ledger::Ledger;
use crate::reader::{READ_SIZE, Record, SegmentReader};

mod delivery;

use delivery::{Delivery, Next, StopOnDrop};

/// How to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParallelOptions {
    /// Threads that frame, decompress and run the closure, the calling one among them; at least 1.
    pub threads: usize,
    /// Bytes of a segment in one block; rounded up to whole pages.
    pub block_size: u64,
}

impl Default for ParallelOptions {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { threads, block_size: 4 * READ_SIZE as u64 }
    }
}

/// A run of pages of one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockRef {
    /// Which of the segments, counted from 0.
    pub segment: usize,
    /// Offsets of the pages in it.
    pub pages: Range<u64>,
}

/// Cuts segments into blocks, in order. Lengths are those of the listing: what a live log appends later is not read.
pub fn blocks(segments: &[SegmentRef], block_size: u64) -> Vec<BlockRef> {
    let size = block_size.max(1).div_ceil(PAGE) * PAGE;
    let mut blocks = Vec::new();
    for (segment, SegmentRef { len, .. }) in segments.iter().enumerate() {
        for start in (0..*len).step_by(usize::try_from(size).unwrap_or(usize::MAX)) {
            blocks.push(BlockRef { segment, pages: start..(start + size).min(*len) });
        }
    }
    blocks
}

/// One thread's reader of blocks; keeps its file, buffers and tables between them.
#[derive(Debug)]
pub struct BlockReader<'s> {
    fs: &'s Fs,
    segments: &'s [SegmentRef],
    open: Option<(usize, SegmentReader)>,
    decompressor: Decompressor,
}

impl<'s> BlockReader<'s> {
    /// A reader for blocks of these segments.
    pub fn new(fs: &'s Fs, segments: &'s [SegmentRef]) -> Self {
        Self { fs, segments, open: None, decompressor: Decompressor::default() }
    }

    /// The records that begin in `block`.
    pub fn read(&mut self, block: &BlockRef) -> Result<Block<'_>, ReadError> {
        let reader = match self.open.take() {
            Some((segment, reader)) if segment == block.segment => reader,
            _ => SegmentReader::open(self.fs, self.segments[block.segment].clone())?,
        };
        let (_, reader) = self.open.insert((block.segment, reader));
        reader.start_block(block.pages.clone());
        Ok(Block {
            reader,
            decompressor: &mut self.decompressor,
            block: block.clone(),
            error: None,
            first: None,
            skipped_to: None,
            frontier: block.pages.start,
            done: false,
        })
    }
}

/// The records that begin in one block, one after the other.
#[derive(Debug)]
pub struct Block<'a> {
    reader: &'a mut SegmentReader,
    decompressor: &'a mut Decompressor,
    block: BlockRef,
    error: Option<ReadError>,
    first: Option<u64>,
    skipped_to: Option<u64>,
    /// End of the last record.
    frontier: u64,
    done: bool,
}

/// What a block leaves for the comparison with its neighbours; see [`Seams`].
#[derive(Debug)]
pub struct BlockEnd {
    block: BlockRef,
    location: Location,
    /// Where the first record begins that begins in it.
    first: Option<u64>,
    /// End of the last fragment that belongs to a record of an earlier block.
    skipped_to: Option<u64>,
    /// End of the last record that begins in it.
    frontier: u64,
    /// First of the pages of zeros that it ends with.
    zero_page: Option<u64>,
    error: Option<ReadError>,
    /// Records, chained checksum.
    pub tally: Tally,
}

impl Block<'_> {
    /// Which block this is.
    pub fn block(&self) -> &BlockRef {
        &self.block
    }

    /// The segment that it lies in.
    pub fn segment(&self) -> &SegmentRef {
        &self.reader.segment
    }

    /// The next record that begins in this block; `None` at its end, or at damage, which [`end`](Self::end) keeps.
    #[expect(clippy::should_implement_trait, reason = "the record borrows from the block, an Iterator's could not")]
    pub fn next(&mut self) -> Option<Record<'_>> {
        let frame = self.advance()?;
        match self.reader.record(&frame, self.decompressor) {
            Ok(record) => Some(record),
            Err(damage) => {
                self.done = true;
                self.error = Some(damage.into());
                None
            }
        }
    }

    /// As [`next`](Self::next), without decompressing: the record as it is stored, and how it is compressed.
    pub fn next_stored(&mut self) -> Option<(&[u8], Compression)> {
        let frame = self.advance()?;
        Some((self.reader.stored(&frame), frame.compression))
    }

    /// The next record's frame, unless the block is at its end or damaged.
    fn advance(&mut self) -> Option<Frame> {
        if self.done {
            return None;
        }
        let next = self.next_frame();
        self.done = !matches!(next, Ok(Some(_)));
        next.unwrap_or_else(|e| {
            self.error = Some(e);
            None
        })
    }

    fn next_frame(&mut self) -> Result<Option<Frame>, ReadError> {
        let next = self.reader.next_frame();
        if self.first.is_none() {
            self.first = match &next {
                Ok(frame) => frame.map(|frame| frame.start),
                Err(_) => self.reader.partial_start(),
            };
        }
        self.skipped_to = self.skipped_to.or(self.reader.skipped_to());
        let frame = next?;
        if let Some(frame) = frame {
            self.frontier = frame.end;
        }
        Ok(frame)
    }

    /// Reads what is left of the block and says how it fits its neighbours.
    pub fn end(mut self) -> BlockEnd {
        while !self.done && self.error.is_none() {
            match self.next_frame() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(e) => self.error = Some(e),
            }
        }
        let segment = &self.reader.segment;
        let at = self.block.pages.start;
        let location = Location { dir: segment.dir().to_owned(), segment: segment.index, record_start: at, offset: at };
        BlockEnd {
            block: self.block,
            location,
            first: self.first,
            skipped_to: self.skipped_to,
            frontier: self.frontier,
            zero_page: self.reader.zero_page(),
            error: self.error,
            tally: self.reader.tally(),
        }
    }
}

/// Compares neighbouring blocks, in order.
#[derive(Debug, Default)]
pub struct Seams {
    segment: usize,
    frontier: u64,
    zero_page: Option<u64>,
    tally: Tally,
}

impl Seams {
    /// What the blocks hold together that were joined since their segment began: once all of a segment's are, this is
    /// what its [`LedgerEntry`](crate::LedgerEntry) speaks of.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// What the ledger says was durable of `segment`, the segment at `index` of those that the blocks are of, and is not
    /// there as it was; to be asked when all of its blocks are joined, and none of the next. A segment without blocks has
    /// none to join.
    pub fn missed(&self, index: usize, segment: &SegmentRef, ledger: &Ledger) -> Option<Damage> {
        let found = if self.segment == index { self.tally } else { Tally::default() };
        let fault = ledger.get(segment.index)?.compare_end(found).err()?;
        let dir = segment.dir().to_owned();
        let location = Location { dir, segment: segment.index, record_start: found.end, offset: found.end };
        Some(Damage { location, fault })
    }

    /// Takes the next block's end. An error if the fragments that it skipped are not those that earlier blocks read: its
    /// records are not to be used. Otherwise what stopped the reading inside it, behind the records that it gave out.
    pub fn join(&mut self, end: BlockEnd) -> Result<Option<ReadError>, ReadError> {
        if end.block.segment != self.segment {
            *self = Self { segment: end.block.segment, ..Self::default() };
        }
        let BlockEnd { block, first, skipped_to, frontier, zero_page, error, mut location, tally } = end;
        let expected = (self.frontier > block.pages.start).then_some(self.frontier);
        let fits = match expected {
            // The record reaches beyond this block, or ends less than a header before its end.
            Some(to) if to >= block.pages.end => first.is_none(),
            expected => skipped_to == expected,
        };
        let data = first.or(skipped_to);
        if let (Some(page), Some(_)) = (self.zero_page, data) {
            location.offset = block.pages.start;
            location.record_start = location.offset;
            return Err(Damage { location, fault: FrameFault::ZeroPage { page } }.into());
        }
        if !fits {
            // What follows the earlier block's last record, or this block's start, is a piece of no record.
            location.offset = expected.unwrap_or(block.pages.start);
            location.record_start = location.offset;
            let fault = FrameFault::Order { found: FragmentType::Middle, inside_record: false };
            return Err(Damage { location, fault }.into());
        }
        self.frontier = self.frontier.max(frontier);
        self.zero_page = zero_page.map(|page| self.zero_page.unwrap_or(page));
        self.tally.append(tally);
        Ok(error)
    }
}

/// Runs `map` on the blocks of `segments`, on several threads, of which the calling one is one, and in any order, and
/// `reduce` on its results, on the calling thread and in the log's order. What was read before damage is delivered before the damage is returned.
///
/// At most a few blocks' results wait at any time. `map` gets a block's records from [`Block::next`]; what it leaves is
/// still checked.
///
/// ```
/// # use std::sync::Arc;
/// # use tsdb_vfs::{Fs, RealFs};
/// # use wal_segment::{Log, LogOptions, layout, parallel};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let tmp = tempfile::tempdir()?;
/// # let dir = tmp.path().join("wal");
/// # let fs: Fs = Arc::new(RealFs::new());
/// # let (log, _) = Log::open(fs.clone(), &dir, LogOptions::default())?;
/// # log.append([b"one".as_slice(), b"two"])?;
/// let segments = layout::segments(&fs, &dir)?;
/// let mut records = 0;
/// parallel::read(
///     &fs,
///     &segments,
///     &parallel::ParallelOptions::default(),
///     |block| {
///         let mut n = 0;
///         while let Some(record) = block.next() {
///             n += usize::from(!record.bytes.is_empty());
///         }
///         n
///     },
///     |n| {
///         records += n;
///         Ok::<_, wal_segment::ReadError>(())
///     },
/// )?;
/// assert_eq!(records, 2);
/// # Ok(())
/// # }
/// ```
pub fn read<T, M, R, E>(fs: &Fs, segments: &[SegmentRef], options: &ParallelOptions, map: M, reduce: R) -> Result<(), E>
where
    T: Send,
    M: Fn(&mut Block<'_>) -> T + Sync,
    R: FnMut(T) -> Result<(), E>,
    E: From<ReadError>,
{
    read_with_ledger(fs, segments, &Ledger::default(), options, map, reduce).map(drop)
}

/// As [`read_compared`]; what the ledger misses is returned when everything is read, in the log's order. Reading does not
/// stop there.
pub fn read_with_ledger<T, M, R, E>(
    fs: &Fs,
    segments: &[SegmentRef],
    ledger: &Ledger,
    options: &ParallelOptions,
    map: M,
    mut reduce: R,
) -> Result<Vec<Damage>, E>
where
    T: Send,
    M: Fn(&mut Block<'_>) -> T + Sync,
    R: FnMut(T) -> Result<(), E>,
    E: From<ReadError>,
{
    let mut missed = Vec::new();
    read_compared(fs, segments, ledger, options, map, |delivered| match delivered {
        Delivered::Block(result) => reduce(result),
        Delivered::Missed(damage) => {
            missed.push(damage);
            Ok(())
        }
    })?;
    Ok(missed)
}

/// What [`read_compared`] hands over, in the log's order.
#[derive(Debug)]
pub enum Delivered<T> {
    /// What the closure made of a block.
    Block(T),
    /// The segment whose last block was delivered is not what the ledger says was durable.
    Missed(Damage),
}

/// As [`read`], and compares each segment, when it is read, with what the ledger says was durable of it: pages that are
/// zeros now, segments that were cut, or pages that were swapped, read without an error. Reading does not stop there unless
/// `reduce` says so. Of a segment that is not complete the ledger speaks of a beginning: only what is missing at its end is
/// noticed. Segments before a damaged one are compared, too, before the damage is returned.
pub fn read_compared<T, M, R, E>(
    fs: &Fs,
    segments: &[SegmentRef],
    ledger: &Ledger,
    options: &ParallelOptions,
    map: M,
    mut reduce: R,
) -> Result<(), E>
where
    T: Send,
    M: Fn(&mut Block<'_>) -> T + Sync,
    R: FnMut(Delivered<T>) -> Result<(), E>,
    E: From<ReadError>,
{
    let blocks = blocks(segments, options.block_size);
    let threads = options.threads.clamp(1, blocks.len().max(1));
    let mut order = Order { segments, ledger, seams: Seams::default(), compared: 0 };
    if threads == 1 {
        let mut reader = BlockReader::new(fs, segments);
        blocks.iter().try_for_each(|block| order.deliver(block, run(&mut reader, block, &map), &mut reduce))?;
        return order.pass(segments.len(), &mut reduce);
    }
    let delivery = Delivery::new(blocks.len(), 2 * threads);
    std::thread::scope(|scope| {
        let stop = StopOnDrop(&delivery);
        for _ in 1..threads {
            scope.spawn(|| {
                let _stop = StopOnDrop(&delivery);
                let mut reader = BlockReader::new(fs, segments);
                while let Some(i) = delivery.claim() {
                    delivery.put(i, run(&mut reader, &blocks[i], &map));
                }
            });
        }
        let mut outcome = Ok(());
        let mut in_order = blocks.iter();
        let mut reader = BlockReader::new(fs, segments);
        while outcome.is_ok()
            && let Some(next) = delivery.next()
        {
            match next {
                Next::Read(i) => delivery.put(i, run(&mut reader, &blocks[i], &map)),
                Next::Take(done) => {
                    let Some(block) = in_order.next() else { break };
                    outcome = order.deliver(block, done, &mut reduce);
                }
            }
        }
        // Also when every block is claimed: who waits for its turn to read one would wait for ever.
        delivery.stop();
        drop(stop);
        outcome
    })?;
    order.pass(segments.len(), &mut reduce)
}

type Done<T> = Result<(T, BlockEnd), ReadError>;

fn run<T>(reader: &mut BlockReader<'_>, block: &BlockRef, map: &impl Fn(&mut Block<'_>) -> T) -> Done<T> {
    let mut block = reader.read(block)?;
    let result = map(&mut block);
    Ok((result, block.end()))
}

/// Puts results in order, and compares what they were made of.
struct Order<'a> {
    segments: &'a [SegmentRef],
    ledger: &'a Ledger,
    seams: Seams,
    /// Segments that were compared with the ledger.
    compared: usize,
}

impl Order<'_> {
    fn deliver<T, E: From<ReadError>>(
        &mut self,
        block: &BlockRef,
        done: Done<T>,
        reduce: &mut impl FnMut(Delivered<T>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.pass(block.segment, reduce)?;
        let (result, end) = done?;
        let stopped_by = self.seams.join(end)?;
        reduce(Delivered::Block(result))?;
        stopped_by.map_or(Ok(()), |e| Err(e.into()))
    }

    /// Compares the segments before number `to`, all of whose blocks were delivered.
    fn pass<T, E>(&mut self, to: usize, reduce: &mut impl FnMut(Delivered<T>) -> Result<(), E>) -> Result<(), E> {
        for at in self.compared..to {
            self.compared = at + 1;
            if let Some(missed) = self.seams.missed(at, &self.segments[at], self.ledger) {
                reduce(Delivered::Missed(missed))?;
            }
        }
        Ok(())
    }
}
