//! XOR2 chunks (encoding 4): floats with one control prefix for time and value, and optional start timestamps.
//!
//! ```text
//! chunk    := count u16 BE, start-timestamp header u8, then a bit stream (most significant bit first, zero-padded)
//! sample 0 := t zig-zag varint (whole bytes), value f64 in 64 bits [, t − st zig-zag varint in eight-bit groups]
//! sample 1 := t − t₀ uvarint (whole bytes), changed value [, start]
//! sample n := 0                      delta of deltas 0, the baseline's value
//!           | 10     known value     delta of deltas 0, another value
//!           | 110    13 bits, value  −4,096 … 4,095
//!           | 1110   20 bits, value  −524,288 … 524,287
//!           | 11110  64 bits, value
//!           | 11111                  delta of deltas 0, stale
//!             [, start]
//! value    := 0                      the baseline's
//!           | 10     significant bits of the XOR with the baseline, in the last window
//!           | 110    leading zeros (5 bits), number of significant bits (6 bits, 0 means 64), those bits
//!           | 111                    stale
//! known value := 0 significant bits | 1 leading zeros, number, bits
//! ```
//!
//! Header and start are those of all encodings with start timestamps: see `st.rs`.
//!
//! The baseline is the last value that was not stale (0 before there was one). Two's complement here is plain: the
//! pattern `100…0` is the negative end of the range, unlike in XOR chunks; start timestamps are varbit
//! fields, where it is positive.

use tsdb_model::staleness::STALE_NAN_BITS;
use tsdb_model::varint;

use crate::bits::{BitReader, MAX_VARINT_BITS, PIECE, SplitBits};
use crate::error::{ChunkFull, DecodeError, DecodeErrorKind};
use crate::st::{self, FIRST_KNOWN, StReader};
use crate::window::{Prefix, WINDOW_BITS, Window};

/// Bytes before the bit stream: the sample count and the start-timestamp header.
const HEADER: usize = 3;

/// The state of an open XOR2 chunk: as [`crate::xor::AppendState`], with start timestamps.
///
/// ```
/// use head_chunks::xor2::{AppendState, Xor2Iter};
/// let mut pieces = Vec::new();
/// let mut state = AppendState::new();
/// for i in 0..100 {
///     state.append(500, i * 15_000, 7.5 * i as f64, &mut |piece| pieces.push(piece))?;
/// }
/// let mut bytes = Vec::new();
/// state.assemble(pieces.iter().map(|piece| &piece[..]), &mut bytes);
/// assert_eq!(bytes.len(), state.byte_len());
/// assert_eq!(Xor2Iter::new(&bytes)?.nth(99).unwrap()?, (1_485_000, 742.5, 500));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendState {
    /// Its flags are the start-timestamp header.
    bits: SplitBits<Count>,
    t: i64,
    delta: u64,
    /// Bits of the last value that was not stale.
    baseline: u64,
    /// See [`st::field`].
    start: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Count {
    samples: u16,
    window: Window,
}

// One cache line has room for it and two segment ids.
const _: () = assert!(size_of::<AppendState>() == 56 && align_of::<AppendState>() == 8);

impl Default for AppendState {
    fn default() -> Self {
        Self::new()
    }
}

impl AppendState {
    /// An empty chunk.
    #[must_use]
    pub const fn new() -> Self {
        let beside = Count { samples: 0, window: Window::NONE };
        let bits = SplitBits::starting_with_zeros(HEADER as u32 * 8, beside);
        Self { bits, t: 0, delta: 0, baseline: 0, start: 0 }
    }

    /// Continues an existing chunk, see [`crate::xor::AppendState::resume`].
    ///
    /// # Errors
    /// When the bytes are not a sound XOR2 chunk.
    pub fn resume(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut iter = Xor2Iter::new(bytes)?;
        if iter.total == 0 {
            return Ok(Self::new());
        }
        for sample in iter.by_ref() {
            sample?;
        }
        let beside = Count { samples: iter.total, window: iter.window };
        let mut bits = SplitBits::resume(bytes, iter.bits.pos() as u32, HEADER as u32 * 8, beside);
        let (header, start) = iter.st.resume(iter.total);
        bits.set_flags(header);
        Ok(Self { bits, t: iter.t, delta: iter.delta, baseline: iter.baseline, start })
    }

