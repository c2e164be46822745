//! V2 float samples: with start timestamps, and refs as differences to the sample before.
//!
//! ```text
//! tag 11, then nothing, or
//! first sample { varint ref, varint t, varint start-t, value f64 BE }
//! repeated     { varint ref - previous ref, varint t - first t, start-t (see `start_time`), value f64 BE }
//! ```

use super::Sample;
use crate::buffer::Buffer;
use crate::cursor::Cursor;
use crate::error::DecodeError;
use crate::start_time;
use crate::tag;
use tsdb_model::SeriesRef;
use tsdb_model::varint::{unzigzag, zigzag};

/// Longest entry: three ten-byte varints, a marker and a value.
const MAX_ENTRY: usize = 39;

#[inline(always)]
fn read_first(cursor: &mut Cursor<'_>) -> Result<Sample, DecodeError> {
    Ok(Sample {
        series: SeriesRef(cursor.varint("a ref")? as u64),
        t: cursor.varint("a time")?,
        st: cursor.varint("a start timestamp")?,
        v: cursor.float("a value")?,
    })
}

/// Reads an entry of the common shape: one byte for the ref, one for the time, a marker that nothing follows.
#[inline(always)]
fn read_common(window: &[u8; 11], first: &Sample, previous: &Sample) -> Option<Sample> {
    let [dref, dt, marker, value @ ..] = window;
    if dref | dt >= 0x80 || *marker > start_time::SAME {
        return None;
    }
    Some(Sample {
        series: previous.series.wrapping_add(unzigzag(u64::from(*dref))),
        t: first.t.wrapping_add(unzigzag(u64::from(*dt))),
        st: if *marker == start_time::NONE { 0 } else { previous.st },
        v: f64::from_bits(u64::from_be_bytes(*value)),
    })
}

#[inline(never)]
fn read_any(cursor: &mut Cursor<'_>, first: &Sample, previous: &Sample) -> Result<Sample, DecodeError> {
    Ok(Sample {
        series: previous.series.wrapping_add(cursor.varint("a ref delta")?),
        t: first.t.wrapping_add(cursor.varint("a time delta")?),
        st: start_time::read(cursor, first.st, previous.st)?,
        v: cursor.float("a value")?,
    })
}

#[inline(always)]
fn read_next(cursor: &mut Cursor<'_>, first: &Sample, previous: &Sample) -> Result<Sample, DecodeError> {
    if let Some(sample) = cursor.rest().first_chunk().and_then(|window| read_common(window, first, previous)) {
        cursor.skip(11);
        return Ok(sample);
    }
    // Taken apart, so that the common path's sample need not go through the memory in which this one is returned; and with a
    // cursor of its own, so that the loop's stays in registers.
    let mut slow = *cursor;
    let Sample { series, t, v, st } = read_any(&mut slow, first, previous)?;
    *cursor = slow;
    Ok(Sample { series, t, v, st })
}

#[inline]
pub(super) fn for_each(record: &[u8], mut f: impl FnMut(Sample)) -> Result<(), DecodeError> {
    let mut cursor = Cursor::new(record);
    if cursor.is_at_end() {
        return Ok(());
    }
    let first = read_first(&mut cursor)?;
    f(first);
    let mut previous = first;
    while !cursor.is_at_end() {
        previous = read_next(&mut cursor, &first, &previous)?;
        f(previous);
    }
    Ok(())
}

#[derive(Clone, Debug)]
pub(super) struct Samples<'a> {
    cursor: Cursor<'a>,
    /// The first sample and the one before, once there is one.
    seen: Option<(Sample, Sample)>,
}

impl<'a> Samples<'a> {
    pub(super) const fn new(cursor: Cursor<'a>) -> Self {
        Self { cursor, seen: None }
    }

    #[inline]
    pub(super) fn next_sample(&mut self) -> Result<Option<Sample>, DecodeError> {
        if self.cursor.is_at_end() {
            return Ok(None);
        }
        let sample = match &self.seen {
            None => read_first(&mut self.cursor)?,
            Some((first, previous)) => read_next(&mut self.cursor, first, previous)?,
        };
        let first = self.seen.map_or(sample, |(first, _)| first);
        self.seen = Some((first, sample));
        Ok(Some(sample))
    }
}

#[inline]
pub(super) fn encode(out: &mut Buffer, mut samples: impl Iterator<Item = Sample>) {
    out.put_byte(tag::SAMPLES_V2);
    let Some(first) = samples.next() else { return };
    out.put_varint(first.series.0 as i64);
    out.put_varint(first.t);
    out.put_varint(first.st);
    out.put_float(first.v);
    let mut previous = first;
    for sample in samples {
        put(out, &first, &previous, &sample);
        previous = sample;
    }
}

#[inline(always)]
fn put(out: &mut Buffer, first: &Sample, previous: &Sample, sample: &Sample) {
    let dref = zigzag(sample.series.wrapping_delta(previous.series));
    let dt = zigzag(sample.t.wrapping_sub(first.t));
    let trivial = sample.st == 0 || sample.st == previous.st;
    if dref < 0x80 && dt < 0x80 && trivial {
        let window = out.window::<MAX_ENTRY>();
        window[0] = dref as u8;
        window[1] = dt as u8;
        window[2] = if sample.st == 0 { start_time::NONE } else { start_time::SAME };
        window[3..11].copy_from_slice(&sample.v.to_bits().to_be_bytes());
        out.advance(11);
        return;
    }
    put_any(out, first, previous, sample);
}

#[inline(never)]
fn put_any(out: &mut Buffer, first: &Sample, previous: &Sample, sample: &Sample) {
    out.put_varint(sample.series.wrapping_delta(previous.series));
    out.put_varint(sample.t.wrapping_sub(first.t));
    start_time::put(out, sample.st, first.st, previous.st);
    out.put_float(sample.v);
}
