//! XOR chunks (encoding 1): floats as Gorilla writes them, with Prometheus' widths.
//!
//! ```text
//! chunk    := count u16 BE, then a bit stream (most significant bit first, zero-padded to a byte)
//! sample 0 := t zig-zag varint (whole bytes), value f64 in 64 bits
//! sample 1 := t − t₀ uvarint (whole bytes), value
//! sample n := dod, value
//! dod      := 0                       (t − tₙ₋₁) − (tₙ₋₁ − tₙ₋₂) is 0
//!           | 10    14 bits           −8,191 … 8,192
//!           | 110   17 bits           −65,535 … 65,536
//!           | 1110  20 bits           −524,287 … 524,288
//!           | 1111  64 bits
//! value    := 0                       the bits of the last value
//!           | 10    significant bits  XOR with the last value, in the last window
//!           | 11    leading zeros (5 bits), number of significant bits (6 bits, 0 means 64), those bits: a new window
//! ```
//!
//! Widths of the dod are two's complement with one difference: the pattern `100…0` is the *positive* end of the range.
//!
//! Two ways to append: [`XorAppender`] owns its bytes; [`AppendState`] is 48 bytes without a buffer, for one that keeps a
//! great many open chunks and wants each of them to touch one cache line a sample.

mod bulk;
mod visit;

use tsdb_model::varint;

use crate::bits::{BitReader, MAX_VARINT_BITS, PIECE, SplitBits};
use crate::error::{ChunkFull, DecodeError, DecodeErrorKind};
use crate::floats::{Count, FloatAppender, Floats, accessors, fill_columns};
use crate::varbit::signed;
use crate::window::{Prefix, ReadWindow, Window};

/// Bytes before the bit stream: the sample count.
const HEADER: usize = 2;

/// A chunk is cut before it exceeds 1,024 bytes, and a sample takes at most 19 bytes: the reference cuts a chunk *before*
/// an append that finds more bytes than this in it.
pub const MAX_BYTES_BEFORE_APPEND: u32 = 1024 - 19;

/// The state of an open XOR chunk: the last sample, and the bits that do not fill a 16-byte piece yet.
///
/// Pieces that fill go to the caller, in order. The chunk's bytes are the pieces one behind the other, then the state's
/// own tail, with the sample count in the first two bytes: [`AppendState::assemble`].
///
/// ```
/// use head_chunks::xor::{AppendState, XorIter};
/// let mut pieces = Vec::new();
/// let mut state = AppendState::new();
/// for i in 0..100 {
///     state.append(i * 15_000, 7.5 * i as f64, &mut |piece| pieces.push(piece))?;
/// }
/// let mut bytes = Vec::new();
/// state.assemble(pieces.iter().map(|piece| &piece[..]), &mut bytes);
/// assert_eq!(bytes.len(), state.byte_len());
/// assert_eq!(XorIter::new(&bytes)?.nth(99).unwrap()?, (1_485_000, 742.5));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendState {
    pub(crate) bits: SplitBits<Count>,
    pub(crate) t: i64,
    pub(crate) delta: u64,
    pub(crate) value: u64,
}

// One cache line has room for it, two segment ids and a minimum time.
const _: () = assert!(size_of::<AppendState>() == 48 && align_of::<AppendState>() == 8);

impl Default for AppendState {
    fn default() -> Self {
        Self::new()
    }
}

impl AppendState {
    /// An empty chunk.
    #[must_use]
    pub const fn new() -> Self {
        Self { bits: SplitBits::starting_with_zeros(HEADER as u32 * 8, Count::ZERO), t: 0, delta: 0, value: 0 }
    }

    /// Continues an existing chunk: the state behind its last sample. The pieces that a caller has to keep are
    /// `bytes[..bytes.len() / 16 * 16]` ([`AppendState::full_pieces`]).
    ///
    /// As in the reference, the state starts with the *reader's* window: a chunk in which no value has changed yet goes on
    /// as if a 64-bit window had been written. So a resumed chunk may differ from one that was never interrupted, in bytes
    /// though not in values.
    ///
    /// # Errors
    /// When the bytes are not a sound XOR chunk.
    pub fn resume(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut iter = XorIter::new(bytes)?;
        if iter.total == 0 {
            return Ok(Self::new());
        }
        for sample in iter.by_ref() {
            sample?;
        }
        let beside = Count::new(iter.total as u16, iter.window.into());
        let bits = SplitBits::resume(bytes, iter.bits.pos() as u32, HEADER as u32 * 8, beside);
        let XorIter { t, delta, value, .. } = iter;
        Ok(Self { bits, t, delta, value })
    }

