//! Series records: which ref stands for which labels.
//!
//! ```text
//! tag 1
//! repeated { ref u64 BE, uvarint label count, count × { uvarint len, name, uvarint len, value } }
//! ```

use crate::buffer::Buffer;
use crate::cursor::Cursor;
use crate::entries::{Decoder, batch};
use crate::error::DecodeError;
use crate::tag;
use tsdb_model::{LabelPairs, SeriesRef};

/// A series: from this record on, `series` stands for `labels`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Series<'a> {
    /// The ref that later records use.
    pub series: SeriesRef,
    /// The labels in stored order, as the log has them.
    pub labels: LabelPairs<'a>,
}

batch! {
    /// A series record.
    SeriesBatch, SeriesIter: SeriesDecoder yields Series<'a>, kind Series
}

#[derive(Clone, Debug)]
struct SeriesDecoder<'a>(Cursor<'a>);

impl<'a> Decoder for SeriesDecoder<'a> {
    type Record = &'a [u8];
    type Entry = Series<'a>;

    #[inline]
    fn open(record: &'a [u8]) -> Result<Self, DecodeError> {
        Ok(Self(Cursor::new(record)))
    }

    #[inline]
    fn next_entry(&mut self) -> Result<Option<Series<'a>>, DecodeError> {
        if self.0.is_at_end() {
            return Ok(None);
        }
        let series = SeriesRef(self.0.be64("a series ref")?);
        Ok(Some(Series { series, labels: self.0.labels()? }))
    }
}

pub(crate) fn encode<'a>(out: &mut Buffer, series: impl IntoIterator<Item = Series<'a>>) {
    out.put_byte(tag::SERIES);
    for Series { series, labels } in series {
        out.put_be64(series.0);
        out.put_labels(&labels);
    }
}
