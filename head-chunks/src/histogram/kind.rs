//! The two kinds of numbers in a histogram chunk: integers as deltas of deltas, floats as XOR with the one before.
#![expect(private_interfaces, private_bounds, reason = "the trait is sealed: nobody outside can call its methods")]

use core::array::from_mut;
use core::fmt::Debug;

use tsdb_model::histogram::{BucketValue, NativeHistogram};

use super::CounterReset;
use super::spans::WrappingDelta;
use crate::Encoding;
use crate::bits::{BitReader, BitStream};
use crate::varbit::{self, Field};
use crate::window::Window;

/// How a histogram's counts and buckets are coded. Implemented for `i64` (integer histograms) and `f64` (float ones).
pub trait Coded: BucketValue + sealed::Coding {}

impl Coded for i64 {}
impl Coded for f64 {}

pub(super) mod sealed {
    use super::*;

    /// The coding itself: not part of the interface, as it will follow whatever is fastest.
    pub trait Coding: BucketValue + WrappingDelta {
        /// What is kept of a number between two samples.
        type Cell: Copy + Default + Debug + Send + Sync;
        /// What a cell has beside the number: a reader keeps the two apart, so that it can lend all numbers as they are.
        type Beside: Copy + Debug + Send + Sync;

        /// Without and with start timestamps.
        const ENCODINGS: [Encoding; 2];
        /// Bits that a bucket of the first sample takes at least.
        const FIRST_BUCKET_BITS: usize;

        /// The cell of a first count or bucket, and the bits that write it.
        fn first_count(count: Self::Count) -> (Self::Cell, Field);
        fn first_bucket(bucket: Self) -> (Self::Cell, Field);
        /// The bits that write the next count (of a stale histogram, which says nothing) or bucket.
        fn next_count(cell: &mut Self::Cell, count: Self::Count, stale: bool) -> Field;
        fn next_bucket(cell: &mut Self::Cell, bucket: Self) -> Field;

