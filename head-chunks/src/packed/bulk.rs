//! Appending many samples of one chunk at once: what each of them takes alone, asked of blocks of them.

use super::decimal::{POWERS, integer_or_any, known_integer};
use super::{LIMIT, Meta, PackedState, WIDTH_BITS, bit_len};
use crate::bits::PIECE;
use crate::window::Window;
use tsdb_model::varint::zigzag;

/// Samples in a block: what they need is held in registers, or nearly.
const BLOCK: usize = 8;

/// What the samples of a block come to.
struct Block {
    /// Zig-zag of each integer's difference to the one before, and all of them together.
    differences: [u64; BLOCK],
    any_difference: u64,
    /// Each value's XOR with the one before, all of them together, and how many are 0.
    xors: [u64; BLOCK],
    any_xor: u64,
    same: u32,
    /// Of the last sample.
    value: u64,
    k: i64,
}

impl PackedState {
    /// Appends samples from the front of `samples`, `of` says which, as long as nothing is special about them: a packed
    /// chunk has two samples or more, times go on as they did and stay before `until`, values fit the chunk's form, and
    /// its XOR chunk certainly [stays within the limit](Self::is_over_the_limit). Returns how many: the next one, if there is
    /// one, is for [`append`](Self::append). Full pieces go to `emit`.
    ///
    /// The bits may be others than `append` makes, not the samples nor the XOR chunk: a width is chosen for several samples.
    ///
    /// ```
    /// use head_chunks::packed::PackedState;
    /// let samples: Vec<(i64, f64)> = (0..60).map(|i| (i * 15_000, 7.0 * i as f64)).collect();
    /// let mut pieces: Vec<[u8; 16]> = Vec::new();
    /// let mut state = PackedState::new();
    /// let emit = &mut |piece| pieces.push(piece);
    /// assert_eq!(state.append_usual(&samples, |sample| *sample, i64::MAX, emit), 0, "the first two are special");
    /// for &(t, v) in &samples[..2] {
    ///     state.append(t, v, emit).expect("a form that takes it");
    /// }
    /// assert_eq!(state.append_usual(&samples[2..], |sample| *sample, i64::MAX, emit), 58);
    /// assert_eq!((state.num_samples(), state.last_t()), (60, 885_000));
    /// ```
    #[inline]
    pub fn append_usual<S>(
        &mut self,
        samples: &[S],
        of: impl Fn(&S) -> (i64, f64),
        until: i64,
        emit: &mut impl FnMut([u8; PIECE]),
    ) -> usize {
        let Some(exponent) = self.form().checked_sub(1) else { return 0 };
        if self.num_samples() < 2 {
            return 0;
        }
        let mut done = 0;
        let mut k = known_integer(f64::from_bits(self.state.value), exponent);
        for samples in samples.chunks(BLOCK) {
            let block = if exponent == 0 {
                self.look_at(samples, &of, until, k, |v| integer_or_any(v, 1.0))
            } else {
                let power = POWERS[usize::from(exponent)];
                self.look_at(samples, &of, until, k, |v| integer_or_any(v, power))
            };
            let Some(block) = block else { break };
            k = block.k;
            if !self.put_block(samples.len(), &block, emit) {
                break;
            }
            done += samples.len();
        }
        done
    }

    /// What a block of samples comes to; `None` if one of them is special.
    #[inline(always)]
    fn look_at<S>(
        &self,
        samples: &[S],
        of: &impl Fn(&S) -> (i64, f64),
        until: i64,
        mut k: i64,
        integer: impl Fn(f64) -> (i64, bool),
    ) -> Option<Block> {
        let (mut differences, mut any_difference) = ([0; BLOCK], 0);
        let (mut xors, mut any_xor, mut same) = ([0; BLOCK], 0, 0);
        let delta = i64::from(Meta(self.state.delta).delta());
        let (mut t, mut value) = (self.state.t, self.state.value);
        let (mut other_time, mut all_fit) = (0, true);
        for (i, sample) in samples.iter().enumerate().take(BLOCK) {
            let (at, v) = of(sample);
            other_time |= at.wrapping_sub(t) ^ delta;
            t = at;
            let (next, fits) = integer(v);
            all_fit &= fits;
            let difference = zigzag(next.wrapping_sub(k));
            (k, differences[i]) = (next, difference);
            any_difference |= difference;
            let xor = v.to_bits() ^ value;
            (value, xors[i]) = (v.to_bits(), xor);
            any_xor |= xor;
            same += u32::from(xor == 0);
        }
        // One behind the other in equal steps, none backwards, the last is the newest.
        (other_time == 0 && all_fit && t < until).then_some(Block {
            differences,
            any_difference,
            xors,
            any_xor,
            same,
            value,
            k,
        })
    }

