//! What V1 records of timed entries begin with, and their entries.
//!
//! ```text
//! nothing at all (a record without entries), or
//! base ref u64 BE, base time i64 BE
//! entries, each beginning with { varint ref - base ref, varint t - base time }
//! ```
//! The reference takes the bases from the first entry; a reader uses whatever is written. Deltas wrap.

use crate::buffer::Buffer;
use crate::cursor::Cursor;
use crate::error::DecodeError;
use tsdb_model::SeriesRef;

#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Base {
    pub(crate) series: SeriesRef,
    pub(crate) t: i64,
}

impl Base {
    /// Reads the header, unless the record ends before it.
    #[inline]
    pub(crate) fn read(cursor: &mut Cursor<'_>) -> Result<Self, DecodeError> {
        if cursor.is_at_end() {
            return Ok(Self::default());
        }
        let series = SeriesRef(cursor.be64("a base ref")?);
        Ok(Self { series, t: cursor.be64("a base time")? as i64 })
    }

    #[inline]
    pub(crate) fn read_entry(self, cursor: &mut Cursor<'_>) -> Result<(SeriesRef, i64), DecodeError> {
        let series = self.series.wrapping_add(cursor.varint("a ref delta")?);
        Ok((series, self.t.wrapping_add(cursor.varint("a time delta")?)))
    }

    /// Writes the header.
    pub(crate) fn put(self, out: &mut Buffer) {
        out.put_be64(self.series.0);
        out.put_be64(self.t as u64);
    }

    /// Writes what an entry begins with; the first one writes the header before it.
    pub(crate) fn put_entry(base: &mut Option<Self>, out: &mut Buffer, series: SeriesRef, t: i64) {
        let base = *base.get_or_insert_with(|| {
            let base = Self { series, t };
            base.put(out);
            base
        });
        out.put_varint(series.wrapping_delta(base.series));
        out.put_varint(t.wrapping_sub(base.t));
    }
}
