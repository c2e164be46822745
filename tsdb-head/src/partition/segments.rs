//! Where the bits of open chunks go: small segments, chained.
//!
//! A chunk grows by one 16-byte piece at a time. Buffers that double would copy on growth and leave a third of the memory
//! unused; chained segments do neither. They are given out from the lowest slab that has one: the series of a scrape fill
//! their chunks together, and what they then give back should empty whole slabs, which go.

use std::collections::HashMap;

use head_chunks::PIECE;
use head_chunks::histogram::Pieces;

/// Two pieces: a packed chunk of a hundred samples has some ten, and half a segment of each stays empty.
const SEGMENT: usize = 32;
const PIECES: usize = SEGMENT / PIECE;
/// Segments are allocated as many at a time as a word has bits: 2 KiB and their links.
const SLAB: usize = 64;
/// No segment.
const NONE: u16 = u16::MAX;
/// So many pieces of a chunk are in segments, 4 KiB, twice what any chunk needs but one of huge histograms: then 256 chunks
/// have enough with ids of 16 bits.
const CHAINED: usize = 256;

/// ```text
/// slab := 64 segments of 32 bytes, then by segment the one behind it in its chain, u16
/// ```
/// All of it bytes, so that it is allocated as zeros, not made and moved. The allocator's 16 bytes are all that is asked of its
/// place: a piece then lies in one cache line.
#[derive(Debug)]
struct Slab(Box<[[u8; SEGMENT]; SLAB + LINKS]>);

/// Rows behind the segments, for the links.
const LINKS: usize = SLAB * size_of::<u16>() / SEGMENT;

impl Slab {
    const BYTES: usize = (SLAB + LINKS) * SEGMENT;

    fn new() -> Self {
        let zeros = vec![[0; SEGMENT]; SLAB + LINKS].into_boxed_slice();
        Self(zeros.try_into().unwrap_or_else(|_| Box::new([[0; SEGMENT]; SLAB + LINKS])))
    }

    fn segment(&self, id: usize) -> &[u8; SEGMENT] {
        &self.0[id % SLAB]
    }

    fn segment_mut(&mut self, id: usize) -> &mut [u8; SEGMENT] {
        &mut self.0[id % SLAB]
    }

    /// Where the link of a segment is: row and byte.
    fn place(id: usize) -> (usize, usize) {
        let at = id % SLAB * size_of::<u16>();
        (SLAB + at / SEGMENT, at % SEGMENT)
    }

    fn next(&self, id: usize) -> u16 {
        let (row, at) = Self::place(id);
        u16::from_ne_bytes([self.0[row][at], self.0[row][at + 1]])
    }

    fn set_next(&mut self, id: usize, next: u16) {
        let (row, at) = Self::place(id);
        self.0[row][at..at + 2].copy_from_slice(&next.to_ne_bytes());
    }
}

/// The segments of one partition: at most 256 open chunks of at most 128 segments, so ids of 16 bits suffice.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    slabs: Vec<Option<Slab>>,
    /// Which segments of a slab are free; of one that is not there, all.
    free: Vec<u64>,
    /// No slab before this one has a free segment.
    lowest: usize,
    /// The pieces beyond [`CHAINED`] of the chain that begins with this segment.
    rest: HashMap<u16, Vec<u8>>,
}

/// The pieces of one open chunk of histograms.
pub(crate) struct InSegments<'a> {
    pub(crate) segments: &'a mut Segments,
    pub(crate) chain: &'a mut Chain,
    /// How many there are.
    pub(crate) pieces: usize,
}

impl Pieces for InSegments<'_> {
    #[inline]
    fn push(&mut self, piece: [u8; PIECE]) {
        if self.pieces < CHAINED {
            self.segments.push(self.chain, self.pieces, piece);
        } else {
            self.segments.rest.entry(self.chain.first).or_default().extend_from_slice(&piece);
        }
        self.pieces += 1;
    }

    fn runs(&self) -> impl Iterator<Item = &[u8]> {
        self.segments.runs(*self.chain, self.pieces)
    }

    fn clear(&mut self) {
        self.segments.release(self.chain);
        self.pieces = 0;
    }
}

