//! XOR chunks of eight packed ones at once: what is done to a sample alone, done to one of each in one step.
//!
//! Which bits a sample comes to is a matter of its own chunk, and no predictor knows it: alone, a chunk waits for the
//! branch on its window at every third sample. Here nothing is a branch, and what is asked of eight numbers is one
//! instruction where the machine has registers of 512 bits. There is no word of those in it: it is said of arrays of eight,
//! so that it is the same on every machine, and `as_wide_as_can_be` is where the compiler is told of such registers.

use crate::xor::AppendState;

mod encode;
mod take_out;

use encode::{State, encode};
use take_out::{Position, take_out};

/// Chunks side by side: numbers in a register of 512 bits.
pub(super) const LANES: usize = 8;
/// Samples of a chunk: more than the reference's rules give one.
pub(super) const STEPS: usize = 256;
/// Words of a chunk. A power of two, so that a place is among them by a mask.
const WORDS: usize = 256;

/// Bytes of a packed chunk. A power of two, too.
pub(super) const PACKED: usize = 1024;

/// What a lane behind its last sample takes while others go on: one that comes as it should and is the same.
const PADDING_BITS: u64 = 2;
/// The most bits of a chunk that have room for certain, when all other lanes are longer and when the last word is put.
pub(super) const MOST_BITS: u32 = (WORDS as u32 - 1) * 64 - STEPS as u32 * PADDING_BITS as u32;

/// A number of each lane.
type Row = [u64; LANES];

#[inline(always)]
fn row(of: impl Fn(usize) -> u64) -> Row {
    core::array::from_fn(of)
}

/// All bits or none.
#[inline(always)]
fn mask(b: bool) -> u64 {
    u64::from(b).wrapping_neg()
}

#[inline(always)]
fn choose(mask: u64, a: u64, b: u64) -> u64 {
    b ^ (a ^ b) & mask
}

#[inline(always)]
fn any(row: &Row) -> bool {
    row.iter().fold(0, |all, one| all | one) != 0
}

/// Samples of eight chunks, and what becomes of them.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Lanes {
    /// Each chunk's bytes before, and what a load at the last of them covers.
    packed: [[u8; PACKED + 8]; LANES],
    /// How many samples each has.
    samples: [u16; LANES],
    /// The exponents of the powers of ten.
    exponents: [u8; LANES],
    /// By sample, then by chunk.
    times: [[i64; LANES]; STEPS],
    /// Values times their lane's power of ten.
    integers: [[i64; LANES]; STEPS],
    /// Each chunk's bits, from the high end on.
    words: [[u64; WORDS]; LANES],
    /// How many bytes those are, if they are what they should be.
    lens: [Option<usize>; LANES],
    /// Those of one lane.
    chunk: [u8; WORDS * 8],
}

impl Lanes {
    pub(super) fn new() -> Box<Self> {
        Box::new(Self {
            packed: [[0; PACKED + 8]; LANES],
            samples: [0; LANES],
            exponents: [0; LANES],
            times: [[0; LANES]; STEPS],
            integers: [[0; LANES]; STEPS],
            words: [[0; WORDS]; LANES],
            lens: [None; LANES],
            chunk: [0; WORDS * 8],
        })
    }

    /// Puts a packed chunk of `samples` (two or more) into a lane. `bytes` are all of it, [`PACKED`] at most.
    pub(super) fn set(&mut self, lane: usize, samples: u16, exponent: u8, bytes: &[u8]) {
        (self.samples[lane], self.exponents[lane]) = (samples, exponent);
        self.packed[lane][..bytes.len()].copy_from_slice(bytes);
    }

    /// Makes the XOR chunks of the first `used` lanes.
    pub(super) fn make(&mut self, used: usize) {
        let steps = self.samples[..used].iter().copied().max().map_or(0, usize::from).min(STEPS);
        take_out_as_wide_as_can_be(self, steps, self.begin(used));
        (0..used).for_each(|lane| self.pad(lane, steps));
        let start = self.start(used);
        let end = encode_as_wide_as_can_be(self, steps, start);
        for (lane, words) in self.words.iter_mut().enumerate().take(used) {
            let padding = PADDING_BITS * (steps - usize::from(self.samples[lane])) as u64;
            let odd = end.odd[lane] != 0;
            self.lens[lane] = if odd { None } else { Some((end.len[lane] - padding).div_ceil(8) as usize) };
            words[end.len[lane] as usize / 64 % WORDS] = end.open[lane];
            words[0] |= u64::from(self.samples[lane]) << 48;
        }
    }

