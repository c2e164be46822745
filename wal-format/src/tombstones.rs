//! Tombstone records: deleted time ranges.
//!
//! ```text
//! tag 3
//! repeated { ref u64 BE, varint mint, varint maxt }
//! ```

use crate::buffer::Buffer;
use crate::cursor::Cursor;
use crate::entries::{Decoder, batch};
use crate::error::DecodeError;
use crate::tag;
use tsdb_model::SeriesRef;

/// One deleted range of one series; several ranges of a series are several rows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Tombstone {
    /// Which series.
    pub series: SeriesRef,
    /// First deleted millisecond.
    pub mint: i64,
    /// Last deleted millisecond.
    pub maxt: i64,
}

impl Tombstone {
    /// Whether the row spans all of time: it says that the series was dropped here, and its ref never resolves again.
    #[must_use]
    pub const fn drops_series(&self) -> bool {
        self.mint == i64::MIN && self.maxt == i64::MAX
    }
}

batch! {
    /// A tombstone record.
    TombstoneBatch, TombstoneIter: TombstoneDecoder yields Tombstone, kind Tombstones
}

#[derive(Clone, Debug)]
struct TombstoneDecoder<'a>(Cursor<'a>);

impl<'a> Decoder for TombstoneDecoder<'a> {
    type Record = &'a [u8];
    type Entry = Tombstone;

    fn open(record: &'a [u8]) -> Result<Self, DecodeError> {
        Ok(Self(Cursor::new(record)))
    }

    fn next_entry(&mut self) -> Result<Option<Tombstone>, DecodeError> {
        if self.0.is_at_end() {
            return Ok(None);
        }
        Ok(Some(Tombstone {
            series: SeriesRef(self.0.be64("a series ref")?),
            mint: self.0.varint("a minimum time")?,
            maxt: self.0.varint("a maximum time")?,
        }))
    }
}

pub(crate) fn encode(out: &mut Buffer, tombstones: impl IntoIterator<Item = Tombstone>) {
    out.put_byte(tag::TOMBSTONES);
    for Tombstone { series, mint, maxt } in tombstones {
        out.put_be64(series.0);
        out.put_varint(mint);
        out.put_varint(maxt);
    }
}
