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

mod bulk;
mod visit;

use tsdb_model::staleness::STALE_NAN_BITS;
use tsdb_model::varint;

use crate::bits::{BitReader, MAX_VARINT_BITS, PIECE, SplitBits};
use crate::error::{ChunkFull, DecodeError, DecodeErrorKind};
use crate::floats::{Count, FloatAppender, Floats, accessors, fill_columns};
use crate::st::{self, FIRST_KNOWN, LAST_CHANGE_ON, StReader};
use crate::window::{Prefix, ReadWindow, Window};

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
        let bits = SplitBits::starting_with_zeros(HEADER as u32 * 8, Count::ZERO);
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
        let samples = iter.total as u16;
        let beside = Count::new(samples, iter.window.into());
        let mut bits = SplitBits::resume(bytes, iter.bits.pos() as u32, HEADER as u32 * 8, beside);
        let (header, start) = iter.st.resume(samples);
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
        if self.num_samples().wrapping_add(1) < 3 {
            return self.append_cold(st, t, value, emit);
        }
        let dod = delta.wrapping_sub(self.delta) as i64;
        // Nearly all deltas of deltas go in with the value.
        let (front, prefixes) = match dod {
            0 => ((0, 0), BEHIND_NO_DOD),
            -4_096..=4_095 => ((0b110 << 13 | dod as u64 & 0x1fff, 16), BEHIND_DOD),
            dod => (self.put_long_dod(dod, emit), BEHIND_DOD),
        };
        let window = self.put_value(value, front, prefixes, emit);
        self.put_start(st, emit);
        self.remember(t, delta, value, window);
        Ok(())
    }

    /// Writes a delta of deltas of more than 13 bits; returns the empty front that it leaves to the value.
    #[cold]
    #[inline(never)]
    fn put_long_dod(&mut self, dod: i64, emit: &mut impl FnMut([u8; PIECE])) -> (u64, u32) {
        let (prefix, n) = match dod {
            -524_288..=524_287 => ((0b1110, 4), 20),
            _ => ((0b11110, 5), 64),
        };
        self.bits.put_both(prefix, (dod as u64 & u64::MAX >> (64 - n), n), emit);
        (0, 0)
    }

    /// A value behind `front`, with the prefixes that are in use there; returns the window from then on.
    #[inline(always)]
    fn put_value(
        &mut self,
        value: u64,
        front: (u64, u32),
        prefixes: Prefixes,
        emit: &mut impl FnMut([u8; PIECE]),
    ) -> Window {
        let mut window = self.bits.beside.window();
        let [a, b] = match value ^ self.baseline {
            0 => [front, (0, 1)],
            _ if value == STALE_NAN_BITS => [front, (prefixes.stale.0, prefixes.stale.1)],
            xor => window.field(xor, front, prefixes.reused, prefixes.fresh),
        };
        self.bits.put_both(a, b, emit);
        window
    }

    /// The start timestamp of a sample that is not the first.
    #[inline(always)]
    fn put_start(&mut self, st: i64, emit: &mut impl FnMut([u8; PIECE])) {
        let index = self.num_samples();
        if let Some(start) = st::field(self.bits.flags(), &mut self.start, index, self.t, st) {
            let [a, b] = start.field;
            self.bits.put_both(a, b, emit);
            self.bits.set_flags(start.header);
        }
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
        match self.num_samples() {
            0 => {
                self.bits.put_uvarint(varint::zigzag(t), emit);
                self.bits.put(value, 64, emit);
                if st != 0 {
                    self.bits.put_uvarint(varint::zigzag(t.wrapping_sub(st)), emit);
                    self.bits.set_flags(FIRST_KNOWN);
                }
                self.start = st;
                self.remember(t, 0, value, Window::NONE);
            }
            1 => {
                let delta = t.wrapping_sub(self.t) as u64;
                self.bits.put_uvarint(delta, emit);
                let window = self.put_value(value, (0, 0), BEHIND_DOD, emit);
                self.put_start(st, emit);
                self.remember(t, delta, value, window);
            }
            capacity => return Err(ChunkFull { capacity }),
        }
        Ok(())
    }

    #[inline(always)]
    fn remember(&mut self, t: i64, delta: u64, value: u64, window: Window) {
        (self.t, self.delta) = (t, delta);
        if value != STALE_NAN_BITS {
            self.baseline = value;
        }
        self.bits.beside = self.bits.beside.next(window);
    }

    /// The last value that was not stale; 0 when there was none.
    #[must_use]
    pub fn baseline(&self) -> f64 {
        f64::from_bits(self.baseline)
    }

    fn header(&self) -> [u8; HEADER] {
        let [high, low] = self.num_samples().to_be_bytes();
        [high, low, self.bits.flags()]
    }

    accessors!();
}