/// First and last segment of a chain; meaningful while the chunk has a full piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chain {
    first: u16,
    last: u16,
}

impl Chain {
    pub(crate) const EMPTY: Self = Self { first: NONE, last: NONE };
}

impl Segments {
    /// Appends piece number `at` (from 0) of a chunk to its chain.
    #[inline]
    pub(crate) fn push(&mut self, chain: &mut Chain, at: usize, piece: [u8; PIECE]) {
        if at.is_multiple_of(PIECES) {
            self.extend(chain);
        }
        let last = usize::from(chain.last);
        let offset = at % PIECES * PIECE;
        if let Some(slab) = &mut self.slabs[last / SLAB] {
            slab.segment_mut(last)[offset..offset + PIECE].copy_from_slice(&piece);
        }
    }

    fn extend(&mut self, chain: &mut Chain) {
        let id = self.allocate();
        if chain.first == NONE {
            chain.first = id;
        } else {
            let last = usize::from(chain.last);
            if let Some(slab) = &mut self.slabs[last / SLAB] {
                slab.set_next(last, id);
            }
        }
        chain.last = id;
    }

    fn allocate(&mut self) -> u16 {
        while self.free.get(self.lowest) == Some(&0) {
            self.lowest += 1;
        }
        let at = self.lowest;
        if at == self.free.len() {
            assert!((at + 1) * SLAB <= usize::from(NONE), "a partition's open chunks exceed 2 MiB");
            if at == self.free.capacity() {
                self.free.reserve_exact(at / 4 + 8);
                self.slabs.reserve_exact(at / 4 + 8);
            }
            self.free.push(u64::MAX);
            self.slabs.push(None);
        }
        self.slabs[at].get_or_insert_with(Slab::new);
        let bit = self.free[at].trailing_zeros();
        self.free[at] &= self.free[at] - 1;
        (at * SLAB) as u16 + bit as u16
    }

    /// A chain's bytes in runs: `pieces` in all.
    pub(crate) fn runs(&self, chain: Chain, pieces: usize) -> impl Iterator<Item = &[u8]> {
        let rest = if pieces > CHAINED { self.rest.get(&chain.first) } else { None };
        let full = pieces.min(CHAINED) * PIECE;
        let mut id = usize::from(chain.first);
        let chained = (0..full).step_by(SEGMENT).map_while(move |start| {
            let slab = self.slabs.get(id / SLAB)?.as_ref()?;
            let segment = slab.segment(id);
            id = usize::from(slab.next(id));
            Some(&segment[..(full - start).min(SEGMENT)])
        });
        chained.chain(rest.map(Vec::as_slice))
    }

    /// Gives a chain's segments back.
    pub(crate) fn release(&mut self, chain: &mut Chain) {
        if !self.rest.is_empty() {
            self.rest.remove(&chain.first);
        }
        let mut id = chain.first;
        while id != NONE {
            let at = usize::from(id) / SLAB;
            let next = match &self.slabs[at] {
                Some(slab) if id != chain.last => slab.next(id.into()),
                _ => NONE,
            };
            self.free[at] |= 1 << (usize::from(id) % SLAB);
            self.lowest = self.lowest.min(at);
            if self.free[at] == u64::MAX {
                self.slabs[at] = None;
            }
            id = next;
        }
        *chain = Chain::EMPTY;
    }

