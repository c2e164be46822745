//! Appending floats.

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};
use head_chunks::Encoding;
use head_chunks::packed::{Assembler, Misfit, PackedState};

use super::cut::{ChunkRules, estimated_end};
use super::gate::{Gate, ask_for};
use super::segments::{Chain, Segments};
use super::{CUT, Finished, Hot, LastKind, NO_TIME, Partition, Refusal};

/// Full chunks lie side by side in blocks of so many bytes: one allocation for all of them. Mostly another thread frees what
/// this one allocates, and then both wait for the allocator.
const BLOCK: usize = 32 * 1024;

/// Where full chunks are made.
#[derive(Default)]
struct Workshop {
    assembler: Assembler,
    /// A chunk's bytes are put together before it is known how many they are.
    gathered: Vec<u8>,
    block: Block,
}

/// What is left of one.
#[derive(Default)]
struct Block(BytesMut);

impl Block {
    fn put(&mut self, bytes: &[u8]) -> Bytes {
        if self.0.capacity() < bytes.len() {
            self.0 = BytesMut::with_capacity(BLOCK.max(bytes.len()));
        }
        self.0.extend_from_slice(bytes);
        self.0.split().freeze()
    }
}

thread_local! {
    static WORKSHOP: RefCell<Workshop> = RefCell::default();
}

/// What became of a sample that was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Appended {
    /// It is in the open chunk.
    Added,
    /// It is, and a chunk before it was finished.
    Cut,
    /// It is not newer than what the series has: nothing was changed.
    Late,
}

impl Hot {
    /// Puts a sample behind the others of an open chunk; `false` (nothing changed) if its header cannot count another one.
    #[inline(always)]
    fn push(&mut self, segments: &mut Segments, t: i64, v: f64) -> bool {
        let mut at = self.xor.full_pieces();
        let chain = &mut self.chain;
        let emit = &mut |piece| {
            segments.push(chain, at, piece);
            at += 1;
        };
        match self.xor.append(t, v, emit) {
            Ok(()) => true,
            Err(Misfit::Full) => false,
            Err(Misfit::Form) => self.repack(segments, t, v),
        }
    }

    /// As [`Hot::push`], of samples from the front of `samples` that are before `until` and nothing special. Returns how many.
    #[inline]
    fn push_usual<S>(
        &mut self,
        segments: &mut Segments,
        samples: &[S],
        of: impl Fn(&S) -> (i64, f64),
        until: i64,
    ) -> usize {
        let mut at = self.xor.full_pieces();
        let chain = &mut self.chain;
        self.xor.append_usual(samples, of, until, &mut |piece| {
            segments.push(chain, at, piece);
            at += 1;
        })
    }

    /// As [`Hot::push`] when the chunk has to take another form first.
    #[cold]
    #[inline(never)]
    fn repack(&mut self, segments: &mut Segments, t: i64, v: f64) -> bool {
        let mut old = self.chain;
        let (mut chain, mut at, mut pieces) = (Chain::EMPTY, 0, Vec::new());
        self.xor = self.xor.repack(segments.runs(old, self.xor.full_pieces()), t, v, &mut |piece| pieces.push(piece));
        segments.release(&mut old);
        for piece in pieces {
            segments.push(&mut chain, at, piece);
            at += 1;
        }
        self.chain = chain;
        // The new form was chosen to take this sample: at worst it is XOR, which takes all of them.
        self.xor
            .append(t, v, &mut |piece| {
                segments.push(&mut self.chain, at, piece);
                at += 1;
            })
            .is_ok()
    }

    /// Whether something about the chunk's end is decided at this fill.
    #[inline]
    fn at_a_mark(&self, rules: &ChunkRules) -> bool {
        let n = self.xor.num_samples();
        n == rules.quarter || n >= rules.most || self.xor.is_over_the_limit()
    }
}

impl Finished {
    /// As an [`Assembler`] takes it.
    fn as_given(&self) -> (Option<PackedState>, &[u8]) {
        (self.packed, &self.bytes)
    }