/// What tells the kinds of values apart that are not the baseline's.
#[derive(Clone, Copy)]
struct Prefixes {
    stale: Prefix,
    reused: Prefix,
    fresh: Prefix,
}

/// The prefix says too that the delta of deltas is 0.
const BEHIND_NO_DOD: Prefixes =
    Prefixes { stale: Prefix(0b11111, 5), reused: Prefix(0b100, 3), fresh: Prefix(0b101, 3) };
/// Behind a delta of deltas.
const BEHIND_DOD: Prefixes = Prefixes { stale: Prefix(0b111, 3), reused: Prefix(0b10, 2), fresh: Prefix(0b110, 3) };

impl Floats for AppendState {
    fn resume(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::resume(bytes)
    }

    fn full_pieces(&self) -> usize {
        self.full_pieces()
    }

    fn assemble<'a>(&self, pieces: impl IntoIterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
        self.assemble(pieces, out);
    }
}

/// An appender that keeps the chunk's bytes.
pub type Xor2Appender = FloatAppender<AppendState>;

impl Xor2Appender {
    /// Appends a sample, see [`AppendState::append`].
    ///
    /// # Errors
    /// [`ChunkFull`] at 65,535 samples; nothing was changed.
    #[inline]
    pub fn append(&mut self, st: i64, t: i64, value: f64) -> Result<(), ChunkFull> {
        let Self { state, pieces } = self;
        state.append(st, t, value, &mut |piece| pieces.extend_from_slice(&piece))
    }

    /// Appends samples one behind the other, see [`AppendState::append_all`].
    ///
    /// # Errors
    /// [`ChunkFull`] at 65,535 samples; those before are appended.
    #[inline]
    pub fn append_all(&mut self, samples: impl IntoIterator<Item = (i64, i64, f64)>) -> Result<(), ChunkFull> {
        self.state.append_all(samples, &mut self.pieces)
    }
}

