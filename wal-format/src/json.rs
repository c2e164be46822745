//! The JSON of records, as `headwater records --json` prints it: one object with `tag`, `kind` and the entries under a name
//! of their own. A tool adds where the record stands (flatten this into an object of its own).

use crate::histograms::body::Wire;
use crate::{Exemplar, Kind, Metadata, MmapMarker, OwnedHistogram, Record, RecordEntries, Sample, Series, Tombstone};
use serde::ser::{Serialize, SerializeMap, Serializer};
use tsdb_model::histogram::NativeHistogram;
use tsdb_model::json::{Float, Text, is_lossy, labels_are_lossy};

/// Starts an entry: all begin with the ref.
pub(crate) fn entry<S: Serializer>(serializer: S, series: tsdb_model::SeriesRef) -> Result<S::SerializeMap, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("ref", &series.0)?;
    Ok(map)
}

/// Says that bytes of this entry were no UTF-8 and are shown as U+FFFD.
pub(crate) fn note_loss<M: SerializeMap>(map: &mut M, lossy: bool) -> Result<(), M::Error> {
    if lossy { map.serialize_entry("lossy", &true) } else { Ok(()) }
}

fn start_time<M: SerializeMap>(map: &mut M, st: i64) -> Result<(), M::Error> {
    if st == 0 { Ok(()) } else { map.serialize_entry("st", &st) }
}

impl Serialize for Series<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = entry(serializer, self.series)?;
        map.serialize_entry("labels", &self.labels)?;
        note_loss(&mut map, labels_are_lossy(&self.labels))?;
        map.end()
    }
}

impl Serialize for Sample {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = entry(serializer, self.series)?;
        map.serialize_entry("t", &self.t)?;
        start_time(&mut map, self.st)?;
        map.serialize_entry("v", &Float(self.v))?;
        map.end()
    }
}

impl<B: Wire> Serialize for OwnedHistogram<B>
where
    NativeHistogram<B>: Serialize,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = entry(serializer, self.series)?;
        map.serialize_entry("t", &self.t)?;
        start_time(&mut map, self.st)?;
        map.serialize_entry("h", &self.histogram)?;
        map.end()
    }
}

impl Serialize for Tombstone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = entry(serializer, self.series)?;
        map.serialize_entry("mint", &self.mint)?;
        map.serialize_entry("maxt", &self.maxt)?;
        map.end()
    }
}

impl Serialize for Exemplar<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = entry(serializer, self.series)?;
        map.serialize_entry("t", &self.t)?;
        map.serialize_entry("v", &Float(self.v))?;
        map.serialize_entry("labels", &self.labels)?;
        note_loss(&mut map, labels_are_lossy(&self.labels))?;
        map.end()
    }
}

impl Serialize for MmapMarker {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = entry(serializer, self.series)?;
        map.serialize_entry("file", &self.file())?;
        map.serialize_entry("offset", &self.offset())?;
        map.end()
    }
}

impl Serialize for Metadata<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = entry(serializer, self.series)?;
        map.serialize_entry("type", self.metric_type.name())?;
        map.serialize_entry("unit", &Text(self.unit))?;
        map.serialize_entry("help", &Text(self.help))?;
        note_loss(&mut map, is_lossy(self.unit) || is_lossy(self.help))?;
        map.end()
    }
}

/// `{"tag":2,"kind":"samples","samples":[…]}`; an unknown record has `"bytes"` instead of entries, an empty one the tag
/// null.
impl Serialize for Record<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("tag", &self.tag)?;
        map.serialize_entry("kind", self.kind().map_or("unknown", Kind::name))?;
        match &self.entries {
            RecordEntries::Series(e) => map.serialize_entry("series", e),
            RecordEntries::Samples(e) => map.serialize_entry("samples", e),
            RecordEntries::Histograms(e) => map.serialize_entry("histograms", e),
            RecordEntries::FloatHistograms(e) => map.serialize_entry("histograms", e),
            RecordEntries::Tombstones(e) => map.serialize_entry("tombstones", e),
            RecordEntries::Exemplars(e) => map.serialize_entry("exemplars", e),
            RecordEntries::Metadata(e) => map.serialize_entry("metadata", e),
            RecordEntries::MmapMarkers(e) => map.serialize_entry("markers", e),
            RecordEntries::Unknown { bytes } => map.serialize_entry("bytes", bytes),
        }?;
        map.end()
    }
}
