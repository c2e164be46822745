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
use tsdb_model::varint::{unzigzag, write_uvarint, zigzag};

/// Longest entry: three ten-byte varints, a marker and a value.
const MAX_ENTRY: usize = 39;

/// What later entries are relative to.
#[derive(Clone, Copy, Debug)]
struct Previous {
    first_t: i64,
    first_st: i64,
    series: SeriesRef,
    st: i64,
}

impl Previous {
    /// After the first sample.
    const fn new(first: &Sample) -> Self {
        Self { first_t: first.t, first_st: first.st, series: first.series, st: first.st }
    }

    /// After another one.
    #[inline(always)]
    fn advance(&mut self, sample: &Sample) {
        self.series = sample.series;
        self.st = sample.st;
    }
}

fn read_first(cursor: &mut Cursor<'_>) -> Result<Sample, DecodeError> {
    Ok(Sample {
        series: SeriesRef(cursor.varint("a ref")? as u64),
        t: cursor.varint("a time")?,
        st: cursor.varint("a start timestamp")?,
        v: cursor.float("a value")?,
    })
}

/// Bytes of an entry of the common shape: one for the ref, one for the time, a marker that nothing follows, the value.
const COMMON: usize = 11;

#[inline(always)]
fn read_common(window: &[u8; COMMON], previous: &Previous) -> Option<Sample> {
    let [dref, dt, marker, value @ ..] = window;
    if dref | dt >= 0x80 || *marker > start_time::SAME {
        return None;
    }
    Some(Sample {
        series: previous.series.wrapping_add(unzigzag(u64::from(*dref))),
        t: previous.first_t.wrapping_add(unzigzag(u64::from(*dt))),
        st: if *marker == start_time::NONE { 0 } else { previous.st },
        v: f64::from_bits(u64::from_be_bytes(*value)),
    })
}

/// Reads any entry, and says where the next one begins.
#[inline(never)]
fn read_any(record: &[u8], pos: usize, previous: &Previous) -> Result<(Sample, usize), DecodeError> {
    let mut cursor = Cursor::at(record, pos);
    let sample = Sample {
        series: previous.series.wrapping_add(cursor.varint("a ref delta")?),
        t: previous.first_t.wrapping_add(cursor.varint("a time delta")?),
        st: start_time::read(&mut cursor, previous.first_st, previous.st)?,
        v: cursor.float("a value")?,
    };
    Ok((sample, cursor.pos()))
}

#[inline(always)]
fn read_next(record: &[u8], pos: usize, previous: &Previous) -> Result<(Sample, usize), DecodeError> {
    let window = record.get(pos..).and_then(|rest| rest.first_chunk());
    if let Some(sample) = window.and_then(|window| read_common(window, previous)) {
        return Ok((sample, pos + COMMON));
    }
    // Copied and taken apart, so that the common path's values need not go through memory for this one's sake.
    let previous = *previous;
    let (Sample { series, t, v, st }, pos) = read_any(record, pos, &previous)?;
    Ok((Sample { series, t, v, st }, pos))
}

#[inline]
pub(super) fn for_each(record: &[u8], mut f: impl FnMut(Sample)) -> Result<(), DecodeError> {
    let mut cursor = Cursor::new(record);
    if cursor.is_at_end() {
        return Ok(());
    }
    let first = read_first(&mut cursor)?;
    let mut previous = Previous::new(&first);
    let mut pos = cursor.pos();
    f(first);
    while pos < record.len() {
        let (sample, next) = read_next(record, pos, &previous)?;
        previous.advance(&sample);
        pos = next;
        f(sample);
    }
    Ok(())
}

#[derive(Clone, Debug)]
pub(super) struct Samples<'a> {
    record: &'a [u8],
    pos: usize,
    /// Once there was a first sample.
    previous: Option<Previous>,
}

impl<'a> Samples<'a> {
    pub(super) const fn new(cursor: Cursor<'a>) -> Self {
        Self { record: cursor.record(), pos: cursor.pos(), previous: None }
    }

    #[inline]
    pub(super) fn next_sample(&mut self) -> Result<Option<Sample>, DecodeError> {
        if self.pos >= self.record.len() {
            return Ok(None);
        }
        let Some(previous) = &mut self.previous else {
            let mut cursor = Cursor::at(self.record, self.pos);
            let first = read_first(&mut cursor)?;
            self.pos = cursor.pos();
            self.previous = Some(Previous::new(&first));
            return Ok(Some(first));
        };
        let (sample, next) = read_next(self.record, self.pos, previous)?;
        previous.advance(&sample);
        self.pos = next;
        Ok(Some(sample))
    }
}

/// Samples written between two looks at the room that is left.
const BLOCK: usize = 64;

#[inline]
pub(super) fn encode(out: &mut Buffer, mut samples: impl Iterator<Item = Sample>) {
    out.put_byte(tag::SAMPLES_V2);
    let Some(first) = samples.next() else { return };
    out.put_varint(first.series.0 as i64);
    out.put_varint(first.t);
    out.put_varint(first.st);
    out.put_float(first.v);
    let mut previous = Previous::new(&first);
    let mut samples = samples.peekable();
    while samples.peek().is_some() {
        let room = out.room(BLOCK * MAX_ENTRY);
        let mut used = 0;
        for sample in samples.by_ref().take(BLOCK) {
            if let Some(window) = room[used..].first_chunk_mut() {
                used += put(window, &previous, &sample);
            }
            previous.advance(&sample);
        }
        out.advance(used);
    }
}

#[inline(always)]
fn put(window: &mut [u8; MAX_ENTRY], previous: &Previous, sample: &Sample) -> usize {
    let dref = zigzag(sample.series.wrapping_delta(previous.series));
    let dt = zigzag(sample.t.wrapping_sub(previous.first_t));
    let value = sample.v.to_bits().to_be_bytes();
    let start = match sample.st {
        0 => Err(start_time::NONE),
        st if st == previous.st => Err(start_time::SAME),
        st => Ok(zigzag(st.wrapping_sub(previous.first_st))),
    };
    match start {
        Err(marker) if dref < 0x80 && dt < 0x80 => {
            window[0] = dref as u8;
            window[1] = dt as u8;
            window[2] = marker;
            window[3..COMMON].copy_from_slice(&value);
            COMMON
        }
        _ => put_any(window, dref, dt, start, value),
    }
}

/// `start` is what follows the explicit marker, or a marker that nothing follows.
#[inline(never)]
fn put_any(window: &mut [u8; MAX_ENTRY], dref: u64, dt: u64, start: Result<u64, u8>, value: [u8; 8]) -> usize {
    let mut used = 0;
    let mut put = |number: u64| {
        if let Some(window) = window[used..].first_chunk_mut() {
            used += write_uvarint(window, number);
        }
    };
    put(dref);
    put(dt);
    // A marker is one byte below 0x80: the same as a uvarint.
    match start {
        Err(marker) => put(u64::from(marker)),
        Ok(delta) => {
            put(u64::from(start_time::EXPLICIT));
            put(delta);
        }
    }
    window[used..used + 8].copy_from_slice(&value);
    used + 8
}
