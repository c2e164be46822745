//! What few series need: open chunks that are not XOR.

use head_chunks::Encoding;
use head_chunks::packed::PackedState;
use head_chunks::xor::MAX_BYTES_BEFORE_APPEND;
use head_chunks::xor2::AppendState;

use super::cut::{ChunkRules, estimated_end};
use super::float::Appended;
use super::histogram::OpenHistogram;
use super::segments::{Chain, Segments};
use super::snapshot::{ChunkData, ChunkSource};
use super::{CUT, Finished, Partition, Refusal};

/// The type of a series' newest sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LastKind {
    Float,
    Histogram,
    FloatHistogram,
}

impl LastKind {
    pub(crate) fn of(encoding: Encoding) -> Self {
        match encoding {
            Encoding::Xor | Encoding::Xor2 => Self::Float,
            Encoding::Histogram | Encoding::HistogramSt => Self::Histogram,
            Encoding::FloatHistogram | Encoding::FloatHistogramSt => Self::FloatHistogram,
        }
    }
}

/// An open chunk that is not XOR. It goes when the series' next chunk is one.
#[derive(Debug)]
pub(crate) struct Rare {
    /// First time in the chunk.
    pub(super) mint: i64,
    /// The chunk takes samples before this time, see [`CUT`].
    pub(super) next_at: i64,
    /// Whether `next_at` was estimated from a histogram chunk's bytes already.
    pub(super) estimated: bool,
    pub(super) open: Open,
}

/// The open chunks of a partition's series that are not XOR, by row; nothing at all while there is none.
#[derive(Debug, Default)]
pub(super) struct Rares(Vec<Option<Box<Rare>>>);

impl Rares {
    #[inline]
    pub(super) fn get(&self, row: usize) -> Option<&Rare> {
        self.0.get(row)?.as_deref()
    }

    pub(super) fn get_mut(&mut self, row: usize) -> Option<&mut Rare> {
        self.0.get_mut(row)?.as_deref_mut()
    }

    /// Gives a row of `rows` an open chunk.
    pub(super) fn set(&mut self, row: usize, rows: usize, rare: Rare) {
        if self.0.len() < rows {
            self.0.reserve_exact(rows - self.0.len());
            self.0.resize_with(rows, || None);
        }
        self.0[row] = Some(Box::new(rare));
    }

    pub(super) fn take(&mut self, row: usize) -> Option<Box<Rare>> {
        self.0.get_mut(row)?.take()
    }

    pub(super) fn insert_row(&mut self, row: usize) {
        if row < self.0.len() {
            self.0.insert(row, None);
        }
    }

    pub(super) fn remove_row(&mut self, row: usize) {
        if row < self.0.len() {
            self.0.remove(row);
        }
    }

    /// Gives memory back after rows were removed or chunks finished.
    pub(super) fn shrink(&mut self) {
        if self.0.iter().all(Option::is_none) {
            self.0 = Vec::new();
        }
        self.0.shrink_to_fit();
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<Option<Box<Rare>>>()
            + self.0.iter().flatten().map(|rare| rare.bytes()).sum::<usize>()
    }
}

#[derive(Debug)]
pub(crate) enum Open {
    Xor2(OpenXor2),
    Histogram(OpenHistogram<i64>),
    FloatHistogram(OpenHistogram<f64>),
}

#[derive(Debug)]
pub(crate) struct OpenXor2 {
    state: AppendState,
    chain: Chain,
    last_value: f64,
}

impl OpenXor2 {
    /// Puts a sample behind the others; `false` (nothing changed) if no more fit.
    fn push(&mut self, segments: &mut Segments, st: i64, t: i64, v: f64) -> bool {
        let mut at = self.state.full_pieces();
        let chain = &mut self.chain;
        let taken = self.state.append(st, t, v, &mut |piece| {
            segments.push(chain, at, piece);
            at += 1;
        });
        if taken.is_ok() {
            self.last_value = v;
        }
        taken.is_ok()
    }
}

impl Rare {
    pub(super) fn open_mint(&self) -> i64 {
        self.mint
    }

    pub(super) fn open_maxt(&self) -> i64 {
        match &self.open {
            Open::Xor2(open) => open.state.last_t(),
            Open::Histogram(open) => open.state.last_t(),
            Open::FloatHistogram(open) => open.state.last_t(),
        }
    }

    /// As the newest sample is `self`'s, whether a float fits behind it.
    pub(super) fn accepts_float(&self, t: i64, v: f64) -> Result<(), Refusal> {
        let last = self.open_maxt();
        let same = matches!(&self.open, Open::Xor2(open) if open.last_value.to_bits() == v.to_bits());
        match () {
            () if t > last => Ok(()),
            () if t < last => Err(Refusal::OutOfOrder),
            () if same => Ok(()),
            () => Err(Refusal::Duplicate),
        }
    }

