//! Float samples, with and without start timestamps.

mod v1;
mod v2;

use crate::Version;
use crate::buffer::Buffer;
use crate::cursor::Cursor;
use crate::entries::{Decoder, batch};
use crate::error::DecodeError;
use crate::tag;
use tsdb_model::SeriesRef;

/// One float sample.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Sample {
    /// Which series.
    pub series: SeriesRef,
    /// Milliseconds since the epoch.
    pub t: i64,
    /// The value; the stale marker ends a series.
    pub v: f64,
    /// Start timestamp in milliseconds since the epoch: since when a counter counts. 0 = none, and always 0 in V1.
    pub st: i64,
}

batch! {
    /// A record of float samples, V1 or V2.
    SampleBatch, SampleIter: SampleDecoder yields Sample, kind Samples
}

impl SampleBatch<'_> {
    /// Which layout the record has.
    #[must_use]
    pub fn version(&self) -> Version {
        if self.record.first() == Some(&tag::SAMPLES_V2) { Version::V2 } else { Version::V1 }
    }

    /// No more samples than this: each takes at least ten bytes. Cheap, to reserve by.
    #[must_use]
    pub const fn max_len(&self) -> usize {
        self.record.len() / 10
    }

    /// Hands every sample to `f`: the fast way through a record, with all state in registers.
    ///
    /// At a damage the samples before it have been handed over; [`validate`](Self::validate) tells beforehand. A closure
    /// that changes counters of its own should copy them into locals and move those: a variable captured by reference is
    /// loaded and stored for each sample.
    #[inline]
    pub fn for_each(&self, f: impl FnMut(Sample)) -> Result<(), DecodeError> {
        match self.version() {
            Version::V1 => v1::for_each(self.record, f),
            Version::V2 => v2::for_each(self.record, f),
        }
    }
}

#[derive(Clone, Debug)]
enum SampleDecoder<'a> {
    V1(v1::Samples<'a>),
    V2(v2::Samples<'a>),
}

impl<'a> Decoder for SampleDecoder<'a> {
    type Record = &'a [u8];
    type Entry = Sample;

    #[inline]
    fn open(record: &'a [u8]) -> Result<Self, DecodeError> {
        let cursor = Cursor::new(record);
        Ok(match record.first() {
            Some(&tag::SAMPLES_V2) => Self::V2(v2::Samples::new(cursor)),
            _ => Self::V1(v1::Samples::new(cursor)?),
        })
    }

    #[inline]
    fn next_entry(&mut self) -> Result<Option<Sample>, DecodeError> {
        match self {
            Self::V1(samples) => samples.next_sample(),
            Self::V2(samples) => samples.next_sample(),
        }
    }
}

#[inline]
pub(crate) fn encode(out: &mut Buffer, version: Version, samples: impl IntoIterator<Item = Sample>) {
    match version {
        Version::V1 => v1::encode(out, samples.into_iter()),
        Version::V2 => v2::encode(out, samples.into_iter()),
    }
}
