//! Metadata records: type, unit and help of a series.
//!
//! ```text
//! tag 6
//! repeated { uvarint ref, type u8, uvarint field count, count × { uvarint len, name, uvarint len, value } }
//! ```
//! Two fields are written, `UNIT` and `HELP`, in this order. A reader passes over others; of a repeated one the last counts.

use crate::buffer::Buffer;
use crate::cursor::Cursor;
use crate::entries::{Decoder, batch};
use crate::error::DecodeError;
use crate::tag;
use core::fmt;
use tsdb_model::SeriesRef;

/// What a series measures, by its OpenMetrics name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum MetricType {
    /// Not known (0).
    #[default]
    Unknown,
    /// 1
    Counter,
    /// 2
    Gauge,
    /// 3
    Histogram,
    /// 4
    GaugeHistogram,
    /// 5
    Summary,
    /// 6
    Info,
    /// 7
    StateSet,
    /// A byte that the reference never writes; it reads it as unknown. Kept so that a record can be written back.
    Other(u8),
}

impl MetricType {
    const NAMED: [Self; 8] = [
        Self::Unknown,
        Self::Counter,
        Self::Gauge,
        Self::Histogram,
        Self::GaugeHistogram,
        Self::Summary,
        Self::Info,
        Self::StateSet,
    ];

    /// From its byte in the record.
    #[must_use]
    pub fn from_byte(byte: u8) -> Self {
        Self::NAMED.get(usize::from(byte)).copied().unwrap_or(Self::Other(byte))
    }

    /// Its byte in the record.
    #[must_use]
    pub fn to_byte(self) -> u8 {
        match self {
            Self::Other(byte) => byte,
            named => Self::NAMED.iter().position(|t| *t == named).map_or(0, |i| i as u8),
        }
    }

    /// Its OpenMetrics name; `unknown` for everything without one.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::GaugeHistogram => "gaugehistogram",
            Self::Summary => "summary",
            Self::Info => "info",
            Self::StateSet => "stateset",
            Self::Unknown | Self::Other(_) => "unknown",
        }
    }

    /// The type with this OpenMetrics name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMED.into_iter().find(|t| t.name() == name)
    }
}

impl fmt::Display for MetricType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Metadata of one series. Texts are bytes: a log can hold any.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Metadata<'a> {
    /// Which series.
    pub series: SeriesRef,
    /// What it measures.
    pub metric_type: MetricType,
    /// Its unit, empty if none.
    pub unit: &'a [u8],
    /// Its help text, empty if none.
    pub help: &'a [u8],
}

const UNIT: &[u8] = b"UNIT";
const HELP: &[u8] = b"HELP";

batch! {
    /// A metadata record.
    MetadataBatch, MetadataIter: MetadataDecoder yields Metadata<'a>, kind Metadata
}

#[derive(Clone, Debug)]
struct MetadataDecoder<'a>(Cursor<'a>);

impl<'a> Decoder for MetadataDecoder<'a> {
    type Record = &'a [u8];
    type Entry = Metadata<'a>;

    fn open(record: &'a [u8]) -> Result<Self, DecodeError> {
        Ok(Self(Cursor::new(record)))
    }

    fn next_entry(&mut self) -> Result<Option<Metadata<'a>>, DecodeError> {
        if self.0.is_at_end() {
            return Ok(None);
        }
        let series = SeriesRef(self.0.uvarint("a series ref")?);
        let metric_type = MetricType::from_byte(self.0.byte("a metric type")?);
        let mut entry = Metadata { series, metric_type, unit: &[], help: &[] };
        for _ in 0..self.0.count("metadata fields", 2)? {
            let name = self.0.text("a field name")?;
            let value = self.0.text("a field value")?;
            match name {
                UNIT => entry.unit = value,
                HELP => entry.help = value,
                _ => {}
            }
        }
        Ok(Some(entry))
    }
}

pub(crate) fn encode<'a>(out: &mut Buffer, metadata: impl IntoIterator<Item = Metadata<'a>>) {
    out.put_byte(tag::METADATA);
    for Metadata { series, metric_type, unit, help } in metadata {
        out.put_uvarint(series.0);
        out.put_byte(metric_type.to_byte());
        out.put_uvarint(2);
        for text in [UNIT, unit, HELP, help] {
            out.put_text(text);
        }
    }
}
