//! Open XOR chunks in less memory than XOR takes.
//!
//! What a chunk's bytes are matters when it is full or read; until then its owner may hold it as it likes. Most values are
//! integers, or decimals with a few places: times 10ᵉ they are integers too, and neighbouring ones differ by little, where
//! XOR sees mantissas that have nothing in common. So a chunk is held as integers while every value of it *is* `k / 10ᵉ` to
//! the bit, and becomes XOR, in exactly the bits it would have had all along, when it is full, when it is read, or when a
//! value comes that does not fit.
//!
//! ```text
//! chunk    := sample 0, samples
//! sample 0 := t 48 bits, zig-zag k 55 bits
//! sample n := 0 difference                      delta of deltas 0; the zig-zag of k − kₙ₋₁ in the current width
//!           | 10 fresh                          delta of deltas 0
//!           | 11 dod (0 difference | 1 fresh)   dod as in XOR chunks; sample 1's delta is one to 0
//! fresh    := width 6 bits, difference          a width that fits better is the current one from here on
//! ```
//!
//! How long the XOR chunk is decides when it is full. Counting its bits takes as long as all the rest, since Gorilla's
//! window is replaced time and again. So of integers only a bound is counted, with the window that covers all differences
//! there were; if the bound comes to the limit, the chunk is gone through once and counted exactly from then on. Most
//! chunks are full before that.
//!
//! This is a form in memory only: nothing of it is ever written, and it may change with any version.

use tsdb_model::varint::{self, zigzag};

use crate::bits::{PIECE, SplitBits};
use crate::floats::Count;
use crate::window::Window;
use crate::xor::{AppendState, MAX_BYTES_BEFORE_APPEND, dod_field};

mod bulk;
mod decimal;
mod lanes;
mod together;
mod unpack;

use decimal::{POWERS, integer, known_integer, value};
pub use together::Assembler;
use unpack::{AT_ONCE, Unpack};

const TIME_BITS: u32 = 48;
const FIRST_BITS: u32 = 55;
const WIDTH_BITS: u32 = 6;
/// A width gives way to one that is so much narrower: the fresh one costs six bits and a control bit.
const SLACK: u32 = 8;

const LIMIT: u32 = MAX_BYTES_BEFORE_APPEND * 8;

/// The flags a new chunk begins with. Decimals are counted exactly from the start: their differences use all bits, and the
/// bound would soon come to the limit.
fn flags(exponent: u8) -> u8 {
    (exponent + 1) | if exponent > 0 { EXACT } else { 0 }
}

fn bit_len(k: u64) -> u32 {
    64 - k.leading_zeros()
}

/// Why [`PackedState::append`] did not take a sample. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfit {
    /// The chunk's form has to change: [`PackedState::repack`], and again.
    Form,
    /// No chunk counts more samples.
    Full,
}

/// The state of an open XOR chunk that is held in as few bytes as its values allow: an [`AppendState`] whose pieces mean
/// something to it alone.
///
/// ```
/// use head_chunks::packed::{Misfit, PackedState};
/// use head_chunks::xor::XorIter;
/// let mut pieces: Vec<[u8; 16]> = Vec::new();
/// let mut state = PackedState::new();
/// for i in 0..90 {
///     let (t, v) = (i * 15_000, 1.25 * i as f64);
///     // The second sample is the first with decimals: what was an integer is then held in hundredths.
///     if state.append(t, v, &mut |piece| pieces.push(piece)) == Err(Misfit::Form) {
///         let old = std::mem::take(&mut pieces);
///         state = state.repack(old.iter().map(|piece| &piece[..]), t, v, &mut |piece| pieces.push(piece));
///         state.append(t, v, &mut |piece| pieces.push(piece)).expect("a form that takes it");
///     }
/// }
/// let mut xor = Vec::new();
/// state.assemble(pieces.iter().map(|piece| &piece[..]), &mut xor);
/// assert!(state.byte_len() < xor.len());
/// assert_eq!(XorIter::new(&xor)?.nth(89).unwrap()?, (1_335_000, 111.25));
/// # Ok::<(), head_chunks::DecodeError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedState {
    /// As it says while the bits' flags are 0. Otherwise they are the exponent plus one and perhaps [`EXACT`], and `delta`
    /// is a [`Meta`].
    state: AppendState,
}