    /// Hands the bytes that each chunk has on disk to `done`, in order.
    pub(crate) fn assemble<'a>(finished: impl Iterator<Item = &'a Self>, done: impl FnMut(&[u8])) {
        WORKSHOP.with_borrow_mut(|workshop| workshop.assembler.assemble(finished.map(Self::as_given), done));
    }

    /// The bytes that the chunk has on disk.
    pub(super) fn to_bytes(&self) -> Bytes {
        let Some(_) = self.packed else { return self.bytes.clone() };
        let mut made = Bytes::new();
        Self::assemble(std::iter::once(self), |bytes| made = Bytes::copy_from_slice(bytes));
        made
    }
}

impl Partition {
    /// Whether a float at `t` would go into the series in order. A sample equal to the newest one is fine.
    #[inline]
    pub(crate) fn accepts_float(&self, row: usize, t: i64, v: f64) -> Result<(), Refusal> {
        let hot = &self.hot[row];
        if hot.xor.num_samples() > 0 {
            let last = hot.xor.last_t();
            return if t > last {
                Ok(())
            } else if t < last {
                Err(Refusal::OutOfOrder)
            } else if hot.xor.last_value().to_bits() == v.to_bits() {
                Ok(())
            } else {
                Err(Refusal::Duplicate)
            };
        }
        match self.rares.get(row) {
            Some(rare) => rare.accepts_float(t, v),
            None if t > hot.xor.last_t() => Ok(()),
            None => Err(Refusal::OutOfOrder),
        }
    }

    /// Notes a float that somebody holds for the series ([`Partition::pend`]) if it would go in. Returns whether the series
    /// is not in the log yet; nothing if there is no such series.
    #[inline(always)]
    pub(crate) fn begin_float(&mut self, low: u8, t: i64, v: f64) -> Option<Result<bool, Refusal>> {
        let row = self.rank.row(low)?;
        if self.gate.takes(low, t) && self.gate.hold(low) {
            ask_for(&self.hot[row]);
            return Some(Ok(false));
        }
        Some(self.begin_slowly(row, low, t, v))
    }

    #[cold]
    #[inline(never)]
    fn begin_slowly(&mut self, row: usize, low: u8, t: i64, v: f64) -> Result<bool, Refusal> {
        self.accepts_float(row, t, v)?;
        if self.gate.is_shut(low) {
            self.open_gate(low);
        }
        if !self.gate.hold(low) {
            self.pend(row);
        }
        Ok(self.is_unlogged(row))
    }

    /// Looks at all series of a group, for the next one to come.
    fn open_gate(&mut self, low: u8) {
        let mut newest = NO_TIME;
        for row in Gate::group(low).filter_map(|low| self.rank.row(low)) {
            if self.is_unlogged(row) {
                return;
            }
            newest = newest.max(self.max_time(row));
        }
        self.gate.open(low, newest);
    }

    /// A sample of this series comes soon.
    #[inline]
    pub(crate) fn ask_for(&self, low: u8) {
        if let Some(hot) = self.rank.row(low).and_then(|row| self.hot.get(row)) {
            ask_for(hot);
        }
    }

    /// Appends a float. `st` is its start timestamp, 0 for none.
    #[inline(always)]
    pub(crate) fn append_float(&mut self, row: usize, st: i64, t: i64, v: f64, rules: &ChunkRules) -> Appended {
        let hot = &mut self.hot[row];
        if t <= hot.xor.last_t() {
            return Appended::Late;
        }
        if t < hot.next_at && st == 0 && hot.push(&mut self.segments, t, v) {
            if hot.at_a_mark(rules) {
                self.retarget(row, rules);
            }
            return Appended::Added;
        }
        self.append_float_slowly(row, st, t, v, rules)
    }

    /// Appends floats of a series from the front of `samples`, which have no start timestamps, as long as they simply go into
    /// its open chunk. Returns how many; the next one is for [`append_float`](Self::append_float).
    #[inline]
    pub(crate) fn append_usual<S>(
        &mut self,
        row: usize,
        samples: &[S],
        of: impl Fn(&S) -> (i64, f64),
        rules: &ChunkRules,
    ) -> usize {
        let hot = &mut self.hot[row];
        let n = hot.xor.num_samples();
        // Up to the next fill at which something is decided.
        let room = if n < rules.quarter { rules.quarter - n } else { rules.most.saturating_sub(n) };
        let some = &samples[..samples.len().min(room.into())];
        let until = hot.next_at;
        let taken = hot.push_usual(&mut self.segments, some, of, until);
        if taken > 0 && hot.at_a_mark(rules) {
            self.retarget(row, rules);
        }
        taken
    }