        fn read_first_count(bits: &mut BitReader<'_>) -> Self::Cell;
        fn read_first_bucket(bits: &mut BitReader<'_>) -> (Self, Self::Beside);
        /// Reads the next number; `false` for a window that is none.
        fn read_next(cell: &mut Self::Cell, bits: &mut BitStream<'_>) -> bool;
        /// Reads the next number of each bucket; `false` for a window that is none.
        fn read_all(buckets: &mut [Self], beside: &mut [Self::Beside], bits: &mut BitStream<'_>) -> bool;

        fn cell(bucket: Self, beside: Self::Beside) -> Self::Cell;
        fn count(cell: &Self::Cell) -> Self::Count;
        fn bucket(cell: &Self::Cell) -> Self;
        /// The absolute count of a bucket, given that of the one before.
        fn absolute(before: Self, bucket: Self) -> Self;

        /// Reduces the resolution to `schema`; whether spans and buckets belonged together.
        fn reduce(histogram: &mut NativeHistogram<Self>, schema: i32) -> bool;

        /// What the header of a new chunk says when a histogram could not go into the one before, and what it says when
        /// a chunk is begun behind another one although it could.
        fn header_of_cut(cut: Cut) -> CounterReset;
        fn header_behind(cut: Option<Cut>) -> CounterReset;
    }
}

/// Why a histogram does not fit the chunk that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// A count or a bucket went down or disappeared, the custom bounds changed, or the histogram says so itself.
    CounterReset,
    /// Another schema or zero threshold, or the first histogram after a stale one.
    Layout,
    /// A gauge histogram behind counters, or a counter behind gauges.
    Kind,
}

/// An integer between two samples: its value and the last difference.
#[derive(Debug, Clone, Copy, Default)]
pub struct DeltaCell {
    value: i64,
    delta: i64,
}

impl DeltaCell {
    #[inline(always)]
    fn next(&mut self, value: i64) -> i64 {
        let delta = value.wrapping_sub(self.value);
        let dod = delta.wrapping_sub(self.delta);
        *self = Self { value, delta };
        dod
    }

    #[inline(always)]
    fn add(&mut self, dod: i64) {
        self.delta = self.delta.wrapping_add(dod);
        self.value = self.value.wrapping_add(self.delta);
    }
}

/// The next numbers of so many buckets, all out of one word if they fit it.
#[inline(always)]
fn read_few<const N: usize>(buckets: &mut [i64; N], deltas: &mut [i64; N], stream: &mut BitStream<'_>) {
    stream.refill();
    let dods = varbit::next_few::<N>(stream).unwrap_or_else(|| {
        let (dods, behind) = read_apart(*stream);
        *stream = behind;
        dods
    });
    for ((bucket, delta), dod) in buckets.iter_mut().zip(deltas).zip(dods) {
        *delta = delta.wrapping_add(dod);
        *bucket = bucket.wrapping_add(*delta);
    }
}

#[inline(never)]
fn read_apart<const N: usize>(mut stream: BitStream<'_>) -> ([i64; N], BitStream<'_>) {
    (core::array::from_fn(|_| varbit::next_int(&mut stream)), stream)
}

impl sealed::Coding for i64 {
    type Cell = DeltaCell;
    /// The last difference.
    type Beside = i64;
    const ENCODINGS: [Encoding; 2] = [Encoding::Histogram, Encoding::HistogramSt];
    const FIRST_BUCKET_BITS: usize = 1;

    fn first_count(count: u64) -> (DeltaCell, Field) {
        (DeltaCell { value: count as i64, delta: 0 }, varbit::uint_field(count))
    }

    fn first_bucket(bucket: i64) -> (DeltaCell, Field) {
        (DeltaCell { value: bucket, delta: 0 }, varbit::int_field(bucket))
    }

    #[inline(always)]
    fn next_count(cell: &mut DeltaCell, count: u64, stale: bool) -> Field {
        let dod = cell.next(count as i64);
        // A stale histogram's count is no number to compare with.
        varbit::int_field(if stale { 0 } else { dod })
    }

    #[inline(always)]
    fn next_bucket(cell: &mut DeltaCell, bucket: i64) -> Field {
        varbit::int_field(cell.next(bucket))
    }

    fn read_first_count(bits: &mut BitReader<'_>) -> DeltaCell {
        DeltaCell { value: varbit::read_uint(bits) as i64, delta: 0 }
    }

    fn read_first_bucket(bits: &mut BitReader<'_>) -> (i64, i64) {
        (varbit::read_int(bits), 0)
    }

    #[inline(always)]
    fn read_next(cell: &mut DeltaCell, bits: &mut BitStream<'_>) -> bool {
        cell.add(varbit::next_int(bits));
        true
    }

    #[inline(always)]
    fn read_all(buckets: &mut [i64], deltas: &mut [i64], bits: &mut BitStream<'_>) -> bool {
        // A copy, so that all it has can live in registers: it is left to others by value.
        let mut stream = *bits;
        let (buckets, last_buckets) = buckets.as_chunks_mut();
        let (deltas, last_deltas) = deltas.as_chunks_mut();
        for (buckets, deltas) in buckets.iter_mut().zip(deltas) {
            read_few::<4>(buckets, deltas, &mut stream);
        }
        for (bucket, delta) in last_buckets.iter_mut().zip(last_deltas) {
            read_few::<1>(from_mut(bucket), from_mut(delta), &mut stream);
        }
        *bits = stream;
        true
    }

    fn cell(value: i64, delta: i64) -> DeltaCell {
        DeltaCell { value, delta }
    }

    #[inline(always)]
    fn count(cell: &DeltaCell) -> u64 {
        cell.value as u64
    }

    #[inline(always)]
    fn bucket(cell: &DeltaCell) -> i64 {
        cell.value
    }

    #[inline(always)]
    fn absolute(before: i64, bucket: i64) -> i64 {
        before.wrapping_add(bucket)
    }

    fn reduce(histogram: &mut NativeHistogram<Self>, schema: i32) -> bool {
        histogram.reduce_resolution(schema).is_ok()
    }

    fn header_of_cut(cut: Cut) -> CounterReset {
        match cut {
            Cut::CounterReset => CounterReset::Reset,
            Cut::Layout => CounterReset::Unknown,
            Cut::Kind => CounterReset::NotReset,
        }
    }

    fn header_behind(cut: Option<Cut>) -> CounterReset {
        cut.map_or(CounterReset::NotReset, Self::header_of_cut)
    }
}

/// A float between two samples: its bits and the window of its last change.
#[derive(Debug, Clone, Copy)]
pub struct XorCell {
    value: u64,
    window: Window,
}

impl Default for XorCell {
    fn default() -> Self {
        Self { value: 0, window: Window::FULL }
    }
}

impl XorCell {
    #[inline(always)]
    fn next(&mut self, value: f64) -> Field {
        let xor = self.value ^ value.to_bits();
        self.value = value.to_bits();
        self.window.xor_field(xor)
    }
}

/// As [`read_few`]; `false` for a window that is none.
#[inline(always)]
fn change_few<const N: usize>(buckets: &mut [f64; N], windows: &mut [Window; N], stream: &mut BitStream<'_>) -> bool {
    stream.refill();
    let Some(xors) = Window::next_few(windows, stream) else {
        let (sound, behind) = change_apart(buckets, windows, *stream);
        *stream = behind;
        return sound;
    };
    for (bucket, xor) in buckets.iter_mut().zip(xors) {
        *bucket = f64::from_bits(bucket.to_bits() ^ xor);
    }
    true
}

#[inline(never)]
fn change_apart<'a>(buckets: &mut [f64], windows: &mut [Window], mut stream: BitStream<'a>) -> (bool, BitStream<'a>) {
    for (bucket, window) in buckets.iter_mut().zip(windows) {
        let Some(xor) = window.next_xor(&mut stream) else { return (false, stream) };
        *bucket = f64::from_bits(bucket.to_bits() ^ xor);
    }
    (true, stream)
}

impl sealed::Coding for f64 {
    type Cell = XorCell;
    type Beside = Window;
    const ENCODINGS: [Encoding; 2] = [Encoding::FloatHistogram, Encoding::FloatHistogramSt];
    const FIRST_BUCKET_BITS: usize = 64;

