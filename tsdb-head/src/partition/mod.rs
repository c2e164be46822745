//! The sample data of 256 series with neighbouring refs, under one lock.
//!
//! Refs are handed out in sequence, so the series of one scrape lie in one or two partitions: a commit takes few locks and
//! finds its series side by side. Per series there is one cache line that a commit touches ([`Hot`]), a colder row
//! ([`Cold`]), and what few series need in a box ([`Rare`]). What an append has to know before is held for all of them
//! together ([`Gate`]).
//!
//! Invariants: rows are in ref order and `rank` maps a ref's low byte to its row. A series' chunks are in time order:
//! those on disk, then `finished` ones, then the open one. `hot.next_at` is [`CUT`] unless an XOR chunk is open and
//! may take another sample. A series with `pending` samples is not collected.

mod collect;
mod cut;
mod float;
mod gate;
mod histogram;
mod mapped;
mod rare;
mod same;
mod segments;
mod snapshot;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;
use head_chunks::Encoding;
use head_chunks::packed::PackedState;

use crate::index::Rank;
use crate::isolation::TxLog;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering::SeqCst};
pub(crate) use cut::ChunkRules;
pub(crate) use float::Appended;
use gate::Gate;
pub(crate) use histogram::Native;
pub(crate) use mapped::Mapped;
use mapped::MappedChunks;
pub(crate) use rare::LastKind;
use rare::{Rare, Rares};
use segments::{Chain, Segments};
pub(crate) use snapshot::{ChunkData, ChunkSource};

/// `next_at` of a series whose next float does not simply go into an open XOR chunk.
const CUT: i64 = i64::MIN;

/// Lock and number of a partition.
#[derive(Debug)]
pub(crate) struct PartitionCell {
    pub(crate) number: u64,
    /// Set when the partition has left the directory: whoever still holds it looks again.
    pub(crate) dead: AtomicBool,
    /// The partition behind this one, for who comes from here: the directory's lock is everybody's.
    next: OnceLock<Weak<PartitionCell>>,
    pub(crate) data: Mutex<Partition>,
}

#[derive(Debug)]
pub(crate) struct Partition {
    rank: Rank,
    gate: Gate,
    hot: Vec<Hot>,
    cold: Vec<Cold>,
    rares: Rares,
    segments: Segments,
    mapped: MappedChunks,
    /// Full chunks on their way to a chunk file, oldest first.
    finished: VecDeque<Finished>,
    pub(crate) tx: TxLog,
    /// Only during a replay of damaged chunk files: chunks that follow in a series once the log has filled the hole that
    /// may be before them; by the ref's low byte, oldest first.
    queued: HashMap<u8, VecDeque<Mapped>>,
    /// See [`Partition::floor`]; [`NO_TIME`] is always right.
    floor: i64,
}

/// What appending a float to an open chunk touches: one cache line.
#[derive(Debug)]
#[repr(C, align(64))]
struct Hot {
    /// The open XOR chunk. While there is none its last time is that of the chunks that are no longer open, [`NO_TIME`]
    /// without any; never is it later than the newest sample.
    xor: PackedState,
    /// The chunk takes samples before this time (ms), see [`CUT`].
    next_at: i64,
    chain: Chain,
    /// Samples that appenders hold and have not committed or rolled back yet, without those that the [`Gate`] counts, plus
    /// one while the series' creator has not finished; and [`UNLOGGED`].
    pending: u32,
}

const _: () = assert!(size_of::<Hot>() == 64);

/// In `Hot::pending`: no record of the series is in the log yet.
const UNLOGGED: u32 = 1 << 31;

#[derive(Debug)]
struct Cold {
    /// First time of the open XOR chunk.
    mint: i64,
    /// Newest chunk on disk.
    newest: u32,
    /// The type of the newest sample.
    last_kind: LastKind,
}

const _: () = assert!(size_of::<Cold>() == 16);

/// Before every time: `i64::MIN` itself is never accepted.
pub(crate) const NO_TIME: i64 = i64::MIN;

/// A full chunk that is not on disk yet.
#[derive(Debug, Clone)]
pub(crate) struct Finished {
    pub(crate) low: u8,
    pub(crate) encoding: Encoding,
    pub(crate) samples: u16,
    pub(crate) mint: i64,
    pub(crate) maxt: i64,
    /// Of an XOR chunk that is still as it was while it was open: smaller than on disk, and made by whoever has the time.
    pub(crate) packed: Option<PackedState>,
    pub(crate) bytes: Bytes,
}

/// Why a series does not take a sample at this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Older than the series' newest sample.
    OutOfOrder,
    /// As old as the newest sample, with another value.
    Duplicate,
}

impl PartitionCell {
    pub(crate) fn new(number: u64) -> Self {
        let data = Mutex::new(Partition::default());
        Self { number, dead: AtomicBool::new(false), next: OnceLock::new(), data }
    }