    /// Appends a sample: start timestamp `st` and time `t` in milliseconds since the epoch (`st` 0 means none), any value.
    /// Full pieces go to `emit`, at most two a sample.
    ///
    /// Nothing is compared: any `st` and `t` are stored exactly.
    ///
    /// # Errors
    /// [`ChunkFull`] at 65,535 samples; nothing was changed.
    #[inline]
    pub fn append(&mut self, st: i64, t: i64, value: f64, emit: &mut impl FnMut([u8; PIECE])) -> Result<(), ChunkFull> {
        let value = value.to_bits();
        let delta = t.wrapping_sub(self.t) as u64;
        // 65,535, 0 and 1 in one comparison: the rare ones.
        if self.bits.beside.samples.wrapping_add(1) < 3 {
            return self.append_cold(st, t, value, emit);
        }
        let dod = delta.wrapping_sub(self.delta) as i64;
        let (bits, n) = if dod == 0 {
            self.known_value(value)
        } else {
            let (bits, n) = dod_bits(dod);
            self.bits.put(bits, n, emit);
            self.value(value)
        };
        match st::field(self.bits.flags(), &mut self.start, self.bits.beside.samples, self.t, st) {
            None => self.bits.put(bits, n, emit),
            Some(start) => {
                self.bits.set_flags(start.header);
                if start.len <= 32 {
                    // One put for both: a value takes at most 78 bits here.
                    self.bits.put(bits << start.len | start.bits, n + start.len, emit);
                } else {
                    self.bits.put(bits, n, emit);
                    self.bits.put(start.bits, start.len, emit);
                }
            }
        }
        self.remember(t, delta, value);
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn append_cold(
        &mut self,
        st: i64,
        t: i64,
        value: u64,
        emit: &mut impl FnMut([u8; PIECE]),
    ) -> Result<(), ChunkFull> {
        match self.bits.beside.samples {
            0 => {
                self.bits.put_uvarint(varint::zigzag(t), emit);
                self.bits.put(value.into(), 64, emit);
                if st != 0 {
                    self.bits.put_uvarint(varint::zigzag(t.wrapping_sub(st)), emit);
                    self.bits.set_flags(FIRST_KNOWN);
                }
                self.start = st;
                self.remember(t, 0, value);
            }
            1 => {
                let delta = t.wrapping_sub(self.t) as u64;
                self.bits.put_uvarint(delta, emit);
                let (bits, n) = self.value(value);
                self.bits.put(bits, n, emit);
                if let Some(start) = st::field(self.bits.flags(), &mut self.start, 1, self.t, st) {
                    self.bits.set_flags(start.header);
                    self.bits.put(start.bits, start.len, emit);
                }
                self.remember(t, delta, value);
            }
            capacity => return Err(ChunkFull { capacity }),
        }
        Ok(())
    }

    #[inline(always)]
    fn remember(&mut self, t: i64, delta: u64, value: u64) {
        (self.t, self.delta) = (t, delta);
        if value != STALE_NAN_BITS {
            self.baseline = value;
        }
        self.bits.beside.samples += 1;
    }

    /// The control prefix and value of a sample whose delta of deltas is 0.
    #[inline(always)]
    fn known_value(&mut self, value: u64) -> (u128, u32) {
        match value ^ self.baseline {
            0 => (0, 1),
            _ if value == STALE_NAN_BITS => (0b11111, 5),
            xor => self.bits.beside.window.field(xor, Prefix(0b100, 3), Prefix(0b101, 3)),
        }
    }

    /// The value behind a delta of deltas that is not 0.
    #[inline(always)]
    fn value(&mut self, value: u64) -> (u128, u32) {
        match value ^ self.baseline {
            0 => (0, 1),
            _ if value == STALE_NAN_BITS => (0b111, 3),
            xor => self.bits.beside.window.field(xor, Prefix(0b10, 2), Prefix(0b110, 3)),
        }
    }

    /// Number of samples.
    #[must_use]
    pub fn num_samples(&self) -> u16 {
        self.bits.beside.samples
    }

    /// Time of the last sample; meaningless in an empty chunk.
    #[must_use]
    pub fn last_t(&self) -> i64 {
        self.t
    }

    /// The last value that was not stale; 0 when there was none.
    #[must_use]
    pub fn baseline(&self) -> f64 {
        f64::from_bits(self.baseline)
    }

    /// Length of the bit stream in bits, the 24 of the header included.
    #[must_use]
    pub fn bit_len(&self) -> u32 {
        self.bits.len()
    }

    /// Length of the chunk in bytes, header included.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.bits.byte_len()
    }

    /// How many pieces of 16 bytes were handed out since the chunk's start.
    #[must_use]
    pub fn full_pieces(&self) -> usize {
        self.bits.full_pieces()
    }

