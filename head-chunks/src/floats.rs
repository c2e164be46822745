//! What the appenders of the two float encodings share.

use crate::bits::PIECE;
use crate::error::DecodeError;
use crate::window::Window;

/// What an append state keeps beside its bits: the number of samples and the window of the last change.
///
/// One number and not two fields, as in [`Window`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count(u32);

impl Count {
    /// An empty chunk's.
    pub(crate) const ZERO: Self = Self(Window::NONE.to_bits() as u32);

    #[inline(always)]
    pub(crate) fn new(samples: u16, window: Window) -> Self {
        Self(u32::from(samples) << 16 | u32::from(window.to_bits()))
    }

    #[inline(always)]
    pub(crate) fn samples(self) -> u16 {
        (self.0 >> 16) as u16
    }

    #[inline(always)]
    pub(crate) fn window(self) -> Window {
        Window::from_bits(self.0 as u16)
    }

    /// One sample more.
    #[inline(always)]
    pub(crate) fn next(self, window: Window) -> Self {
        self.later(1, window)
    }

    /// So many samples more.
    #[inline(always)]
    pub(crate) fn later(self, samples: u16, window: Window) -> Self {
        Self::new(self.samples().wrapping_add(samples), window)
    }
}

/// The methods of an append state that has `bits`, with a [`Count`] beside them, and `t`, and a `header` of its own.
macro_rules! accessors {
    () => {
        /// Number of samples.
        #[must_use]
        pub fn num_samples(&self) -> u16 {
            self.bits.beside.samples()
        }

        /// Time of the last sample; meaningless in an empty chunk.
        #[must_use]
        pub fn last_t(&self) -> i64 {
            self.t
        }

        /// Length of the bit stream in bits, the header's included.
        #[must_use]
        pub fn bit_len(&self) -> u32 {
            self.bits.len()
        }

        /// Length of the chunk in bytes, header included: what the reference compares with
        /// [`MAX_BYTES_BEFORE_APPEND`](crate::xor::MAX_BYTES_BEFORE_APPEND).
        #[must_use]
        pub fn byte_len(&self) -> usize {
            self.bits.byte_len()
        }

        /// How many pieces of 16 bytes were handed out since the chunk's start.
        #[must_use]
        pub fn full_pieces(&self) -> usize {
            self.bits.full_pieces()
        }

        /// The bytes behind the pieces: the first `.1` of `.0`, fewer than 16.
        ///
        /// In a chunk without a full piece the first of them are the place of the header, here 0.
        #[must_use]
        pub fn tail(&self) -> ([u8; PIECE], usize) {
            self.bits.tail()
        }

        /// Appends the chunk's exact bytes to `out`: `pieces` (contiguous runs of the pieces, in any partition), the tail,
        /// and the header at the front.
        pub fn assemble<'a>(&self, pieces: impl IntoIterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
            self.bits.assemble(pieces, &self.header(), out);
        }
    };
}
pub(crate) use accessors;

/// An append state, as [`FloatAppender`] needs it.
pub(crate) trait Floats: Default {
    fn resume(bytes: &[u8]) -> Result<Self, DecodeError>;
    fn full_pieces(&self) -> usize;
    fn assemble<'a>(&self, pieces: impl IntoIterator<Item = &'a [u8]>, out: &mut Vec<u8>);
}

/// An appender that keeps the chunk's bytes: an append state and its pieces.
#[derive(Debug, Clone, Default)]
pub struct FloatAppender<S> {
    pub(crate) state: S,
    pub(crate) pieces: Vec<u8>,
}

#[expect(private_bounds, reason = "the trait is sealed: there is an appender for each append state of this crate")]
impl<S: Floats> FloatAppender<S> {
    /// An empty chunk.
    #[must_use]
    pub fn new() -> Self {
        Self { state: S::default(), pieces: Vec::new() }
    }

    /// Continues an existing chunk, see [`AppendState::resume`](crate::xor::AppendState::resume).
    ///
    /// # Errors
    /// When the bytes are not a sound chunk of the encoding.
    pub fn resume(bytes: &[u8]) -> Result<Self, DecodeError> {
        let state = S::resume(bytes)?;
        Ok(Self { pieces: bytes[..state.full_pieces() * PIECE].to_vec(), state })
    }

    /// The state: last sample, number of samples, lengths.
    #[must_use]
    pub fn state(&self) -> &S {
        &self.state
    }

