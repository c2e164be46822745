//! Histogram records, integer and float, with exponential or custom buckets, with and without start timestamps.
//!
//! ```text
//! V1: tag 7 / 8 (exponential), 9 / 10 (custom buckets), then nothing, or
//!     base ref u64 BE, base time i64 BE
//!     repeated { varint ref - base, varint t - base, histogram }
//! V2: tag 12 / 13 (any buckets), then nothing, or
//!     first ref varint, first t varint, first start-t varint, then nothing, or
//!     histogram
//!     repeated { varint ref - previous ref, varint t - first t, start-t (see `start_time`), histogram }
//! ```
//! The histogram itself: see `body`. Tags of exponential and custom buckets are decoded by the same code. Of a V1 batch that
//! holds both, two records are made: the exponential one bases on the first histogram of the *whole* batch, the
//! custom-bucket one on the first *custom* one; if all are custom, only the second is made.

pub(crate) mod body;

use crate::Version;
use crate::batch::Ends;
use crate::buffer::Buffer;
use crate::cursor::Cursor;
use crate::entries::{Decoder, batch};
use crate::error::DecodeError;
use crate::header::Base;
use crate::start_time;
use crate::tag;
use body::Wire;
use core::marker::PhantomData;
use tsdb_model::SeriesRef;
use tsdb_model::histogram::NativeHistogram;

pub use body::HistogramView;

/// A histogram on its way into a record.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct NativeSample<'a, B: Wire> {
    /// Which series.
    pub series: SeriesRef,
    /// Milliseconds since the epoch.
    pub t: i64,
    /// Start timestamp in milliseconds since the epoch, 0 = none. V1 does not store it.
    pub st: i64,
    /// The histogram.
    pub histogram: &'a NativeHistogram<B>,
}

/// An integer histogram on its way into a record.
pub type HistogramSample<'a> = NativeSample<'a, i64>;
/// A float histogram on its way into a record.
pub type FloatHistogramSample<'a> = NativeSample<'a, f64>;

/// A histogram in a record.
#[derive(Clone, Copy, Debug)]
pub struct NativeEntry<'a, B: Wire> {
    /// Which series.
    pub series: SeriesRef,
    /// Milliseconds since the epoch.
    pub t: i64,
    /// Start timestamp in milliseconds since the epoch, 0 = none; always 0 in V1.
    pub st: i64,
    /// The histogram, still in the record.
    pub histogram: HistogramView<'a, B>,
}

/// An integer histogram in a record.
pub type HistogramEntry<'a> = NativeEntry<'a, i64>;
/// A float histogram in a record.
pub type FloatHistogramEntry<'a> = NativeEntry<'a, f64>;

batch! {
    /// A record of integer histograms: V1 exponential, V1 custom buckets, or V2.
    HistogramBatch, HistogramIter: IntegerDecoder yields HistogramEntry<'a>, kind Histograms
}

batch! {
    /// A record of float histograms: V1 exponential, V1 custom buckets, or V2.
    FloatHistogramBatch, FloatHistogramIter: FloatDecoder yields FloatHistogramEntry<'a>, kind FloatHistograms
}

type IntegerDecoder<'a> = HistogramDecoder<'a, i64>;
type FloatDecoder<'a> = HistogramDecoder<'a, f64>;

macro_rules! histogram_batch {
    ($Batch:ident, $Iter:ident, $number:ty) => {
        impl $Batch<'_> {
            /// Which layout the record has.
            #[must_use]
            pub fn version(&self) -> Version {
                version(self.record)
            }

            /// Decodes every histogram into `scratch` and hands it to `f` as (series, t, start timestamp, histogram): the
            /// fast way, one pass over the bytes, without allocating once `scratch` has grown. Returns how many there
            /// were and how many of unknown schemas were passed over.
            pub fn for_each(
                &self,
                scratch: &mut NativeHistogram<$number>,
                mut f: impl FnMut(SeriesRef, i64, i64, &NativeHistogram<$number>),
            ) -> Result<crate::Checked, DecodeError> {
                for_each(self.record, scratch, &mut f)
            }
        }

        impl $Iter<'_> {
            /// Histograms of unknown schemas passed over so far.
            #[must_use]
            pub fn skipped(&self) -> usize {
                self.0.skipped()
            }
        }
    };
}

histogram_batch!(HistogramBatch, HistogramIter, i64);
histogram_batch!(FloatHistogramBatch, FloatHistogramIter, f64);

fn version(record: &[u8]) -> Version {
    match record.first() {
        Some(&(tag::HISTOGRAMS_V2 | tag::FLOAT_HISTOGRAMS_V2)) => Version::V2,
        _ => Version::V1,
    }
}

fn for_each<B: Wire>(
    record: &[u8],
    scratch: &mut NativeHistogram<B>,
    f: &mut impl FnMut(SeriesRef, i64, i64, &NativeHistogram<B>),
) -> Result<crate::Checked, DecodeError> {
    let mut decoder = HistogramDecoder::<B>::open(record)?;
    let mut entries = 0;
    while let Some((series, t, st)) = decoder.next_stamp()? {
        if body::read_into(&mut decoder.cursor, scratch)? {
            entries += 1;
            f(series, t, st, scratch);
        } else {
            decoder.skipped += 1;
        }
    }
    Ok(crate::Checked { entries, skipped: decoder.skipped })
}

/// Where entries get ref and times from.
#[derive(Clone, Copy, Debug)]
enum Stamps {
    V1(Base),
    V2 { first_t: i64, first_st: i64, previous: SeriesRef, previous_st: i64, is_first: bool },
}