    pub(crate) fn bytes(&self) -> usize {
        self.slabs.iter().flatten().count() * Slab::BYTES
            + self.slabs.capacity() * size_of::<Option<Slab>>()
            + self.free.capacity() * 8
            + self.rest.values().map(Vec::capacity).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use head_chunks::packed::{Misfit, PackedState};
    use head_chunks::xor::XorAppender;
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    #[test]
    fn histograms_of_any_size_are_held() {
        use head_chunks::histogram::{AppendState, Appended, HistogramAppender};
        use tsdb_model::{CounterResetHint, Histogram, Span};
        let mut rng = SmallRng::seed_from_u64(6);
        let mut segments = Segments::default();
        let mut open: Vec<(AppendState<i64>, Chain, HistogramAppender)> =
            (0..8).map(|_| (AppendState::new(false), Chain::EMPTY, HistogramAppender::new(false))).collect();
        let (mut long, mut recoded, mut cut, mut finished) = (0, 0, 0, 0);
        for step in 0..6_000 {
            let i = rng.random_range(0..open.len());
            let (state, chain, model) = &mut open[i];
            let buckets = if i < 2 { rng.random_range(1_500..1_504) } else { rng.random_range(1..9) };
            // Gauges have no resets: their chunk goes on.
            let hint = if i < 2 { CounterResetHint::Gauge } else { CounterResetHint::Unknown };
            let histogram = Histogram {
                counter_reset_hint: hint,
                count: step as u64,
                positive_spans: vec![Span { offset: 0, length: buckets }],
                positive_buckets: (0..buckets).map(|n| if n == 0 { step } else { rng.random_range(0..2) }).collect(),
                ..Histogram::default()
            };
            let pieces = state.full_pieces();
            let mut pieces = InSegments { segments: &mut segments, chain, pieces };
            let appended = state.append(&mut pieces, None, 0, step, &histogram).unwrap();
            assert_eq!(appended, model.append(None, 0, step, &histogram).unwrap());
            recoded += usize::from(appended == Appended::Recoded);
            cut += usize::from(matches!(appended, Appended::NewChunk { .. }));
            long += usize::from(state.full_pieces() > CHAINED);
            if rng.random_bool(0.02) {
                let mut bytes = Vec::new();
                state.assemble(segments.runs(*chain, state.full_pieces()), &mut bytes);
                assert_eq!(bytes, model.to_bytes());
                segments.release(chain);
                (*state, *model) = (AppendState::new(false), HistogramAppender::new(false));
                finished += 1;
            }
        }
        println!("{long} beyond the segments, {recoded} written anew, {cut} cut, {finished} finished");
        assert!(long > 100 && recoded > 100 && cut > 100 && finished > 50);
        open.iter_mut().for_each(|(_, chain, _)| segments.release(chain));
        assert!(segments.slabs.iter().all(Option::is_none) && segments.rest.is_empty());
    }

    #[test]
    fn chains_hold_what_a_buffer_would() {
        let mut rng = SmallRng::seed_from_u64(5);
        let mut segments = Segments::default();
        let mut open: Vec<(PackedState, Chain, XorAppender)> =
            (0..40).map(|_| (PackedState::new(), Chain::EMPTY, XorAppender::new())).collect();
        let mut finished = 0;
        for step in 0..60_000 {
            let i = rng.random_range(0..open.len());
            let (state, chain, model) = &mut open[i];
            let value = if rng.random_bool(0.3) { rng.random() } else { f64::from(rng.random_range(0..9)) };
            let mut at = state.full_pieces();
            let taken = state.append(step, value, &mut |piece| {
                segments.push(chain, at, piece);
                at += 1;
            });
            if taken == Err(Misfit::Form) {
                let mut pieces = Vec::new();
                let (mut old, count) = (std::mem::replace(chain, Chain::EMPTY), state.full_pieces());
                *state = state.repack(segments.runs(old, count), step, value, &mut |piece| pieces.push(piece));
                segments.release(&mut old);
                state.append(step, value, &mut |piece| pieces.push(piece)).unwrap();
                pieces.into_iter().enumerate().for_each(|(at, piece)| segments.push(chain, at, piece));
            }
            model.append(step, value).unwrap();
            if state.is_over_the_limit() || rng.random_bool(0.01) {
                let mut bytes = Vec::new();
                state.assemble(segments.runs(*chain, state.full_pieces()), &mut bytes);
                assert_eq!(bytes, model.to_bytes());
                segments.release(chain);
                *state = PackedState::new();
                model.clear();
                finished += 1;
            }
        }
        println!("{finished} chunks in {} slabs", segments.slabs.len());
        assert!(finished > 500 && segments.slabs.len() < 30);
        open.iter_mut().for_each(|(_, chain, _)| segments.release(chain));
        assert!(segments.slabs.iter().all(Option::is_none));
    }
}