/// The XOR chunk's bits are counted, not bounded: the window is Gorilla's, not one that covers all differences.
const EXACT: u8 = 0x80;

/// What a packed chunk needs beside the last sample, in the place of XOR's delta: the delta in the low 32 bits, the width in
/// the eight above, and in the highest 16 how many bits the XOR chunk has, at most or exactly, which decides when it is full.
#[derive(Debug, Clone, Copy)]
struct Meta(u64);

impl Meta {
    #[inline(always)]
    fn delta(self) -> u32 {
        self.0 as u32
    }

    fn with_delta(self, delta: u32) -> Self {
        Self(self.0 >> 32 << 32 | u64::from(delta))
    }

    #[inline(always)]
    fn width(self) -> u32 {
        u32::from((self.0 >> 32) as u8)
    }

    fn with_width(self, width: u32) -> Self {
        Self(self.0 & !(0xff << 32) | u64::from(width) << 32)
    }

    /// Whether a difference goes in with the current width, and that is not too wide for it. What it needs is counted only
    /// when that matters.
    #[inline(always)]
    fn is_wide_enough(self, difference: u64) -> bool {
        let width = self.width();
        difference >> width == 0 && (width <= SLACK || difference >> (width - SLACK - 1) != 0)
    }

    #[inline(always)]
    fn xor_bits(self) -> u32 {
        (self.0 >> 48) as u32
    }

    /// With an XOR chunk that is so many bits longer, if they can be counted.
    #[inline(always)]
    fn longer(self, bits: u32) -> Option<Self> {
        self.0.checked_add(u64::from(bits) << 48).map(Self)
    }
}

impl Default for PackedState {
    fn default() -> Self {
        Self::new()
    }
}

impl PackedState {
    /// An empty chunk.
    #[must_use]
    pub const fn new() -> Self {
        Self { state: AppendState::new() }
    }

    /// An empty chunk whose [`last_t`](Self::last_t) is `t` until a sample comes: an owner may keep there where the chunk
    /// before it ended.
    #[must_use]
    pub const fn new_after(t: i64) -> Self {
        let mut new = Self::new();
        new.state.t = t;
        new
    }

    /// The exponent of a packed chunk plus one; 0 for XOR.
    #[inline(always)]
    fn form(&self) -> u8 {
        self.state.bits.flags() & !EXACT
    }

    #[inline(always)]
    fn is_exact(&self) -> bool {
        self.state.bits.flags() & EXACT != 0
    }

    /// What a packed chunk is with an XOR chunk that is longer by a sample whose time takes `time` bits and whose value differs
    /// by `xor`. `None` when the chunk has to take another form for that.
    #[inline(always)]
    fn longer(&self, meta: Meta, window: &mut Window, time: u32, xor: u64) -> Option<Meta> {
        if self.is_exact() {
            return meta.longer(time + window.xor_field_len(xor));
        }
        meta.longer(time + window.most_xor_field_len(xor)).filter(|meta| meta.xor_bits() <= LIMIT)
    }

    /// Appends a sample; full pieces go to `emit`, at most two. As [`AppendState::append`] stores it.
    ///
    /// # Errors
    /// [`Misfit`].
    #[inline(always)]
    pub fn append(&mut self, t: i64, v: f64, emit: &mut impl FnMut([u8; PIECE])) -> Result<(), Misfit> {
        let form = self.form();
        if form == 0 {
            if self.num_samples() == 0 && self.start(t, v, emit) {
                return Ok(());
            }
            return self.state.append(t, v, emit).map_err(|_| Misfit::Full);
        }
        let k = integer(v, form - 1).ok_or(Misfit::Form)?;
        let difference = zigzag(k - known_integer(f64::from_bits(self.state.value), form - 1));
        let (meta, count) = (Meta(self.state.delta), self.state.bits.beside);
        let delta = t.wrapping_sub(self.state.t);
        if delta != i64::from(meta.delta()) || !meta.is_wide_enough(difference) || count.samples() == 1 {
            return self.append_rarely(delta, v, difference, emit);
        }
        let mut window = count.window();
        let meta = self.longer(meta, &mut window, 1, v.to_bits() ^ self.state.value).ok_or(Misfit::Form)?;
        // Control bit and difference.
        self.state.bits.put(difference, 1 + meta.width(), emit);
        self.remember(t, meta, v, count.next(window));
        Ok(())
    }

