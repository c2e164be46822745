//! Reading segments in rounds.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use rayon::prelude::*;
use tsdb_vfs::Fs;
use wal_segment::parallel::{BlockEnd, BlockReader, BlockRef, Seams, blocks};
use wal_segment::{Damage, FrameFault, Item, Ledger, Location, LogReader, ReadError, SalvageReader, SegmentRef};

use super::Replay;
use super::entries::ENTRY_BYTES;
use super::floors::Floors;
use super::lane::{Decoder, LANE_BYTES, Lane};
use super::report::ReplayDamage;
use crate::HeadError;
use crate::sync::Mutex;

/// Bytes of log per lane.
pub(super) const BLOCK: u64 = 1 << 18;
/// Blocks per thread and round: so many at first, and at least.
const FEW_BLOCKS: usize = 2;
/// At most.
const MANY_BLOCKS: usize = 64;
/// What a round's lanes are to hold, per series of the head: five samples of each. They are applied together, for two
/// thirds of what they take one by one.
const ROUND_BYTES: usize = 21 * ENTRY_BYTES / 4;
/// And at most so much: series that have gone are counted, too.
const MOST_ROUND_BYTES: usize = 16 << 20;
/// At least so much, which is little for any head.
const LEAST_ROUND_BYTES: usize = 3 << 20;
/// What a round's lanes hold at most, whatever the blocks unpack to, and a record for each thread: those that come to it are
/// decoded again in another round.
const ROUND_LIMIT: usize = 8 * LANE_BYTES;
/// So much damage is listed one by one.
const MAX_LISTED: usize = 1_000;

/// A lane, and what the block that was read into it came to.
#[derive(Default)]
pub(super) struct Worker {
    lane: Lane,
    outcome: Outcome,
}

/// Readers between two blocks: one for each thread.
struct Readers<'s> {
    fs: &'s Fs,
    segments: &'s [SegmentRef],
    idle: Mutex<Vec<BlockReader<'s>>>,
}

impl<'s> Readers<'s> {
    fn with<T>(&self, work: impl FnOnce(&mut BlockReader<'s>) -> T) -> T {
        let idle = self.idle.lock().pop();
        let mut reader = idle.unwrap_or_else(|| BlockReader::new(self.fs, self.segments));
        let result = work(&mut reader);
        self.idle.lock().push(reader);
        result
    }
}

#[derive(Default)]
struct Outcome {
    end: Option<Result<BlockEnd, ReadError>>,
    /// End of the last record that is in the lane.
    last_end: u64,
    /// The lane was full before the block's end.
    full: bool,
    undecodable: Vec<ReplayDamage>,
}

impl Worker {
    /// `held`: what the round's lanes hold, but for the first; a lane that finds too much there has no outcome.
    fn read(
        &mut self,
        reader: &mut BlockReader<'_>,
        block: &BlockRef,
        replay: &Replay<'_>,
        held: Option<&AtomicUsize>,
    ) {
        let Self { lane, outcome } = self;
        lane.clear();
        *outcome = Outcome::default();
        let mut block = match reader.read(block) {
            Ok(block) => block,
            Err(error) => {
                outcome.end = Some(Err(error));
                return;
            }
        };
        let dir = block.segment().dir().to_owned();
        let min_valid = replay.shared.time.min_valid();
        let mut decoder = Decoder { lane, min_valid, aliases: &replay.aliases, floors: &replay.floors };
        let mut before = 0;
        while let Some(record) = block.next() {
            let (position, end) = (record.position, record.end);
            if let Err(error) = decoder.record(record.bytes) {
                outcome.undecodable.push(undecodable(&dir, position, &error));
            }
            outcome.last_end = end;
            // A record that cannot be decoded leaves nothing.
            let more = decoder.lane.bytes().saturating_sub(before);
            before += more;
            if held.is_some_and(|held| held.fetch_add(more, Relaxed) + more > ROUND_LIMIT) {
                return;
            }
            if decoder.lane.is_full() {
                outcome.full = true;
                break;
            }
        }
        outcome.end = Some(Ok(block.end()));
        lane.together.labels.seal();
    }
}

fn undecodable(
    dir: &std::path::Path,
    position: wal_segment::Position,
    error: &wal_format::DecodeError,
) -> ReplayDamage {
    let at = Location {
        dir: dir.to_owned(),
        segment: position.segment,
        record_start: position.offset,
        offset: position.offset,
    };
    ReplayDamage::new(Some(at), error.to_string())
}

impl Replay<'_> {
    /// Reads segments in order. `live` segments are the log's own: the last of them may end in the middle of a record.
    /// What `ledger` says was durable of them and is not there as it was is reported.
    pub(super) fn read(&mut self, segments: &[SegmentRef], ledger: &Ledger, live: bool) -> Result<(), HeadError> {
        let Some(last) = segments.last() else { return Ok(()) };
        let mut threads = std::mem::take(&mut self.threads);
        let count = threads.count;
        let read = threads.install(&last.path, || self.rounds(segments, ledger, count, live));
        self.threads = threads;
        read?
    }