    /// The bytes behind the pieces: the first `.1` of `.0`, fewer than 16. The header's three bytes are 0.
    #[must_use]
    pub fn tail(&self) -> ([u8; PIECE], usize) {
        self.bits.tail()
    }

    /// Appends the chunk's exact bytes to `out`: `pieces` (contiguous runs of the pieces, in any partition), the tail, and
    /// the header at the front.
    pub fn assemble<'a>(&self, pieces: impl IntoIterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
        let [high, low] = self.num_samples().to_be_bytes();
        self.bits.assemble(pieces, &[high, low, self.bits.flags()], out);
    }
}

/// The control bits and the value of a delta of deltas that is not 0.
#[inline(always)]
fn dod_bits(dod: i64) -> (u128, u32) {
    let fits = |n: u32| -(1 << (n - 1)) <= dod && dod < 1 << (n - 1);
    let low = |n: u32| u128::from(dod as u64 & ((1 << n) - 1));
    if fits(13) {
        (0b110 << 13 | low(13), 16)
    } else if fits(20) {
        (0b1110 << 20 | low(20), 24)
    } else {
        (0b11110 << 64 | u128::from(dod as u64), 69)
    }
}

/// An appender that keeps the chunk's bytes.
#[derive(Debug, Clone, Default)]
pub struct Xor2Appender {
    state: AppendState,
    pieces: Vec<u8>,
}

impl Xor2Appender {
    /// An empty chunk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Continues an existing chunk, see [`AppendState::resume`].
    ///
    /// # Errors
    /// When the bytes are not a sound XOR2 chunk.
    pub fn resume(bytes: &[u8]) -> Result<Self, DecodeError> {
        let state = AppendState::resume(bytes)?;
        Ok(Self { pieces: bytes[..state.full_pieces() * PIECE].to_vec(), state })
    }

    /// Appends a sample, see [`AppendState::append`].
    ///
    /// # Errors
    /// [`ChunkFull`] at 65,535 samples; nothing was changed.
    #[inline]
    pub fn append(&mut self, st: i64, t: i64, value: f64) -> Result<(), ChunkFull> {
        let pieces = &mut self.pieces;
        self.state.append(st, t, value, &mut |piece| pieces.extend_from_slice(&piece))
    }

    /// The state: last sample, number of samples, lengths.
    #[must_use]
    pub fn state(&self) -> &AppendState {
        &self.state
    }

    /// Starts a new chunk in the same allocation.
    pub fn clear(&mut self) {
        self.pieces.clear();
        self.state = AppendState::new();
    }

    /// The chunk's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write_to(&mut bytes);
        bytes
    }

    /// Appends the chunk's bytes to `out`.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        self.state.assemble([&self.pieces[..]], out);
    }
}

/// Reads an XOR2 chunk: yields `(t, value, st)`, and ends behind the first error.
#[derive(Debug, Clone)]
pub struct Xor2Iter<'a> {
    bits: BitReader<'a>,
    total: u16,
    read: u16,
    window: Window,
    t: i64,
    delta: u64,
    value: u64,
    baseline: u64,
    st: StReader,
}

impl<'a> Xor2Iter<'a> {
    /// Reads `bytes`, a whole chunk with its header. Bytes behind the last sample are ignored, as the reference does.
    ///
    /// # Errors
    /// When there are fewer than the three bytes of the header.
    pub fn new(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let Some(&[high, low, header]) = bytes.first_chunk() else {
            return Err(DecodeError::header(HEADER, bytes));
        };
        Ok(Self {
            bits: BitReader::new(bytes, HEADER * 8),
            total: u16::from_be_bytes([high, low]),
            read: 0,
            window: Window::FULL,
            t: 0,
            delta: 0,
            value: 0,
            baseline: 0,
            st: StReader::new(header),
        })
    }

    /// Samples not yet read, as the header promises.
    #[must_use]
    pub fn remaining(&self) -> u16 {
        self.total - self.read
    }

    /// Advances to the first sample at or after `t`, the current one included if it was read already; `None` when there is
    /// none. The sample is what [`Iterator::next`] would have returned.
    pub fn seek(&mut self, t: i64) -> Option<Result<(i64, f64, i64), DecodeError>> {
        if self.read > 0 && self.t >= t {
            return Some(Ok(self.sample()));
        }
        self.find(|sample| sample.as_ref().map_or(true, |&(at, ..)| at >= t))
    }

