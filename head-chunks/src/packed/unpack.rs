//! Taking the samples of a packed chunk out again: the decoder beside [`PackedState::append`](super::PackedState::append),
//! where the layout is.

use tsdb_model::varint::unzigzag;

use super::decimal::value;
use super::{FIRST_BITS, TIME_BITS, WIDTH_BITS};
use crate::bits::BitReader;
use crate::xor::read_dod;

/// Samples that are taken out before they are put in: each of the two loops has registers enough for itself, one for both
/// has not. As many as most chunks have.
pub(super) const AT_ONCE: usize = 128;

/// Times and integers of a packed chunk: bytes that [`PackedState`](super::PackedState) wrote, so nothing of them is doubted.
#[derive(Clone, Copy)]
pub(super) struct Unpack<'a> {
    pub(super) bits: BitReader<'a>,
    pub(super) left: u16,
    pub(super) first: bool,
    pub(super) t: i64,
    pub(super) delta: i64,
    pub(super) k: i64,
    pub(super) width: u32,
}

impl<'a> Unpack<'a> {
    /// The samples in `bytes`, all there are.
    pub(super) fn new(bytes: &'a [u8], samples: u16) -> Self {
        Self { bits: BitReader::new(bytes, 0), left: samples, first: true, t: 0, delta: 0, k: 0, width: 0 }
    }

    /// Takes out the next samples. Returns how many: fewer than there is room for only when they end.
    #[inline(never)]
    pub(super) fn fill(&mut self, times: &mut [i64; AT_ONCE], values: &mut [f64; AT_ONCE], exponent: u8) -> usize {
        let mut integers = [0; AT_ONCE];
        let mut unpack = *self;
        let mut n = 0;
        for (time, integer) in times.iter_mut().zip(&mut integers) {
            let Some((t, k)) = unpack.next() else { break };
            (*time, *integer) = (t, k);
            n += 1;
        }
        *self = unpack;
        for (to, &k) in values.iter_mut().zip(&integers[..n]) {
            *to = value(k, exponent);
        }
        n
    }

    /// A difference behind `used` bits of `word`, which a peek gave.
    #[inline(always)]
    fn difference(&mut self, word: u64, used: u32) {
        self.bits.consume(used);
        if self.width == 0 {
            return;
        }
        let bits = if used + self.width <= crate::bits::PEEK_BITS {
            self.bits.consume(self.width);
            (word << used) >> (64 - self.width)
        } else {
            self.bits.read(self.width)
        };
        self.k = self.k.wrapping_add(unzigzag(bits));
    }

    #[inline(always)]
    fn fresh(&mut self, word: u64, used: u32) {
        self.width = (word << used >> (64 - WIDTH_BITS)) as u32;
        self.difference(word, used + WIDTH_BITS);
    }
}

impl Iterator for Unpack<'_> {
    type Item = (i64, i64);

    #[inline(always)]
    fn next(&mut self) -> Option<(i64, i64)> {
        self.left = self.left.checked_sub(1)?;
        if self.first {
            self.first = false;
            let shift = 64 - TIME_BITS;
            self.t = (self.bits.read(TIME_BITS) << shift) as i64 >> shift;
            self.k = unzigzag(self.bits.read(FIRST_BITS));
            return Some((self.t, self.k));
        }
        let word = self.bits.peek();
        match word >> 62 {
            0b00 | 0b01 => self.difference(word, 1),
            0b10 => self.fresh(word, 2),
            _ => {
                self.bits.consume(2);
                self.delta = self.delta.wrapping_add(read_dod(&mut self.bits));
                let word = self.bits.peek();
                if word >> 63 == 0 { self.difference(word, 1) } else { self.fresh(word, 1) }
            }
        }
        self.t = self.t.wrapping_add(self.delta);
        Some((self.t, self.k))
    }
}