    #[cold]
    #[inline(never)]
    fn append_float_slowly(&mut self, row: usize, st: i64, t: i64, v: f64, rules: &ChunkRules) -> Appended {
        let newest = self.max_time(row);
        if t <= newest {
            return Appended::Late;
        }
        if self.continue_xor2(row, st, t, v, rules) {
            return Appended::Added;
        }
        let cut = self.finish_open(row);
        // A start timestamp needs an encoding that has room for it, whatever the options say: what a log holds is not lost.
        if rules.xor2 || st != 0 {
            self.start_xor2(row, st, t, v, rules);
            return Self::cut_or_added(cut);
        }
        let hot = &mut self.hot[row];
        hot.next_at = rules.range_end(t);
        hot.push(&mut self.segments, t, v);
        if hot.at_a_mark(rules) {
            self.retarget(row, rules);
        }
        let cold = &mut self.cold[row];
        cold.mint = t;
        cold.last_kind = LastKind::Float;
        if cut { Appended::Cut } else { Appended::Added }
    }

    #[cold]
    #[inline(never)]
    fn retarget(&mut self, row: usize, rules: &ChunkRules) {
        let hot = &mut self.hot[row];
        if hot.xor.num_samples() == rules.quarter {
            hot.next_at = estimated_end(self.cold[row].mint, hot.xor.last_t(), hot.next_at, 4.0);
        }
        if hot.xor.num_samples() >= rules.most || hot.xor.is_over_the_limit() {
            hot.next_at = CUT;
        }
    }

    /// Finishes whatever chunk is open. Returns whether there was one.
    pub(super) fn finish_open(&mut self, row: usize) -> bool {
        if self.hot[row].xor.num_samples() == 0 {
            return self.finish_rare(row);
        }
        let hot = &self.hot[row];
        let (xor, maxt) = (hot.xor, hot.xor.last_t());
        let bytes = WORKSHOP.with_borrow_mut(|Workshop { gathered, block, .. }| {
            gathered.clear();
            xor.gather(self.segments.runs(hot.chain, xor.full_pieces()), gathered);
            block.put(gathered)
        });
        self.finished.push_back(Finished {
            low: self.rank.low(row),
            encoding: Encoding::Xor,
            samples: xor.num_samples(),
            mint: self.cold[row].mint,
            maxt,
            packed: Some(xor),
            bytes,
        });
        self.drop_open_xor(row, maxt);
        true
    }

    /// Makes the full chunks what they are on disk. Several threads can do that, of which only one can then write.
    pub(crate) fn assemble_finished(&mut self) {
        WORKSHOP.with_borrow_mut(|Workshop { assembler, block, .. }| {
            let mut made = Vec::with_capacity(self.finished.len());
            assembler.assemble(self.finished.iter().map(Finished::as_given), |bytes| made.push(block.put(bytes)));
            for (done, bytes) in self.finished.iter_mut().zip(made) {
                (done.packed, done.bytes) = (None, bytes);
            }
        });
    }

    /// The open XOR chunk's bytes.
    pub(super) fn xor_bytes(&self, row: usize) -> Bytes {
        let mut bytes = Vec::new();
        self.assemble_xor(row, &mut bytes);
        bytes.into()
    }

    fn assemble_xor(&self, row: usize, bytes: &mut Vec<u8>) {
        let hot = &self.hot[row];
        hot.xor.assemble(self.segments.runs(hot.chain, hot.xor.full_pieces()), bytes);
    }

    /// Drops the open XOR chunk; what is left of the series ends at `maxt`.
    pub(super) fn drop_open_xor(&mut self, row: usize, maxt: i64) {
        let hot = &mut self.hot[row];
        self.segments.release(&mut hot.chain);
        hot.xor = PackedState::new_after(maxt);
        hot.next_at = CUT;
    }
}