    /// Appends a sample: `t` in milliseconds since the epoch, any value (the bits are kept, NaN payloads too). Full pieces
    /// go to `emit`, at most two a sample.
    ///
    /// Times are not compared: a series' order is its owner's matter, and any `t` is stored exactly.
    ///
    /// # Errors
    /// [`ChunkFull`] at 65,535 samples; nothing was changed.
    #[inline]
    pub fn append(&mut self, t: i64, value: f64, emit: &mut impl FnMut([u8; PIECE])) -> Result<(), ChunkFull> {
        let value = value.to_bits();
        let delta = t.wrapping_sub(self.t) as u64;
        // 65,535, 0 and 1 in one comparison: the rare ones.
        if self.num_samples().wrapping_add(1) < 3 {
            return self.append_cold(t, value, emit);
        }
        let dod = delta.wrapping_sub(self.delta) as i64;
        // Nearly all deltas of deltas go in with the value: one put for a sample.
        let front = match dod {
            0 => (0, 1),
            -8_191..=8_192 => (0b10 << 14 | dod as u64 & 0x3fff, 16),
            dod => self.put_long_dod(dod, emit),
        };
        let mut window = self.bits.beside.window();
        let [a, b] = match value ^ self.value {
            0 => [front, (0, 1)],
            xor => window.field(xor, front, Prefix(0b10, 2), Prefix(0b11, 2)),
        };
        self.bits.put_both(a, b, emit);
        self.remember(t, delta, value, window);
        Ok(())
    }

    /// Writes a delta of deltas of more than 14 bits; returns the empty front that it leaves to the value.
    #[cold]
    #[inline(never)]
    fn put_long_dod(&mut self, dod: i64, emit: &mut impl FnMut([u8; PIECE])) -> (u64, u32) {
        let [prefix, field] = dod_field(dod);
        self.bits.put_both(prefix, field, emit);
        (0, 0)
    }

    #[cold]
    #[inline(never)]
    fn append_cold(&mut self, t: i64, value: u64, emit: &mut impl FnMut([u8; PIECE])) -> Result<(), ChunkFull> {
        let mut window = self.bits.beside.window();
        match self.num_samples() {
            0 => {
                self.bits.put_uvarint(varint::zigzag(t), emit);
                self.bits.put(value, 64, emit);
                self.remember(t, 0, value, window);
            }
            1 => {
                let delta = t.wrapping_sub(self.t) as u64;
                self.bits.put_uvarint(delta, emit);
                let [a, b] = window.xor_field(value ^ self.value);
                self.bits.put_both(a, b, emit);
                self.remember(t, delta, value, window);
            }
            capacity => return Err(ChunkFull { capacity }),
        }
        Ok(())
    }

    #[inline(always)]
    fn remember(&mut self, t: i64, delta: u64, value: u64, window: Window) {
        (self.t, self.delta, self.value) = (t, delta, value);
        self.bits.beside = self.bits.beside.next(window);
    }

    /// The last sample's value; meaningless in an empty chunk.
    #[must_use]
    pub fn last_value(&self) -> f64 {
        f64::from_bits(self.value)
    }

    fn header(&self) -> [u8; HEADER] {
        self.num_samples().to_be_bytes()
    }

    accessors!();
}

/// The control bits and the value of a delta of deltas that is not 0.
#[inline(always)]
pub(crate) fn dod_field(dod: i64) -> [(u64, u32); 2] {
    let (prefix, n) = match dod {
        -8_191..=8_192 => ((0b10, 2), 14),
        -65_535..=65_536 => ((0b110, 3), 17),
        -524_287..=524_288 => ((0b1110, 4), 20),
        _ => ((0b1111, 4), 64),
    };
    [prefix, (dod as u64 & u64::MAX >> (64 - n), n)]
}

/// Reads what [`dod_field`] wrote.
#[inline(always)]
pub(crate) fn read_dod(bits: &mut BitReader<'_>) -> i64 {
    let word = bits.peek();
    if word >> 62 == 0b10 {
        bits.consume(16);
        return short_dod(word);
    }
    let (dod, behind) = long_dod(*bits);
    *bits = behind;
    dod
}

/// The delta of deltas of 14 bits that `word` begins with.
#[inline(always)]
fn short_dod(word: u64) -> i64 {
    // Sign-extended while it is one less: so 100…0 stays positive.
    ((word << 2).wrapping_sub(1 << 50) as i64 >> 50) + 1
}

/// Reads a delta of deltas of more than 14 bits. By value, so that an iterator's reader can stay in registers.
#[cold]
#[inline(never)]
fn long_dod(mut bits: BitReader<'_>) -> (i64, BitReader<'_>) {
    let (prefix, width) = match bits.peek().leading_ones() {
        2 => (3, 17),
        3 => (4, 20),
        _ => (4, 64),
    };
    bits.consume(prefix);
    let field = bits.read(width);
    (if width == 64 { field as i64 } else { signed(field, width) }, bits)
}

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
///
/// ```
/// use head_chunks::xor::XorAppender;
/// let mut appender = XorAppender::new();
/// appender.append(1_000, 1.0)?;
/// appender.append(16_000, 1.0)?;
/// assert_eq!(appender.to_bytes()[..2], [0, 2]);
/// # Ok::<(), head_chunks::ChunkFull>(())
/// ```
pub type XorAppender = FloatAppender<AppendState>;