    /// Reads what is left into columns of times and values, without start timestamps. On an error they hold the samples
    /// before it.
    ///
    /// # Errors
    /// When the bytes are not a sound XOR2 chunk.
    pub fn columns(mut self, times: &mut Vec<i64>, values: &mut Vec<f64>) -> Result<(), DecodeError> {
        // A sample takes at least a bit: a header that lies cannot make us reserve more than the bytes could hold.
        let left = usize::from(self.remaining()).min(self.bits.remaining());
        times.reserve(left);
        values.reserve(left);
        while self.read != self.total {
            self.step()?;
            times.push(self.t);
            values.push(f64::from_bits(self.value));
        }
        Ok(())
    }

    #[inline(always)]
    fn sample(&self) -> (i64, f64, i64) {
        (self.t, f64::from_bits(self.value), self.st.st)
    }

    /// Decodes one sample into `self`; only while there is one.
    #[inline(always)]
    fn step(&mut self) -> Result<(), DecodeError> {
        if self.read >= 2 {
            self.step_joint()?;
        } else {
            // By value, so that nothing of the iterator has to live in memory because of the first two samples.
            *self = self.clone().start()?;
        }
        if self.bits.overrun() {
            return Err(DecodeError::truncated(self.bits, self.read, self.total));
        }
        self.read += 1;
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn start(mut self) -> Result<Self, DecodeError> {
        let overflow = |this: &Self| {
            let at = this.bits.pos() - MAX_VARINT_BITS;
            DecodeError::at(this.bits, this.read, this.total, at, DecodeErrorKind::VarintOverflow)
        };
        if self.read == 0 {
            self.t = self.bits.varint().ok_or_else(|| overflow(&self))?;
            self.value = self.bits.read(64);
            if self.value != STALE_NAN_BITS {
                self.baseline = self.value;
            }
            self.st.read_first(&mut self.bits, self.t).ok_or_else(|| overflow(&self))?;
        } else {
            let before = self.t;
            self.delta = self.bits.uvarint().ok_or_else(|| overflow(&self))?;
            self.t = self.t.wrapping_add(self.delta as i64);
            self.step_value()?;
            self.st.read(&mut self.bits, self.read, before);
        }
        Ok(self)
    }

    /// A sample from the third on.
    #[inline(always)]
    fn step_joint(&mut self) -> Result<(), DecodeError> {
        let before = self.t;
        let word = self.bits.peek();
        // The two cases of nearly all samples first, each a branch of its own for the predictor.
        if word >> 63 == 0 {
            self.bits.consume(1);
            self.value = self.baseline;
            self.t = self.t.wrapping_add(self.delta as i64);
        } else if word >> 62 == 0b10 {
            self.t = self.t.wrapping_add(self.delta as i64);
            if word >> 61 == 0b100 {
                let xor = self.window.read_reused(word, 3, &mut self.bits);
                self.change(xor);
            } else {
                self.step_fresh(word, 3)?;
            }
        } else if word >> 59 == 0b11111 {
            self.bits.consume(5);
            self.value = STALE_NAN_BITS;
            self.t = self.t.wrapping_add(self.delta as i64);
        } else {
            let dod = if word >> 61 == 0b110 {
                self.bits.consume(16);
                (word << 3) as i64 >> 51
            } else if word >> 60 == 0b1110 {
                self.bits.consume(24);
                (word << 4) as i64 >> 44
            } else {
                self.bits.consume(5);
                self.bits.read(64) as i64
            };
            self.delta = self.delta.wrapping_add(dod as u64);
            self.t = self.t.wrapping_add(self.delta as i64);
            self.step_value()?;
        }
        self.st.read(&mut self.bits, self.read, before);
        Ok(())
    }

    /// A value that may be the baseline's, another, or stale.
    #[inline(always)]
    fn step_value(&mut self) -> Result<(), DecodeError> {
        let word = self.bits.peek();
        match word.leading_ones() {
            0 => {
                self.bits.consume(1);
                self.value = self.baseline;
            }
            1 => {
                let xor = self.window.read_reused(word, 2, &mut self.bits);
                self.change(xor);
            }
            2 => self.step_fresh(word, 3)?,
            _ => {
                self.bits.consume(3);
                self.value = STALE_NAN_BITS;
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn step_fresh(&mut self, word: u64, used: u32) -> Result<(), DecodeError> {
        match self.window.read_fresh(word, used, &mut self.bits) {
            Ok(xor) => {
                self.change(xor);
                Ok(())
            }
            Err(kind) => {
                let at = self.bits.pos() - WINDOW_BITS;
                Err(DecodeError::at(self.bits, self.read, self.total, at, kind))
            }
        }
    }

    #[inline(always)]
    fn change(&mut self, xor: u64) {
        self.baseline ^= xor;
        self.value = self.baseline;
    }
}

impl Iterator for Xor2Iter<'_> {
    type Item = Result<(i64, f64, i64), DecodeError>;

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        if self.read == self.total {
            return None;
        }
        match self.step() {
            Ok(()) => Some(Ok(self.sample())),
            Err(error) => {
                self.total = self.read;
                Some(Err(error))
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // An error ends the chunk early.
        (usize::from(self.remaining()).min(1), Some(self.remaining().into()))
    }
}

impl core::iter::FusedIterator for Xor2Iter<'_> {}

/// Reads a whole chunk into columns of times and values, appending to both.
///
/// # Errors
/// When the bytes are not a sound XOR2 chunk; the columns then hold the samples before the damage.
pub fn decode_columns(bytes: &[u8], times: &mut Vec<i64>, values: &mut Vec<f64>) -> Result<(), DecodeError> {
    Xor2Iter::new(bytes)?.columns(times, values)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALE: f64 = f64::from_bits(STALE_NAN_BITS);

    fn round_trip(samples: &[(i64, i64, f64)]) -> Vec<u8> {
        let mut appender = Xor2Appender::new();
        for &(st, t, v) in samples {
            appender.append(st, t, v).expect("there is room");
        }
        let bytes = appender.to_bytes();
        assert_eq!(bytes.len(), appender.state().byte_len());
        let read: Vec<_> = Xor2Iter::new(&bytes).expect("a header").collect::<Result<_, _>>().expect("sound");
        let read: Vec<_> = read.iter().map(|(t, v, st)| (*st, *t, v.to_bits())).collect();
        let wrote: Vec<_> = samples.iter().map(|(st, t, v)| (*st, *t, v.to_bits())).collect();
        assert_eq!(read, wrote);
        bytes
    }

    #[test]
    fn start_timestamps_that_begin_anywhere() {
        for first in 0..140 {
            let samples: Vec<_> =
                (0..150).map(|i| (if i < first { 0 } else { 1_000 * (i / 40) + 7 }, i * 15_000, i as f64)).collect();
            round_trip(&samples);
        }
    }

    #[test]
    fn stale_samples_leave_the_baseline() {
        let values = [STALE, 1.0, STALE, 1.0, 2.0, STALE, STALE, 2.0, STALE, 3.5];
        round_trip(&values.map(|v| (0, 0, v)));
        let jittered: Vec<_> = (0..).zip(values).map(|(i, v)| (0, i * i * 999, v)).collect();
        round_trip(&jittered);
    }

    #[test]
    fn every_width_of_a_delta_of_deltas_at_its_ends() {
        for dod in [i64::MIN, i64::MAX, -4096, -4097, 4095, 4096, -524_288, -524_289, 524_287, 524_288] {
            let t = 10_i64.wrapping_add(10_i64.wrapping_add(dod));
            round_trip(&[(0, 0, 1.0), (0, 10, 1.5), (3, t, 2.0), (4, t.wrapping_add(9), f64::NAN)]);
        }
    }

    #[test]
    fn resumes_where_it_left_off() {
        for st in [0, 1] {
            let samples: Vec<_> =
                (0..200).map(|i| (st * (i / 50) * 3, i * 15_000 + i % 7, (i * i) as f64 * 0.1)).collect();
            let whole = round_trip(&samples);
            for cut in 3..samples.len() {
                let mut appender = Xor2Appender::resume(&round_trip(&samples[..cut])).expect("sound");
                for &(st, t, v) in &samples[cut..] {
                    appender.append(st, t, v).expect("there is room");
                }
                assert_eq!(appender.to_bytes(), whole, "cut at {cut}");
            }
        }
    }

    #[test]
    fn every_truncation_is_an_error_with_its_sample() {
        let samples: Vec<_> = (0..50).map(|i| (i % 5, i * 15_000 + i % 3, i as f64 * 1.1)).collect();
        let bytes = round_trip(&samples);
        for len in 3..bytes.len() {
            let results: Vec<_> = Xor2Iter::new(&bytes[..len]).expect("a header").collect();
            let (last, sound) = results.split_last().expect("an error at least");
            assert!(sound.iter().all(Result::is_ok));
            let error = last.expect_err("an error");
            assert_eq!((error.sample as usize, error.bit), (sound.len(), len as u64 * 8), "{error}");
        }
    }
}