    /// The partition behind this one, if it has been [found](Self::found_next) and is still there.
    #[inline]
    pub(crate) fn next(&self) -> Option<Arc<Self>> {
        self.next.get()?.upgrade().filter(|next| !next.dead.load(SeqCst))
    }

    /// Remembers the partition behind this one. The first one found counts: should it go, the directory is asked again.
    pub(crate) fn found_next(&self, next: &Arc<Self>) {
        self.next.get_or_init(|| Arc::downgrade(next));
    }
}

impl Default for Partition {
    fn default() -> Self {
        Self {
            rank: Rank::default(),
            gate: Gate::default(),
            hot: Vec::new(),
            cold: Vec::new(),
            rares: Rares::default(),
            segments: Segments::default(),
            mapped: MappedChunks::default(),
            finished: VecDeque::new(),
            tx: TxLog::default(),
            queued: HashMap::new(),
            floor: NO_TIME,
        }
    }
}

impl Partition {
    #[inline]
    pub(crate) fn row(&self, low: u8) -> Option<usize> {
        self.rank.row(low)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rank.is_empty()
    }

    /// How many series there are.
    pub(crate) fn len(&self) -> usize {
        self.hot.len()
    }

    /// Makes room for a series without samples and returns its row. The ref must be new.
    pub(crate) fn insert(&mut self, low: u8) -> usize {
        let row = self.rank.insert(low);
        self.gate.shut(low);
        self.floor = NO_TIME;
        if self.hot.len() == self.hot.capacity() {
            // A partition fills up once: quarters of it waste little and copy little.
            self.hot.reserve_exact(64);
            self.cold.reserve_exact(64);
        }
        let hot = Hot { xor: PackedState::new_after(NO_TIME), next_at: CUT, chain: Chain::EMPTY, pending: 0 };
        let cold = Cold { mint: NO_TIME, newest: mapped::NONE, last_kind: LastKind::Float };
        self.hot.insert(row, hot);
        self.cold.insert(row, cold);
        self.rares.insert_row(row);
        row
    }

    /// Notes one more sample (or the creation) that somebody holds for this series.
    #[inline]
    pub(crate) fn pend(&mut self, row: usize) {
        self.hot[row].pending += 1;
    }

    /// Takes one such note back.
    #[inline]
    pub(crate) fn unpend(&mut self, row: usize, low: u8) {
        if self.gate.release(low) {
            return;
        }
        let pending = &mut self.hot[row].pending;
        debug_assert!(*pending & !UNLOGGED > 0, "more samples finished than begun");
        if *pending & !UNLOGGED > 0 {
            *pending -= 1;
        }
    }

    /// Takes a note back because the sample is in the log now, and so is the series.
    #[inline]
    pub(crate) fn commit_one(&mut self, row: usize, low: u8) {
        self.unpend(row, low);
        self.hot[row].pending &= !UNLOGGED;
    }

    /// Notes that no record of the series is in the log.
    pub(crate) fn mark_unlogged(&mut self, row: usize, low: u8) {
        self.gate.shut(low);
        self.hot[row].pending |= UNLOGGED;
    }

    /// Notes that a commit has brought the series a sample at `t`.
    #[inline]
    pub(crate) fn committed(&mut self, low: u8, t: i64) {
        self.gate.raise(low, t);
    }

    #[inline]
    pub(crate) fn is_unlogged(&self, row: usize) -> bool {
        self.hot[row].pending & UNLOGGED != 0
    }

    /// Which low bytes have a series.
    pub(crate) fn members(&self) -> Rank {
        self.rank
    }

    /// Time of the newest sample, [`NO_TIME`] without one.
    pub(crate) fn max_time(&self, row: usize) -> i64 {
        let hot = &self.hot[row];
        if hot.xor.num_samples() > 0 {
            return hot.xor.last_t();
        }
        self.rares.get(row).map_or(hot.xor.last_t(), Rare::open_maxt)
    }

    /// All 256 series are there and none takes a sample at or before this time: in a replay chunk files hold most of what
    /// the log has, and so it is passed over without a look at its series. [`NO_TIME`] when nothing of that kind is known.
    pub(crate) fn floor(&mut self) -> i64 {
        if self.floor == NO_TIME && self.hot.len() == 256 {
            let mut floor = i64::MAX;
            for hot in &self.hot {
                floor = floor.min(hot.xor.last_t());
                if floor == NO_TIME {
                    break;
                }
            }
            self.floor = floor;
        }
        self.floor
    }

    pub(crate) fn last_kind(&self, row: usize) -> LastKind {
        self.cold[row].last_kind
    }