    fn rounds(
        &mut self,
        segments: &[SegmentRef],
        ledger: &Ledger,
        threads: usize,
        live: bool,
    ) -> Result<(), HeadError> {
        let fs = self.shared.fs.clone();
        let blocks = blocks(segments, BLOCK);
        let mut width = threads * FEW_BLOCKS;
        // All there may be, at once: so the allocator takes what they ask for from the system, before the head's own lies between
        // it, and gives it back afterwards. Nothing of it is touched until it is used.
        let most =
            (MOST_ROUND_BYTES / BLOCK as usize).clamp(threads * FEW_BLOCKS, threads * MANY_BLOCKS).min(blocks.len());
        let mut workers = std::mem::take(&mut self.workers);
        workers.resize_with(most.max(workers.len()), Worker::default);
        let readers = Readers { fs: &fs, segments, idle: Mutex::default() };
        let mut order = Order { segments, ledger, seams: Seams::default(), compared: 0, missed: Vec::new() };
        let mut at = 0;
        while at < blocks.len() {
            let round = &blocks[at..blocks.len().min(at + width.min(most))];
            self.decode_round(&readers, &mut workers, round);
            // The lanes up to the first that did not come to its block's end.
            let (used, stop) = judge(&mut workers[..round.len()], round, &mut order);
            if used > 0 {
                let held: usize = workers[..used].iter().map(|worker| worker.lane.most_bytes()).sum();
                width = self.next_width(threads, held / used);
            }
            self.apply_workers(&mut workers[..round.len()], used)?;
            self.bytes_done += round[..used].iter().map(|block| block.pages.end - block.pages.start).sum::<u64>();
            at += used;
            match stop {
                None => {}
                Some(Stop::Full { from }) => {
                    let block = &blocks[at - 1];
                    self.read_rest(&segments[block.segment], from, block.pages.end, &mut workers[0].lane)?;
                }
                Some(Stop::Damage { error, from, segment }) => {
                    if !matches!(error, ReadError::Damage(_)) {
                        return Err(error.into());
                    }
                    let is_last = live && segment + 1 == segments.len();
                    self.salvage(&segments[segment], from, is_last, &mut workers[0].lane)?;
                    // The rest of the segment is done.
                    at = blocks.partition_point(|block| block.segment <= segment);
                    order.give_up(segment);
                }
            }
            self.miss(&mut order.missed);
            let current = blocks[at.min(blocks.len()) - 1].segment;
            self.progress(segments[current].index);
        }
        order.pass(segments.len());
        self.miss(&mut order.missed);
        self.workers = workers;
        Ok(())
    }