    /// Starts a new chunk in the same allocation.
    pub fn clear(&mut self) {
        self.pieces.clear();
        self.state = S::default();
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

/// Where samples go in two columns.
pub(crate) struct Places<'a>(core::iter::Zip<core::slice::IterMut<'a, i64>, core::slice::IterMut<'a, f64>>);

impl Places<'_> {
    #[inline(always)]
    pub(crate) fn put(&mut self, t: i64, value: f64) {
        if let Some(place) = self.0.next() {
            (*place.0, *place.1) = (t, value);
        }
    }
}

/// Appends what `visit` puts to two columns, of which there are at most `most` samples.
#[inline(always)]
pub(crate) fn fill_columns(
    most: usize,
    times: &mut Vec<i64>,
    values: &mut Vec<f64>,
    visit: impl FnOnce(&mut Places<'_>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let (from_t, from_v) = (times.len(), values.len());
    // Places first and samples into them: a push would ask for each whether there is room.
    times.resize(from_t + most, 0);
    values.resize(from_v + most, 0.0);
    let mut places = Places(times[from_t..].iter_mut().zip(&mut values[from_v..]));
    let result = visit(&mut places);
    let read = most - places.0.len();
    times.truncate(from_t + read);
    values.truncate(from_v + read);
    result
}

/// Runs of samples of all kinds, and where to cut them.
#[cfg(test)]
pub(crate) fn random_runs(mut each: impl FnMut(&[(i64, f64)], &[u8])) {
    use rand::{Rng, SeedableRng, rngs::SmallRng};
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |t| t.as_nanos() as u64);
    println!("seed {seed}");
    let mut rng = SmallRng::seed_from_u64(seed);
    for _ in 0..2_000 {
        let (mut t, mut v, jitter) = (rng.random_range(-1_000_000..1_000_000_i64), 0.0, rng.random_range(0..4));
        let (wild, kind) = (rng.random_bool(0.3), rng.random_range(0..5));
        // Differences of at most so many bits, which lie anywhere.
        let (width, place) = (rng.random_range(1..=64), rng.random_range(0..64));
        let samples: Vec<(i64, f64)> = (0..rng.random_range(0..300))
            .map(|_| {
                t = t.wrapping_add(15_000 + if rng.random_range(0..4) < jitter { rng.random_range(-9..9) } else { 0 });
                if wild && rng.random_range(0..9) == 0 {
                    t = t.wrapping_add(rng.random::<i64>() >> rng.random_range(0..64));
                }
                v = match (kind, rng.random_range(0..6)) {
                    (0, _) | (_, 0) => v,
                    (1, _) => v + f64::from(rng.random_range(0..100)),
                    (2, _) => rng.random_range(-1.0..1.0),
                    (4, _) => f64::from_bits(v.to_bits() ^ rng.random::<u64>() >> (64 - width) << place),
                    (_, 1) => f64::from_bits(tsdb_model::staleness::STALE_NAN_BITS),
                    _ => f64::from_bits(rng.random()),
                };
                (t, v)
            })
            .collect();
        let cuts: Vec<u8> = (0..8).map(|_| rng.random_range(0..90)).collect();
        each(&samples, &cuts);
    }
}

/// The runs that samples are cut into: some of that many each, then all the others.
#[cfg(test)]
pub(crate) fn cut<'a, T>(samples: &'a [T], cuts: &[u8]) -> Vec<&'a [T]> {
    let mut rest = samples;
    let mut runs = Vec::new();
    for cut in cuts {
        let (run, others) = rest.split_at(usize::from(*cut).min(rest.len()));
        runs.push(run);
        rest = others;
    }
    runs.push(rest);
    runs
}

/// Counts samples whose delta of deltas is 0, short and long, those whose value is the one before, and those that change 38 to
/// 41 bits of it: a loop of appends takes fewer and more in different ways.
#[cfg(test)]
pub(crate) fn count_kinds(samples: &[(i64, f64)], seen: &mut [u32; 5]) {
    for three in samples.windows(3) {
        let [(a, _), (b, before), (c, value)] = [three[0], three[1], three[2]];
        let dod = c.wrapping_sub(b).wrapping_sub(b.wrapping_sub(a));
        seen[if dod == 0 {
            0
        } else if dod.unsigned_abs() < 4_000 {
            1
        } else {
            2
        }] += 1;
        let xor = before.to_bits() ^ value.to_bits();
        seen[3] += u32::from(xor == 0);
        seen[4] += u32::from((38..=41).contains(&(64 - xor.leading_zeros()).saturating_sub(xor.trailing_zeros())));
    }
}
