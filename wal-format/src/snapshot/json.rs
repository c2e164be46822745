//! The JSON of a snapshot's records: as a log's, with kinds of their own.

use super::{LastValue, SnapshotChunk, SnapshotRecord, SnapshotSeries};
use crate::json::{entry, note_loss};
use serde::ser::{Serialize, SerializeMap, Serializer};
use tsdb_model::json::{Float, labels_are_lossy};

/// `{"mint":…,"maxt":…,"encoding":1,"samples":2,"bytes":20,"last":1.5}`; `last` is a histogram for their encodings.
impl Serialize for SnapshotChunk<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("mint", &self.mint)?;
        map.serialize_entry("maxt", &self.maxt)?;
        map.serialize_entry("encoding", &self.encoding)?;
        map.serialize_entry("samples", &self.samples())?;
        map.serialize_entry("bytes", &self.bytes.len())?;
        match &self.last {
            LastValue::Floats([.., (_, v)]) => map.serialize_entry("last", &Float(*v)),
            LastValue::Histogram(h) => map.serialize_entry("last", h.as_ref()),
            LastValue::FloatHistogram(h) => map.serialize_entry("last", h.as_ref()),
        }?;
        map.end()
    }
}

/// `{"ref":1,"labels":{…},"chunk":{…}}`; the chunk is null when there was none.
impl Serialize for SnapshotSeries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = entry(serializer, self.series)?;
        map.serialize_entry("labels", &self.labels)?;
        note_loss(&mut map, labels_are_lossy(&self.labels))?;
        map.serialize_entry("chunk", &self.chunk)?;
        map.end()
    }
}

/// `{"tag":1,"kind":"snapshot_series","series":[…]}`, and so on; an unknown record has `"bytes"` instead of entries.
impl Serialize for SnapshotRecord<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("tag", &self.tag())?;
        map.serialize_entry("kind", self.name())?;
        match self {
            Self::Series(series) => map.serialize_entry("series", &[series]),
            Self::Tombstones(entries) => map.serialize_entry("tombstones", entries),
            Self::Exemplars(entries) => map.serialize_entry("exemplars", entries),
            Self::Unknown { bytes, .. } => map.serialize_entry("bytes", bytes),
        }?;
        map.end()
    }
}