/// Reads an XOR2 chunk: yields `(t, value, st)`, and ends behind the first error.
#[derive(Debug, Clone)]
pub struct Xor2Iter<'a> {
    bits: BitReader<'a>,
    total: u32,
    read: u32,
    /// Samples from the third on: what one comparison says, so that the others are no matter of the loop.
    hot: u32,
    window: ReadWindow,
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
        let total = u32::from(u16::from_be_bytes([high, low]));
        Ok(Self {
            bits: BitReader::new(bytes, HEADER * 8),
            total,
            read: 0,
            hot: total.saturating_sub(2),
            window: ReadWindow::FULL,
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
        (self.total - self.read) as u16
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
    pub fn columns(self, times: &mut Vec<i64>, values: &mut Vec<f64>) -> Result<(), DecodeError> {
        // A sample takes at least a bit: a header that lies cannot make us reserve more than the bytes could hold.
        let left = usize::from(self.remaining()).min(self.bits.remaining());
        fill_columns(left, times, values, |places| self.visit(|t, value, _| places.put(t, value)))
    }

    #[inline(always)]
    fn sample(&self) -> (i64, f64, i64) {
        (self.t, f64::from_bits(self.value), self.st.st)
    }

    /// Decodes a sample from the third on; whether it was sound.
    #[inline(always)]
    fn step(&mut self) -> bool {
        let before = self.t;
        let word = self.bits.peek();
        // The two cases of nearly all samples first, each a branch of its own for the predictor.
        let sound = if word >> 63 == 0 {
            self.bits.consume(1);
            self.value = self.baseline;
            true
        } else if word >> 62 == 0b10 {
            let xor = self.window.read_behind(word, 3, word >> 61 == 0b101, &mut self.bits);
            self.change(xor)
        } else if word >> 59 == 0b11111 {
            self.bits.consume(5);
            self.value = STALE_NAN_BITS;
            true
        } else {
            let (dod, used) = if word >> 61 == 0b110 {
                ((word << 3) as i64 >> 51, 16)
            } else if word >> 60 == 0b1110 {
                ((word << 4) as i64 >> 44, 24)
            } else {
                self.bits.consume(5);
                (self.bits.read(64) as i64, 0)
            };
            self.delta = self.delta.wrapping_add(dod as u64);
            self.step_value(if used == 0 { self.bits.peek() } else { word }, used)
        };
        self.t = self.t.wrapping_add(self.delta as i64);
        if !sound {
            return false;
        }
        self.st.read(&mut self.bits, self.read, before);
        !self.bits.overrun()
    }

    /// A value that may be the baseline's, another, or stale, behind `used` bits of `word`; whether it was sound.
    #[inline(always)]
    fn step_value(&mut self, word: u64, used: u32) -> bool {
        let rest = word << used;
        if rest >> 63 == 0 {
            self.bits.consume(used + 1);
            self.value = self.baseline;
        } else if rest >> 61 == 0b111 {
            self.bits.consume(used + 3);
            self.value = STALE_NAN_BITS;
        } else {
            let fresh = rest >> 62 == 0b11;
            let xor = self.window.read_behind(word, used + 2 + u32::from(fresh), fresh, &mut self.bits);
            return self.change(xor);
        }
        true
    }

    #[inline(always)]
    fn change(&mut self, xor: Option<u64>) -> bool {
        self.baseline ^= xor.unwrap_or(0);
        self.value = self.baseline;
        xor.is_some()
    }

    #[inline(always)]
    fn varint(&mut self) -> Result<u64, DecodeError> {
        let (value, bits) = self.bits.uvarint();
        self.bits = bits;
        value.ok_or_else(|| {
            let at = bits.pos() - MAX_VARINT_BITS;
            DecodeError::at(bits, self.read, self.total, at, DecodeErrorKind::VarintOverflow)
        })
    }

    /// Decodes one of the first two samples.
    ///
    /// Inline although it is rare: what is handed to a function by reference lives in memory, for all samples.
    #[inline(always)]
    fn start(&mut self) -> Result<(), DecodeError> {
        if self.read == 0 {
            self.t = varint::unzigzag(self.varint()?);
            self.value = self.bits.read(64);
            if self.value != STALE_NAN_BITS {
                self.baseline = self.value;
            }
            if self.st.has_first() {
                let diff = varint::unzigzag(self.varint()?);
                self.st.set_first(self.t.wrapping_sub(diff));
            }
        } else {
            let before = self.t;
            self.delta = self.varint()?;
            self.t = self.t.wrapping_add(self.delta as i64);
            if !self.step_value(self.bits.peek(), 0) {
                return Err(DecodeError::misread(self.bits, self.read, self.total));
            }
            self.st.read(&mut self.bits, self.read, before);
        }
        if self.bits.overrun() {
            return Err(DecodeError::truncated(self.bits, self.read, self.total));
        }
        Ok(())
    }
}

impl Iterator for Xor2Iter<'_> {
    type Item = Result<(i64, f64, i64), DecodeError>;

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        let stepped = if self.read.wrapping_sub(2) < self.hot {
            if self.step() { Ok(()) } else { Err(DecodeError::misread(self.bits, self.read, self.total)) }
        } else if self.read == self.total {
            return None;
        } else {
            self.start()
        };
        match stepped {
            Ok(()) => {
                self.read += 1;
                Some(Ok(self.sample()))
            }
            Err(error) => {
                (self.total, self.hot) = (self.read, 0);
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