    /// Appends `n` samples; `false`, and nothing was changed, if the XOR chunk would exceed the limit.
    #[inline(always)]
    fn put_block(&mut self, n: usize, block: &Block, emit: &mut impl FnMut([u8; PIECE])) -> bool {
        let (meta, count) = (Meta(self.state.delta), self.state.bits.beside);
        let mut window = count.window();
        let n_bits = n as u32;
        let xor_fields = if self.is_exact() {
            exact_len(&mut window, &block.xors[..n])
        } else {
            window.most_xor_fields_len(block.any_xor, n_bits, block.same)
        };
        // A bit each for the delta of deltas.
        let Some(mut meta) = meta.longer(n_bits + xor_fields).filter(|meta| meta.xor_bits() <= LIMIT) else {
            return false;
        };
        let width = meta.width();
        let (first, rest) = (block.differences[0], &block.differences[1..n]);
        let (mut word, mut len, mut field) = (first, 1 + width, 1 + width);
        if !meta.is_wide_enough(block.any_difference) {
            let need = bit_len(block.any_difference);
            meta = meta.with_width(need);
            word |= (0b10 << WIDTH_BITS | u64::from(need)) << need;
            (len, field) = (2 + WIDTH_BITS + need, 1 + need);
        }
        for difference in rest {
            if len + field > u64::BITS {
                self.state.bits.put(word, len, emit);
                (word, len) = (0, 0);
            }
            word = word << field | difference;
            len += field;
        }
        self.state.bits.put(word, len, emit);
        // Within 48 bits and some: the first time has so many, and there are few samples.
        let t = self.state.t + n as i64 * i64::from(meta.delta());
        self.remember(t, meta, f64::from_bits(block.value), count.later(n as u16, window));
        true
    }
}

/// As one after the other: a window gives way to another one.
#[cold]
#[inline(never)]
fn exact_len(window: &mut Window, xors: &[u64]) -> u32 {
    xors.iter().map(|&xor| window.xor_field_len(xor)).sum()
}

#[cfg(test)]
mod tests {
    use super::super::tests::next;
    use super::*;
    use crate::packed::Misfit;
    use crate::xor::XorAppender;
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    /// One by one, as an owner does when a sample is special.
    fn append(state: &mut PackedState, pieces: &mut Vec<u8>, t: i64, v: f64) {
        while state.append(t, v, &mut |piece| pieces.extend_from_slice(&piece)) == Err(Misfit::Form) {
            let mut fresh = Vec::new();
            *state = state.repack([&pieces[..]], t, v, &mut |piece| fresh.extend_from_slice(&piece));
            *pieces = fresh;
        }
    }

    #[test]
    fn many_at_once_are_the_same_xor_chunk() {
        let seed = 12;
        let mut rng = SmallRng::seed_from_u64(seed);
        let (mut blocks, mut at_once, mut alone, mut limits, mut times) = (0, 0, 0, 0, 0);
        for _ in 0..4_000 {
            let (kind, odd) = (rng.random_range(0..7), rng.random_bool(0.5));
            let (mut t, mut v) =
                (rng.random_range(-(1_i64 << 40)..1 << 41), f64::from(rng.random_range(0..1_000_000_u32)));
            let samples: Vec<(i64, f64)> = (0..rng.random_range(1..260))
                .map(|_| {
                    t += if odd && rng.random_bool(0.02) { rng.random_range(1..40_000) } else { 15_000 };
                    let kind = if odd && rng.random_bool(0.02) { rng.random_range(0..7) } else { kind };
                    v = next(&mut rng, kind, v);
                    (t, v)
                })
                .collect();
            let (mut state, mut pieces, mut model) = (PackedState::new(), Vec::new(), XorAppender::new());
            let mut rest = &samples[..];
            while let Some(&(t, v)) = rest.first() {
                let (before, before_pieces) = (state, pieces.len());
                let until = if rng.random_bool(0.1) { t + rng.random_range(0..200_000) } else { i64::MAX };
                let some = &rest[..rest.len().min(rng.random_range(1..60))];
                let taken =
                    state.append_usual(some, |&sample| sample, until, &mut |piece| pieces.extend_from_slice(&piece));
                assert!(taken <= some.len() && some[..taken].iter().all(|&(t, _)| t < until));
                times += u32::from(taken > 0 && taken < some.len() && some[taken].0 >= until);
                blocks += taken.div_ceil(BLOCK);
                at_once += taken;
                if taken == 0 {
                    assert_eq!((state, pieces.len()), (before, before_pieces));
                    append(&mut state, &mut pieces, t, v);
                    alone += 1;
                }
                let taken = taken.max(1);
                rest[..taken].iter().for_each(|&(t, v)| model.append(t, v).unwrap());
                rest = &rest[taken..];
                assert_eq!(state.is_over_the_limit(), model.state().bit_len() > LIMIT, "seed {seed}");
                limits += u32::from(state.is_over_the_limit());
            }
            let mut got = Vec::new();
            state.assemble([&pieces[..]], &mut got);
            assert_eq!(got, model.to_bytes(), "seed {seed}, kind {kind}");
            assert_eq!((state.last_t(), state.last_value().to_bits()), (t, v.to_bits()));
            assert_eq!(usize::from(state.num_samples()), samples.len());
            assert_eq!(pieces.len(), state.full_pieces() * PIECE);
        }
        println!(
            "seed {seed}: {at_once} in {blocks} blocks, {alone} alone, {limits} over, {times} ended by their time"
        );
        assert!(at_once > 100_000 && blocks < at_once && alone > 50_000 && limits > 5_000 && times > 50);
    }
}