    fn first_count(count: f64) -> (XorCell, Field) {
        Self::first_bucket(count)
    }

    fn first_bucket(bucket: f64) -> (XorCell, Field) {
        let value = bucket.to_bits();
        (XorCell { value, window: Window::NONE }, [(0, 0), (value, 64)])
    }

    #[inline(always)]
    fn next_count(cell: &mut XorCell, count: f64, _stale: bool) -> Field {
        cell.next(count)
    }

    #[inline(always)]
    fn next_bucket(cell: &mut XorCell, bucket: f64) -> Field {
        cell.next(bucket)
    }

    fn read_first_count(bits: &mut BitReader<'_>) -> XorCell {
        XorCell { value: bits.read(64), window: Window::FULL }
    }

    fn read_first_bucket(bits: &mut BitReader<'_>) -> (f64, Window) {
        (f64::from_bits(bits.read(64)), Window::FULL)
    }

    #[inline(always)]
    fn read_next(cell: &mut XorCell, bits: &mut BitStream<'_>) -> bool {
        let xor = cell.window.next_xor(bits);
        cell.value ^= xor.unwrap_or(0);
        xor.is_some()
    }

    #[inline(always)]
    fn read_all(buckets: &mut [f64], windows: &mut [Window], bits: &mut BitStream<'_>) -> bool {
        // As above.
        let mut stream = *bits;
        let (buckets, last_buckets) = buckets.as_chunks_mut();
        let (windows, last_windows) = windows.as_chunks_mut();
        for (buckets, windows) in buckets.iter_mut().zip(windows) {
            if !change_few::<3>(buckets, windows, &mut stream) {
                *bits = stream;
                return false;
            }
        }
        for (bucket, window) in last_buckets.iter_mut().zip(last_windows) {
            if !change_few::<1>(from_mut(bucket), from_mut(window), &mut stream) {
                *bits = stream;
                return false;
            }
        }
        *bits = stream;
        true
    }

    fn cell(bucket: f64, window: Window) -> XorCell {
        XorCell { value: bucket.to_bits(), window }
    }

    #[inline(always)]
    fn count(cell: &XorCell) -> f64 {
        f64::from_bits(cell.value)
    }

    #[inline(always)]
    fn bucket(cell: &XorCell) -> f64 {
        f64::from_bits(cell.value)
    }

    #[inline(always)]
    fn absolute(_before: f64, bucket: f64) -> f64 {
        bucket
    }

    fn reduce(histogram: &mut NativeHistogram<Self>, schema: i32) -> bool {
        histogram.reduce_resolution(schema).is_ok()
    }

    fn header_of_cut(cut: Cut) -> CounterReset {
        match cut {
            Cut::CounterReset => CounterReset::Reset,
            Cut::Layout | Cut::Kind => CounterReset::Unknown,
        }
    }

    fn header_behind(cut: Option<Cut>) -> CounterReset {
        match cut {
            Some(Cut::CounterReset) => CounterReset::Reset,
            _ => CounterReset::NotReset,
        }
    }
}
