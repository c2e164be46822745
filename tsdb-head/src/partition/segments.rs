//! Where the bits of open XOR chunks go: 64-byte segments, chained.
//!
//! A chunk grows by one 16-byte piece at a time. Buffers that double would copy on growth and leave a third of the memory
//! unused; chained cache lines do neither, and a finished chunk gives its segments back to the next one.

use head_chunks::PIECE;
use head_chunks::xor::AppendState;

const SEGMENT: usize = 64;
const PIECES: usize = SEGMENT / PIECE;
/// Segments are allocated 32 at a time: 2 KiB, so that a partition never holds more than that unused.
const SLAB: usize = 32;
/// No segment.
const NONE: u16 = u16::MAX;

#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Segment([u8; SEGMENT]);

/// The segments of one partition: at most 256 open chunks of at most 17 segments, so ids of 16 bits suffice.
#[derive(Debug)]
pub(crate) struct Segments {
    #[expect(clippy::vec_box, reason = "a growing vector of slabs would copy them")]
    slabs: Vec<Box<[Segment; SLAB]>>,
    /// The segment behind each one, in its chain or in the free list.
    next: Vec<u16>,
    free: u16,
}

impl Default for Segments {
    fn default() -> Self {
        Self { slabs: Vec::new(), next: Vec::new(), free: NONE }
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
        self.slabs[last / SLAB][last % SLAB].0[offset..offset + PIECE].copy_from_slice(&piece);
    }

    fn extend(&mut self, chain: &mut Chain) {
        let id = self.allocate();
        self.next[usize::from(id)] = NONE;
        if chain.first == NONE {
            chain.first = id;
        } else {
            self.next[usize::from(chain.last)] = id;
        }
        chain.last = id;
    }

    fn allocate(&mut self) -> u16 {
        if self.free == NONE {
            let start = self.next.len();
            assert!(start + SLAB <= usize::from(NONE), "a partition's open chunks exceed 4 MiB");
            self.slabs.push(Box::new([Segment([0; SEGMENT]); SLAB]));
            self.next.reserve_exact(SLAB);
            self.next.extend((start..start + SLAB).map(|id| if id + 1 < start + SLAB { id as u16 + 1 } else { NONE }));
            self.free = start as u16;
        }
        let id = self.free;
        self.free = self.next[usize::from(id)];
        id
    }

    /// The chunk's bytes, appended to `out`.
    pub(crate) fn assemble(&self, chain: Chain, state: &AppendState, out: &mut Vec<u8>) {
        let full = state.full_pieces() * PIECE;
        let mut id = chain.first;
        let runs = (0..full).step_by(SEGMENT).map(|start| {
            let segment = &self.slabs[usize::from(id) / SLAB][usize::from(id) % SLAB].0;
            id = self.next[usize::from(id)];
            &segment[..(full - start).min(SEGMENT)]
        });
        state.assemble(runs, out);
    }

    /// Gives a chain's segments back.
    pub(crate) fn release(&mut self, chain: &mut Chain) {
        if chain.first != NONE {
            self.next[usize::from(chain.last)] = self.free;
            self.free = chain.first;
        }
        *chain = Chain::EMPTY;
    }

    pub(crate) fn bytes(&self) -> usize {
        self.slabs.len() * SLAB * SEGMENT + self.slabs.capacity() * 8 + self.next.capacity() * 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use head_chunks::xor::XorAppender;
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    #[test]
    fn chains_hold_what_a_buffer_would() {
        let mut rng = SmallRng::seed_from_u64(5);
        let mut segments = Segments::default();
        let mut open: Vec<(AppendState, Chain, XorAppender)> =
            (0..40).map(|_| (AppendState::new(), Chain::EMPTY, XorAppender::new())).collect();
        let mut finished = 0;
        for step in 0..60_000 {
            let i = rng.random_range(0..open.len());
            let (state, chain, model) = &mut open[i];
            let value = if rng.random_bool(0.3) { rng.random() } else { f64::from(rng.random_range(0..9)) };
            let mut at = state.full_pieces();
            state
                .append(step, value, &mut |piece| {
                    segments.push(chain, at, piece);
                    at += 1;
                })
                .unwrap();
            model.append(step, value).unwrap();
            if state.byte_len() > 1005 || rng.random_bool(0.01) {
                let mut bytes = Vec::new();
                segments.assemble(*chain, state, &mut bytes);
                assert_eq!(bytes, model.to_bytes());
                segments.release(chain);
                *state = AppendState::new();
                model.clear();
                finished += 1;
            }
        }
        println!("{finished} chunks in {} slabs", segments.slabs.len());
        assert!(finished > 500 && segments.slabs.len() < 30);
    }
}