    /// How many blocks the next round takes if each holds so many bytes.
    fn next_width(&self, threads: usize, held: usize) -> usize {
        let wanted = self.shared.index.read().len() * ROUND_BYTES;
        let wanted = wanted.clamp(LEAST_ROUND_BYTES, MOST_ROUND_BYTES);
        let width = (wanted / held.max(1)).clamp(threads * FEW_BLOCKS, threads * MANY_BLOCKS);
        width.min(ROUND_LIMIT / 2 / held.max(1)).max(1)
    }

    fn decode_round(&mut self, readers: &Readers<'_>, workers: &mut [Worker], round: &[BlockRef]) {
        let decode = |replay: &Self, workers: &mut [Worker]| {
            let held = AtomicUsize::new(0);
            let read = |(n, (worker, block)): (usize, (&mut Worker, &BlockRef))| {
                // The first one goes on whatever the others hold.
                let held = (n > 0).then_some(&held);
                readers.with(|reader| worker.read(reader, block, replay, held));
            };
            workers.par_iter_mut().zip(round).enumerate().with_max_len(1).for_each(read);
        };
        decode(self, workers);
        let workers = &mut workers[..round.len()];
        // A series that is dropped has no samples any more, and another one may have its ref behind that place.
        if workers.iter().any(|worker| worker.lane.drops_series()) && self.floors.clear() {
            decode(self, workers);
        }
    }

    /// Reports what the ledger misses, unless opening the log has done so.
    pub(super) fn miss(&mut self, missed: &mut Vec<Damage>) {
        for damage in missed.drain(..) {
            if !self.report.damage.iter().any(|known| known.speaks_of(&damage.location)) {
                push_damage(&mut self.report.damage, ReplayDamage::missed(damage));
            }
        }
    }

    /// Takes what the first `used` workers decoded, in order.
    fn apply_workers(&mut self, workers: &mut [Worker], used: usize) -> Result<(), HeadError> {
        for worker in &mut workers[..used] {
            for damage in worker.outcome.undecodable.drain(..) {
                push_damage(&mut self.report.damage, damage);
            }
        }
        let mut lanes: Vec<&mut Lane> = workers[..used].iter_mut().map(|worker| &mut worker.lane).collect();
        self.apply(&mut lanes)?;
        workers.iter_mut().for_each(|worker| worker.lane.shrink());
        Ok(())
    }

    /// The records of a segment that begin in `from..to`, one after the other: for a block that unpacks to more than a
    /// lane holds.
    fn read_rest(&mut self, segment: &SegmentRef, from: u64, to: u64, lane: &mut Lane) -> Result<(), HeadError> {
        let mut reader = LogReader::from_offset(self.shared.fs.clone(), segment.clone(), from)?;
        let mut more = true;
        while more {
            lane.clear();
            more = false;
            while let Some(record) = reader.next()? {
                if record.position.offset >= to {
                    break;
                }
                self.decode(lane, segment, record.position, record.bytes);
                if lane.is_full() {
                    more = true;
                    break;
                }
            }
            self.apply(&mut [&mut *lane])?;
        }
        lane.shrink();
        Ok(())
    }

    /// What is sound in a segment from `from` on, and a list of what is not.
    fn salvage(&mut self, segment: &SegmentRef, from: u64, is_last: bool, lane: &mut Lane) -> Result<(), HeadError> {
        let mut reader = SalvageReader::over(self.shared.fs.clone(), vec![segment.clone()]);
        lane.clear();
        let mut last_is_torn = None;
        while let Some(item) = reader.next()? {
            match item {
                Item::Record(record) if record.position.offset < from => {}
                Item::Record(record) => {
                    last_is_torn = None;
                    self.decode(lane, segment, record.position, record.bytes);
                    if lane.is_full() {
                        self.apply(&mut [&mut *lane])?;
                        lane.clear();
                    }
                }
                Item::Damage(range) => {
                    let torn = matches!(range.damage.fault, FrameFault::Torn { .. });
                    last_is_torn = (torn && is_last).then_some(self.report.damage.len());
                    let problem = format!("{}; {} bytes passed over", range.damage.fault, range.to - range.from);
                    let at = Some(range.damage.location);
                    push_damage(&mut self.report.damage, ReplayDamage::new(at, problem));
                }
                Item::Gap { .. } => {}
            }
        }
        if let Some(damage) = last_is_torn.and_then(|at| self.report.damage.get_mut(at)) {
            damage.torn_end = true;
        }
        self.apply(&mut [&mut *lane])?;
        lane.shrink();
        Ok(())
    }