impl XorAppender {
    /// Appends a sample, see [`AppendState::append`].
    ///
    /// # Errors
    /// [`ChunkFull`] at 65,535 samples; nothing was changed.
    #[inline]
    pub fn append(&mut self, t: i64, value: f64) -> Result<(), ChunkFull> {
        let Self { state, pieces } = self;
        state.append(t, value, &mut |piece| pieces.extend_from_slice(&piece))
    }

    /// Appends samples one behind the other, see [`AppendState::append_all`].
    ///
    /// # Errors
    /// [`ChunkFull`] at 65,535 samples; those before are appended.
    #[inline]
    pub fn append_all(&mut self, samples: impl IntoIterator<Item = (i64, f64)>) -> Result<(), ChunkFull> {
        self.state.append_all(samples, &mut self.pieces)
    }
}

/// Reads an XOR chunk: yields `(t, value)`, and ends behind the first error.
///
/// ```
/// # use head_chunks::xor::{XorAppender, XorIter};
/// let mut appender = XorAppender::new();
/// appender.append(-5, f64::NEG_INFINITY)?;
/// for sample in XorIter::new(&appender.to_bytes())? {
///     assert_eq!(sample?, (-5, f64::NEG_INFINITY));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct XorIter<'a> {
    bits: BitReader<'a>,
    total: u32,
    read: u32,
    /// Samples from the third on: what one comparison says, so that the others are no matter of the loop.
    hot: u32,
    window: ReadWindow,
    t: i64,
    delta: u64,
    value: u64,
}

impl<'a> XorIter<'a> {
    /// Reads `bytes`, a whole chunk with its header. Bytes behind the last sample are ignored, as the reference does.
    ///
    /// # Errors
    /// When there are fewer than the two bytes of the header.
    pub fn new(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let Some(count) = bytes.first_chunk() else {
            return Err(DecodeError::header(HEADER, bytes));
        };
        Ok(Self {
            bits: BitReader::new(bytes, HEADER * 8),
            total: u16::from_be_bytes(*count).into(),
            read: 0,
            hot: u32::from(u16::from_be_bytes(*count)).saturating_sub(2),
            window: ReadWindow::FULL,
            t: 0,
            delta: 0,
            value: 0,
        })
    }

    /// Samples not yet read, as the header promises.
    #[must_use]
    pub fn remaining(&self) -> u16 {
        (self.total - self.read) as u16
    }

    /// Advances to the first sample at or after `t`, the current one included if it was read already; `None` when there is
    /// none. The sample is what [`Iterator::next`] would have returned.
    pub fn seek(&mut self, t: i64) -> Option<Result<(i64, f64), DecodeError>> {
        if self.read > 0 && self.t >= t {
            return Some(Ok(self.sample()));
        }
        self.find(|sample| sample.as_ref().map_or(true, |&(at, _)| at >= t))
    }

    /// Reads what is left into two columns, times and value. On an error they hold the samples before it.
    ///
    /// # Errors
    /// When the bytes are not a sound XOR chunk.
    pub fn columns(self, times: &mut Vec<i64>, values: &mut Vec<f64>) -> Result<(), DecodeError> {
        // A sample takes at least two bits: a header that lies cannot make us reserve more than the bytes could hold.
        let left = usize::from(self.remaining()).min(self.bits.remaining() / 2);
        fill_columns(left, times, values, |places| self.visit(|t, value| places.put(t, value)))
    }

    #[inline(always)]
    fn sample(&self) -> (i64, f64) {
        (self.t, f64::from_bits(self.value))
    }

    /// Decodes a sample from the third on; whether it was sound.
    #[inline(always)]
    fn step(&mut self) -> bool {
        let mut word = self.bits.peek();
        let mut used = 1;
        if word >> 63 != 0 {
            used = 16;
            if word >> 62 == 0b10 {
                self.delta = self.delta.wrapping_add(short_dod(word) as u64);
            } else {
                let (dod, bits) = long_dod(self.bits);
                self.delta = self.delta.wrapping_add(dod as u64);
                self.bits = bits;
                (word, used) = (self.bits.peek(), 0);
            }
        }
        self.t = self.t.wrapping_add(self.delta as i64);
        let xor = self.window.read_xor_behind(word, used, &mut self.bits);
        self.value ^= xor.unwrap_or(0);
        xor.is_some() && !self.bits.overrun()
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
        } else {
            self.delta = self.varint()?;
            self.t = self.t.wrapping_add(self.delta as i64);
            match self.window.read_xor_behind(self.bits.peek(), 0, &mut self.bits) {
                Some(xor) => self.value ^= xor,
                None => return Err(DecodeError::misread(self.bits, self.read, self.total)),
            }
        }
        if self.bits.overrun() {
            return Err(DecodeError::truncated(self.bits, self.read, self.total));
        }
        Ok(())
    }
}