    #[inline(always)]
    fn remember(&mut self, t: i64, meta: Meta, v: f64, count: Count) {
        (self.state.t, self.state.delta, self.state.value) = (t, meta.0, v.to_bits());
        self.state.bits.beside = count;
    }

    /// Appends a sample, `delta` behind the last one and its integer `difference` (zig-zag) away, that is not like the ones
    /// before.
    #[inline(never)]
    fn append_rarely(
        &mut self,
        delta: i64,
        v: f64,
        difference: u64,
        emit: &mut impl FnMut([u8; PIECE]),
    ) -> Result<(), Misfit> {
        let (meta, count) = (Meta(self.state.delta), self.state.bits.beside);
        let t = self.state.t.wrapping_add(delta);
        let delta = u32::try_from(delta).map_err(|_| Misfit::Form)?;
        let dod = i64::from(delta) - i64::from(meta.delta());
        let (dod_field, mut xor_time) = if dod == 0 {
            (None, 1)
        } else {
            let [prefix, field] = dod_field(dod);
            (Some([(0b11 << prefix.1 | prefix.0, prefix.1 + 2), field]), prefix.1 + field.1)
        };
        if count.samples() == 1 {
            xor_time = varint::uvarint_len(delta.into()) as u32 * 8;
        }
        let fresh = !meta.is_wide_enough(difference);
        let mut window = count.window();
        let xor = v.to_bits() ^ self.state.value;
        let mut meta = self.longer(meta, &mut window, xor_time, xor).ok_or(Misfit::Form)?.with_delta(delta);
        let (prefix, prefix_len) = match dod_field {
            None if fresh => (0b10, 2),
            None => (0, 1),
            Some([a, b]) => {
                self.state.bits.put_both(a, b, emit);
                (u64::from(fresh), 1)
            }
        };
        let (bits, n) = if fresh {
            let need = bit_len(difference);
            meta = meta.with_width(need);
            let head = prefix << WIDTH_BITS | u64::from(need);
            (head << need | difference, prefix_len + WIDTH_BITS + need)
        } else {
            // The prefix is one bit, and it is 0.
            (difference, prefix_len + meta.width())
        };
        self.state.bits.put(bits, n, emit);
        self.remember(t, meta, v, count.next(window));
        Ok(())
    }

    /// The first sample, if it can be packed.
    #[cold]
    #[inline(never)]
    fn start(&mut self, t: i64, v: f64, emit: &mut impl FnMut([u8; PIECE])) -> bool {
        let exponent = (0..POWERS.len() as u8).find(|&exponent| integer(v, exponent).is_some());
        exponent.is_some_and(|exponent| self.start_with(flags(exponent), t, v, emit))
    }

    /// `flags` are those of a packed chunk.
    fn start_with(&mut self, flags: u8, t: i64, v: f64, emit: &mut impl FnMut([u8; PIECE])) -> bool {
        let Some(k) = integer(v, (flags & !EXACT) - 1) else { return false };
        let shift = 64 - TIME_BITS;
        if t << shift >> shift != t {
            return false;
        }
        let mut bits = SplitBits::starting_with_zeros(0, Count::new(1, Window::NONE));
        bits.set_flags(flags);
        bits.put(t as u64 & u64::MAX >> shift, TIME_BITS, emit);
        bits.put(zigzag(k), FIRST_BITS, emit);
        let time_len = varint::uvarint_len(zigzag(t)) as u16;
        let meta = u64::from(16 + time_len * 8 + 64) << 48;
        self.state = AppendState { bits, t, delta: meta, value: v.to_bits() };
        true
    }