    /// Gives a series a chunk that is on disk: behind all it has, or in its place before what it has in memory. `false`
    /// (and nothing changed) when it overlaps something.
    pub(crate) fn attach(&mut self, row: usize, chunk: Mapped) -> bool {
        let newest = self.max_time(row);
        if newest != NO_TIME && chunk.mint <= newest {
            return self.attach_between(row, chunk);
        }
        // Only an alias brings chunks to a series that has samples: what it has ends here.
        self.finish_open(row);
        let cold = &mut self.cold[row];
        self.mapped.push(&mut cold.newest, chunk);
        self.hot[row].xor = PackedState::new_after(chunk.maxt);
        cold.last_kind = LastKind::of(chunk.encoding);
        true
    }

    /// Chunks of an alias come when its record does, and those that its series got later, under another ref, are there
    /// already.
    fn attach_between(&mut self, row: usize, chunk: Mapped) -> bool {
        let low = self.rank.low(row);
        let finished = self.finished.iter().filter(|done| done.low == low).map(|done| (done.mint, done.maxt));
        let mapped = self.mapped.chain(self.cold[row].newest).map(|other| (other.mint, other.maxt));
        let open = self.open_mint(row).map(|mint| (mint, i64::MAX));
        if finished.chain(mapped).chain(open).any(|(mint, maxt)| mint <= chunk.maxt && chunk.mint <= maxt) {
            return false;
        }
        self.put_on_chain(row, chunk);
        true
    }

    /// Puts a chunk in its place among those on disk: mostly behind them.
    fn put_on_chain(&mut self, row: usize, chunk: Mapped) {
        let newest = &mut self.cold[row].newest;
        if self.mapped.chain(*newest).next().is_none_or(|last| last.mint <= chunk.mint) {
            self.mapped.push(newest, chunk);
            return;
        }
        let mut chunks: Vec<Mapped> = self.mapped.chain(*newest).collect();
        chunks.push(chunk);
        chunks.sort_by_key(|chunk| chunk.mint);
        self.mapped.clear(newest);
        chunks.into_iter().for_each(|chunk| self.mapped.push(newest, chunk));
    }

    /// Keeps a chunk until its turn comes, see [`Partition::next_queued`].
    pub(crate) fn queue(&mut self, low: u8, chunk: Mapped) {
        let queue = self.queued.entry(low).or_default();
        let at = queue.partition_point(|other| other.mint <= chunk.mint);
        queue.insert(at, chunk);
    }

    pub(crate) fn has_queued(&self) -> bool {
        !self.queued.is_empty()
    }

    /// Takes the next queued chunk of a series that begins at or before `t`.
    pub(crate) fn next_queued(&mut self, low: u8, t: i64) -> Option<Mapped> {
        let queue = self.queued.get_mut(&low)?;
        let next = queue.front().copied().filter(|chunk| chunk.mint <= t)?;
        queue.pop_front();
        if queue.is_empty() {
            self.queued.remove(&low);
        }
        Some(next)
    }

    /// The low bytes of the series that still have queued chunks.
    pub(crate) fn queued(&self) -> Vec<u8> {
        self.queued.keys().copied().collect()
    }

    /// Finishes the open chunk, if there is one: what is attached next lies behind it.
    pub(crate) fn close_open(&mut self, row: usize) {
        self.finish_open(row);
    }

    /// The full chunks in order of time; the caller writes the first of them and hands them back as [`Partition::written`],
    /// all under one lock.
    pub(crate) fn finished(&self) -> &VecDeque<Finished> {
        &self.finished
    }

    /// The first `written.len()` finished chunks are on disk now, under these refs.
    pub(crate) fn written(&mut self, written: &[u64]) {
        let done: Vec<Finished> = self.finished.drain(..written.len()).collect();
        for (done, &chunk) in done.into_iter().zip(written) {
            let Some(row) = self.rank.row(done.low) else { continue };
            let Finished { encoding, samples, mint, maxt, .. } = done;
            // Chunks of an alias may have come to lie behind it while it was in memory.
            self.put_on_chain(row, Mapped { chunk, mint, maxt, samples, encoding });
        }
        if self.finished.is_empty() {
            // The series of a scrape fill their chunks together: room for all of them would stay for hours.
            self.finished = VecDeque::new();
        }
    }

    /// Counted bytes of heap: hot rows, cold rows, open chunks, entries of chunks on disk, full chunks, isolation.
    pub(crate) fn bytes(&self) -> [usize; 6] {
        [
            self.hot.capacity() * size_of::<Hot>(),
            self.cold.capacity() * size_of::<Cold>(),
            self.segments.bytes() + self.rares.bytes(),
            self.mapped.bytes(),
            self.finished.capacity() * size_of::<Finished>()
                + self.finished.iter().map(|done| done.bytes.len()).sum::<usize>(),
            self.tx.bytes(),
        ]
    }
}