#[derive(Clone, Debug)]
struct HistogramDecoder<'a, B> {
    cursor: Cursor<'a>,
    stamps: Stamps,
    skipped: usize,
    number: PhantomData<B>,
}

impl<B> HistogramDecoder<'_, B> {
    /// Ref, time and start timestamp of the next entry; `None` at the end of the record.
    fn next_stamp(&mut self) -> Result<Option<(SeriesRef, i64, i64)>, DecodeError> {
        let cursor = &mut self.cursor;
        if cursor.is_at_end() {
            return Ok(None);
        }
        let stamp = match &mut self.stamps {
            Stamps::V1(base) => {
                let (series, t) = base.read_entry(cursor)?;
                (series, t, 0)
            }
            Stamps::V2 { first_t, first_st, previous, previous_st, is_first: is_first @ true } => {
                *is_first = false;
                *previous_st = *first_st;
                (*previous, *first_t, *first_st)
            }
            Stamps::V2 { first_t, first_st, previous, previous_st, .. } => {
                *previous = previous.wrapping_add(cursor.varint("a ref delta")?);
                let t = first_t.wrapping_add(cursor.varint("a time delta")?);
                *previous_st = start_time::read(cursor, *first_st, *previous_st)?;
                (*previous, t, *previous_st)
            }
        };
        Ok(Some(stamp))
    }
}

impl<'a, B: Wire> Decoder for HistogramDecoder<'a, B> {
    type Record = &'a [u8];
    type Entry = NativeEntry<'a, B>;

    fn open(record: &'a [u8]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(record);
        let stamps = match version(record) {
            Version::V2 if !cursor.is_at_end() => Stamps::V2 {
                previous: SeriesRef(cursor.varint("a first ref")? as u64),
                first_t: cursor.varint("a first time")?,
                first_st: cursor.varint("a first start timestamp")?,
                previous_st: 0,
                is_first: true,
            },
            _ => Stamps::V1(Base::read(&mut cursor)?),
        };
        Ok(Self { cursor, stamps, skipped: 0, number: PhantomData })
    }

    fn next_entry(&mut self) -> Result<Option<NativeEntry<'a, B>>, DecodeError> {
        while let Some((series, t, st)) = self.next_stamp()? {
            if let Some(histogram) = HistogramView::read(&mut self.cursor)? {
                return Ok(Some(NativeEntry { series, t, st, histogram }));
            }
            self.skipped += 1;
        }
        Ok(None)
    }

    fn skipped(&self) -> usize {
        self.skipped
    }
}

/// The three tags of one kind of histograms.
pub(crate) struct Tags {
    pub(crate) exponential: u8,
    pub(crate) custom: u8,
    pub(crate) v2: u8,
}

pub(crate) const INTEGER: Tags =
    Tags { exponential: tag::HISTOGRAMS, custom: tag::CUSTOM_HISTOGRAMS, v2: tag::HISTOGRAMS_V2 };
pub(crate) const FLOAT: Tags =
    Tags { exponential: tag::FLOAT_HISTOGRAMS, custom: tag::CUSTOM_FLOAT_HISTOGRAMS, v2: tag::FLOAT_HISTOGRAMS_V2 };

/// Writes one record, or two for a V1 batch that mixes exponential and custom buckets.
pub(crate) fn encode<'a, B: Wire>(
    out: &mut Buffer,
    ends: &mut Ends,
    version: Version,
    tags: &Tags,
    samples: impl Iterator<Item = NativeSample<'a, B>> + Clone,
) {
    if version == Version::V2 {
        encode_v2(out, tags.v2, samples);
        return ends.push(out.len());
    }
    let any_custom = samples.clone().any(|s| s.histogram.uses_custom_buckets());
    if !any_custom {
        let base = samples.clone().next().map(|first| Base { series: first.series, t: first.t });
        encode_v1(out, tags.exponential, base, samples);
        return ends.push(out.len());
    }
    if !samples.clone().all(|s| s.histogram.uses_custom_buckets()) {
        let base = samples.clone().next().map(|first| Base { series: first.series, t: first.t });
        encode_v1(out, tags.exponential, base, samples.clone().filter(|s| !s.histogram.uses_custom_buckets()));
        ends.push(out.len());
    }
    encode_v1(out, tags.custom, None, samples.filter(|s| s.histogram.uses_custom_buckets()));
    ends.push(out.len());
}

fn encode_v1<'a, B: Wire>(
    out: &mut Buffer,
    tag: u8,
    base: Option<Base>,
    samples: impl Iterator<Item = NativeSample<'a, B>>,
) {
    out.put_byte(tag);
    let mut base = base.inspect(|base| base.put(out));
    for NativeSample { series, t, histogram, .. } in samples {
        Base::put_entry(&mut base, out, series, t);
        body::put(out, histogram);
    }
}

fn encode_v2<'a, B: Wire>(out: &mut Buffer, tag: u8, mut samples: impl Iterator<Item = NativeSample<'a, B>>) {
    out.put_byte(tag);
    let Some(first) = samples.next() else { return };
    out.put_varint(first.series.0 as i64);
    out.put_varint(first.t);
    out.put_varint(first.st);
    body::put(out, first.histogram);
    let mut previous = first;
    for sample in samples {
        out.put_varint(sample.series.wrapping_delta(previous.series));
        out.put_varint(sample.t.wrapping_sub(first.t));
        start_time::put(out, sample.st, first.st, previous.st);
        body::put(out, sample.histogram);
        previous = sample;
    }
}
