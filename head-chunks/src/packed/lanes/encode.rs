//! The XOR chunks' bits. Fields as in `xor.rs` and `window.rs`.

use super::super::decimal::POWERS;
use super::{LANES, Lanes, Row, WORDS, any, choose, mask, row};

/// Where the chunks are between two samples: an [`AppendState`](crate::xor::AppendState) each.
#[derive(Debug, Clone, Copy)]
pub(super) struct State {
    pub(super) t: Row,
    pub(super) delta: Row,
    pub(super) value: Row,
    /// The last word, left-aligned.
    pub(super) open: Row,
    /// Bits so far.
    pub(super) len: Row,
    /// Zeros behind the window, bits in it, and all others.
    pub(super) trailing: Row,
    pub(super) significant: Row,
    pub(super) outside: Row,
    /// Not 0 in a lane that has had a delta of deltas of more than 14 bits: what came of it is wrong.
    pub(super) odd: Row,
}

/// All samples from the third on.
#[inline(always)]
pub(super) fn encode(lanes: &mut Lanes, steps: usize, state: State) -> State {
    let Lanes { times, integers, exponents, words, .. } = lanes;
    let State { mut t, mut delta, mut value, mut open, mut len, .. } = state;
    let State { mut trailing, mut significant, mut outside, mut odd, .. } = state;
    let powers: [f64; LANES] = core::array::from_fn(|j| POWERS[usize::from(exponents[j]) % POWERS.len()]);
    let decimals = exponents.iter().any(|&exponent| exponent != 0);
    for (next_t, k) in times[..steps].iter().zip(&integers[..steps]).skip(2) {
        let next_t = row(|j| next_t[j] as u64);
        let mut next: [f64; LANES] = core::array::from_fn(|j| k[j] as f64);
        if decimals {
            next = core::array::from_fn(|j| next[j] / powers[j]);
        }
        let next = row(|j| next[j].to_bits());

        let next_delta = row(|j| next_t[j].wrapping_sub(t[j]));
        let dod = row(|j| next_delta[j].wrapping_sub(delta[j]));
        odd = row(|j| odd[j] | dod[j].wrapping_add(8_191) >> 14);
        let late = row(|j| mask(dod[j] != 0));
        let front = row(|j| (0b10 << 14 | dod[j] & 0x3fff) & late[j]);
        let front_len = row(|j| choose(late[j], 16, 1));

        let xor = row(|j| value[j] ^ next[j]);
        let changed = row(|j| mask(xor[j] != 0));
        let fresh = row(|j| mask(xor[j] & outside[j] != 0));
        // A bit that keeps them from more than 31.
        let leading = row(|j| u64::from((xor[j] | 1 << 32).leading_zeros()));
        let zeros = row(|j| 63_u64.wrapping_sub((xor[j] & xor[j].wrapping_neg()).leading_zeros().into()) & 63);
        let inside = row(|j| (u64::MAX >> leading[j]) & (u64::MAX << zeros[j]));
        trailing = row(|j| choose(fresh[j], zeros[j], trailing[j]));
        significant = row(|j| choose(fresh[j], (64 - leading[j]).wrapping_sub(zeros[j]), significant[j]));
        outside = row(|j| choose(fresh[j], !inside[j], outside[j]));

        let control = row(|j| choose(fresh[j], 0b11 << 11 | leading[j] << 6 | significant[j] & 63, 0b10 & changed[j]));
        let control_len = row(|j| 1 + (changed[j] & 1) + (fresh[j] & 11));
        let head = row(|j| front[j] << (control_len[j] & 63) | control[j]);
        let head_len = row(|j| front_len[j] + control_len[j]);
        let field = row(|j| xor[j] >> (trailing[j] & 63));
        let field_len = row(|j| significant[j] & changed[j]);
        let both_len = row(|j| head_len[j] + field_len[j]);
        if any(&row(|j| mask(both_len[j] > 64))) {
            (open, len) = put(words, &open, &len, &head, &head_len);
            (open, len) = put(words, &open, &len, &field, &field_len);
        } else {
            let both = row(|j| head[j] << (field_len[j] & 63) | field[j]);
            (open, len) = put(words, &open, &len, &both, &both_len);
        }
        (t, delta, value) = (next_t, next_delta, next);
    }
    State { t, delta, value, open, len, trailing, significant, outside, odd }
}

/// Appends the low `n` (up to 64) bits of `value`, whose others are zero, to each chunk. The open word is put down whether it
/// is full or not: what would be a branch else is a store that the next one repeats.
#[inline(always)]
fn put(words: &mut [[u64; WORDS]; LANES], open: &Row, len: &Row, value: &Row, n: &Row) -> (Row, Row) {
    let used = row(|j| len[j] & 63);
    // With nothing to append, nothing is shifted.
    let left = row(|j| value[j] << (n[j].wrapping_neg() & 63));
    let word = row(|j| open[j] | left[j] >> used[j]);
    let at = row(|j| len[j] / 64 % WORDS as u64);
    for j in 0..LANES {
        words[j][at[j] as usize % WORDS] = word[j];
    }
    let full = row(|j| mask(used[j] + n[j] >= 64));
    // Twice, because a shift by 64 has no meaning when the word was empty.
    let open = row(|j| choose(full[j], left[j] << (63 - used[j]) << 1, word[j]));
    (open, row(|j| len[j] + n[j]))
}