    /// Counted bytes of heap; what is in segments is counted there.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>()
            + match &self.open {
                Open::Xor2(_) => 0,
                Open::Histogram(open) => open.bytes(),
                Open::FloatHistogram(open) => open.bytes(),
            }
    }

    pub(super) fn finished(&self, low: u8, segments: &Segments) -> Finished {
        let (encoding, samples, bytes) = match &self.open {
            Open::Xor2(open) => {
                let mut bytes = Vec::new();
                open.state.assemble(segments.runs(open.chain, open.state.full_pieces()), &mut bytes);
                (Encoding::Xor2, open.state.num_samples(), bytes)
            }
            Open::Histogram(open) => open.chunk(segments),
            Open::FloatHistogram(open) => open.chunk(segments),
        };
        Finished { low, encoding, samples, mint: self.mint, maxt: self.open_maxt(), packed: None, bytes: bytes.into() }
    }

    /// Gives its segments back.
    pub(super) fn release(&mut self, segments: &mut Segments) {
        segments.release(match &mut self.open {
            Open::Xor2(open) => &mut open.chain,
            Open::Histogram(open) => &mut open.chain,
            Open::FloatHistogram(open) => &mut open.chain,
        });
    }

    /// A copy of the open chunk as it is.
    pub(super) fn source(&self, segments: &Segments) -> ChunkSource {
        let Finished { encoding, samples, mint, maxt, bytes, .. } = self.finished(0, segments);
        ChunkSource { mint, maxt, encoding, samples, data: ChunkData::Memory(bytes) }
    }
}

impl Partition {
    /// Appends a float that does not fit an XOR chunk's fast way to an open XOR2 chunk, if there is one and it takes it.
    pub(super) fn continue_xor2(&mut self, row: usize, st: i64, t: i64, v: f64, rules: &ChunkRules) -> bool {
        let Some(rare) = self.rares.get_mut(row) else { return false };
        let Open::Xor2(open) = &mut rare.open else { return false };
        if t >= rare.next_at || !open.push(&mut self.segments, st, t, v) {
            return false;
        }
        rare.retarget_xor2(rules);
        true
    }

    /// Starts an XOR2 chunk; no other one is open.
    pub(super) fn start_xor2(&mut self, row: usize, st: i64, t: i64, v: f64, rules: &ChunkRules) {
        let mut open = OpenXor2 { state: AppendState::new(), chain: Chain::EMPTY, last_value: v };
        // An empty chunk takes a sample.
        let fits = open.push(&mut self.segments, st, t, v);
        debug_assert!(fits);
        let mut rare = Rare { mint: t, next_at: rules.range_end(t), estimated: false, open: Open::Xor2(open) };
        rare.retarget_xor2(rules);
        self.rares.set(row, self.hot.len(), rare);
        self.cold[row].last_kind = LastKind::Float;
    }

    /// Finishes an open chunk that is not XOR. Returns whether there was one.
    pub(super) fn finish_rare(&mut self, row: usize) -> bool {
        self.take_finished(row).is_some()
    }

    /// Finishes an open chunk that is not XOR and hands out what is left of it.
    pub(super) fn take_finished(&mut self, row: usize) -> Option<Box<Rare>> {
        let mut rare = self.rares.take(row)?;
        self.hot[row].xor = PackedState::new_after(rare.open_maxt());
        self.finished.push_back(rare.finished(self.rank.low(row), &self.segments));
        rare.release(&mut self.segments);
        Some(rare)
    }

    /// Drops an open chunk that is not XOR if it ends before `mint`.
    pub(super) fn drop_rare_before(&mut self, row: usize, mint: i64) -> bool {
        self.rares.get(row).is_some_and(|rare| rare.open_maxt() < mint) && self.drop_rare(row)
    }

    /// Drops an open chunk that is not XOR. Returns whether there was one.
    pub(super) fn drop_rare(&mut self, row: usize) -> bool {
        let Some(mut rare) = self.rares.take(row) else { return false };
        rare.release(&mut self.segments);
        true
    }

    /// A histogram or an XOR2 chunk that took a sample.
    pub(super) fn cut_or_added(cut: bool) -> Appended {
        if cut { Appended::Cut } else { Appended::Added }
    }
}

impl Rare {
    /// The rules of float chunks, for XOR2.
    fn retarget_xor2(&mut self, rules: &ChunkRules) {
        let Open::Xor2(open) = &self.open else { return };
        let (n, last, bits) = (open.state.num_samples(), open.state.last_t(), open.state.bit_len());
        if n == rules.quarter {
            self.next_at = estimated_end(self.mint, last, self.next_at, 4.0);
        }
        if n >= rules.most || bits > MAX_BYTES_BEFORE_APPEND * 8 {
            self.next_at = CUT;
        }
    }
}
