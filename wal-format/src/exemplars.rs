//! Exemplar records.
//!
//! ```text
//! tag 4, then nothing, or
//! base ref u64 BE, base time i64 BE
//! repeated { varint ref - base, varint t - base, value f64 BE, uvarint label count, pairs as in a series record }
//! ```
//! The bases are the first exemplar's.

use crate::buffer::Buffer;
use crate::cursor::Cursor;
use crate::entries::{Decoder, batch};
use crate::error::DecodeError;
use crate::header::Base;
use crate::tag;
use tsdb_model::{LabelPairs, SeriesRef};

/// An exemplar: one observation with labels of its own, usually a trace id.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Exemplar<'a> {
    /// The series it illustrates.
    pub series: SeriesRef,
    /// Milliseconds since the epoch.
    pub t: i64,
    /// The observed value.
    pub v: f64,
    /// Its own labels, in stored order.
    pub labels: LabelPairs<'a>,
}

batch! {
    /// An exemplar record.
    ExemplarBatch, ExemplarIter: ExemplarDecoder yields Exemplar<'a>, kind Exemplars
}

#[derive(Clone, Debug)]
struct ExemplarDecoder<'a> {
    cursor: Cursor<'a>,
    base: Base,
}

impl<'a> Decoder for ExemplarDecoder<'a> {
    type Record = &'a [u8];
    type Entry = Exemplar<'a>;

    fn open(record: &'a [u8]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(record);
        let base = Base::read(&mut cursor)?;
        Ok(Self { cursor, base })
    }

    fn next_entry(&mut self) -> Result<Option<Exemplar<'a>>, DecodeError> {
        if self.cursor.is_at_end() {
            return Ok(None);
        }
        let (series, t) = self.base.read_entry(&mut self.cursor)?;
        let v = self.cursor.float("a value")?;
        Ok(Some(Exemplar { series, t, v, labels: self.cursor.labels()? }))
    }
}

pub(crate) fn encode<'a>(out: &mut Buffer, exemplars: impl IntoIterator<Item = Exemplar<'a>>) {
    out.put_byte(tag::EXEMPLARS);
    let mut base = None;
    for Exemplar { series, t, v, labels } in exemplars {
        Base::put_entry(&mut base, out, series, t);
        out.put_float(v);
        out.put_labels(&labels);
    }
}
