//! The samples of packed chunks: what [`Unpack`] does alone. Layout in `packed.rs`.

use super::super::unpack::Unpack;
use super::{LANES, Lanes, PACKED, Row, any, choose, mask, row};
use crate::bits::{BitReader, PEEK_BITS};

/// Control bits and a width.
const FRESH_BITS: u64 = 8;

/// Where the chunks are between two samples: an [`Unpack`] each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    t: Row,
    delta: Row,
    k: Row,
    width: Row,
    /// Bits taken.
    at: Row,
}

impl Lanes {
    /// Where the chunks are behind their first sample.
    pub(super) fn begin(&self, used: usize) -> Position {
        let none = [0; LANES];
        let mut begin = Position { t: none, delta: none, k: none, width: none, at: none };
        for lane in 0..used {
            let mut alone = Unpack::new(&self.packed[lane], self.samples[lane]);
            if alone.next().is_some() {
                begin.set(lane, &alone);
            }
        }
        begin
    }
}

impl Position {
    fn set(&mut self, lane: usize, alone: &Unpack<'_>) {
        (self.t[lane], self.delta[lane], self.k[lane]) = (alone.t as u64, alone.delta as u64, alone.k as u64);
        (self.width[lane], self.at[lane]) = (alone.width.into(), alone.bits.pos() as u64);
    }

    /// Takes one sample more, alone, where `which` is not 0. By value, so that all others can stay in registers.
    #[cold]
    #[inline(never)]
    fn alone(mut self, packed: &[[u8; PACKED + 8]; LANES], which: Row) -> Self {
        for lane in (0..LANES).filter(|&lane| which[lane] != 0) {
            let mut alone = Unpack {
                bits: BitReader::new(&packed[lane], self.at[lane] as usize),
                left: 1,
                first: false,
                t: self.t[lane] as i64,
                delta: self.delta[lane] as i64,
                k: self.k[lane] as i64,
                width: self.width[lane] as u32,
            };
            if alone.next().is_some() {
                self.set(lane, &alone);
            }
        }
        self
    }
}

/// Takes out all samples of all lanes, `steps` at most; what is behind a lane's last one means nothing.
#[inline(always)]
pub(super) fn take_out(lanes: &mut Lanes, steps: usize, begin: Position) {
    let Lanes { times, integers, packed, samples, .. } = lanes;
    let Position { mut t, mut delta, mut k, mut width, mut at } = begin;
    let samples = row(|j| samples[j].into());
    // The next bits of each lane, and how many of them are valid: it takes long to fetch them, and often they are enough for
    // several samples.
    let (mut word, mut valid) = ([0; LANES], [0; LANES]);
    for (n, (times, integers)) in (1..).zip(times[..steps].iter_mut().zip(&mut integers[..steps])) {
        *times = core::array::from_fn(|j| t[j] as i64);
        *integers = core::array::from_fn(|j| k[j] as i64);

        if any(&row(|j| mask(valid[j] < FRESH_BITS))) {
            (word, valid) = (peek(packed, &at), [PEEK_BITS.into(); LANES]);
        }
        // With a delta of deltas: left as they are for now.
        let late = row(|j| mask((word[j] >= 0b11 << 62) & (n < samples[j])));
        let before = Position { t, delta, k, width, at };
        let fresh = row(|j| mask(word[j] >> 62 == 0b10));
        let control = row(|j| choose(fresh[j], FRESH_BITS, 1));
        width = row(|j| choose(fresh[j], word[j] >> 56 & 63, width[j]));
        (word, valid) = (row(|j| word[j] << control[j]), row(|j| valid[j] - control[j]));
        at = row(|j| at[j] + control[j]);
        if any(&row(|j| mask(valid[j] < width[j]))) {
            (word, valid) = (peek(packed, &at), [PEEK_BITS.into(); LANES]);
        }
        // In two steps, because nothing may be of no bits.
        let bits = row(|j| word[j] >> 1 >> (63 - width[j]));
        k = row(|j| k[j].wrapping_add(bits[j] >> 1 ^ (bits[j] & 1).wrapping_neg()));
        // What is behind a lane's end may say of itself that it is longer than it can be.
        (word, valid) = (row(|j| word[j] << width[j]), row(|j| valid[j].wrapping_sub(width[j])));
        at = row(|j| at[j] + width[j]);
        t = row(|j| t[j].wrapping_add(delta[j]));
        if any(&late) {
            let alone = before.alone(packed, late);
            t = row(|j| choose(late[j], alone.t[j], t[j]));
            delta = alone.delta;
            k = row(|j| choose(late[j], alone.k[j], k[j]));
            width = row(|j| choose(late[j], alone.width[j], width[j]));
            at = row(|j| choose(late[j], alone.at[j], at[j]));
            valid = row(|j| valid[j] & !late[j]);
        }
    }
}

/// The next bits of each lane, at least [`PEEK_BITS`] of them.
#[inline(always)]
fn peek(packed: &[[u8; PACKED + 8]; LANES], at: &Row) -> Row {
    let word = row(|j| {
        let from = at[j] as usize / 8 % PACKED;
        packed[j][from..from + 8].try_into().map_or(0, u64::from_le_bytes)
    });
    row(|j| word[j].swap_bytes() << (at[j] & 7))
}