    /// The bytes of a chunk that was made, but not those of one that is not for this place: with times that are further apart
    /// than most.
    pub(super) fn chunk(&mut self, lane: usize) -> Option<&[u8]> {
        let len = self.lens[lane]?;
        for (to, word) in self.chunk[..len.next_multiple_of(8)].chunks_exact_mut(8).zip(&self.words[lane]) {
            to.copy_from_slice(&word.to_be_bytes());
        }
        Some(&self.chunk[..len])
    }

    /// Puts samples behind a lane's last one that come as they should and are the same.
    fn pad(&mut self, lane: usize, steps: usize) {
        let n = usize::from(self.samples[lane]);
        let (mut t, k) = (self.times[n - 1][lane], self.integers[n - 1][lane]);
        let delta = t.wrapping_sub(self.times[n - 2][lane]);
        for (times, integers) in self.times.iter_mut().zip(&mut self.integers).take(steps).skip(n) {
            t = t.wrapping_add(delta);
            (times[lane], integers[lane]) = (t, k);
        }
    }

    /// Where the chunks are behind their first two samples, which are not as the others.
    fn start(&mut self, used: usize) -> State {
        let none = [0; LANES];
        let mut start = State {
            t: none,
            delta: none,
            value: none,
            open: none,
            len: none,
            trailing: none,
            significant: none,
            outside: none,
            odd: none,
        };
        for lane in 0..used {
            let mut state = AppendState::new();
            let mut words = self.words[lane].iter_mut();
            for step in 0..2 {
                let v = super::value(self.integers[step][lane], self.exponents[lane]);
                let appended = state.append(self.times[step][lane], v, &mut |piece| {
                    // Not the other way round: a word would be taken for a chunk that is not there.
                    for (word, to) in piece.as_chunks().0.iter().zip(words.by_ref()) {
                        *to = u64::from_be_bytes(*word);
                    }
                });
                debug_assert!(appended.is_ok());
            }
            let (first, open, _) = state.bits.end();
            if let (Some(first), Some(to)) = (first, words.next()) {
                *to = first;
            }
            (start.t[lane], start.delta[lane], start.value[lane]) = (state.t as u64, state.delta, state.value);
            (start.open[lane], start.len[lane]) = (open, state.bits.len().into());
            [start.trailing[lane], start.significant[lane], start.outside[lane]] =
                state.bits.beside.window().as_masks();
        }
        start
    }
}

#[cfg(test)]
thread_local! {
    /// A test does as if the machine had no such registers.
    pub(super) static NARROW: core::cell::Cell<bool> = const { core::cell::Cell::new(false) };
}

/// Whether [`Lanes::make`] is what is faster here.
pub(super) fn are_wide() -> bool {
    #[cfg(test)]
    if NARROW.get() {
        return false;
    }
    #[cfg(target_arch = "x86_64")]
    let wide = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512cd")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl");
    #[cfg(not(target_arch = "x86_64"))]
    let wide = false;
    wide
}

/// Two versions of a loop, the second for registers of 512 bits, and one that chooses.
macro_rules! as_wide_as_can_be {
    ($name:ident, $wide:ident, $plain:ident($start:ident: $Start:ty) $(-> $End:ty)?) => {
        #[inline(never)]
        fn $name(lanes: &mut Lanes, steps: usize, $start: $Start) $(-> $End)? {
            #[cfg(target_arch = "x86_64")]
            if are_wide() {
                // SAFETY: the machine has what the function is compiled for.
                return unsafe { $wide(lanes, steps, $start) };
            }
            $plain(lanes, steps, $start)
        }

        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512cd,avx512dq,avx512bw,avx512vl")]
        fn $wide(lanes: &mut Lanes, steps: usize, $start: $Start) $(-> $End)? {
            $plain(lanes, steps, $start)
        }
    };
}

as_wide_as_can_be!(take_out_as_wide_as_can_be, take_out_wide, take_out(begin: Position));
as_wide_as_can_be!(encode_as_wide_as_can_be, encode_wide, encode(state: State) -> State);
