//! Mmap markers, in the out-of-order log only: up to here the samples of a series are in its chunk files.
//!
//! ```text
//! tag 5
//! repeated { series ref u64 BE, chunk ref u64 BE = file number << 32 | offset }
//! ```

use crate::buffer::Buffer;
use crate::cursor::Cursor;
use crate::entries::{Decoder, batch};
use crate::error::DecodeError;
use crate::tag;
use tsdb_model::SeriesRef;

/// Says that all out-of-order samples of `series` before this record are in chunk files, the last of them at `chunk`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct MmapMarker {
    /// Which series.
    pub series: SeriesRef,
    /// The chunk: file number in the upper half, byte offset in the lower. 0 with a series' first out-of-order chunk.
    pub chunk: u64,
}

impl MmapMarker {
    /// Number of the chunk file.
    #[must_use]
    pub const fn file(&self) -> u32 {
        (self.chunk >> 32) as u32
    }

    /// Byte offset in the chunk file.
    #[must_use]
    pub const fn offset(&self) -> u32 {
        self.chunk as u32
    }
}

batch! {
    /// A record of mmap markers.
    MmapMarkerBatch, MmapMarkerIter: MmapMarkerDecoder yields MmapMarker, kind MmapMarkers
}

#[derive(Clone, Debug)]
struct MmapMarkerDecoder<'a>(Cursor<'a>);

impl<'a> Decoder for MmapMarkerDecoder<'a> {
    type Record = &'a [u8];
    type Entry = MmapMarker;

    fn open(record: &'a [u8]) -> Result<Self, DecodeError> {
        Ok(Self(Cursor::new(record)))
    }

    fn next_entry(&mut self) -> Result<Option<MmapMarker>, DecodeError> {
        if self.0.is_at_end() {
            return Ok(None);
        }
        let series = SeriesRef(self.0.be64("a series ref")?);
        Ok(Some(MmapMarker { series, chunk: self.0.be64("a chunk ref")? }))
    }
}

pub(crate) fn encode(out: &mut Buffer, markers: impl IntoIterator<Item = MmapMarker>) {
    out.put_byte(tag::MMAP_MARKERS);
    for MmapMarker { series, chunk } in markers {
        out.put_be64(series.0);
        out.put_be64(chunk);
    }
}
