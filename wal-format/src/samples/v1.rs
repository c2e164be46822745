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
use tsdb_model::varint::{unzigzag, zigzag};

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

/// Reads an entry whose deltas have a common shape: (1, 2 or 3) + 1 bytes. All indices are constants within a fixed-size
/// window, so nothing is checked but the window itself.
#[inline(always)]
fn read_common(window: &[u8; 16]) -> Option<Entry> {
    let head = u32::from_le_bytes([window[0], window[1], window[2], window[3]]);
    let value = |at: usize| {
        let bytes: [u8; 8] = core::array::from_fn(|i| window[at + i]);
        u64::from_be_bytes(bytes)
    };
    let (dref, dt, bits, len) = if head & 0x8080 == 0 {
        (head & 0x7f, head >> 8 & 0x7f, value(2), 10)
    } else if head & 0x0080_8080 == 0x80 {
        (head & 0x7f | head >> 1 & 0x3f80, head >> 16 & 0x7f, value(3), 11)
    } else if head & 0x8080_8080 == 0x8080 {
        (head & 0x7f | head >> 1 & 0x3f80 | head >> 2 & 0x001f_c000, head >> 24, value(4), 12)
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

#[inline]
pub(super) fn encode(out: &mut Buffer, mut samples: impl Iterator<Item = Sample>) {
    out.put_byte(tag::SAMPLES);
    let Some(first) = samples.next() else { return };
    let base = Base { series: first.series, t: first.t };
    base.put(out);
    put(out, base, &first);
    for sample in samples {
        put(out, base, &sample);
    }
}

#[inline(always)]
fn put(out: &mut Buffer, base: Base, sample: &Sample) {
    let dref = zigzag(sample.series.wrapping_delta(base.series));
    let dt = zigzag(sample.t.wrapping_sub(base.t));
    let window = out.window::<MAX_ENTRY>();
    let value = sample.v.to_bits().to_be_bytes();
    let len = if dt < 0x80 && dref < 0x80 {
        window[0] = dref as u8;
        window[1] = dt as u8;
        window[2..10].copy_from_slice(&value);
        10
    } else if dt < 0x80 && dref < 0x4000 {
        window[0] = dref as u8 | 0x80;
        window[1] = (dref >> 7) as u8;
        window[2] = dt as u8;
        window[3..11].copy_from_slice(&value);
        11
    } else if dt < 0x80 && dref < 0x20_0000 {
        window[0] = dref as u8 | 0x80;
        window[1] = (dref >> 7) as u8 | 0x80;
        window[2] = (dref >> 14) as u8;
        window[3] = dt as u8;
        window[4..12].copy_from_slice(&value);
        12
    } else {
        return put_any(out, base, sample);
    };
    out.advance(len);
}

#[inline(never)]
fn put_any(out: &mut Buffer, base: Base, sample: &Sample) {
    out.put_varint(sample.series.wrapping_delta(base.series));
    out.put_varint(sample.t.wrapping_sub(base.t));
    out.put_float(sample.v);
}