    /// The same samples in a form that takes (`t`, `v`) next, after [`Misfit::Form`]: with more decimals, or as XOR.
    /// `pieces` are this chunk's so far, `emit` gets those of the new form.
    #[must_use]
    pub fn repack<'a>(
        &self,
        pieces: impl IntoIterator<Item = &'a [u8]>,
        t: i64,
        v: f64,
        emit: &mut impl FnMut([u8; PIECE]),
    ) -> Self {
        let mut bytes = Vec::new();
        self.state.bits.assemble(pieces, &[], &mut bytes);
        let Some(exponent) = self.form().checked_sub(1) else { return *self };
        // What is bounded and fits is to be counted.
        let not_before = exponent + u8::from(self.is_exact());
        let finer = (not_before..POWERS.len() as u8).find(|&finer| integer(v, finer).is_some());
        // A time that no packed chunk takes is none for another packed chunk.
        if u32::try_from(t.wrapping_sub(self.state.t)).is_ok()
            && let Some(finer) = finer
            && let Some(packed) = self.with_flags(&bytes, exponent, (finer + 1) | EXACT, t, v, emit)
        {
            return packed;
        }
        let mut state = AppendState::new();
        for (t, k) in self.unpack(&bytes) {
            // It counted them before.
            let fits = state.append(t, value(k, exponent), emit).is_ok();
            debug_assert!(fits);
        }
        Self { state }
    }

    /// The chunk with other flags, if it then takes all of its samples and the next one.
    fn with_flags(
        &self,
        bytes: &[u8],
        exponent: u8,
        flags: u8,
        t: i64,
        v: f64,
        emit: &mut impl FnMut([u8; PIECE]),
    ) -> Option<Self> {
        // Tried without emitting: what was emitted cannot be taken back.
        let attempt = |emit: &mut dyn FnMut([u8; PIECE])| {
            let mut emit = |piece| emit(piece);
            let mut packed = Self::new();
            for (n, (t, k)) in self.unpack(bytes).enumerate() {
                let v = value(k, exponent);
                let fits = if n == 0 {
                    packed.start_with(flags, t, v, &mut emit)
                } else {
                    packed.append(t, v, &mut emit).is_ok()
                };
                if !fits {
                    return None;
                }
            }
            Some(packed)
        };
        let mut next = attempt(&mut |_| {})?;
        next.append(t, v, &mut |_| {}).ok()?;
        attempt(emit)
    }

    fn unpack<'a>(&self, bytes: &'a [u8]) -> Unpack<'a> {
        Unpack::new(bytes, self.num_samples())
    }

    /// Number of samples.
    #[must_use]
    #[inline]
    pub fn num_samples(&self) -> u16 {
        self.state.num_samples()
    }

    /// Time of the last sample; in an empty chunk what [`new_after`](Self::new_after) was given.
    #[must_use]
    #[inline]
    pub fn last_t(&self) -> i64 {
        self.state.t
    }

    /// The last sample's value; meaningless in an empty chunk.
    #[must_use]
    #[inline]
    pub fn last_value(&self) -> f64 {
        self.state.last_value()
    }

    /// Whether the XOR chunk has more than [`MAX_BYTES_BEFORE_APPEND`] bytes' bits.
    #[must_use]
    #[inline]
    pub fn is_over_the_limit(&self) -> bool {
        let bits = if self.form() == 0 { self.state.bit_len() } else { Meta(self.state.delta).xor_bits() };
        bits > LIMIT
    }

    /// How many pieces of 16 bytes were handed out since the chunk took its form.
    #[must_use]
    #[inline]
    pub fn full_pieces(&self) -> usize {
        self.state.bits.full_pieces()
    }

    /// Bytes it is held in, those of the pieces included.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.state.byte_len()
    }

    /// Appends the XOR chunk's exact bytes to `out`.
    pub fn assemble<'a>(&self, pieces: impl IntoIterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
        let Some(exponent) = self.form().checked_sub(1) else {
            self.state.assemble(pieces, out);
            return;
        };
        let mut bytes = Vec::new();
        self.gather(pieces, &mut bytes);
        self.assemble_packed(&bytes, exponent, out);
    }

    /// Appends the chunk's own bytes to `out`, those of the pieces included: what an [`Assembler`] takes.
    pub fn gather<'a>(&self, pieces: impl IntoIterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
        if self.form() == 0 {
            self.state.assemble(pieces, out);
        } else {
            self.state.bits.assemble(pieces, &[], out);
        }
    }

    fn assemble_packed(&self, bytes: &[u8], exponent: u8, out: &mut Vec<u8>) {
        let start = out.len();
        let mut state = AppendState::new();
        let mut unpack = self.unpack(bytes);
        let (mut times, mut values) = ([0; AT_ONCE], [0.0; AT_ONCE]);
        loop {
            let n = unpack.fill(&mut times, &mut values, exponent);
            if n == 0 {
                break;
            }
            let samples = times[..n].iter().copied().zip(values[..n].iter().copied());
            let fits = state.append_all(samples, out).is_ok();
            // It counted them before.
            debug_assert!(fits);
        }
        state.close(start, out);
    }
}

#[cfg(test)]
mod tests;
