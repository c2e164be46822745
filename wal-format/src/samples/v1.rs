//! V1 float samples: the bulk of every log.
//!
//! ```text
//! tag 2, then nothing, or
//! base ref u64 BE, base time i64 BE
//! repeated { varint ref - base, varint t - base, value f64 BE }
//! ```
//! The bases are the first sample's. A scrape's samples have refs close to each other and one timestamp: nearly every entry
//! begins with one, two or three bytes for the ref and a zero byte for the time, and those patterns are read and written
//! with one load or store.

use super::Sample;
use crate::buffer::Buffer;
use crate::cursor::Cursor;
use crate::error::DecodeError;
use crate::header::Base;
use crate::tag;
use tsdb_model::varint::{unzigzag, write_uvarint, zigzag};

/// Longest entry: two ten-byte varints and a value.
const MAX_ENTRY: usize = 28;

/// One entry, not yet added to the bases.
struct Entry {
    dref: i64,
    dt: i64,
    bits: u64,
    /// Bytes it took.
    len: usize,
}

/// The value behind `AT` bytes of deltas. The bounds are constants: nothing is checked when the program runs.
#[inline(always)]
fn value_at<const AT: usize>(window: &[u8; 16]) -> u64 {
    window[AT..].first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// Reads an entry whose deltas have a common shape: (1, 2 or 3) + 1 bytes.
#[inline(always)]
fn read_common(window: &[u8; 16]) -> Option<Entry> {
    let head = u32::from_le_bytes(*window.first_chunk()?);
    let (dref, dt, bits, len) = if head & 0x8080 == 0 {
        (head & 0x7f, head >> 8 & 0x7f, value_at::<2>(window), 10)
    } else if head & 0x0080_8080 == 0x80 {
        (head & 0x7f | head >> 1 & 0x3f80, head >> 16 & 0x7f, value_at::<3>(window), 11)
    } else if head & 0x8080_8080 == 0x8080 {
        (head & 0x7f | head >> 1 & 0x3f80 | head >> 2 & 0x001f_c000, head >> 24, value_at::<4>(window), 12)
    } else {
        return None;
    };
    Some(Entry { dref: unzigzag(u64::from(dref)), dt: unzigzag(u64::from(dt)), bits, len })
}

/// Reads any entry.
#[inline(never)]
fn read_any(record: &[u8], pos: usize) -> Result<Entry, DecodeError> {
    let mut cursor = Cursor::at(record, pos);
    let dref = cursor.varint("a ref delta")?;
    let dt = cursor.varint("a time delta")?;
    let bits = cursor.be64("a value")?;
    Ok(Entry { dref, dt, bits, len: cursor.pos() - pos })
}

#[inline(always)]
fn read(record: &[u8], pos: usize) -> Result<Entry, DecodeError> {
    if let Some(entry) = record.get(pos..).and_then(|rest| rest.first_chunk()).and_then(read_common) {
        return Ok(entry);
    }
    // Taken apart, so that the common path's entry need not go through the memory in which this one is returned.
    let Entry { dref, dt, bits, len } = read_any(record, pos)?;
    Ok(Entry { dref, dt, bits, len })
}

impl Base {
    #[inline(always)]
    fn sample(self, entry: &Entry) -> Sample {
        Sample {
            series: self.series.wrapping_add(entry.dref),
            t: self.t.wrapping_add(entry.dt),
            v: f64::from_bits(entry.bits),
            st: 0,
        }
    }
}

/// The loop that replay spends its decoding time in.
#[inline]
pub(super) fn for_each(record: &[u8], mut f: impl FnMut(Sample)) -> Result<(), DecodeError> {
    let mut cursor = Cursor::new(record);
    let base = Base::read(&mut cursor)?;
    let mut pos = cursor.pos();
    while pos < record.len() {
        let entry = read(record, pos)?;
        pos += entry.len;
        f(base.sample(&entry));
    }
    Ok(())
}

#[derive(Clone, Debug)]
pub(super) struct Samples<'a> {
    record: &'a [u8],
    pos: usize,
    base: Base,
}

impl<'a> Samples<'a> {
    #[inline]
    pub(super) fn new(mut cursor: Cursor<'a>) -> Result<Self, DecodeError> {
        let base = Base::read(&mut cursor)?;
        Ok(Self { record: cursor.record(), pos: cursor.pos(), base })
    }

    #[inline]
    pub(super) fn next_sample(&mut self) -> Result<Option<Sample>, DecodeError> {
        if self.pos >= self.record.len() {
            return Ok(None);
        }
        let entry = read(self.record, self.pos)?;
        self.pos += entry.len;
        Ok(Some(self.base.sample(&entry)))
    }
}

/// Samples written between two looks at the room that is left.
const BLOCK: usize = 64;

#[inline]
pub(super) fn encode(out: &mut Buffer, samples: impl Iterator<Item = Sample>) {
    out.put_byte(tag::SAMPLES);
    let mut samples = samples.peekable();
    let Some(first) = samples.peek() else { return };
    let base = Base { series: first.series, t: first.t };
    base.put(out);
    while samples.peek().is_some() {
        let room = out.room(BLOCK * MAX_ENTRY);
        let mut used = 0;
        for sample in samples.by_ref().take(BLOCK) {
            if let Some(window) = room[used..].first_chunk_mut() {
                used += put(window, base, &sample);
            }
        }
        out.advance(used);
    }
}

#[inline(always)]
fn put(window: &mut [u8; MAX_ENTRY], base: Base, sample: &Sample) -> usize {
    let dref = zigzag(sample.series.wrapping_delta(base.series));
    let dt = zigzag(sample.t.wrapping_sub(base.t));
    let value = sample.v.to_bits().to_be_bytes();
    if dt >= 0x80 || dref >= 0x20_0000 {
        return put_any(window, dref, dt, value);
    }
    if dref < 0x80 {
        window[0] = dref as u8;
        window[1] = dt as u8;
        window[2..10].copy_from_slice(&value);
        10
    } else if dref < 0x4000 {
        window[0] = dref as u8 | 0x80;
        window[1] = (dref >> 7) as u8;
        window[2] = dt as u8;
        window[3..11].copy_from_slice(&value);
        11
    } else {
        window[0] = dref as u8 | 0x80;
        window[1] = (dref >> 7) as u8 | 0x80;
        window[2] = (dref >> 14) as u8;
        window[3] = dt as u8;
        window[4..12].copy_from_slice(&value);
        12
    }
}

#[inline(never)]
fn put_any(window: &mut [u8; MAX_ENTRY], dref: u64, dt: u64, value: [u8; 8]) -> usize {
    let mut used = 0;
    for number in [dref, dt] {
        if let Some(window) = window[used..].first_chunk_mut() {
            used += write_uvarint(window, number);
        }
    }
    window[used..used + 8].copy_from_slice(&value);
    used + 8
}