    fn decode(&mut self, lane: &mut Lane, segment: &SegmentRef, position: wal_segment::Position, record: &[u8]) {
        let min_valid = self.shared.time.min_valid();
        // What is dropped early is not there any more should a series be dropped before it.
        let floors = Floors::default();
        let mut decoder = Decoder { lane, min_valid, aliases: &self.aliases, floors: &floors };
        if let Err(error) = decoder.record(record) {
            push_damage(&mut self.report.damage, undecodable(segment.dir(), position, &error));
        }
    }
}

fn push_damage(list: &mut Vec<ReplayDamage>, damage: ReplayDamage) {
    if list.len() < MAX_LISTED {
        list.push(damage);
    }
}

/// Puts blocks in order and compares each segment with the ledger once all of its blocks are joined.
struct Order<'s> {
    segments: &'s [SegmentRef],
    ledger: &'s Ledger,
    seams: Seams,
    /// Segments that were compared, or given up.
    compared: usize,
    missed: Vec<Damage>,
}

impl Order<'_> {
    fn join(&mut self, segment: usize, end: BlockEnd) -> Result<Option<ReadError>, ReadError> {
        self.pass(segment);
        self.seams.join(end)
    }

    /// Compares the segments before number `to`.
    fn pass(&mut self, to: usize) {
        for at in self.compared..to {
            self.missed.extend(self.seams.missed(at, &self.segments[at], self.ledger));
        }
        self.compared = self.compared.max(to);
    }

    /// A segment is damaged: what it should hold says nothing more. The next one begins with a clean seam.
    fn give_up(&mut self, segment: usize) {
        self.pass(segment);
        self.compared = segment + 1;
        self.seams = Seams::default();
    }
}

/// Why a round ended early.
enum Stop {
    /// A lane is full; its block goes on at this offset.
    Full { from: u64 },
    /// Nothing is certain behind the record that ends at this offset.
    Damage { error: ReadError, from: u64, segment: usize },
}

/// How many of the workers' lanes are to be used, and what is to be done then.
fn judge(workers: &mut [Worker], round: &[BlockRef], order: &mut Order<'_>) -> (usize, Option<Stop>) {
    let mut before: Option<(usize, u64)> = None;
    for (i, worker) in workers.iter_mut().enumerate() {
        let end = match worker.outcome.end.take() {
            Some(Ok(end)) => end,
            Some(Err(error)) => {
                return (i, Some(Stop::Damage { error, from: 0, segment: round[i].segment }));
            }
            None => return (i, None),
        };
        let segment = round[i].segment;
        let read_before = before.filter(|&(s, _)| s == segment).map_or(0, |(_, end)| end);
        match order.join(segment, end) {
            // What this lane read does not follow what the one before it read.
            Err(error) => {
                let from = read_before;
                return (i, Some(Stop::Damage { error, from, segment }));
            }
            Ok(Some(error)) => {
                let from = worker.outcome.last_end.max(read_before);
                return (i + 1, Some(Stop::Damage { error, from, segment }));
            }
            Ok(None) if worker.outcome.full => return (i + 1, Some(Stop::Full { from: worker.outcome.last_end })),
            Ok(None) => before = Some((segment, worker.outcome.last_end.max(read_before))),
        }
    }
    (workers.len(), None)
}