impl Iterator for XorIter<'_> {
    type Item = Result<(i64, f64), DecodeError>;

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

impl core::iter::FusedIterator for XorIter<'_> {}

/// Reads a whole chunk into columns of times and values, appending to both.
///
/// # Errors
/// When the bytes are not a sound XOR chunk; the columns then hold the samples before the damage.
pub fn decode_columns(bytes: &[u8], times: &mut Vec<i64>, values: &mut Vec<f64>) -> Result<(), DecodeError> {
    XorIter::new(bytes)?.columns(times, values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(samples: &[(i64, f64)]) -> Vec<u8> {
        let mut appender = XorAppender::new();
        for &(t, v) in samples {
            appender.append(t, v).expect("there is room");
        }
        let bytes = appender.to_bytes();
        assert_eq!(bytes.len(), appender.state().byte_len());
        let read: Vec<_> = XorIter::new(&bytes).expect("a header").collect::<Result<_, _>>().expect("sound");
        assert_eq!(read.len(), samples.len());
        for ((t, v), (t2, v2)) in samples.iter().zip(&read) {
            assert_eq!((t, v.to_bits()), (t2, v2.to_bits()));
        }
        bytes
    }

    #[test]
    fn empty_and_single() {
        assert_eq!(round_trip(&[]), [0, 0]);
        assert_eq!(round_trip(&[(1, 1.0)]), [0, 1, 2, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn every_width_of_a_delta_of_deltas_at_its_ends() {
        let mut dods = vec![0, i64::MIN, i64::MAX];
        for n in [14, 17, 20] {
            let (low, high) = (-((1 << (n - 1)) - 1), 1 << (n - 1));
            dods.extend([low, low - 1, high, high + 1]);
        }
        for &dod in &dods {
            let mut samples = vec![(0_i64, 1.0), (10, 1.5)];
            let t = 10_i64.wrapping_add(10_i64.wrapping_add(dod));
            samples.extend([(t, 2.0), (t.wrapping_add(10), f64::NAN)]);
            round_trip(&samples);
        }
    }

    #[test]
    fn resumes_where_it_left_off() {
        let samples: Vec<_> = (0..200).map(|i| (i * 15_000 + i % 7, (i * i) as f64 * 0.1)).collect();
        let whole = round_trip(&samples);
        for cut in 3..samples.len() {
            let mut appender = XorAppender::resume(&round_trip(&samples[..cut])).expect("sound");
            for &(t, v) in &samples[cut..] {
                appender.append(t, v).expect("there is room");
            }
            assert_eq!(appender.to_bytes(), whole, "cut at {cut}");
        }
    }

    #[test]
    fn full_at_its_capacity() {
        let mut appender = XorAppender::new();
        for t in 0..65_535 {
            appender.append(t, 0.0).expect("there is room");
        }
        let before = appender.to_bytes();
        assert_eq!(appender.append(65_535, 0.0), Err(ChunkFull { capacity: 65_535 }));
        assert_eq!(appender.to_bytes(), before);
    }

    #[test]
    fn every_truncation_is_an_error_with_its_sample() {
        let samples: Vec<_> = (0..50).map(|i| (i * 15_000 + i % 3, f64::from(i as i32) * 1.1)).collect();
        let bytes = round_trip(&samples);
        assert!(XorIter::new(&bytes[..1]).is_err());
        for len in 2..bytes.len() {
            let mut iter = XorIter::new(&bytes[..len]).expect("a header");
            let sound = iter.by_ref().take_while(Result::is_ok).count();
            let mut iter = XorIter::new(&bytes[..len]).expect("a header").skip(sound);
            let error = iter.next().expect("an error").expect_err("an error");
            assert_eq!(error.sample as usize, sound);
            assert_eq!(error.bit, len as u64 * 8, "{error}");
            assert!(iter.next().is_none());
        }
    }

    #[test]
    fn seek_stops_at_the_first_sample_not_before() {
        let bytes = round_trip(&[(10, 1.0), (20, 2.0), (30, 3.0)]);
        let mut iter = XorIter::new(&bytes).expect("a header");
        assert_eq!(iter.seek(15), Some(Ok((20, 2.0))));
        assert_eq!(iter.seek(15), Some(Ok((20, 2.0))));
        assert_eq!(iter.next(), Some(Ok((30, 3.0))));
        assert_eq!(iter.seek(31), None);
    }
}
